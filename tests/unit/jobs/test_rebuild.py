"""Conditioning that is gone when a job of generation needs it is built from hidden states."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from graftwork.core.records import write_record
from graftwork.jobs import rebuild as module
from graftwork.jobs.rebuild import rebuild, rebuild_apart
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.shards import ConditioningOfImages, ConditioningShard, ModelToLoad
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.recipes import add_recipes, read_recipes
from tests.unit.jobs.recipes import GENERATOR, as_recipe, condition_plain

LOG = logging.getLogger("test")
TEXT, SHARD = "a" * 32, "0123456789abcdef"
RECIPES = {
    name: {"text": [TEXT, 7], "dtype": dtype, "code": ""}
    for name, dtype in (("one", "float32"), ("two", "bfloat16"))
}


@pytest.fixture
def store(tmp_path):
    """Two conditionings that were built, and how they were."""
    store = Store(tmp_path)
    values = np.random.default_rng(5).normal(size=(5, 4)).astype(np.float32)
    roles = np.full(5, ROLE_CODES["prompt"], dtype=np.uint8)
    sequence = {"token_ids": np.arange(5), "roles": roles, "positions": np.arange(5)[None]}
    add_layers(store.hidden_states(TEXT), {7: values}, "float32", sequence, {})
    condition_plain(RECIPES, store)
    rows = read_recipes(store.recipes)
    how = ConditioningOfImages(
        {rows[name].conditioning: name for name in RECIPES},
        ConditioningShard(
            {name: as_recipe(plain) for name, plain in RECIPES.items()},
            {GENERATOR: ModelToLoad("images", {"family": "z_image"})},
            {},
        ),
    )
    write_record(store.recipes_of_shards / f"{SHARD}.json", how)
    return store


def files(store):
    return {path.name: path.read_bytes() for path in store.root.glob("conditioning/*/*")}


def test_what_is_gone_is_built_and_the_rest_is_left_alone(store):
    right = files(store)
    gone, kept = sorted(store.root.glob("conditioning/*/*"))
    before = kept.stat().st_mtime_ns
    gone.unlink()
    assert rebuild(store, SHARD, LOG) == {}
    assert files(store) == right
    assert kept.stat().st_mtime_ns == before
    assert load_file(gone)["prompt_embeds"].shape == (5, 4)


def test_other_bytes_are_said_and_the_next_plan_takes_them(store):
    """As on another CPU: the row of before names bytes that nothing gives any more."""
    path = store.recipes_of_shards / f"{SHARD}.json"
    how = json.loads(path.read_text())
    old = "f" * 32
    how["recipe_of"] = {old: "one"}
    path.write_text(json.dumps(how))
    here = read_recipes(store.recipes)["one"]
    add_recipes(store.recipes, {"one": replace(here, conditioning=old)})
    why = rebuild(store, SHARD, LOG)
    assert set(why) == {old}
    assert "gives other bytes on this machine now" in why[old]
    assert read_recipes(store.recipes)["one"] == here
    assert store.conditioning(here.conditioning).is_file()


def test_what_cannot_be_built_says_why(store):
    store.hidden_states(TEXT).unlink()
    for path in store.root.glob("conditioning/*/*"):
        path.unlink()
    why = rebuild(store, SHARD, LOG)
    assert set(why) == {row.conditioning for row in read_recipes(store.recipes).values()}
    assert all("cannot be built: DamagedHiddenStates" in text for text in why.values())


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_a_shard_that_does_not_say_how(store, text):
    path = store.recipes_of_shards / f"{SHARD}.json"
    path.unlink() if text is None else path.write_text(text)
    assert rebuild(store, SHARD, LOG) == {}


def test_another_process_does_it_and_says_what_went_wrong(store, monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    assert rebuild_apart(store, "none") == {}
    with pytest.raises(RuntimeError, match="the conditioning is gone, and building it failed"):
        rebuild_apart(store, SHARD)
