"""Scores the images of one experiment."""

from pathlib import Path

from graftwork.core.derived import write_derived
from graftwork.core.records import from_json, read_record
from graftwork.core.tables import write_table
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import all_failures, blaming_settings, open_log
from graftwork.planning.plan import ImagePlan
from graftwork.planning.scoring import read_answers
from graftwork.reports import code as report_code
from graftwork.reports.table import cell_rows
from graftwork.scores.questions import Scoring
from graftwork.scores.table import Besides, score_rows
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    plan = read_record(ImagePlan, snakemake.params.plan)
    failures = all_failures(snakemake.input.manifests)
    store = Store(Path("results/store"))
    cells = cell_rows(design, plan.cells, failures, store)
    images = {row["cell"]: row["image"] for row in cells}
    answers = read_answers(
        from_json(Scoring, snakemake.params.scoring),
        Hardware.model_validate(snakemake.params.hardware),
        store,
        all_failures(snakemake.input.measured),
    )
    with blaming_settings(log):
        besides = Besides(design.baselines, store.values, answers)
        rows = score_rows(design.cells, images, design.references, snakemake.params.scores, Path(), besides)
    log.info("%s rows", len(rows))
    with ending_in_words(log):
        require_code("scores", snakemake.params.code, lambda: report_code.score_code(snakemake.params.scores))
    write_derived(Path(snakemake.output.table), write_table(rows))


if "snakemake" in globals():
    main(globals()["snakemake"])
