"""Writes the tables, plots and summary of an analysis."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.analysis import analyze
from graftwork.jobs.record import all_failures, open_log
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    plan = json.loads(Path(snakemake.input.plan).read_text(encoding="utf-8"))
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.statistics])
    summary = Path(snakemake.output.summary)
    files, text = analyze(plan["analysis"], Store(Path("results/store")), summary.parent, log, failures)
    listed = Path(snakemake.input.plan).with_name("files.json")
    before = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    for file in sorted(set(before) - set(files)):
        log.info("removing %s, which the analysis no longer has", file)
        (summary.parent / file).unlink(missing_ok=True)
    write_atomic(listed, json.dumps(files, indent=1))
    write_atomic(summary, text)


if "snakemake" in globals():
    main(globals()["snakemake"])
