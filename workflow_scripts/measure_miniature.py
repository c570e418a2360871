"""Measures a miniature family and fails if a promise is not kept, after the table is written."""

import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from graftwork.models.hardware import configure_torch
from lab.miniature.measure import format_table, measure_family, write_measures


def main(snakemake):
    log = open_log(snakemake.log[0])
    configure_torch({"device": "cpu", "dtype": "float32"})
    rows = measure_family(Path(snakemake.params.family), say=log.info)
    write_measures(rows, Path(snakemake.output.measured))
    write_atomic(Path(snakemake.output.table), format_table(rows))
    missed = [f"{row.model}: {row.name} is {row.value:.4g}" for row in rows if not row.kept]
    if missed:
        # The table is what one wants to read now, and Snakemake removes the outputs of failed jobs.
        write_atomic(Path(snakemake.output.table).with_suffix(".missed.md"), format_table(rows))
        sys.exit("promises that are not kept:\n" + "\n".join(missed))


if "snakemake" in globals():
    main(globals()["snakemake"])
