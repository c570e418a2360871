"""Says which models are here, and fails where something keeps a run from working."""

import sys
from pathlib import Path

from graftwork.design.project import Project
from graftwork.jobs.models import check_models
from graftwork.jobs.record import open_log


def main(snakemake):
    log = open_log(snakemake.log[0])
    check = check_models(Project(snakemake.params.config, Path.cwd()))
    for line in check.lines:
        log.info(line)
        print(f"graftwork: {line}", file=sys.stderr)
    for problem in check.problems:
        log.error(problem)
        print(f"graftwork: {problem}", file=sys.stderr)
    if check.problems:
        sys.exit(f"{len(check.problems)} problems with the models")


if "snakemake" in globals():
    main(globals()["snakemake"])
