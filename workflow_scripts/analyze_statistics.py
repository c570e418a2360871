"""Writes the tables, plots and summary of an analysis."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record, write_record
from graftwork.jobs.analysis import analyze
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import all_failures, open_log
from graftwork.planning.analyses import FILES, StatisticsPlan, read_files
from graftwork.reports import code as report_code
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    plan = read_record(StatisticsPlan, snakemake.input.plan)
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.statistics])
    summary, folder = Path(snakemake.output.summary), Path(snakemake.input.plan).parent
    files, text, card = analyze(plan.analysis, Store(Path("results/store")), summary.parent, log, failures)
    with ending_in_words(log):
        require_code("analyses", snakemake.params.code, report_code.analysis_code)
    for file in sorted(set(read_files(folder)) - set(files)):
        log.info("removing %s, which the analysis no longer has", file)
        (summary.parent / file).unlink(missing_ok=True)
    write_atomic(folder / FILES, json.dumps(files, indent=1))
    write_atomic(summary, text)
    write_record(Path(snakemake.output.card), card)


if "snakemake" in globals():
    main(globals()["snakemake"])
