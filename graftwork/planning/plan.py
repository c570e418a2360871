"""What is missing: extractions, conditioning and images, over all experiments of one scope."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from graftwork.core.identity import digest
from graftwork.core.png import is_complete_png
from graftwork.models.acceleration import TAKE_NO_MASK
from graftwork.models.families import generator_family
from graftwork.planning.inputs_plan import plan_extraction, plan_statistics, statistics_of
from graftwork.planning.keys import Keys, batch_group, sampling_work
from graftwork.planning.shards import split_evenly, write_shard
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes


def cells_of(designs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns cell id -> resolved parameters over several designs, in order, without repetition."""
    return {cell["cell"]: cell["parameters"] for design in designs for cell in design["cells"]}


def merged(designs: Iterable[Mapping[str, Any]], part: str) -> dict[str, Any]:
    """Returns one of the mappings `models` or `references` over several designs."""
    return {key: value for design in designs for key, value in design[part].items()}


def plan_conditioning(
    designs: list[dict[str, Any]], hardware: Mapping[str, Any], sharding: Mapping[str, Any], store: Store
) -> dict[str, Any]:
    """Plans extraction and conditioning, and freezes the shards.

    Returns:
        `extraction`, `statistics` and `conditioning`: names of shards; `hidden_states`: key -> layers that this scope
        needs, and `statistics_keys`, which `healing` holds against the store; `missing_hidden_states`,
        `missing_statistics`, `missing_recipes`: counts.
    """
    cells, models = cells_of(designs), merged(designs, "models")
    references = merged(designs, "references")
    keys = Keys(models, hardware, merged(designs, "corpora"))
    wanted: dict[str, set[int]] = defaultdict(set)
    origins: dict[str, dict[str, Any]] = {}
    for cell in cells.values():
        for need in keys.all_states(cell):
            wanted[need.key].add(need.layer)
            origins[need.key] = need.origin
    statistics = statistics_of(cells.values(), keys)
    for need in (need for found in statistics.values() for need in found.inputs):
        wanted[need.key].add(need.layer)
        origins[need.key] = need.origin
    extraction, missing = plan_extraction(wanted, origins, models, references, hardware, sharding, store)
    statistics_shards, missing_statistics = plan_statistics(statistics, store)

    rows = read_recipes(store.recipes)
    recipes: dict[str, dict[str, Any]] = {}
    for cell in cells.values():
        recipe = keys.recipe(cell)
        key = digest(recipe)
        row = rows.get(key)
        if row is not None:
            image = store.image(digest(keys.image(cell, row["conditioning"])))
            if store.conditioning(row["conditioning"]).exists() or is_complete_png(image):
                continue
        recipes[key] = recipe
    groups = [[key] for key in sorted(recipes, key=lambda key: (recipes[key]["text"], key))]
    files = merged(designs, "statistics_files")
    conditioning = [
        write_shard(
            store.shards,
            shard,
            {
                "recipes": {key: recipes[key] for key in shard},
                "generators": {
                    identity: {part: models[identity][part] for part in ("name", "entry")}
                    for identity in sorted({recipes[key]["caption_norm"] for key in shard})
                },
                "statistics_files": files,
            },
        )
        for shard in split_evenly(groups, 64, sharding["min_recipes_per_shard"])
    ]
    return {
        "extraction": sorted(extraction),
        "statistics": sorted(statistics_shards),
        "conditioning": sorted(conditioning),
        "hidden_states": {key: sorted(layers) for key, layers in sorted(wanted.items())},
        "statistics_keys": sorted(statistics),
        "missing_hidden_states": sum(len(layers) for layers in missing.values()),
        "missing_statistics": len(missing_statistics),
        "missing_recipes": len(recipes),
    }


def resolve_images(
    designs: list[dict[str, Any]],
    hardware: Mapping[str, Any],
    store: Store,
    failures: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns for each cell what the store calls its conditioning and image.

    Args:
        failures: Recipe key -> why it could not be built.

    Returns:
        cell id -> {recipe, conditioning, image, parts, report, error}. `image` is None where the conditioning is
        not known; `error` says why, where it failed.
    """
    failures = failures or {}
    keys = Keys(merged(designs, "models"), hardware, merged(designs, "corpora"))
    rows = read_recipes(store.recipes)
    resolved = {}
    for cell_id, cell in cells_of(designs).items():
        recipe = digest(keys.recipe(cell))
        row = rows.get(recipe)
        entry: dict[str, Any] = {"recipe": recipe, "conditioning": None, "image": None, "error": None}
        if recipe in failures:
            entry["error"] = failures[recipe]
        elif row is not None:
            parts = keys.image(cell, row["conditioning"])
            entry |= {
                "conditioning": row["conditioning"],
                "image": digest(parts),
                "parts": parts,
                "report": row,
            }
        resolved[cell_id] = entry
    return resolved


def plan_images(
    designs: list[dict[str, Any]],
    hardware: Mapping[str, Any],
    sharding: Mapping[str, Any],
    keep_conditioning: bool,
    store: Store,
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """Plans generation, and freezes the shards.

    Returns:
        `shards`: names; `cells`: cell id -> {recipe, conditioning, image, error, tokens, ...}; `shard_of`: image
        key -> shard, for the missing ones.
    """
    cells, models = cells_of(designs), merged(designs, "models")
    resolved = resolve_images(designs, hardware, store, failures)
    for cell_id, entry in resolved.items():
        if entry["image"] is None:
            entry["error"] = entry["error"] or "its conditioning was not built"
            continue
        limit = models[cells[cell_id]["generator"]]["facts"]["max_caption_tokens"]
        if entry["report"]["tokens"] > limit:
            entry["error"] = (
                f"its conditioning has {entry['report']['tokens']} tokens; the generator takes at most {limit}: use "
                "another length_matching or token_mode, or a smaller reference"
            )
        elif entry["report"].get("negative_tokens") is not None:
            family = models[cells[cell_id]["generator"]]["facts"]["family"]
            entry["error"] = _refused_guidance(entry["report"], family, limit, hardware["generation"])
    references = merged(designs, "references")
    missing: dict[str, dict[str, Any]] = {}
    for entry in resolved.values():
        if entry["error"] is None and not is_complete_png(store.image(entry["image"])):
            missing.setdefault(entry["image"], entry)

    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for image, entry in missing.items():
        report = entry["report"]
        family = models[entry["parts"]["generator"]]["facts"]["family"]
        group = batch_group(family, entry["parts"], report["tokens"], report.get("negative_tokens"))
        groups[group].append(image)
    by_generator: dict[str, list[list[str]]] = defaultdict(list)
    for _, images in sorted(groups.items(), key=lambda item: repr(item[0])):
        # Images of one conditioning side by side: it is read once, and can be dropped when they are done.
        images.sort(key=lambda image: (missing[image]["conditioning"], image))
        by_generator[missing[images[0]]["parts"]["generator"]].append(images)
    shards, shard_of = [], {}
    for generator, image_groups in sorted(by_generator.items()):
        for images in split_evenly(image_groups, hardware["gpus"], sharding["min_images_per_shard"]):
            elsewhere = {
                entry["conditioning"] for image, entry in missing.items() if image not in set(images)
            }
            own = {missing[image]["conditioning"] for image in images}
            content = {
                "generator": {key: models[generator][key] for key in ("name", "entry")},
                "hardware": hardware["generation"],
                "images": [image_item(image, missing[image]) for image in images],
                "init_images": paths_of_init_images((missing[image] for image in images), references),
                "drop": [] if keep_conditioning else sorted(own - elsewhere),
            }
            shard = write_shard(store.shards, images, content)
            shards.append(shard)
            shard_of |= dict.fromkeys(images, shard)
    return {"shards": sorted(shards), "cells": resolved, "shard_of": shard_of}


def _refused_guidance(
    report: Mapping[str, Any], family: str, limit: int, generation: Mapping[str, Any]
) -> str | None:
    """Says why a cell with guidance cannot be made, or returns None."""
    tokens, negative, backend = report["tokens"], report["negative_tokens"], generation["attention_backend"]
    if negative > limit:
        return f"its negative prompt has {negative} tokens; the generator takes at most {limit}: shorten it"
    padded_length = generator_family(family).captions.padded_length
    if backend in TAKE_NO_MASK and padded_length(negative) != padded_length(tokens):
        return (
            f"its conditioning has {tokens} tokens and its negative prompt {negative}, which are padded to "
            f"{padded_length(tokens)} and {padded_length(negative)}; attention backend {backend!r} takes only equal ones: "
            "use a negative_prompt of another length, or set config/config.yaml: "
            "hardware.generation.attention_backend to native"
        )
    return None


def image_item(key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a shard says about one of its images.

    Args:
        key: Of the image.
        entry: Of `resolve_images`, or {parts, report}.
    """
    item = {"key": key, "parts": entry["parts"], "tokens": entry["report"]["tokens"]}
    if entry["report"].get("negative_tokens") is not None:
        item["negative_tokens"] = entry["report"]["negative_tokens"]
    return item


def paths_of_init_images(
    entries: Iterable[Mapping[str, Any]], references: Mapping[str, str]
) -> dict[str, str]:
    """Returns SHA-256 -> path of the images that others start from.

    Args:
        entries: With `parts`, as `Keys.image` returns them.
        references: SHA-256 -> path.
    """
    wanted = {entry["parts"].get("init_image") for entry in entries} - {None}
    return {sha256: references[sha256] for sha256 in sorted(wanted)}


def drop_conditioning(plan: Mapping[str, Any], store: Store) -> None:
    """Removes conditioning whose images all exist: a shard that was killed did not come to that.

    Args:
        plan: As `plan_images` returns it.
        store: Where conditioning is.
    """
    needed = {
        entry["conditioning"]
        for entry in plan["cells"].values()
        if entry["error"] is not None or entry["image"] in plan["shard_of"]
    }
    for hash_ in {entry["conditioning"] for entry in plan["cells"].values()} - needed - {None}:
        store.conditioning(hash_).unlink(missing_ok=True)


def count_missing(
    designs: list[dict[str, Any]],
    hardware: Mapping[str, Any],
    resolved: Mapping[str, Mapping[str, Any]],
    store: Store,
) -> dict[str, Any]:
    """Counts what a run would make, without reading hidden states or freezing anything.

    Args:
        designs: Of the scope.
        hardware: The section of config.yaml.
        resolved: As `resolve_images` returns it.
        store: Where images are.

    Returns:
        `cells`; `done`, distinct images in the store; `missing`, images known to be missing; `unknown`, at most as many
        images of conditioning that is not recorded; `recipes` to build; `work`, pixels x steps of what is to be made.
    """
    cells, keys = cells_of(designs), Keys(merged(designs, "models"), hardware)
    missing, unknown, done, recipes = {}, {}, set(), set()
    for cell_id, entry in resolved.items():
        if entry["image"] is None:
            recipes.add(entry["recipe"])
            # As many images as there would be if every recipe gave bytes of its own.
            parts = keys.image(cells[cell_id], entry["recipe"])
            unknown[digest(parts)] = sampling_work(parts)
        elif is_complete_png(store.image(entry["image"])):
            done.add(entry["image"])
        else:
            missing[entry["image"]] = sampling_work(entry["parts"])
    return {
        "cells": len(cells),
        "done": len(done),
        "missing": len(missing),
        "unknown": len(unknown),
        "recipes": len(recipes),
        "work": sum(missing.values()) + sum(unknown.values()),
    }
