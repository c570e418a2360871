"""Downloads the models that the cache lacks."""

import sys
from pathlib import Path

from graftwork.design.project import Project
from graftwork.jobs.models import download_models
from graftwork.jobs.record import blaming_settings, open_log


def main(snakemake):
    log = open_log(snakemake.log[0])

    def say(line):
        log.info(line)
        print(f"graftwork: {line}", file=sys.stderr, flush=True)

    with blaming_settings(log):
        download_models(Project(snakemake.params.config, Path.cwd()), say)


if "snakemake" in globals():
    main(globals()["snakemake"])
