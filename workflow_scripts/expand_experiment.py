"""Writes the cells of one experiment."""

import json
from pathlib import Path

from graftwork.core.derived import write_derived
from graftwork.core.records import to_json
from graftwork.design.project import Project
from graftwork.jobs.record import open_log


def main(snakemake):
    log = open_log(snakemake.log[0])
    experiment = snakemake.wildcards.experiment
    design = Project(snakemake.params.config, Path.cwd()).design(experiment)
    if design.digest != snakemake.params.digest:
        raise RuntimeError(
            f"config/experiments/{experiment}.yaml, its prompts or its models changed while the run was starting; "
            "start it again"
        )
    log.info("%s cells", len(design.cells))
    for note in design.notes:
        log.warning(note)
    text = json.dumps(to_json(design.written), ensure_ascii=False)
    write_derived(Path(snakemake.output.design), text)


if "snakemake" in globals():
    main(globals()["snakemake"])
