"""Adopts images of earlier sampling code, if a sample of them renders to equal bytes."""

import json
import sys
from pathlib import Path

from graftwork.jobs.acceptance import accept_images
from graftwork.jobs.record import open_log
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    designs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in snakemake.input.designs]
    params = snakemake.params
    line = accept_images(designs, params.hardware, params.samples, Store(Path("results/store")), log)
    log.info(line)
    print(line, file=sys.stderr)


if "snakemake" in globals():
    main(globals()["snakemake"])
