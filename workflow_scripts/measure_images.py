"""Asks a scorer about the images of one shard."""

from pathlib import Path

from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import end_process, open_log
from graftwork.jobs.scoring import measure_images
from graftwork.planning.shards import ScoringShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(ScoringShard, store.shards, snakemake.wildcards.shard)
    with ending_in_words(log):
        measure_images(shard, store, log).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
