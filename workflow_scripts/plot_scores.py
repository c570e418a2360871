"""Draws the plots of an experiment's scores."""

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
    known = all_summaries()
    tables = {Path(file).stem: read_table(file) for file in snakemake.input.summaries}
    charts = {
        name: known[plot["table"]].chart(plot["shows"], title, tables[plot["table"]])
        for name, plot in snakemake.params.plots.items()
    }
    with ending_in_words(log):
        require_code(
            "plots of scores",
            snakemake.params.code,
            lambda: report_code.score_plot_code(snakemake.params.scores),
        )
    for name, chart in charts.items():
        log.info("%s: %s panels", name, len(chart.panels))
        write_atomic(Path(snakemake.output.plots, f"{name}.png"), chart_png(chart))


if "snakemake" in globals():
    main(globals()["snakemake"])
