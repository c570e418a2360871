"""Writes the captions that the controls of one scope need."""

from pathlib import Path

from graftwork.core.records import read_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.jobs.captions import write_captions
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import end_process, open_log
from graftwork.planning.captions import captions_shard, needed_captions
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    designs = [read_record(Design, path) for path in snakemake.input.designs]
    hardware, wildcards = Hardware.model_validate(snakemake.params.hardware), snakemake.wildcards
    captions = needed_captions(designs, hardware)
    with ending_in_words(log):
        require_inputs(wildcards.scope, wildcards.shard, lambda: captions_shard(list(captions)))
        extraction = hardware.extraction.model_dump()
        store = Store(Path("results/store"))
        write_captions(captions, extraction, store, log).write(snakemake.output.manifest)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
