"""A shard of recipes applied to hidden states in HDF5."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.conditioning.build import conditioning_hash
from graftwork.conditioning.visibility import CaptionNorm
from graftwork.models.tokens import ROLE_CODES
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes
from tests.unit.jobs.recipes import condition_plain

TEXT, SOURCE, GONE = "a" * 32, "b" * 32, "c" * 32
STAGES = {
    stage: {"name": name, "parameters": {}, "code": ""}
    for stage, name in (
        ("token_mode", "full"),
        ("mapping", "none"),
        ("masking", "none"),
        ("dimension_fix", "none"),
        ("normalization", "none"),
        ("length_matching", "area"),
        ("combination", "none"),
        ("blend", "linear"),
    )
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    for key, tokens in ((TEXT, 5), (SOURCE, 12)):
        values = np.random.default_rng(tokens).normal(size=(tokens, 4)).astype(np.float32)
        roles = np.full(tokens, ROLE_CODES["prompt"], dtype=np.uint8)
        sequence = {"token_ids": np.arange(tokens), "roles": roles, "positions": np.arange(tokens)[None]}
        add_layers(store.hidden_states(key), {7: values}, "float32", sequence, {})
    return store


def recipe(source: str | None = SOURCE, **changes):
    plain = {"text": [TEXT, 7], "dtype": "float32", "code": ""}
    if source is not None:
        plain |= {"sources": [[source, 7]], "alpha": 0.5, **STAGES}
    return {**plain, **changes}


def run(store, failures=None, **recipes):
    return condition_plain(recipes, store, failures)


def test_conditioning_is_stored_under_its_hash_and_recorded(store):
    record = run(store, alone=recipe(None), mixed=recipe())
    assert sorted(record.made) == ["alone", "mixed"]
    rows = read_recipes(store.recipes)
    for name, source_tokens in (("alone", 0), ("mixed", 12)):
        tensors = load_file(store.conditioning(rows[name].conditioning))
        assert conditioning_hash(tensors) == rows[name].conditioning
        assert tensors["prompt_embeds"].shape == (5, 4)
        assert rows[name].tokens == 5
        assert rows[name].source_tokens == source_tokens
    assert torch.get_num_threads() == 1


def test_recipes_with_equal_bytes_share_a_file(store):
    record = run(store, one=recipe(None), other=recipe(None, code="edited, to the same effect"))
    assert len(record.made) == 2
    assert len({row.conditioning for row in read_recipes(store.recipes).values()}) == 1
    assert len(list(store.root.glob("conditioning/*/*.safetensors"))) == 1


def test_a_recipe_that_fails_is_recorded_and_the_others_go_on(store):
    modes = {"token_mode": {"name": "image_only", "parameters": {}, "code": ""}}
    record = run(
        store, {GONE: "the image cannot be read"}, bad=recipe(**modes), gone=recipe(GONE), good=recipe()
    )
    assert record.made == ["good"]
    assert "token_mode 'image_only' selects none" in record.failures["bad"]
    assert "could not be extracted: the image cannot be read" in record.failures["gone"]
    assert set(read_recipes(store.recipes)) == {"good"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_states_that_are_not_finite_fail_their_recipes_and_the_others_go_on(store, bad, dtype):
    key = "d" * 32
    values = np.ones((12, 4), dtype=np.float32)
    values[3, 2] = bad
    sequence = {
        "token_ids": np.arange(12),
        "roles": np.full(12, ROLE_CODES["prompt"], dtype=np.uint8),
        "positions": np.arange(12)[None],
    }
    add_layers(store.hidden_states(key), {7: values}, "float32", sequence, {})
    own_text = recipe(None, text=[key, 7], dtype=dtype)
    record = run(store, bad=recipe(key, dtype=dtype), text=own_text, good=recipe(dtype=dtype))
    assert record.made == ["good"]
    for name in ("bad", "text"):
        assert "values are not finite" in record.failures[name]
    assert set(read_recipes(store.recipes)) == {"good"}
    assert len(list(store.root.glob("conditioning/*/*.safetensors"))) == 1


def test_the_table_says_what_the_generator_sees(store, monkeypatch):
    """Relative to the generator that the recipe names, read once."""
    read = []

    def read_norm(folder, family):
        read.append((folder, family))
        return CaptionNorm(torch.ones(4), 1e-5)

    monkeypatch.setattr(CaptionNorm, "read", read_norm)
    longer = {"name": "none", "parameters": {}, "code": ""}
    record = run(store, alone=recipe(None), mixed=recipe(), longer=recipe(alpha=1.0, length_matching=longer))
    assert record.failures == {}
    assert read == [(("images", "generator"), "z_image")]
    rows = read_recipes(store.recipes)
    assert rows["alone"].visible_change == 0.0
    assert 0.1 < rows["mixed"].visible_change < 2.0
    assert rows["longer"].visible_change is None
    assert {name: rows[name].sketch.tokens for name in rows} == {
        "alone": {"step 0": 5},
        "mixed": {"step 0": 5},
        "longer": {"step 0": 12},
    }


def test_damaged_hidden_states_say_what_happens_next(store):
    path = store.hidden_states(SOURCE)
    path.write_bytes(path.read_bytes()[:-100])
    record = run(store, mixed=recipe(), missing=recipe(GONE))
    for name in ("mixed", "missing"):
        assert "the next run extracts it again" in record.failures[name]
