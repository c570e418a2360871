"""Writes summary.md and no_ops.csv of one experiment."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record, write_record
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log, read_manifests, work_of
from graftwork.planning.plan import ImagePlan
from graftwork.reports import code as report_code
from graftwork.reports.summary import NO_OP_COLUMNS, Report, card_of, compare_settings, no_op_rows, summarize
from graftwork.scores.outputs import describe_scores


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    resolved = read_record(ImagePlan, snakemake.params.plan).cells
    rows = read_table(snakemake.input.table)
    found, differences = compare_settings(design, resolved, rows)
    tables = {Path(file).stem: read_table(file) for file in snakemake.input.scores}
    scores = describe_scores(snakemake.params.scores, tables)
    made = work_of(read_manifests(snakemake.input.manifests))
    params = snakemake.params
    report = Report(
        design, resolved, rows, found, differences, params.pictures, scores, made, params.more_pages
    )
    log.info("%s no-ops", len(found.found))
    with ending_in_words(log):
        require_code(
            "summaries", snakemake.params.code, lambda: report_code.experiment_code(snakemake.params.scores)
        )
    write_atomic(Path(snakemake.output.no_ops), write_table(no_op_rows(found, differences), NO_OP_COLUMNS))
    write_atomic(Path(snakemake.output.summary), summarize(report))
    write_record(Path(snakemake.output.card), card_of(report))


if "snakemake" in globals():
    main(globals()["snakemake"])
