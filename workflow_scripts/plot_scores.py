"""Draws one plot of an experiment's scores."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.png import encode_png
from graftwork.jobs.record import open_log
from graftwork.reports.table import read_table
from graftwork.scores.registry import scores


def main(snakemake):
    log = open_log(snakemake.log[0])
    title = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))["title"]
    plot = snakemake.params.plot
    pixels = scores()[plot["score"]].draw(plot, title, read_table(snakemake.input.summary))
    log.info("%s x %s pixels", pixels.shape[1], pixels.shape[0])
    write_atomic(Path(snakemake.output.plot), encode_png(pixels))


if "snakemake" in globals():
    main(globals()["snakemake"])
