"""Sums up one score of an experiment."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from graftwork.reports.table import read_table, write_table
from graftwork.scores.registry import score_of_summary
from graftwork.scores.table import stale_plots


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    score = score_of_summary(snakemake.wildcards.summary)
    rows = score.summarize(design, read_table(snakemake.input.scores))
    log.info("%s rows", len(rows))
    table = Path(snakemake.output.table)
    for plot in stale_plots(design, snakemake.params.scores, table.with_name("plots")):
        log.info("removing %s, which the experiment no longer has", plot)
        plot.unlink()
    write_atomic(table, write_table(rows))


if "snakemake" in globals():
    main(globals()["snakemake"])
