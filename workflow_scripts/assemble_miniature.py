"""Puts the finished models of all stages together as one family."""

from pathlib import Path

from workflow_scripts.lib.jobs.record import open_log
from workflow_scripts.lib.miniature.family import assemble_family
from workflow_scripts.lib.miniature.training.stages import Workshop
from workflow_scripts.lib.store.atomic import write_atomic


def main(snakemake):
    log = open_log(snakemake.log[0])
    assemble_family(Workshop(Path("results/miniature")), Path("results/miniature/family"))
    log.info("results/miniature/family is complete")
    write_atomic(Path(snakemake.output.done), "results/miniature/family\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
