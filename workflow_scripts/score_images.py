"""Scores the images of one experiment."""

from pathlib import Path

from graftwork.core.derived import write_derived
from graftwork.core.records import read_record
from graftwork.core.tables import write_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import all_failures, blaming_settings, open_log
from graftwork.planning.plan import ImagePlan
from graftwork.reports import code as report_code
from graftwork.reports.table import cell_rows
from graftwork.scores.table import score_rows
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    plan = read_record(ImagePlan, snakemake.params.plan)
    failures = all_failures(snakemake.input.manifests)
    cells = cell_rows(design, plan.cells, failures, Store(Path("results/store")))
    images = {row["cell"]: row["image"] for row in cells}
    with blaming_settings(log):
        rows = score_rows(design.cells, images, design.references, snakemake.params.scores, Path())
    log.info("%s rows", len(rows))
    with ending_in_words(log):
        require_code("scores", snakemake.params.code, lambda: report_code.score_code(snakemake.params.scores))
    write_derived(Path(snakemake.output.table), write_table(rows))


if "snakemake" in globals():
    main(globals()["snakemake"])
