"""Builds the conditioning of one shard of recipes."""

from pathlib import Path

from graftwork.jobs.conditioning import condition
from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import all_failures, end_process, open_log
from graftwork.planning.shards import ConditioningShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(ConditioningShard, store.shards, snakemake.wildcards.shard)
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.statistics, *snakemake.input.maps])
    with ending_in_words(log):
        condition(shard, store, log, failures).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
