"""Writes the report of one study."""

from pathlib import Path

from graftwork.design.project import Project
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.jobs.study import write_study
from graftwork.studies.registry import studies


def main(snakemake):
    log = open_log(snakemake.log[0])
    study = studies()[snakemake.wildcards.study]
    with ending_in_words(log):
        require_code("studies", snakemake.params.code, lambda: study.digest)
    project = Project(snakemake.params.config, Path.cwd())
    write_study(study, project, Path(snakemake.output.report).parent, log)


if "snakemake" in globals():
    main(globals()["snakemake"])
