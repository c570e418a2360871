"""Trains one stage of the miniature family, or goes on where it was interrupted."""

from pathlib import Path

import torch

from graftwork.jobs.record import open_log
from lab.miniature.recipes import Recipe
from lab.miniature.training.stages import Workshop, train_stage


def main(snakemake):
    log = open_log(snakemake.log[0])
    torch.set_num_threads(snakemake.threads)
    workshop = Workshop(Path("results/miniature"), snakemake.params.device, log.info)
    train_stage(snakemake.wildcards.stage, Recipe(**snakemake.params.recipe), workshop)


if "snakemake" in globals():
    main(globals()["snakemake"])
