"""Reads the store back, and fails where something in it is damaged."""

import sys
from pathlib import Path

from graftwork.jobs.record import open_log
from graftwork.jobs.verification import verify_store
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    damaged, read = verify_store(Store(Path("results/store")))
    for one in damaged:
        log.error(one.why)
        print(f"graftwork: {one.why}", file=sys.stderr)
    line = f"{len(damaged)} of {read} files in results/store are damaged"
    if damaged:
        sys.exit(f"{line}; `snakemake repair_store` removes them")
    log.info(line)
    print(f"graftwork: {line}", file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
