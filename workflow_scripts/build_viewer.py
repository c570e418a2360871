"""Writes the folder of the viewer of one experiment."""

import json
from pathlib import Path

from graftwork.jobs.record import open_log
from graftwork.reports.summary import compare_settings
from graftwork.reports.table import read_table
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.reports.viewer.folder import image_sources, write_viewer
from graftwork.reports.viewer.thumbnails import ThumbnailStore


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    rows = read_table(snakemake.input.table)
    resolved = json.loads(Path(snakemake.params.plan).read_text(encoding="utf-8"))["cells"]
    found, _ = compare_settings(design, resolved, rows)
    scored = read_table(snakemake.input.scores[0]) if snakemake.input.scores else []
    scores = {name: "" for row in scored[:1] for name in row if name not in ("cell", "image")}
    sources = image_sources(design, rows, Path())
    store = ThumbnailStore(Path("results/store/thumbnails"))
    thumbnails = {key: record for key in sources if (record := store.read(key)) is not None}
    data = viewer_data(design, rows, Findings(found, thumbnails, scores, snakemake.params.links))
    write_viewer(Path(snakemake.output.folder), data, sources, store)
    log.info("%s cells, %s images, %s thumbnails", len(rows), len(sources), len(thumbnails))


if "snakemake" in globals():
    main(globals()["snakemake"])
