"""Conditioning: a shard of recipes applied to stored hidden states."""

import logging
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from graftwork.core.collector import importing
from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.progress import Progress
from graftwork.jobs.planned import ChangedSincePlanning, conditioning_as_planned
from graftwork.jobs.record import JobRecord
from graftwork.planning.shards import ConditioningShard
from graftwork.store.layout import Store
from graftwork.store.recipes import add_recipes
from graftwork.store.records import (
    ConditioningReport,
    CorpusStatistics,
    FileStatistics,
    Recipe,
    VectorName,
)

if TYPE_CHECKING:
    from graftwork.conditioning.build import Conditioning
    from graftwork.conditioning.visibility import CaptionNorm
    from graftwork.maps.fitted import FittedMap
    from graftwork.statistics.reference import ReferenceStatistics
    from graftwork.store.hidden_states import HiddenStates

# Rows are written in groups, so that a job that is killed loses little and leaves few files.
_ROWS_PER_FILE = 500
# Layers, and files of statistics, that are kept in memory: those of neighbouring recipes are the same.
_MOST_KEPT = 16
# Maps that are kept: one of 2560 dimensions has 26 MB.
_MOST_MAPS = 4


class Ingredients:
    """Reads what recipes are made of, each part once."""

    def __init__(
        self,
        store: Store,
        failures: Mapping[str, str],
        statistics_files: Mapping[str, str],
    ):
        """Says where things are.

        Args:
            store: where hidden states, statistics and maps are.
            failures: key of hidden states, statistics or maps -> why they could not be made.
            statistics_files: SHA-256 -> path of files of statistics and vectors.
        """
        self._store = store
        self._failures = failures
        self._files = statistics_files
        self.states = lru_cache(maxsize=_MOST_KEPT)(self._states)
        self.statistics = lru_cache(maxsize=_MOST_KEPT)(self._read_statistics)
        self.map = lru_cache(maxsize=_MOST_MAPS)(self._read_map)

    def _states(self, key: str, layer: int) -> "HiddenStates":
        """Returns one layer of one encoder input, or a vector in its place."""
        from graftwork.store.hidden_states import DamagedHiddenStates, intact_layers, read_layer
        from graftwork.store.vectors import read_vector

        if (vector := VectorName.of_key(key)) is not None:
            return read_vector(vector, self.statistics, self._files)
        if key in self._failures:
            raise ValueError(f"its hidden states could not be extracted: {self._failures[key]}")
        path = self._store.hidden_states(key)
        try:
            return read_layer(path, layer)
        except DamagedHiddenStates as error:
            # Size and time may be those of the last full reading; without this, the next plan would trust them.
            verified = FactCache(self._store.verified)
            verified.put(path, intact_layers(path), stat_signature(path))
            verified.save()
            raise DamagedHiddenStates(f"{error}; the next run extracts it again") from error

    def _read_statistics(self, named: CorpusStatistics | FileStatistics) -> "ReferenceStatistics":
        """Returns the statistics that a recipe names."""
        from graftwork.store.statistics import DamagedStatistics, read_named

        key = named.key if isinstance(named, CorpusStatistics) else None
        if key in self._failures:
            raise ValueError(f"its statistics could not be measured: {self._failures[key]}")
        try:
            return read_named(named, self._store, self._files)
        except DamagedStatistics as error:
            verified = FactCache(self._store.verified_statistics)
            verified.put(self._store.statistics(key), None, None)
            verified.save()
            raise DamagedStatistics(f"{error}; the next run measures it again") from error

    def _read_map(self, key: str) -> "FittedMap":
        """Returns a fitted map."""
        from graftwork.store.maps import DamagedMap, read_map

        if key in self._failures:
            raise ValueError(f"its map could not be fitted: {self._failures[key]}")
        path = self._store.map(key)
        try:
            return read_map(path)
        except DamagedMap as error:
            verified = FactCache(self._store.verified_maps)
            verified.put(path, None, None)
            verified.save()
            raise DamagedMap(f"{error}; the next run fits it again") from error


def condition(
    shard: ConditioningShard, store: Store, log: logging.Logger, failures: Mapping[str, str]
) -> JobRecord:
    """Builds the conditioning of each recipe and records which bytes it gave, and what the generator sees of them.

    Args:
        shard: what to build.
        store: where hidden states are, and conditioning goes.
        log: log of the job.
        failures: key of hidden states, statistics or maps -> why they could not be made.

    Raises:
        ChangedSincePlanning: where code or models are others now than when the shard was planned.
    """
    with importing():
        from graftwork.conditioning.build import HARDWARE
        from graftwork.conditioning.visibility import CaptionNorm
        from graftwork.models.hardware import configure_torch
        from graftwork.models.loading import ensure_model

    planned = conditioning_as_planned(shard, store)
    planned.require()
    configure_torch(HARDWARE)

    @cache
    def caption_norm(identity: str) -> CaptionNorm:
        model = shard.generators[identity]
        folder = ensure_model(model.name, model.entry, "generator")
        return CaptionNorm.read(folder, model.entry["family"])

    record = JobRecord(log)
    ingredients = Ingredients(store, failures, shard.statistics_files)
    progress = Progress("conditionings built", len(shard.recipes))
    rows: dict[str, ConditioningReport] = {}
    try:
        for key, recipe in shard.recipes.items():
            try:
                conditioning = build(recipe, ingredients, caption_norm(recipe.caption_norm))
                planned.require()
                store_conditioning(conditioning, store)
                rows[key] = conditioning.report
                record.made.append(key)
            except ChangedSincePlanning:
                raise
            except Exception as error:  # one recipe's failure is that recipe's result
                record.fail(key, error)
            if len(rows) >= _ROWS_PER_FILE:
                add_recipes(store.recipes, rows)
                rows = {}
            progress.advance()
        progress.end(len(record.failures))
    finally:
        add_recipes(store.recipes, rows)
    return record


def build(
    recipe: Recipe, ingredients: Ingredients, caption_norm: "CaptionNorm | None" = None
) -> "Conditioning":
    """Applies a recipe to what it is made of."""
    from graftwork.conditioning.build import build_conditioning

    return build_conditioning(
        recipe, ingredients.states, ingredients.statistics, caption_norm, ingredients.map
    )


def store_conditioning(conditioning: "Conditioning", store: Store) -> None:
    """Writes conditioning under its hash, unless it is there."""
    from safetensors.torch import save_file

    from graftwork.core.atomic import atomic_path

    path = store.conditioning(conditioning.hash)
    if not path.is_file():
        with atomic_path(path) as temporary:
            save_file(dict(conditioning.tensors), temporary)
