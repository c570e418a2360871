"""Writes summary.md and no_ops.csv of one experiment."""

import json
from importlib.metadata import version
from pathlib import Path

from workflow_scripts.lib.jobs.record import PACKAGES, open_log, read_manifests
from workflow_scripts.lib.presentation.no_ops import find_no_ops
from workflow_scripts.lib.presentation.summary import (
    NO_OP_COLUMNS,
    identical_images,
    image_differences,
    no_op_rows,
    summarize,
)
from workflow_scripts.lib.presentation.table import read_table, write_table
from workflow_scripts.lib.scoring.table import describe_scores
from workflow_scripts.lib.store.atomic import write_atomic


def main(snakemake):
    log = open_log(snakemake.log[0])
    design = json.loads(Path(snakemake.input.design).read_text(encoding="utf-8"))
    resolved = json.loads(Path(snakemake.params.plan).read_text(encoding="utf-8"))["cells"]
    rows = read_table(snakemake.input.table)
    images = {row["cell"]: Path(row["image"]) for row in rows if row["image"]}
    pixels = identical_images({resolved[cell]["image"]: path for cell, path in images.items()})
    found = find_no_ops(design, resolved, pixels.get)
    differences = image_differences(found, images.get)
    manifests = read_manifests(snakemake.input.manifests)
    made = {
        "images": sum(len(manifest["made"]) for manifest in manifests),
        "seconds": sum(manifest["seconds"] for manifest in manifests),
        "packages": {name: version(name) for name in PACKAGES},
    }
    warnings = [
        text for row in rows for text in (resolved[row["cell"]].get("report") or {}).get("warnings", [])
    ]
    scores = describe_scores(snakemake.params.scores, snakemake.input.scores)
    text = summarize(design, rows, warnings, found, differences, snakemake.params.pictures, scores, made)
    log.info("%s no-ops", len(found.found))
    write_atomic(Path(snakemake.output.no_ops), write_table(no_op_rows(found, differences), NO_OP_COLUMNS))
    write_atomic(Path(snakemake.output.summary), text)


if "snakemake" in globals():
    main(globals()["snakemake"])
