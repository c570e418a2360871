"""Cutting work into jobs: few enough that loading a model pays, many enough for the GPUs there are."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from graftwork.core.atomic import write_atomic
from graftwork.core.identity import digest

T = TypeVar("T")


def split_evenly(groups: Sequence[Sequence[T]], most: int, fewest_items: int) -> list[list[T]]:
    """Distributes groups, each kept whole where that leaves the shards balanced, over at most `most` shards.

    Args:
        groups: Items that are cheaper together (the same image, the same batch shape), in order.
        most: Most shards.
        fewest_items: Fewest items that are worth a shard of their own.

    Returns:
        Shards without empty ones. Order of items is kept; nothing depends on chance or on what ran before.
    """
    items = [item for group in groups for item in group]
    if not items:
        return []
    shards = max(1, min(most, len(items) // max(1, fewest_items)))
    bounds = [round(len(items) * index / shards) for index in range(shards + 1)]
    starts, at = [], 0
    for group in groups:
        starts.append(at)
        at += len(group)
    # A cut moves to the nearest start of a group if that changes the size of a shard by less than a quarter.
    slack = len(items) / shards / 4
    for index in range(1, shards):
        nearest = min(starts, key=lambda start: (abs(start - bounds[index]), start))
        if abs(nearest - bounds[index]) <= slack:
            bounds[index] = nearest
    cut = [items[a:b] for a, b in itertools.pairwise(bounds)]
    return [shard for shard in cut if shard]


def write_shard(folder: Path, keys: Sequence[str], content: dict[str, Any]) -> str:
    """Freezes what a job has to do in a file named by the digest of its keys, and returns that name."""
    name = digest(sorted(keys))[:16]
    write_atomic(folder / f"{name}.json", json.dumps(content, sort_keys=True, ensure_ascii=False))
    return name


def read_shard(folder: Path, name: str) -> dict[str, Any]:
    """Returns what a job has to do."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
