"""Exports the images of one experiment."""

import sys
from importlib.metadata import version
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import PACKAGES, open_log
from graftwork.reports import code as report_code
from graftwork.reports.export import EXPORT_COLUMNS, export_images


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    index_file = Path(snakemake.output.index)
    versions = {name: version(name) for name in PACKAGES}
    with ending_in_words(log):
        require_code("exported images", snakemake.params.code, report_code.export_code)
    index = export_images(design, read_table(snakemake.input.table), index_file.parent, versions)
    failed = [entry for entry in index if entry["error"]]
    log.info("%s images, %s could not be exported", len(index) - len(failed), len(failed))
    for entry in failed:
        log.warning("cell %s was not exported: %s", entry["cell"], entry["error"])
    if failed:
        print(f"{len(failed)} cells were not exported; {index_file} says why", file=sys.stderr)
    write_atomic(index_file, write_table(index, EXPORT_COLUMNS))


if "snakemake" in globals():
    main(globals()["snakemake"])
