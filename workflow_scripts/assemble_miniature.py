"""Puts the finished models of all stages together as one family."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from lab.miniature.family import assemble_family
from lab.miniature.training.stages import Workshop


def main(snakemake):
    log = open_log(snakemake.log[0])
    assemble_family(Workshop(Path("results/miniature")), Path("results/miniature/family"))
    log.info("results/miniature/family is complete")
    write_atomic(Path(snakemake.output.done), "results/miniature/family\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
