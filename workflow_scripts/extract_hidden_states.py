"""Extracts the hidden states of one shard."""

from pathlib import Path

from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.planned import ending_in_words
from graftwork.jobs.record import end_process, open_log
from graftwork.planning.shards import ExtractionShard, read_shard
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    shard = read_shard(ExtractionShard, store.shards, snakemake.wildcards.shard)
    with ending_in_words(log):
        extract_hidden_states(shard, store, log).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
