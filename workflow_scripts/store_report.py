"""Says what the store takes, and which experiments, analyses and files of maps use it."""

import sys
from pathlib import Path

from graftwork.core.labels import printable
from graftwork.design.project import Project
from graftwork.jobs.record import open_log
from graftwork.planning.scope import PLANS
from graftwork.planning.store_use import find_use, report_lines
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    use = find_use(Project(snakemake.params.config, Path.cwd()), store, PLANS)
    for line in report_lines(use, store):
        log.info(line)
        print(printable(line), file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
