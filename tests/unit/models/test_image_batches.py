"""Prompts with one image that are encoded in batches: as alone but for low bits, and whatever stands beside them."""

import itertools
import logging
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen3_vl import modeling_qwen3_vl

from graftwork.core.records import record_digest
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.planned import Planned
from graftwork.models import loading
from graftwork.models.encoder import PromptToEncode
from graftwork.models.loading import load_encoder
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput
from tests.unit.models.conftest import relative_distance
from tests.unit.models.test_text_batches import PROMPTS, TOLERANCE

LAYERS = tuple(range(7))
ROWS = 4
OPTIONS = {
    "own": NEUTRAL_OPTIONS,
    "theta": InputOptions(rope_theta=10_000.0),
    "sequential": InputOptions(positions="sequential"),
    "turns": InputOptions(system_prompt="Be kind.", think_block={"text": "A cat."}),
}
WORDS = [
    "a",
    "red",
    "apple",
    "two",
    "birds",
    "on",
    "the",
    "old",
    "fence,",
    "early",
    "in",
    "fog",
    "and",
    "snow",
]


def asked(prompts=PROMPTS, layers=LAYERS, options=NEUTRAL_OPTIONS):
    return [PromptToEncode(prompt, layers, options) for prompt in prompts]


def encoded(encoder, prompts, image, image_key="picture"):
    found = dict(encoder.encode_batches(prompts, image, image_key, ROWS))
    assert sorted(found) == list(range(len(prompts)))
    return [found[number] for number in range(len(prompts))]


def assert_close(one, alone):
    assert one.token_ids.tolist() == alone.token_ids.tolist()
    assert one.roles.tolist() == alone.roles.tolist()
    assert one.positions.tolist() == alone.positions.tolist()
    assert one.in_prompt.tolist() == alone.in_prompt.tolist()
    assert sorted(one.hidden_states) == sorted(alone.hidden_states)
    for layer, states in one.hidden_states.items():
        assert states.shape == alone.hidden_states[layer].shape
        assert relative_distance(states, alone.hidden_states[layer]) < TOLERANCE, layer
        assert relative_distance(states.roll(1, dims=0), alone.hidden_states[layer]) > 100 * TOLERANCE


def assert_same_bits(one, other):
    assert sorted(one.hidden_states) == sorted(other.hidden_states)
    assert all(torch.equal(states, other.hidden_states[layer]) for layer, states in one.hidden_states.items())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_row_is_what_its_prompt_is_alone(vl, picture, options):
    turned = picture.rotate(180)
    for prompt, one in zip(PROMPTS, encoded(vl, asked(options=options), picture), strict=True):
        assert_close(one, vl.encode(prompt, picture, "picture", LAYERS, options))
        for layer, states in vl.encode(prompt, turned, "turned", LAYERS, options).hidden_states.items():
            distance = relative_distance(one.hidden_states[layer], states)
            assert distance > 100 * TOLERANCE, f"control: another image, layer {layer}"


def test_positions_of_rows_count(vl, picture):
    """Control: what is added to the same tokens at other places is another thing."""
    usual, sequential = (
        encoded(vl, asked(options=options), picture)
        for options in (NEUTRAL_OPTIONS, InputOptions(positions="sequential"))
    )
    for one, other in zip(usual, sequential, strict=True):
        assert relative_distance(one.hidden_states[5], other.hidden_states[5]) > 100 * TOLERANCE


@pytest.mark.parametrize("deepest", LAYERS)
def test_every_deepest_layer_of_a_truncated_model(vl_entry, hardware, vl, picture, deepest):
    """Above the embeddings and below the last of DeepStack, a truncated model has one block more."""
    encoder = load_encoder("vl", vl_entry, [deepest], hardware)
    layers = tuple(range(deepest + 1))
    prompts = PROMPTS[:3]
    for prompt, one in zip(prompts, encoded(encoder, asked(prompts, layers), picture), strict=True):
        assert_close(one, encoder.encode(prompt, picture, "picture", layers))
        assert_close(one, vl.encode(prompt, picture, "picture", layers))


def test_every_row_has_the_image_at_its_own_tokens(vl, picture):
    tower = vl.encode_image(picture, "picture").hidden_states[0]
    prompts = [
        *asked(options=InputOptions(system_prompt="Be kind.")),
        *asked(options=InputOptions(system_prompt="Be kind, be brief.")),
    ]
    for one in encoded(vl, prompts, picture):
        image = torch.from_numpy(one.roles == ROLE_CODES["image"])
        assert torch.equal(one.hidden_states[0][image], tower)


def test_what_deepstack_adds_is_at_the_image_tokens_of_each_row(vl, picture, monkeypatch):
    usual = encoded(vl, asked(), picture)
    monkeypatch.setattr(
        type(vl.model.language_model), "_deepstack_process", lambda self, states, mask, added: states
    )
    without = encoded(vl, asked(), picture)
    alone = [vl.encode(prompt, picture, "picture", LAYERS) for prompt in PROMPTS]
    for one, other, theirs in zip(usual, without, alone, strict=True):
        assert_close(other, theirs)
        # Entry 1 is recorded before the first addition.
        assert torch.equal(one.hidden_states[1], other.hidden_states[1])
        assert relative_distance(one.hidden_states[2], other.hidden_states[2]) > 100 * TOLERANCE


def test_bits_do_not_depend_on_other_prompts_nor_on_the_place(vl, picture):
    rng = random.Random(0)
    prompts = [" ".join(rng.choices(WORDS, k=rng.randrange(40))) for _ in range(24)]
    options = rng.choices(list(OPTIONS.values()), k=len(prompts))
    inputs = [PromptToEncode(prompt, LAYERS, one) for prompt, one in zip(prompts, options, strict=True)]
    # Of every batch one row is given, and the others are filled.
    single = [encoded(vl, [one], picture)[0] for one in inputs]
    for _ in range(3):
        order = rng.sample(range(len(inputs)), len(inputs))
        for number, one in zip(order, encoded(vl, [inputs[at] for at in order], picture), strict=True):
            assert_same_bits(one, single[number])
            assert all(states._base is None for states in one.hidden_states.values())


def test_every_place_of_a_batch_gives_the_same_bits(vl, picture):
    row = asked(["a red apple"])
    others = asked(["a house", "a chair", "a boat"])
    made = [encoded(vl, [*others[:at], *row, *others[at:]], picture)[at] for at in range(ROWS)]
    for one, other in itertools.pairwise(made):
        assert_same_bits(one, other)


def test_the_vision_tower_runs_once_and_no_mask_is_made(vl, picture, monkeypatch):
    towers, masks, shapes = [], [], []
    compute, make = vl.model.get_image_features, modeling_qwen3_vl.create_causal_mask
    forward = vl.model.language_model.forward

    def noted(*args, **kwargs):
        shapes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return forward(*args, **kwargs)

    def made(*args, **kwargs):
        masks.append(make(*args, **kwargs))
        return masks[-1]

    monkeypatch.setattr(
        vl.model, "get_image_features", lambda *given, **more: towers.append(1) or compute(*given, **more)
    )
    monkeypatch.setattr(vl.model.language_model, "forward", noted)
    monkeypatch.setattr(modeling_qwen3_vl, "create_causal_mask", made)
    vl._last_image = None
    encoded(vl, asked([*["a red apple"] * 5, PROMPTS[3]]), picture)
    assert len(towers) == 1
    assert sorted(shapes) == [(4, 32), (4, 32), (4, 80)]
    # Left to the attention, which is causal then: the same for one row.
    assert masks == [None] * 3
    vl.encode("a red apple", picture, "picture", LAYERS)
    assert masks == [None] * 4


def test_one_prompt_that_fails_leaves_the_others(vl, vl_entry, hardware, picture):
    prompts = [
        *asked(["a red apple", f"a {vl._image_token} apple"]),
        *asked(["a house"], options=InputOptions("raw")),
        *asked(["a house"], layers=(99,)),
        *asked(["a chair"]),
    ]
    found = encoded(vl, prompts, picture)
    assert [isinstance(one, ValueError) for one in found] == [False, True, True, True, False]
    assert_same_bits(found[0], encoded(vl, prompts[:1], picture)[0])
    assert_same_bits(found[4], encoded(vl, prompts[4:], picture)[0])

    # One token's embedding is broken, and one prompt has that token.
    broken = load_encoder("vl", vl_entry, None, hardware)
    token = set(found[0].token_ids.tolist()) - set(found[4].token_ids.tolist())
    broken.model.language_model.embed_tokens.weight[sorted(token)] = float("inf")
    bad, good = encoded(broken, [prompts[0], prompts[4]], picture)
    assert isinstance(bad, FloatingPointError)
    assert_same_bits(good, found[4])


def test_an_image_that_the_processor_refuses_is_the_failure_of_each(vl):
    found = encoded(vl, asked(), Image.new("RGB", (32 * 300, 32)), "narrow")
    assert all(isinstance(one, ValueError) and "aspect ratio" in str(one) for one in found)


def test_bfloat16_rows_do_not_depend_on_other_rows(vl_entry, hardware, picture):
    encoder = load_encoder("vl", vl_entry, None, {**hardware, "dtype": "bfloat16"})
    together, backwards = (encoded(encoder, asked(order), picture) for order in (PROMPTS, PROMPTS[::-1]))
    for one, other in zip(together, backwards[::-1], strict=True):
        assert_same_bits(one, other)


# Whole jobs


@pytest.fixture
def job(vl, monkeypatch, tmp_path):
    """Runs extraction of inputs into a store of a name, and returns the record."""
    monkeypatch.setattr(loading, "load_encoder", lambda *_: vl)
    monkeypatch.setattr(Planned, "require", lambda *_: None)
    monkeypatch.setattr("graftwork.jobs.planned._require_keys", lambda items: None)
    monkeypatch.setattr("graftwork.jobs.extraction.require_reference", lambda path, sha256: None)
    hardware = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}

    def run(name, items):
        shard = ExtractionShard(
            hardware, (EncoderInputs(ModelToLoad("vl", {"family": "qwen3_vl"}), tuple(items)),)
        )
        return extract_hidden_states(shard, Store(tmp_path / name), logging.getLogger("test"))

    return run


@pytest.fixture
def inputs(tmp_path):
    """Prompts with each of two images and with none, and what the vision tower says of the images."""
    paths = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 96 + 32 * number, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    plain = EncoderInput(
        dtype="float32",
        device="cpu",
        cpu_threads=1,
        encoder="e",
        prompt="",
        reference=None,
        code="",
        batch_shape=4,
    )
    made = [(path, replace(plain, prompt=prompt, reference=path)) for path in paths for prompt in PROMPTS]
    made += [(None, replace(plain, prompt=prompt)) for prompt in PROMPTS]
    tower = replace(plain, prompt=None, source="vision_tower", batch_shape=1)
    made += [(path, replace(tower, reference=path)) for path in paths]
    return [
        InputToExtract(record_digest(one), (0,) if one.prompt is None else (3, 5), path, one)
        for path, one in made
    ]


def bytes_of(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*.h5"))}


def test_a_job_that_goes_on_makes_the_same_bytes(job, inputs, tmp_path):
    assert len(job("whole", inputs).made) == len(inputs)
    assert len(job("parts", inputs[1::3]).made) == len(inputs[1::3])
    rest = job("parts", inputs[::-1])
    assert sorted(rest.found) == sorted(one.key for one in inputs[1::3])
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
    assert len(bytes_of(tmp_path / "whole")) == len(inputs)


def test_a_job_runs_the_vision_tower_once_per_image(job, inputs, vl, monkeypatch):
    calls = []
    compute = vl.model.get_image_features
    monkeypatch.setattr(
        vl.model, "get_image_features", lambda *given, **more: calls.append(1) or compute(*given, **more)
    )
    random.Random(0).shuffle(inputs)
    job("whole", inputs)
    assert len(calls) == 2


def test_an_image_that_cannot_be_read_fails_its_own_inputs(job, inputs, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    record = job("whole", inputs)
    failed = [one.key for one in inputs if one.path == str(tmp_path / "1.png")]
    assert sorted(record.failures) == sorted(failed)
    assert all("1.png cannot be read" in said for said in record.failures.values())
    assert sorted(record.made) == sorted({one.key for one in inputs} - set(failed))
