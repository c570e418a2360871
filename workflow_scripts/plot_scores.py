"""Draws one plot of an experiment's scores."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports import code as report_code
from graftwork.reports.charts import chart_png
from graftwork.scores.outputs import all_summaries


def main(snakemake):
    log = open_log(snakemake.log[0])
    title = read_record(Design, snakemake.input.design).title
    summary = all_summaries()[snakemake.params.table]
    chart = summary.chart(snakemake.params.shows, title, read_table(snakemake.input.summary))
    log.info("%s panels", len(chart.panels))
    with ending_in_words(log):
        require_code(
            "plots of scores",
            snakemake.params.code,
            lambda: report_code.score_plot_code(snakemake.params.table, snakemake.params.scores),
        )
    write_atomic(Path(snakemake.output.plot), chart_png(chart))


if "snakemake" in globals():
    main(globals()["snakemake"])
