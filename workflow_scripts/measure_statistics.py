"""Measures the statistics of one shard."""

from pathlib import Path

from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import all_failures, end_process, open_log
from graftwork.jobs.statistics import measure_statistics
from graftwork.planning.shards import StatisticsShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(StatisticsShard, store.shards, snakemake.wildcards.shard)
    failures = all_failures(snakemake.input.extraction)
    with ending_in_words(log):
        measure_statistics(shard, store, log, failures).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
