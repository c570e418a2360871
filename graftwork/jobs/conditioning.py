"""Conditioning: a shard of recipes applied to stored hidden states."""

import logging
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from graftwork.core.progress import Progress
from graftwork.jobs.record import JobRecord
from graftwork.store.layout import Store
from graftwork.store.recipes import add_recipes

# Rows are written in groups, so that a job that is killed loses little and leaves few files.
_ROWS_PER_FILE = 500


def condition(
    shard: dict[str, Any], store: Store, log: logging.Logger, failures: dict[str, str]
) -> JobRecord:
    """Builds the conditioning of each recipe and records which bytes it gave, and what the generator sees of them.

    Args:
        shard: `recipes`, key -> recipe, `generators`, identity -> {name, entry}, of those that the recipes name, and
            `statistics_files`, SHA-256 -> path.
        store: Where hidden states are, and conditioning goes.
        log: For failures.
        failures: Key of hidden states or statistics -> why they could not be made.
    """
    from safetensors.torch import save_file

    from graftwork.conditioning.build import HARDWARE, build_conditioning
    from graftwork.conditioning.visibility import CaptionNorm
    from graftwork.core.atomic import atomic_path
    from graftwork.core.fact_cache import FactCache, stat_signature
    from graftwork.models.hardware import configure_torch
    from graftwork.models.loading import ensure_model
    from graftwork.store.hidden_states import DamagedHiddenStates, intact_layers, read_layer
    from graftwork.store.statistics import DamagedStatistics, read_wanted

    configure_torch(HARDWARE)

    @lru_cache(maxsize=16)
    def states(key: str, layer: int) -> Any:
        if key in failures:
            raise ValueError(f"its hidden states could not be extracted: {failures[key]}")
        path = store.hidden_states(key)
        try:
            return read_layer(path, layer)
        except DamagedHiddenStates:
            # Size and time may be those of the last full reading; without this, the next plan would trust them.
            verified.put(path, intact_layers(path), stat_signature(path))
            verified.save()
            raise

    @cache
    def caption_norm(identity: str | None) -> CaptionNorm | None:
        if identity is None:
            return None
        name, entry = (shard["generators"][identity][part] for part in ("name", "entry"))
        return CaptionNorm.read(ensure_model(name, entry, "generator"), entry["family"])

    @lru_cache(maxsize=16)
    def read_once(wanted: tuple[tuple[str, Any], ...]) -> Any:
        return read_wanted(dict(wanted), store, shard["statistics_files"])

    def statistics(wanted: Mapping[str, Any]) -> Any:
        key = wanted.get("key")
        if key in failures:
            raise ValueError(f"its statistics could not be measured: {failures[key]}")
        try:
            return read_once(tuple(sorted(wanted.items())))
        except DamagedStatistics:
            verified_statistics.put(store.statistics(wanted["key"]), None, None)
            verified_statistics.save()
            raise

    record = JobRecord(log)
    verified, verified_statistics = FactCache(store.verified), FactCache(store.verified_statistics)
    progress = Progress("conditionings built", len(shard["recipes"]))
    rows: dict[str, dict[str, Any]] = {}
    for key, recipe in shard["recipes"].items():
        try:
            norm = caption_norm(recipe.get("caption_norm"))
            conditioning = build_conditioning(recipe, states, statistics, norm)
            path = store.conditioning(conditioning.hash)
            if not path.exists():
                with atomic_path(path) as temporary:
                    save_file(conditioning.tensors, temporary)
            rows[key] = {"conditioning": conditioning.hash, **conditioning.report}
            record.made.append(key)
        except DamagedHiddenStates as error:
            record.fail(key, f"{error}; the next run extracts it again")
        except DamagedStatistics as error:
            record.fail(key, f"{error}; the next run measures it again")
        except Exception as error:  # one recipe's failure is that recipe's result
            record.fail(key, error)
        if len(rows) >= _ROWS_PER_FILE:
            add_recipes(store.recipes, rows)
            rows = {}
        progress.advance()
    add_recipes(store.recipes, rows)
    return record
