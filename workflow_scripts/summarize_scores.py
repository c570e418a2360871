"""Sums up one score of an experiment."""

from pathlib import Path

from graftwork.core.derived import write_derived
from graftwork.core.records import read_record
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports import code as report_code
from graftwork.scores.outputs import all_summaries


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    summary = all_summaries()[snakemake.wildcards.summary]
    rows = summary.summarize(design, read_table(snakemake.input.scores))
    log.info("%s rows", len(rows))
    with ending_in_words(log):
        require_code(
            "summaries of scores",
            snakemake.params.code,
            lambda: report_code.score_summary_code(snakemake.wildcards.summary, snakemake.params.scores),
        )
    write_derived(Path(snakemake.output.table), write_table(rows))


if "snakemake" in globals():
    main(globals()["snakemake"])
