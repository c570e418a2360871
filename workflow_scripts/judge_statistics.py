"""Fails if any hidden states or statistics of an analysis could not be made."""

import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import all_failures, open_log


def main(snakemake):
    log = open_log(snakemake.log[0])
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.statistics])
    for item, error in failures.items():
        log.error("%s: %s", item, error)
    if failures:
        shown = "\n".join(list(failures.values())[:10])
        sys.exit(f"{len(failures)} parts of the analysis failed; the next run tries them again.\n{shown}")
    write_atomic(Path(snakemake.output.measured), "all parts measured\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
