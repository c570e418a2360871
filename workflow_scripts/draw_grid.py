"""Draws one page of a grid."""

import json
from pathlib import Path

import numpy as np

from workflow_scripts.lib.jobs.record import open_log
from workflow_scripts.lib.presentation.grid import draw_grid
from workflow_scripts.lib.presentation.pages import build_page
from workflow_scripts.lib.presentation.png import encode_png
from workflow_scripts.lib.presentation.table import read_table
from workflow_scripts.lib.store.atomic import write_atomic


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    page = build_page(design, snakemake.params.page, read_table(snakemake.input.table), Path.cwd())
    image = draw_grid(page)
    log.info("%s x %s pixels", image.width, image.height)
    write_atomic(Path(snakemake.output.grid), encode_png(np.asarray(image)))


if "snakemake" in globals():
    main(globals()["snakemake"])
