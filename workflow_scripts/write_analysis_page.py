"""Writes summary.html of one analysis: summary and plots in one file."""

from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports.code import analysis_page_code
from graftwork.reports.document import Budget, write_document


def main(snakemake):
    log = open_log(snakemake.log[0])
    summary, budget = Path(snakemake.input.summary), Budget()
    note = f"Made by graftwork. This page needs no other file. The files that are named here are in {summary.parent.as_posix()}/."
    text = write_document(summary.read_text(encoding="utf-8"), summary.parent, budget, note=note)
    log.info("%s bytes, %s pictures left out", len(text), budget.refused)
    with ending_in_words(log):
        require_code("pages of analyses", snakemake.params.code, analysis_page_code)
    write_atomic(Path(snakemake.output.page), text)


if "snakemake" in globals():
    main(globals()["snakemake"])
