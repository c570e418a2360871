"""Recipes and shards of conditioning in few words."""

import logging
from collections.abc import Mapping
from typing import Any

from graftwork.jobs.conditioning import condition
from graftwork.jobs.record import JobRecord
from graftwork.planning.shards import ConditioningShard, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import (
    CorpusStatistics,
    FileStatistics,
    InputLayer,
    Recipe,
    SigmaSchedule,
    StageChoice,
)
from graftwork.transforms.registry import STAGES

GENERATOR = "content:g"


def as_recipe(plain: Mapping[str, Any]) -> Recipe:
    """Returns a recipe from few words: pairs of key and layer, one alpha or several, stages by their names."""
    values = {name: value for name, value in plain.items() if name not in (*STAGES, "alpha")}
    if "alpha_over_sigma" in plain:
        values["alpha_over_sigma"] = SigmaSchedule(**plain["alpha_over_sigma"])
    for name in ("sources", "neutral_sources"):
        values[name] = tuple(InputLayer(*pair) for pair in plain.get(name, ()))
    alpha = plain.get("alpha", [])
    return Recipe(
        **{
            "caption_norm": GENERATOR,
            "code": "",
            **values,
            "text": InputLayer(*plain["text"]),
            "alphas": tuple(alpha if isinstance(alpha, list) else [alpha]),
            "stages": {name: as_choice(**plain[name]) for name in STAGES if name in plain},
        }
    )


def as_choice(name: str, parameters: Mapping[str, Any], code: str = "") -> StageChoice:
    """Returns a transform from few words: statistics among its parameters, as {key, tokens} or {npz, tokens}."""
    parameters = dict(parameters)
    corpus, in_file = {}, None
    if isinstance(parameters.get("statistics"), Mapping):
        named = parameters.pop("statistics")
        if "npz" in named:
            in_file = FileStatistics(**named)
        else:
            corpus["statistics"] = CorpusStatistics(**named)
    if isinstance(parameters.get("fix_corpus"), Mapping):
        pair = parameters.pop("fix_corpus")
        corpus |= {part: CorpusStatistics(**named) for part, named in pair.items()}
    return StageChoice(name, parameters, code, corpus, in_file)


def condition_plain(
    recipes: Mapping[str, Mapping[str, Any]],
    store: Store,
    failures: Mapping[str, str] | None = None,
    statistics_files: Mapping[str, str] | None = None,
) -> JobRecord:
    """Runs a shard of recipes that are given as `as_recipe` takes them."""
    generators = {GENERATOR: ModelToLoad("images", {"family": "z_image"})}
    shard = ConditioningShard(
        {key: as_recipe(plain) for key, plain in recipes.items()}, generators, statistics_files or {}
    )
    return condition(shard, store, logging.getLogger("test"), failures or {})
