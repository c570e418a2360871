"""Holding plans against the store: what was deleted, truncated or failed is planned again.

Snakemake sees manifests, not the store. When a plan promises something that is not there, the plan and everything
derived from it are removed, and the next step makes them again. Nothing in the store is removed here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.core.fact_cache import FactCache
from graftwork.core.png import is_complete_png
from graftwork.store.layout import Store

STAGES = ("hidden_states", "statistics", "conditioning", "images")


def find_damage(folder: Path, store: Store) -> str | None:
    """Returns why the plan in `folder` no longer holds, or None.

    Args:
        folder: results/plan/{scope}.
        store: What the plan is held against.
    """
    conditioning, images = _read(folder / "conditioning.json"), _read(folder / "images.json")
    if conditioning is None:
        return None  # It is missing anyway and will be made.
    if damage := find_damaged_inputs(conditioning, store):
        return damage
    if images is None:
        return "the last planning was interrupted"
    failed = count_failures(folder)
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


def count_failures(folder: Path) -> int:
    """Returns how many items the manifests of a plan say have failed."""
    return sum(
        len(manifest["failures"])
        for stage in STAGES
        for file in folder.glob(f"{stage}/*.json")
        if (manifest := _read(file)) is not None
    )


def find_damaged_inputs(plan: Mapping[str, Any], store: Store) -> str | None:
    """Returns why what a plan needs of the store is no longer there, or None.

    Args:
        plan: With `hidden_states` and `statistics_keys`, of cells or of an analysis.
        store: What the plan is held against.
    """
    verified = FactCache(store.verified)
    hidden_states = [
        key
        for key, layers in plan["hidden_states"].items()
        if not set(layers) <= set(verified.known(store.hidden_states(key)) or ())
    ]
    if hidden_states:
        return f"{len(hidden_states)} files of hidden states are missing or changed"
    measured = FactCache(store.verified_statistics)
    statistics = [key for key in plan["statistics_keys"] if not measured.known(store.statistics(key))]
    return f"{len(statistics)} files of statistics are missing or changed" if statistics else None


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
