"""Adopts images of earlier sampling code, if a sample of them renders to equal bytes."""

import sys
from pathlib import Path

from graftwork.core.records import read_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.jobs.acceptance import accept_images
from graftwork.jobs.record import open_log
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    designs = [read_record(Design, path) for path in snakemake.input.designs]
    hardware = Hardware.model_validate(snakemake.params.hardware)
    line = accept_images(designs, hardware, snakemake.params.samples, Store(Path("results/store")), log)
    log.info(line)
    print(line, file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
