"""Writes the folder of the viewer of one experiment."""

from pathlib import Path

from graftwork.core.records import read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.planning.plan import ImagePlan
from graftwork.reports.summary import compare_settings
from graftwork.reports.viewer.code import viewer_code
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.reports.viewer.folder import image_sources, write_viewer
from graftwork.reports.viewer.thumbnails import ThumbnailStore
from graftwork.scores.registry import scores as registered_scores


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    rows = read_table(snakemake.input.table)
    resolved = read_record(ImagePlan, snakemake.params.plan).cells
    found, _ = compare_settings(design, resolved, rows)
    scores = {
        column.name: column.label
        for name in snakemake.params.scores
        for column in registered_scores()[name].columns
    }
    sources = image_sources(design, rows, Path())
    store = ThumbnailStore(Path("results/store/thumbnails"))
    thumbnails = {key: record for key in sources if (record := store.read(key)) is not None}
    data = viewer_data(design, rows, Findings(found, thumbnails, scores, snakemake.params.links))
    with ending_in_words(log):
        require_code("the viewer", snakemake.params.code, viewer_code)
    write_viewer(Path(snakemake.output.folder), data, sources, store)
    log.info("%s cells, %s images, %s thumbnails", len(rows), len(sources), len(thumbnails))


if "snakemake" in globals():
    main(globals()["snakemake"])
