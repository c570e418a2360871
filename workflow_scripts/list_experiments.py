"""Prints every experiment and every study with its size and its question."""

from pathlib import Path

from graftwork.design.project import Project
from graftwork.jobs.record import open_log
from graftwork.planning.listing import list_experiments
from graftwork.studies.listing import list_studies


def main(snakemake):
    log = open_log(snakemake.log[0])
    project = Project(snakemake.params.config, Path.cwd())
    lines = [*list_experiments(project), "", *list_studies(project)]
    for line in lines:
        log.info(line)
    print("\n".join(lines))


if "snakemake" in globals():
    main(globals()["snakemake"])
