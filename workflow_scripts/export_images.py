"""Exports the images of one experiment."""

import json
from importlib.metadata import version
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.tables import read_table, write_table
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import PACKAGES, blaming_settings, open_log
from graftwork.reports import code as report_code
from graftwork.reports.export import export_images


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    index_file = Path(snakemake.output.index)
    versions = {name: version(name) for name in PACKAGES}
    with ending_in_words(log):
        require_code("exported images", snakemake.params.code, report_code.export_code)
    with blaming_settings(log):
        index = export_images(design, read_table(snakemake.input.table), index_file.parent, versions)
    log.info("%s images", len(index))
    write_atomic(index_file, write_table(index or [{"file": "", "cell": ""}]))


if "snakemake" in globals():
    main(globals()["snakemake"])
