"""Makes the thumbnails of one experiment's images that are missing, and a manifest that says which cannot be made."""

import json
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.tables import read_table
from graftwork.jobs.record import open_log
from graftwork.reports.viewer.folder import image_sources
from graftwork.reports.viewer.thumbnails import ThumbnailStore, make_thumbnails, sources_of_part


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    everything = image_sources(design, read_table(snakemake.input.table), Path())
    sources = sources_of_part(everything, snakemake.params.part, snakemake.params.parts)
    store = ThumbnailStore(Path("results/store/thumbnails"))
    errors = make_thumbnails(sources, store, log, threads=snakemake.threads)
    manifest = {"thumbnails": sorted(set(sources) - set(errors)), "errors": errors}
    write_atomic(Path(snakemake.output.manifest), json.dumps(manifest, indent=1))


if "snakemake" in globals():
    main(globals()["snakemake"])
