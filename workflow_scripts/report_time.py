"""Writes where the time of a run went."""

import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from graftwork.reports.time_spent import read_times, time_page


def main(snakemake):
    log = open_log(snakemake.log[0])
    page = time_page(read_times(Path("logs/benchmarks")))
    write_atomic(Path("results/time.md"), page)
    log.info("results/time.md")
    print(page, file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
