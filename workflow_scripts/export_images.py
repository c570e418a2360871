"""Exports the images of one experiment."""

from importlib.metadata import version
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.jobs.record import PACKAGES, open_log
from graftwork.reports.export import export_images


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    index_file = Path(snakemake.output.index)
    versions = {name: version(name) for name in PACKAGES}
    index = export_images(design, read_table(snakemake.input.table), index_file.parent, versions)
    log.info("%s images", len(index))
    write_atomic(index_file, write_table(index or [{"file": "", "cell": ""}]))


if "snakemake" in globals():
    main(globals()["snakemake"])
