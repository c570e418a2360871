"""Makes the images of one shard."""

from pathlib import Path

from graftwork.jobs.generation import generate_images
from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import end_process, open_log
from graftwork.planning.shards import ImageShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(ImageShard, store.shards, snakemake.wildcards.shard)
    with ending_in_words(log):
        generate_images(shard, store, log).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
