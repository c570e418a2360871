"""Texts that are encoded in batches: as alone but for low bits, and whatever stands beside them."""

import pytest
import torch

from graftwork.models.encoder import PromptToEncode
from graftwork.models.loading import load_encoder
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from tests.unit.models.conftest import relative_distance

TOLERANCE = 1e-5
PROMPTS = [
    "a red apple",
    "a blue boat at sea",
    "",
    "two green birds on a wooden fence in front of an old farm house, early in the morning, with a lot of fog",
    "a house",
    "a chair",
]


def texts(prompts=PROMPTS, layers=(3, 5), options=NEUTRAL_OPTIONS):
    return [PromptToEncode(prompt, layers, options) for prompt in prompts]


def encoded(encoder, asked, rows=4):
    found = dict(encoder.encode_batches(asked, None, None, rows))
    assert sorted(found) == list(range(len(asked)))
    return [found[number] for number in range(len(asked))]


@pytest.fixture(params=["qwen3", "vl"])
def encoder(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "options", [NEUTRAL_OPTIONS, InputOptions(rope_theta=10_000.0)], ids=["own", "theta"]
)
def test_a_text_of_a_batch_is_what_it_is_alone(encoder, options):
    for prompt, one in zip(PROMPTS, encoded(encoder, texts(options=options)), strict=True):
        alone = encoder.encode(prompt, None, None, [3, 5], options)
        assert one.token_ids.tolist() == alone.token_ids.tolist()
        assert one.roles.tolist() == alone.roles.tolist()
        assert one.positions.tolist() == alone.positions.tolist()
        assert one.in_prompt.tolist() == alone.in_prompt.tolist()
        assert sorted(one.hidden_states) == [3, 5]
        for layer, states in one.hidden_states.items():
            theirs = alone.hidden_states[layer]
            assert states.shape == theirs.shape
            assert relative_distance(states, theirs) < TOLERANCE
            assert relative_distance(states.roll(1, dims=0), theirs) > 100 * TOLERANCE, "control: off by one"
        other = encoder.encode(prompt, None, None, [3], InputOptions(rope_theta=1_000.0)).hidden_states[3]
        assert relative_distance(one.hidden_states[3], other) > 100 * TOLERANCE, "control: another base"


def test_bits_do_not_depend_on_other_texts(encoder):
    first = encoded(encoder, texts())
    backwards = encoded(encoder, texts(PROMPTS[::-1]))[::-1]
    # Of every batch one row is given, and the others are filled.
    single = [encoded(encoder, [text])[0] for text in texts()]
    for one, two, three in zip(first, backwards, single, strict=True):
        for layer, states in one.hidden_states.items():
            assert torch.equal(states, two.hidden_states[layer])
            assert torch.equal(states, three.hidden_states[layer])
            assert states._base is None, "a view would hold the whole batch in memory"


def test_every_batch_has_one_shape_and_no_more_are_run_than_needed(qwen3, monkeypatch):
    shapes = []
    forward = qwen3.model.forward

    def noted(*args, **kwargs):
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(qwen3.model, "forward", noted)
    encoded(qwen3, texts(["a red apple"] * 5 + PROMPTS[3:4]))
    assert sorted(shapes) == [(4, 16), (4, 16), (4, 64)]


def test_one_text_that_fails_leaves_the_others(vl, qwen3_entry, hardware):
    image = vl._image_token
    found = encoded(vl, texts(["a red apple", f"a {image} apple", "a house"]))
    assert isinstance(found[1], ValueError)
    assert all(one.hidden_states for one in (found[0], found[2]))

    found = encoded(vl, [*texts(["a red apple"]), *texts(["a house"], layers=(99,))])
    assert isinstance(found[1], ValueError)
    assert "99" in str(found[1])

    broken = load_encoder("qwen3", qwen3_entry, [2], hardware)
    broken.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    found = encoded(broken, texts(["a red apple", "a house"], layers=(2,)))
    assert all(isinstance(one, FloatingPointError) for one in found)


def test_a_batch_that_does_not_run_is_the_failure_of_its_texts(qwen3, monkeypatch):
    forward = qwen3.model.forward

    def full(*args, **kwargs):
        if kwargs["input_ids"].shape[1] > 16:
            raise torch.OutOfMemoryError("no memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(qwen3.model, "forward", full)
    found = encoded(qwen3, texts())
    failed = [isinstance(one, torch.OutOfMemoryError) for one in found]
    assert failed == [False, False, False, True, False, False]
