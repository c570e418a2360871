"""Reads the store back, and removes what is damaged."""

import sys
from pathlib import Path

from graftwork.jobs.record import open_log
from graftwork.jobs.verification import repair_store
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    removed, read = repair_store(Store(Path("results/store")))
    lines = [f"removed, for {one.why}" for one in removed]
    lines.append(
        f"{len(removed)} of {read} files in results/store were damaged; the next run makes again what it needs"
    )
    for line in lines:
        log.info(line)
        print(f"graftwork: {line}", file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
