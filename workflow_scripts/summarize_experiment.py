"""Writes summary.md and no_ops.csv of one experiment."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.jobs.record import open_log, read_manifests, work_of
from graftwork.planning.plan import ImagePlan
from graftwork.reports.summary import NO_OP_COLUMNS, compare_settings, no_op_rows, summarize
from graftwork.reports.table import read_table, write_table
from graftwork.scores.table import describe_scores


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    resolved = read_record(ImagePlan, snakemake.params.plan).cells
    rows = read_table(snakemake.input.table)
    found, differences = compare_settings(design, resolved, rows)
    scores = describe_scores(snakemake.params.scores, snakemake.input.scores)
    made = work_of(read_manifests(snakemake.input.manifests))
    text = summarize(design, resolved, rows, found, differences, snakemake.params.pictures, scores, made)
    log.info("%s no-ops", len(found.found))
    write_atomic(Path(snakemake.output.no_ops), write_table(no_op_rows(found, differences), NO_OP_COLUMNS))
    write_atomic(Path(snakemake.output.summary), text)


if "snakemake" in globals():
    main(globals()["snakemake"])
