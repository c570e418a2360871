"""Draws one page of a grid."""

from pathlib import Path

import numpy as np

from graftwork.core.atomic import write_atomic
from graftwork.core.png import encode_png
from graftwork.core.records import from_json, read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.design.pages import Page
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports import code as report_code
from graftwork.reports.grid import draw_grid
from graftwork.reports.pages import build_page


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    page = build_page(
        design, from_json(Page, snakemake.params.page), read_table(snakemake.input.table), Path.cwd()
    )
    image = draw_grid(page)
    log.info("%s x %s pixels", image.width, image.height)
    with ending_in_words(log):
        require_code("grids", snakemake.params.code, report_code.grid_code)
    write_atomic(Path(snakemake.output.grid), encode_png(np.asarray(image)))


if "snakemake" in globals():
    main(globals()["snakemake"])
