"""Writes cells.csv of one experiment."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.jobs.record import all_failures, open_log
from graftwork.planning.plan import ImagePlan
from graftwork.reports.pages import stale_pages
from graftwork.reports.table import cell_rows, read_table, write_table
from graftwork.scores.table import add_scores, stale_score_files
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    plan = read_record(ImagePlan, snakemake.params.plan)
    failures = all_failures(snakemake.input.manifests)
    rows = cell_rows(design, plan.cells, failures, Store(Path("results/store")))
    log.info("%s rows", len(rows))
    results = Path(snakemake.output.table).parent
    stale = stale_pages(design, results / "grids")
    if snakemake.input.scores:
        rows = add_scores(rows, read_table(snakemake.input.scores[0]))
    else:
        stale += stale_score_files(results)
    for file in stale:
        log.info("removing %s, which the experiment no longer has", file)
        file.unlink()
    write_atomic(Path(snakemake.output.table), write_table(rows))


if "snakemake" in globals():
    main(globals()["snakemake"])
