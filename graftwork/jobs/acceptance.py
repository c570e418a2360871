"""Adopting images made by an earlier version of the sampling code, if the present version makes the same bytes.

An edit of the sampling code renames every image, for it may change every image. Where it does not (a refactoring),
rendering everything again would be a waste: a sample is rendered, and if every byte is equal, the others are adopted.
"""

import json
import logging
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.core.identity import digest
from graftwork.core.png import is_complete_png
from graftwork.jobs.generation import generate_images
from graftwork.planning.keys import Keys
from graftwork.planning.plan import (
    cells_of,
    image_item,
    merged,
    paths_of_init_images,
    resolve_images,
)
from graftwork.store.layout import Store


def find_adoptable(
    designs: list[dict[str, Any]], hardware: Mapping[str, Any], store: Store
) -> dict[str, dict[str, Any]]:
    """Returns the missing images of which an equal one exists, but for the digest of the sampling code.

    Returns:
        image key -> {old: key of the existing image, cell: id of a cell that needs it, parts, report}.
    """
    earlier: dict[str, list[str]] = {}
    for file in sorted(store.shards.glob("*.json")):
        for item in json.loads(file.read_text(encoding="utf-8")).get("images", ()):
            earlier.setdefault(_without_code(item["parts"]), []).append(item["key"])
    adoptable = {}
    for cell, entry in resolve_images(designs, hardware, store).items():
        if entry["image"] is None or is_complete_png(store.image(entry["image"])):
            continue
        for old in earlier.get(_without_code(entry["parts"]), ()):
            if is_complete_png(store.image(old)):
                adoptable[entry["image"]] = {
                    "old": old,
                    "cell": cell,
                    "parts": entry["parts"],
                    "report": entry["report"],
                }
    return adoptable


def accept_images(
    designs: list[dict[str, Any]],
    hardware: Mapping[str, Any],
    samples: int,
    store: Store,
    log: logging.Logger,
) -> str:
    """Renders a sample under the present code and, if it is equal, adopts every image of the earlier code.

    Args:
        samples: How many images are rendered.

    Returns:
        What was done, in a sentence.

    Raises:
        ValueError: where an image of the sample differs or cannot be made; nothing is adopted then.
    """
    adoptable = find_adoptable(designs, hardware, store)
    if not adoptable:
        return "no image of an earlier version of the sampling code is needed"
    keys = sorted(adoptable)
    chosen = sorted(random.Random(digest(keys)).sample(keys, min(samples, len(keys))))
    trial = Store(store.root / "trial")
    try:
        differing = _render(designs, hardware, {key: adoptable[key] for key in chosen}, store, trial, log)
    finally:
        shutil.rmtree(trial.root, ignore_errors=True)
    if differing:
        raise ValueError(
            f"{len(differing)} of {len(chosen)} sampled images differ under the present sampling code; nothing was "
            f"adopted, and the next run makes the images anew. First: {differing[0]}"
        )
    for key, entry in adoptable.items():
        _adopt(store.image(entry["old"]), store.image(key))
    return f"{len(chosen)} sampled images are equal; {len(adoptable)} images adopted"


def _render(
    designs: list[dict[str, Any]],
    hardware: Mapping[str, Any],
    chosen: Mapping[str, Mapping[str, Any]],
    store: Store,
    trial: Store,
    log: logging.Logger,
) -> list[str]:
    from safetensors.torch import save_file

    from graftwork.conditioning.build import HARDWARE, build_conditioning
    from graftwork.models.hardware import configure_torch
    from graftwork.store.hidden_states import read_layer
    from graftwork.store.statistics import read_wanted

    # As in the job that built them first: the number of threads changes low bits, and with them the hash.
    configure_torch(HARDWARE)

    def read_states(key: str, layer: int) -> Any:
        return read_layer(store.hidden_states(key), layer)

    def read_statistics(wanted: Mapping[str, Any]) -> Any:
        return read_wanted(wanted, store, files)

    cells, models = cells_of(designs), merged(designs, "models")
    recipes, files = Keys(models, hardware, merged(designs, "corpora")), merged(designs, "statistics_files")
    by_generator: dict[str, list[dict[str, Any]]] = {}
    for key, entry in chosen.items():
        path = trial.conditioning(entry["parts"]["conditioning"])
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = recipes.recipe(cells[entry["cell"]])
        conditioning = build_conditioning(recipe, read_states, read_statistics)
        save_file(conditioning.tensors, path)
        by_generator.setdefault(entry["parts"]["generator"], []).append(image_item(key, entry))
    differing = []
    for generator, images in by_generator.items():
        shard = {
            "generator": {part: models[generator][part] for part in ("name", "entry")},
            "hardware": hardware["generation"],
            "images": images,
            "init_images": paths_of_init_images(images, merged(designs, "references")),
            "drop": [],
        }
        failures = generate_images(shard, trial, log).failures
        for item in images:
            key, old = item["key"], chosen[item["key"]]["old"]
            if key in failures:
                differing.append(f"{key}: {failures[key]}")
            elif trial.image(key).read_bytes() != store.image(old).read_bytes():
                differing.append(f"{key}: other bytes than {old}")
    return differing


def _adopt(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    # What is here under this name is not complete, or the image would not be missing.
    new.unlink(missing_ok=True)
    # A second name for the same file; nothing in the store is ever changed in place.
    os.link(old, new)


def _without_code(parts: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in parts.items() if name != "code"})
