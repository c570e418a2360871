"""Adopting images made by an earlier version of the sampling code, if the present version makes the same bytes.

An edit of the sampling code renames every image, for it may change every image. Where it does not (a refactoring),
rendering everything again would be a waste: a sample is rendered, and if every byte is equal, the others are adopted.
"""

import json
import logging
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graftwork.core.atomic import remove_file
from graftwork.core.identity import digest
from graftwork.core.png import is_complete_png
from graftwork.core.records import OtherVersion, from_json, record_digest
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.jobs.conditioning import Ingredients, build, store_conditioning
from graftwork.jobs.generation import generate_images
from graftwork.planning.plan import (
    MergedDesigns,
    PlanEntry,
    loaded_for,
    paths_of_init_images,
    paths_of_references,
    resolve_images,
)
from graftwork.planning.shards import ImageItem, ImageShard
from graftwork.store.images import DamagedImage, DigestWriter, read_stored_image
from graftwork.store.layout import Store
from graftwork.store.records import ImageParts


@dataclass(frozen=True)
class Adoptable:
    """A missing image of which an equal one may exist.

    Attributes:
        old: key of the existing image.
        cell: a cell that needs the missing one.
        entry: what the store calls that cell.
    """

    old: str
    cell: str
    entry: PlanEntry


def find_adoptable(designs: Sequence[Design], hardware: Hardware, store: Store) -> dict[str, Adoptable]:
    """Returns the missing images of which an equal one exists, but for the digest of the sampling code, by their keys."""
    earlier = defaultdict(list)
    for item in _planned_images(store):
        earlier[_without_code(item.parts)].append(item.key)
    adoptable = {}
    for cell, entry in resolve_images(designs, hardware, store).items():
        if entry.image is None or is_complete_png(store.image(entry.image)):
            continue
        for old in earlier.get(_without_code(entry.parts), ()):
            if is_complete_png(store.image(old)):
                adoptable[entry.image] = Adoptable(old, cell, entry)
    return adoptable


def _planned_images(store: Store) -> list[ImageItem]:
    """Returns the images of all shards there have been; those of other versions, where their items can be read."""
    items = []
    for file in sorted(store.shards.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for item in content.get("images", ()) if isinstance(content, dict) else ():
            try:
                items.append(from_json(ImageItem, item))
            except OtherVersion:
                continue
    return items


def accept_images(
    designs: Sequence[Design],
    hardware: Hardware,
    samples: int,
    store: Store,
    log: logging.Logger,
) -> str:
    """Renders a sample under the present code and, if it is equal, adopts every image of the earlier code.

    Args:
        designs: experiments whose images are looked for.
        hardware: of config.yaml.
        samples: how many images are rendered.
        store: where images are.
        log: log of the job.

    Returns:
        One sentence that says which images were adopted.

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
    digests, adopted = DigestWriter(store, f"adopted-{digest(keys)[:16]}"), 0
    for key, one in adoptable.items():
        try:
            digests.note(key, read_stored_image(store.image(one.old)))
        except DamagedImage as error:
            log.warning("not adopted: %s", error)
            continue
        _adopt(store.image(one.old), store.image(key))
        adopted += 1
    return f"{len(chosen)} sampled images are equal; {adopted} images adopted"


def _render(
    designs: Sequence[Design],
    hardware: Hardware,
    chosen: Mapping[str, Adoptable],
    store: Store,
    trial: Store,
    log: logging.Logger,
) -> list[str]:
    """Makes images under the present code, and returns what is wrong with those that differ, one line each."""
    from graftwork.conditioning.build import HARDWARE
    from graftwork.models.hardware import configure_torch

    # As in the job that built them first: the number of threads changes low bits, and with them the hash.
    configure_torch(HARDWARE)
    merged = MergedDesigns.of(designs)
    keys, ingredients = merged.keys(hardware, store), Ingredients(store, {}, merged.statistics_files)
    by_generator = defaultdict(list)
    for one in chosen.values():
        store_conditioning(build(keys.recipe(merged.cells[one.cell]), ingredients), trial)
        by_generator[loaded_for(one.entry)].append(one.entry)
    differing = []
    for (generator, _), entries in by_generator.items():
        shard = ImageShard(
            generator=merged.model(generator),
            hardware=hardware.generation.model_dump(),
            images=tuple(entry.item() for entry in entries),
            init_images=paths_of_init_images(entries, merged.references),
            references=paths_of_references(entries, merged.references),
            drop=(),
        )
        failures = generate_images(shard, trial, log).failures
        for item in shard.images:
            old = chosen[item.key].old
            if item.key in failures:
                differing.append(f"{item.key}: {failures[item.key]}")
            elif trial.image(item.key).read_bytes() != store.image(old).read_bytes():
                differing.append(f"{item.key}: other bytes than {old}")
    return differing


def _adopt(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    # What is here under this name is not complete, or the image would not be missing.
    remove_file(new)
    # A second name for the same file; nothing in the store is ever changed in place.
    os.link(old, new)


def _without_code(parts: ImageParts) -> str:
    return record_digest(replace(parts, code=""))
