"""Vectors in the place of a source: read by a job of conditioning, and compared with what was planned."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.recipes import read_recipes
from graftwork.store.records import CorpusStatistics, VectorName
from graftwork.store.vectors import read_vector
from tests.unit.jobs.recipes import condition_plain
from tests.unit.jobs.test_conditioning import STAGES, TEXT, recipe, store  # noqa: F401

STEER = {"name": "steer", "parameters": {"vector_scale": 2.0}, "code": ""}
ZERO = {"name": "steer", "parameters": {"vector_scale": 0.0}, "code": ""}


def write(folder, vector):
    path = folder / "v.safetensors"
    save_file({"up": vector, "other": torch.zeros(3)}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def steered(sha256, **changes):
    source = VectorName(file=sha256, tensor="up").as_source
    stages = {**STAGES, "blend": STEER, **changes}
    return recipe(sources=[[source.key, source.layer]], **stages)


def test_a_vector_of_a_file_is_added(store, tmp_path):  # noqa: F811
    vector = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.bfloat16)
    path, sha256 = write(tmp_path, vector)
    recipes = {"steered": steered(sha256), "zero": steered(sha256, blend=ZERO), "alone": recipe(None)}
    assert condition_plain(recipes, store, statistics_files={sha256: str(path)}).failures == {}
    rows = read_recipes(store.recipes)
    moved, text = (
        load_file(store.conditioning(rows[name].conditioning))["prompt_embeds"]
        for name in ("steered", "alone")
    )
    torch.testing.assert_close(moved, text + vector.float(), rtol=1e-6, atol=1e-6)
    assert rows["zero"].conditioning == rows["alone"].conditioning, (
        "what adds nothing is the text, bit for bit"
    )
    assert rows["steered"].warnings == ()


def test_a_file_that_has_changed_or_is_not_finite_fails_its_recipe(store, tmp_path):  # noqa: F811
    path, sha256 = write(tmp_path, torch.tensor([1.0, float("nan"), 0.0, 0.0]))
    record = condition_plain({"one": steered(sha256)}, store, statistics_files={sha256: str(path)})
    assert "up has 1 of 4 values that are not finite" in record.failures["one"]
    write(tmp_path, torch.ones(4))
    record = condition_plain({"one": steered(sha256)}, store, statistics_files={sha256: str(path)})
    assert "another file now than when the run started" in record.failures["one"]


def test_means_of_two_corpora_are_two_tokens():
    means = {key: np.arange(3, dtype=np.float32) + shift for key, shift in (("a", 0.0), ("b", 5.0))}
    name = VectorName(towards=CorpusStatistics("a", "prompt"), away_from=CorpusStatistics("b", "prompt"))
    assert VectorName.of_key(name.as_source.key) == name
    assert VectorName.of_key(TEXT) is None

    def read(named):
        assert named.tokens == "prompt"
        return ReferenceStatistics(4, means[named.key], np.ones(3, dtype=np.float32))

    found = read_vector(name, read, {})
    np.testing.assert_array_equal(found.values, np.stack([means["a"], means["b"]]))
    assert found.in_prompt.all()


@pytest.mark.parametrize(
    "name", [VectorName("0" * 64, "up"), VectorName(towards=CorpusStatistics("a", "all"))]
)
def test_a_name_survives_its_key(name):
    assert VectorName.of_key(name.as_source.key) == name
