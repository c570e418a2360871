"""Writes down which cells are not done, after everything that could be made was made."""

import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.tables import read_table
from graftwork.jobs.record import open_log


def main(snakemake):
    log = open_log(snakemake.log[0])
    lines, total = [], 0
    for path in snakemake.input.tables:
        rows = read_table(path)
        total += len(rows)
        lines += [
            f"{path}: cell {row['cell']} {row['status']}: {row['error']}"
            for row in rows
            if row["status"] != "done"
        ]
    for line in lines:
        log.error(line)
    if lines and snakemake.params.fails:
        sys.exit("\n".join([f"{len(lines)} of {total} cells are not done:", *lines]))
    head = f"{len(lines)} of {total} cells are not done" if lines else f"all {total} cells done"
    write_atomic(Path(snakemake.output.verdict), "\n".join([head, *lines, ""]))


if "snakemake" in globals():
    main(globals()["snakemake"])
