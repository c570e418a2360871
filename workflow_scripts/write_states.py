"""Exports the hidden states of one experiment."""

import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import write_table
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.planning.plan import MergedDesigns
from graftwork.reports import code as report_code
from graftwork.reports.states import STATES_COLUMNS, export_states
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    with ending_in_words(log):
        require_code("exported hidden states", snakemake.params.code, report_code.states_code)
    merged = MergedDesigns.of([read_record(Design, snakemake.input.design)])
    store = Store(Path("results/store"))
    keys = merged.keys(Hardware.model_validate(snakemake.params.hardware), store)
    needs = [
        need
        for cell in merged.cells.values()
        if not keys.unknown_captions(cell)
        for need in keys.all_states(cell)
    ]
    index_file = Path(snakemake.output.index)
    index = export_states(needs, merged.models, merged.references, (store, index_file.parent))
    failed = [row for row in index if row["error"]]
    log.info("%s inputs, %s could not be exported", len(index) - len(failed), len(failed))
    for row in failed:
        log.warning("%s was not exported: %s", row["prompt"], row["error"])
    if failed:
        print(f"{len(failed)} inputs were not exported; {index_file} says why", file=sys.stderr)
    write_atomic(index_file, write_table(index, STATES_COLUMNS))


if "snakemake" in globals():
    main(globals()["snakemake"])
