"""Writes the tables of the cells of one experiment."""

import shutil
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.derived import write_derived
from graftwork.core.records import read_record
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import all_failures, open_log
from graftwork.planning.plan import ImagePlan
from graftwork.reports import code as report_code
from graftwork.reports.pages import stale_pages
from graftwork.reports.table import CONSTANT_COLUMNS, cell_rows, constant_rows, people_rows
from graftwork.scores.outputs import stale_score_files
from graftwork.scores.table import add_scores, shown_columns
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    plan = read_record(ImagePlan, snakemake.params.plan)
    failures = all_failures(snakemake.input.manifests)
    rows = cell_rows(design, plan.cells, failures, Store(Path("results/store")))
    log.info("%s rows", len(rows))
    results, scored = Path(snakemake.output.table).parent, []
    stale = stale_pages(design, results / "grids")
    if snakemake.input.scores:
        scored = read_table(snakemake.input.scores[0])
        rows = add_scores(rows, scored)
    else:
        stale += stale_score_files(results)
    for file in stale:
        log.info("removing %s, which the experiment no longer has", file)
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with ending_in_words(log):
        require_code("tables", snakemake.params.code, report_code.table_code)
    write_derived(Path(snakemake.output.full), write_table(rows))
    constants = write_table(constant_rows(design, rows), CONSTANT_COLUMNS)
    write_atomic(Path(snakemake.output.constants), constants)
    write_derived(Path(snakemake.output.table), write_table(people_rows(design, rows, shown_columns(scored))))


if "snakemake" in globals():
    main(globals()["snakemake"])
