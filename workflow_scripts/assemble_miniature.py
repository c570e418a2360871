"""Puts the finished models of all stages together as one family and its scorers."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from lab.miniature.family import assemble_family, assemble_scorers
from lab.miniature.training.stages import Workshop


def main(snakemake):
    log = open_log(snakemake.log[0])
    workshop = Workshop(Path("results/miniature"))
    assemble_family(workshop, Path("results/miniature/family"))
    log.info("results/miniature/family is complete")
    assemble_scorers(workshop, Path("results/miniature/scorers"))
    log.info("results/miniature/scorers is complete")
    write_atomic(Path(snakemake.output.done), "results/miniature/family\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
