"""Writes down which hidden states and statistics of an analysis could not be made."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import all_failures, open_log


def main(snakemake):
    log = open_log(snakemake.log[0])
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.statistics])
    for item, error in failures.items():
        log.error("%s: %s", item, error)
    head = f"{len(failures)} parts of the analysis failed" if failures else "all parts measured"
    write_atomic(Path(snakemake.output.measured), "\n".join([head, *failures.values(), ""]))


if "snakemake" in globals():
    main(globals()["snakemake"])
