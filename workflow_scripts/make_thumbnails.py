"""Makes the thumbnails of one experiment's images that are missing, and a manifest that says which cannot be made."""

import json
from functools import partial
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import open_log
from graftwork.reports.viewer.code import thumbnail_code
from graftwork.reports.viewer.folder import image_sources
from graftwork.reports.viewer.thumbnails import ThumbnailStore, make_thumbnails, sources_of_part


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = read_record(Design, snakemake.input.design)
    everything = image_sources(design, read_table(snakemake.input.table), Path())
    sources = sources_of_part(everything, snakemake.params.part, snakemake.params.parts)
    require = partial(require_code, "thumbnails", snakemake.params.code, thumbnail_code)
    # Before, too: what is in the store of thumbnails stays there.
    with ending_in_words(log):
        require()
    store = ThumbnailStore(Path("results/store/thumbnails"))
    errors = make_thumbnails(sources, store, log, threads=snakemake.threads)
    with ending_in_words(log):
        require()
    manifest = {"thumbnails": sorted(set(sources) - set(errors)), "errors": errors}
    write_atomic(Path(snakemake.output.manifest), json.dumps(manifest, indent=1))


if "snakemake" in globals():
    main(globals()["snakemake"])
