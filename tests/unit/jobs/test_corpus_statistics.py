"""Transforms with statistics of a corpus or of a file, from the store to the conditioning."""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.core.cells import Cell
from graftwork.core.npz import write_npz
from graftwork.core.png import encode_png
from graftwork.design.cells import Design, ModelRecord
from graftwork.design.settings import Hardware
from graftwork.jobs import acceptance
from graftwork.jobs.record import JobRecord
from graftwork.jobs.statistics import measure_statistics
from graftwork.models.prompts import NEUTRAL_OPTIONS
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.keys import Keys
from graftwork.planning.plan import PlanEntry
from graftwork.planning.shards import StatisticsShard, StatisticsToMeasure
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes
from graftwork.store.records import StatisticsParts
from graftwork.store.statistics import read_statistics
from graftwork.transforms.dimension_fixes import apply_dimension_fix, fit_dimension_fix
from graftwork.transforms.registry import STAGES, transform
from tests.unit.jobs.recipes import as_recipe, condition_plain
from tests.unit.planning.test_keys import GENERATOR_FACTS
from tests.unit.planning.test_no_ops import SOME_PARTS
from tests.unit.transforms.samples import DEFAULT_TRANSFORMS, call, context, defaults

LOG = logging.getLogger("test")
WIDTH = 6
PIXELS = encode_png(np.zeros((2, 2, 3), dtype=np.uint8))
TEXT_ROLES = ["sink", "template", "prompt", "prompt", "prompt", "template"]
SOURCE_ROLES = ["sink", *["image"] * 5, "prompt", "prompt", "template"]
HOST, DONOR, SHORT = "h" * 32, "d" * 32, "s" * 32
WITH_COVARIANCE = "v" * 32


def states(roles, seed, scale=1.0):
    values = np.random.default_rng(seed).normal(size=(len(roles), WIDTH)) * scale + np.arange(WIDTH)
    values[0] *= 1000.0
    return values.astype(np.float32)


@pytest.fixture
def store(tmp_path):
    """A corpus of four texts with host and donor, and one other prompt."""
    store = Store(tmp_path / "store")
    scales = np.array([1.0, 20.0, 0.05, 1.0, 1.0, 1.0])
    for n in range(5):
        for name, roles, scale in ((f"host{n}", TEXT_ROLES, 1.0), (f"donor{n}", SOURCE_ROLES, scales)):
            codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
            counted = np.arange(len(roles))
            sequence = {"token_ids": counted, "roles": codes, "positions": counted[None]}
            values = states(roles, [n, len(roles)], scale)
            add_layers(store.hidden_states(name), {7: values}, "float32", sequence, {})
    items = [(HOST, "host", 4, None), (DONOR, "donor", 4, None), (SHORT, "host", 1, None)]
    items.append((WITH_COVARIANCE, "host", 4, "non_sink"))
    wanted = [
        StatisticsToMeasure(
            key,
            StatisticsParts(tuple(f"{name}{n}" for n in range(count)), 7, "code", covariance_of),
            corpus="c",
            encoder="e",
            options=NEUTRAL_OPTIONS,
        )
        for key, name, count, covariance_of in items
    ]
    measure_statistics(StatisticsShard(tuple(wanted)), store, LOG, {})
    return store


def recipe(**chosen):
    names = {stage: chosen.pop(stage, default) for stage, default in DEFAULT_TRANSFORMS.items()}
    stages = {}
    for stage in STAGES:
        parameters = defaults(transform(stage, names[stage]))
        parameters |= {name: chosen[name] for name in chosen if name in parameters}
        stages[stage] = {"name": names[stage], "parameters": parameters, "code": ""}
    return {
        "text": ["host4", 7],
        "sources": [["donor4", 7]],
        "dtype": "float32",
        "code": "",
        "alpha": 1.0,
        **stages,
        "length_matching": {"name": "none", "parameters": {}, "code": ""},
    }


def build(store, files=None, failures=None, **chosen):
    plain = recipe(**chosen)
    key = as_recipe(plain).key
    record = condition_plain({key: plain}, store, failures, files)
    if record.failures:
        return record.failures[key], {}
    row = read_recipes(store.recipes)[key]
    return load_file(store.conditioning(row.conditioning))["prompt_embeds"], row


OF_HOST = {"key": HOST, "tokens": "non_sink"}


def host(tokens="non_sink"):
    values = np.concatenate([states(TEXT_ROLES, [n, len(TEXT_ROLES)])[1:] for n in range(4)])
    roles = TEXT_ROLES[1:] * 4
    return values if tokens == "non_sink" else values[[role == tokens for role in roles]]


def source():
    scales = np.array([1.0, 20.0, 0.05, 1.0, 1.0, 1.0])
    return torch.from_numpy(states(SOURCE_ROLES, [4, len(SOURCE_ROLES)], scales))


@pytest.mark.parametrize("tokens", ["non_sink", "prompt", "template"])
def test_per_dim_takes_mean_and_std_of_the_class_over_the_corpus(store, tokens):
    statistics = {"key": HOST, "tokens": tokens}
    built, _ = build(store, normalization="per_dim", statistics=statistics, clip_sigma=None)
    np.testing.assert_allclose(built.mean(dim=0), host(tokens).mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(built.std(dim=0), host(tokens).std(axis=0, ddof=1), rtol=1e-3)


def test_hybrid_is_half_of_per_dim_and_half_scaled_as_a_whole(store):
    options = {"statistics": OF_HOST, "clip_sigma": None}
    built, _ = build(store, normalization="hybrid", **options)
    per_dim, _ = build(store, normalization="per_dim", **options)
    whole = source() * float(host().std(ddof=1) / source().double().std())
    torch.testing.assert_close(built, 0.5 * per_dim + 0.5 * whole, rtol=1e-4, atol=1e-3)


def test_rms_takes_the_median_of_the_corpus(store):
    built, _ = build(store, normalization="rms", statistics=OF_HOST)
    median = np.median(np.sqrt(np.square(host().astype(np.float64)).mean(axis=1)))
    np.testing.assert_allclose(built.square().mean(dim=1).sqrt(), median, rtol=1e-5)


def test_whiten_takes_the_covariance_of_the_corpus(store):
    taken = {"key": WITH_COVARIANCE, "tokens": "non_sink"}
    built, _ = build(store, normalization="whiten", statistics=taken)
    values = host().astype(np.float64)
    by_hand = ReferenceStatistics(
        len(values), values.mean(axis=0), values.std(axis=0, ddof=1), covariance=np.cov(values.T)
    )
    entry = transform("normalization", "whiten")
    expected = call(entry, source(), around=context(statistics=by_hand))
    torch.testing.assert_close(built, expected, rtol=1e-4, atol=1e-4)
    own_text, _ = build(store, normalization="whiten")
    assert (built - own_text).abs().max() > 0.1
    error, _ = build(store, normalization="whiten", statistics=OF_HOST)
    assert "no covariance" in error


def test_masking_finds_outliers_against_the_corpus(store):
    built, row = build(
        store, masking="zero", masking_tokens="image", masking_threshold=8.0, statistics=OF_HOST
    )
    assert sorted(line.split()[0] for line in row.masked_dimensions) == ["1", "2"]
    assert (built[1:6, 1:3] == 0.0).all()
    assert torch.equal(built[6:], source()[6:])


def test_one_corpus_gives_the_same_for_every_prompt(store):
    """Where the prompt's own text is the reference, another text gives another conditioning."""
    chosen = recipe(normalization="rms", statistics=OF_HOST)
    other = {**chosen, "text": ["host0", 7]}
    own = [{**recipe(normalization="rms"), "text": [name, 7]} for name in ("host4", "host0")]
    recipes = dict(zip("abcd", [chosen, other, *own], strict=True))
    condition_plain(recipes, store)
    hashes = {key: row.conditioning for key, row in read_recipes(store.recipes).items()}
    assert hashes["a"] == hashes["b"]
    assert hashes["c"] != hashes["d"]


def test_a_fix_is_fitted_on_the_corpus_and_applied_to_another_prompt(store):
    pair = {"donor": {"key": DONOR, "tokens": "image"}, "host": {"key": HOST, "tokens": "non_sink"}}
    for mode in ("rescale", "full"):
        built, row = build(store, dimension_fix=mode, fix_corpus=pair, fix_tokens="image")
        fitted = [read_statistics(store.statistics(pair[side]["key"]), pair[side]["tokens"]) for side in pair]
        expected = apply_dimension_fix(source(), fit_dimension_fix(mode, *fitted))
        torch.testing.assert_close(built[1:6], expected[1:6])
        assert torch.equal(built[[0, 6, 7, 8]], source()[[0, 6, 7, 8]])
        assert row.fixed_dimensions
    # Fitted: the spread of image tokens over the corpus, not that of this prompt, becomes the host's.
    corpus = np.concatenate(
        [
            states(SOURCE_ROLES, [n, len(SOURCE_ROLES)], np.array([1.0, 20.0, 0.05, 1.0, 1.0, 1.0]))[1:6]
            for n in range(4)
        ]
    )
    ratio = host().std(axis=0, ddof=1) / corpus.std(axis=0, ddof=1)
    centred = (source()[1:6] - source()[1:6].mean(dim=0)) * torch.from_numpy(ratio)
    torch.testing.assert_close(built[1:6] - built[1:6].mean(dim=0), centred, rtol=1e-3, atol=1e-3)


def test_a_published_file_is_read_by_its_content(store, tmp_path):
    values = host().astype(np.float64)
    data = write_npz(
        {
            "per_dim_mean": values.mean(axis=0).astype(np.float32),
            "per_dim_std": values.std(axis=0, ddof=1).astype(np.float32),
        }
    )
    path = tmp_path / "published.npz"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    taken = {"npz": sha256, "tokens": len(values)}
    options = {"normalization": "per_dim", "clip_sigma": None}
    built, _ = build(store, {sha256: str(path)}, statistics=taken, **options)
    of_corpus, _ = build(store, statistics=OF_HOST, **options)
    torch.testing.assert_close(built, of_corpus, rtol=1e-5, atol=1e-5)
    error, _ = build(store, {sha256: str(path)}, statistics=taken, normalization="rms")
    assert "no median_token_rms" in error
    path.write_bytes(data + b" ")
    error, _ = build(store, {sha256: str(path)}, statistics=taken, **options)
    assert "another file now" in error


def test_too_few_tokens_fail_that_recipe_alone(store):
    recipes = {
        "few": recipe(normalization="per_dim", statistics={"key": SHORT, "tokens": "image"}),
        "good": recipe(normalization="per_dim", statistics=OF_HOST),
    }
    record = condition_plain(recipes, store)
    assert record.made == ["good"]
    assert "0 tokens of class 'image'" in record.failures["few"]
    assert "choose another token class" in record.failures["few"]


def test_statistics_that_are_missing_say_why_and_what_happens_next(store):
    error, _ = build(store, failures={HOST: "OSError: full"}, normalization="per_dim", statistics=OF_HOST)
    assert "its statistics could not be measured: OSError: full" in error
    store.statistics(HOST).write_bytes(store.statistics(HOST).read_bytes()[:-9])
    error, _ = build(store, normalization="per_dim", statistics=OF_HOST)
    assert "the next run measures it again" in error


def test_images_of_cells_with_statistics_can_be_adopted(store, monkeypatch):
    """The conditioning of a sample is built again, with the same statistics."""
    chosen = recipe(normalization="per_dim", statistics=OF_HOST)
    built, row = build(store, normalization="per_dim", statistics=OF_HOST)
    rendered = {}

    def generate(shard, trial, log):
        for item in shard.images:
            path = trial.conditioning(item.parts.conditioning)
            rendered[item.key] = load_file(path)["prompt_embeds"]
            trial.image(item.key).parent.mkdir(parents=True)
            trial.image(item.key).write_bytes(PIXELS)
        return JobRecord(log)

    store.image("0" * 32).parent.mkdir(parents=True)
    store.image("0" * 32).write_bytes(PIXELS)
    parts = replace(SOME_PARTS, conditioning=row.conditioning, generator="content:g")
    entry = PlanEntry("recipe", "1" * 32, parts, row)
    adoptable = {"1" * 32: acceptance.Adoptable("0" * 32, "c", entry)}
    monkeypatch.setattr(acceptance, "generate_images", generate)
    monkeypatch.setattr(Keys, "recipe", lambda self, cell: as_recipe(chosen))
    monkeypatch.setattr(acceptance, "find_adoptable", lambda *_: adoptable)
    models = {"content:g": ModelRecord("generator", "g", {}, GENERATOR_FACTS)}
    design = Design("e", "", "", [], [Cell("c", "cell", {}, {})], [], {}, [], models)
    said = acceptance.accept_images([design], Hardware(), 1, store, LOG)
    assert said == "1 sampled images are equal; 1 images adopted"
    assert torch.equal(rendered["1" * 32], built)
