"""Fits the maps of one shard."""

from pathlib import Path

from graftwork.jobs.maps import fit_maps
from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import all_failures, end_process, open_log
from graftwork.planning.shards import MapShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(MapShard, store.shards, snakemake.wildcards.shard)
    failures = all_failures(snakemake.input.extraction)
    with ending_in_words(log):
        fit_maps(shard, store, log, failures).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
