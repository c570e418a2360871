"""What is missing of encoder inputs: their hidden states, and the statistics of corpora. For cells and for analyses."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.models.images import is_neutral_image
from graftwork.planning.corpus_keys import NeededStatistics
from graftwork.planning.keys import Keys
from graftwork.planning.shards import split_evenly, write_shard
from graftwork.store.layout import Store
from graftwork.transforms.registry import STAGES

# Statistics of one layer take seconds: fewer are not worth another job.
_STATISTICS_PER_SHARD = 4
_MOST_SHARDS = 64


def intact_hidden_states(store: Store, wanted: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """Returns for each key the wanted layers that can be read back.

    A file whose size and time are those of its last full reading is not read again.
    """
    verified = FactCache(store.verified)
    intact = {}
    for key, layers in wanted.items():
        path = store.hidden_states(key)
        present = verified.known(path)
        if present is None and path.exists():
            from graftwork.store.hidden_states import intact_layers

            signature = stat_signature(path)
            present = intact_layers(path)
            verified.put(path, present, signature)
        intact[key] = sorted(set(layers) & set(present or ()))
    verified.save()
    return intact


def path_of(reference: str | None, references: Mapping[str, str]) -> str | None:
    """Returns where a reference image is; one that shows nothing is made by its name."""
    return reference if is_neutral_image(reference) else references.get(reference)


def plan_extraction(
    wanted: Mapping[str, set[int]],
    origins: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    references: Mapping[str, str],
    hardware: Mapping[str, Any],
    sharding: Mapping[str, Any],
    store: Store,
) -> tuple[list[str], dict[str, list[int]]]:
    """Plans the extraction of what the store lacks, and freezes the shards.

    Args:
        wanted: Key -> layers.
        origins: Key -> what it is the digest of.
        models: Identity -> {name, entry, ...}.
        references: SHA-256 -> path.
        hardware: Of config.yaml.
        sharding: Of config.yaml.
        store: Where hidden states are.

    Returns:
        Names of shards, and key -> missing layers.
    """
    intact = intact_hidden_states(store, wanted)
    missing = {
        key: sorted(layers - set(intact[key])) for key, layers in wanted.items() if layers - set(intact[key])
    }
    extraction = []
    by_encoder: dict[str, list[str]] = defaultdict(list)
    for key in sorted(missing):
        by_encoder[origins[key]["encoder"]].append(key)
    for encoder, inputs in by_encoder.items():
        by_image: dict[str, list[str]] = defaultdict(list)
        for key in inputs:
            by_image[origins[key]["reference"] or ""].append(key)
        groups = [by_image[image] for image in sorted(by_image)]
        for shard in split_evenly(groups, hardware["gpus"], sharding["min_images_per_shard"]):
            content = {
                "encoder": {key: models[encoder][key] for key in ("name", "entry")},
                "hardware": hardware["extraction"],
                "inputs": [
                    {
                        "key": key,
                        "layers": missing[key],
                        "path": path_of(origins[key]["reference"], references),
                        "origin": origins[key],
                    }
                    for key in shard
                ],
            }
            # The layers are part of the name: one more layer is another job, though of the same inputs.
            names = [f"{key}:{layer}" for key in shard for layer in missing[key]]
            extraction.append(write_shard(store.shards, names, content))
    return extraction, missing


def statistics_of(cells: Iterable[Mapping[str, Any]], keys: Keys) -> dict[str, NeededStatistics]:
    """Returns key -> statistics that cells take; at alpha 0 there are none."""
    found: dict[str, NeededStatistics] = {}
    for cell in cells:
        if cell["alpha"] == 0.0:
            continue
        for stage in STAGES:
            found |= {needed.key: needed for needed in keys.stage_statistics(cell, stage).values()}
    return found


def plan_statistics(statistics: Mapping[str, NeededStatistics], store: Store) -> tuple[list[str], list[str]]:
    """Plans the measuring of what the store lacks, and freezes the shards.

    Returns:
        Names of shards, and the missing keys.
    """
    verified = FactCache(store.verified_statistics)
    missing = []
    for key in sorted(statistics):
        path = store.statistics(key)
        intact = verified.known(path)
        if intact is None and path.exists():
            from graftwork.store.statistics import is_intact

            signature = stat_signature(path)
            intact = is_intact(path)
            verified.put(path, intact, signature)
        if not intact:
            missing.append(key)
    verified.save()
    by_encoder: dict[str, list[str]] = defaultdict(list)
    for key in missing:
        by_encoder[statistics[key].origin["encoder"]].append(key)
    groups = [by_encoder[encoder] for encoder in sorted(by_encoder)]
    shards = [
        write_shard(store.shards, shard, {"statistics": [statistics[key].item() for key in shard]})
        for shard in split_evenly(groups, _MOST_SHARDS, _STATISTICS_PER_SHARD)
    ]
    return shards, missing
