"""Writes summary.html of one experiment: summary, plots and small images in one file."""

from dataclasses import replace
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import from_json, read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.design.pages import Page
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports.code import summary_page_code
from graftwork.reports.document import Budget
from graftwork.reports.pages import build_page
from graftwork.reports.summary_page import SmallImages, write_summary_page
from graftwork.reports.viewer.folder import image_sources
from graftwork.reports.viewer.thumbnails import ThumbnailStore


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    rows = read_table(snakemake.input.table)
    sources = image_sources(design, read_table(snakemake.input.full), Path())
    images = SmallImages(sources, ThumbnailStore(Path("results/store/thumbnails")))
    grids = {}
    for name, page in snakemake.params.pages.items():
        built = build_page(design, from_json(Page, page), rows, Path())
        # The question stands at the top of the page.
        grids[name] = replace(built, subtitle=built.subtitle.removeprefix(design.question).strip())
    summary, budget = Path(snakemake.input.summary), Budget()
    text = write_summary_page(summary.read_text(encoding="utf-8"), summary.parent, grids, images, budget)
    log.info("%s bytes, images of at most %s pixels, %s left out", len(text), images.side, budget.refused)
    with ending_in_words(log):
        require_code("pages of experiments", snakemake.params.code, summary_page_code)
    write_atomic(Path(snakemake.output.page), text)


if "snakemake" in globals():
    main(globals()["snakemake"])
