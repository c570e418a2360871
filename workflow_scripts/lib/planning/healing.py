"""Holding plans against the store: what was deleted, truncated or failed is planned again.

Snakemake sees manifests, not the store. When a plan promises something that is not there, the plan and everything
derived from it are removed, and the next step makes them again. Nothing in the store is removed here.
"""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.lib.presentation.png import is_complete_png
from workflow_scripts.lib.store.fact_cache import FactCache
from workflow_scripts.lib.store.layout import Store

STAGES = ("hidden_states", "conditioning", "images")


def find_damage(folder: Path, store: Store) -> str | None:
    """Returns why the plan in `folder` no longer holds, or None.

    Args:
        folder: results/plan/{scope}.
        store: What the plan is held against.
    """
    conditioning, images = _read(folder / "conditioning.json"), _read(folder / "images.json")
    if conditioning is None:
        return None  # It is missing anyway and will be made.
    verified = FactCache(store.verified)
    hidden_states = [
        key
        for key, layers in conditioning["hidden_states"].items()
        if not set(layers) <= set(verified.known(store.hidden_states(key)) or ())
    ]
    if hidden_states:
        return f"{len(hidden_states)} files of hidden states are missing or changed"
    if images is None:
        return "the last planning was interrupted"
    failed = sum(
        len(manifest["failures"])
        for stage in STAGES
        for file in folder.glob(f"{stage}/*.json")
        if (manifest := _read(file)) is not None
    )
    missing = {
        entry["image"]
        for entry in images["cells"].values()
        if entry["image"] is not None and entry["error"] is None
        if not is_complete_png(store.image(entry["image"]))
    }
    errors = sum(entry["error"] is not None for entry in images["cells"].values())
    if failed or errors:
        return f"{max(failed, errors)} items failed last time"
    if missing:
        return f"{len(missing)} images are missing or incomplete"
    return None


def planned_digest(folder: Path) -> str | None:
    """Returns the digest of what the plan in `folder` was made for, or None where there is no plan."""
    return (_read(folder / "conditioning.json") or {}).get("digest")


def forget(folder: Path, experiments: list[str], designs: bool = False) -> None:
    """Removes a plan, the manifests of its shards, and the tables, from which grids follow.

    Args:
        folder: results/plan/{scope}.
        experiments: Those of the scope.
        designs: Remove their cells too.
    """
    for stage in STAGES:
        for file in folder.glob(f"{stage}/*.json"):
            file.unlink(missing_ok=True)
    for name in ("verdict.txt", "images.json", "conditioning.json"):
        (folder / name).unlink(missing_ok=True)
    for experiment in experiments:
        for name in ("cells.csv", "scores.csv", *(["design.json"] if designs else [])):
            Path("results", experiment, name).unlink(missing_ok=True)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
