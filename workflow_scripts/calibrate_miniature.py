"""Measures how well scores agree with the scene reader, on images of experiments."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.jobs.record import open_log
from graftwork.models.hardware import configure_torch
from graftwork.scores.table import sha256_of
from lab.miniature.calibration import (
    calibrate,
    format_agreements,
    seen_images,
    spread,
    write_agreements,
)
from lab.miniature.recipes import scorer_entries


def main(snakemake):
    log = open_log(snakemake.log[0])
    hardware = {"device": "cpu", "dtype": "float32", "cpu_threads": snakemake.threads}
    configure_torch(hardware)
    tables = zip(snakemake.input.designs, snakemake.input.scores, strict=True)
    seen = [
        one for design, rows in tables for one in seen_images(read_record(Design, design), read_table(rows))
    ]
    folder = Path(snakemake.params.scorers)
    log.info("%s images", len(seen))
    found = calibrate(spread(seen), scorer_entries(folder), hardware, log.info)
    weights = {
        path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))
    }
    write_agreements(found, weights, Path(snakemake.output.measured))
    write_atomic(Path(snakemake.output.table), format_agreements(found))


if "snakemake" in globals():
    main(globals()["snakemake"])
