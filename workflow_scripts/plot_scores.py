"""Draws one plot of an experiment's scores."""

import json
from pathlib import Path

from workflow_scripts.lib.jobs.record import open_log
from workflow_scripts.lib.presentation.png import encode_png
from workflow_scripts.lib.presentation.table import read_table
from workflow_scripts.lib.scoring.registry import scores
from workflow_scripts.lib.store.atomic import write_atomic


def main(snakemake):
    log = open_log(snakemake.log[0])
    title = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))["title"]
    plot = snakemake.params.plot
    pixels = scores()[plot["score"]].draw(plot, title, read_table(snakemake.input.summary))
    log.info("%s x %s pixels", pixels.shape[1], pixels.shape[0])
    write_atomic(Path(snakemake.output.plot), encode_png(pixels))


if "snakemake" in globals():
    main(globals()["snakemake"])
