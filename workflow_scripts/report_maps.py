"""Writes the report of a file of maps: Markdown, HTML and plots."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record, write_record
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.planning.maps import MapsPlan
from graftwork.reports import code as report_code
from graftwork.reports.charts import chart_png
from graftwork.reports.document import Budget, write_document
from graftwork.reports.maps import PLOTS, card_of, read_findings, write_report


def main(snakemake):
    log = open_log(snakemake.log[0])
    plan = read_record(MapsPlan, snakemake.input.plan)
    folder = Path(snakemake.output.markdown).parent
    findings = read_findings(plan.study, folder, list(snakemake.input.means), list(snakemake.params.grids))
    charts = {name: chart_png(draw(findings)) for name, draw in PLOTS.items()}
    markdown = write_report(findings)
    with ending_in_words(log):
        require_code("reports of maps", snakemake.params.code, report_code.map_report_code)
    for name, chart in charts.items():
        write_atomic(folder / f"plots/{name}.png", chart)
    note = f"Made by graftwork. This page needs no other file. Tables are in {folder.as_posix()}/."
    write_atomic(Path(snakemake.output.html), write_document(markdown, folder, Budget(), note=note))
    write_record(Path(snakemake.output.card), card_of(findings))
    write_atomic(Path(snakemake.output.markdown), markdown)


if "snakemake" in globals():
    main(globals()["snakemake"])
