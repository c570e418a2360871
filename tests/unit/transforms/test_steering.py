"""Steering: one vector added to every token."""

import pytest
import torch
from hypothesis import given, settings

from graftwork.transforms.registry import STAGES, transform
from tests.unit.transforms.samples import (
    alphas,
    call,
    context,
    kinds_of_states,
    lengths,
    seeds,
    states,
    widths,
)

# "steer" adds a vector, or the difference of two.
TESTED = {"blend": {"steer"}}
FILE = {"file": "v.safetensors", "tensor": None}


def steer(text, vector, alpha=1.0, **parameters):
    return call(transform("blend", "steer"), text, vector, alpha, around=context(text), **parameters)


@settings(deadline=None)
@given(lengths, widths, seeds, alphas)
def test_every_token_moves_by_the_same_vector(tokens, width, seed, alpha):
    text, vector = states(tokens, width, seed), states(1, width, seed + 1)
    kept = text.clone(), vector.clone()
    result = steer(text, vector, alpha, vector_scale=-2.0)
    expected = text.double() - 2.0 * alpha * vector.double()
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)
    assert result.dtype == torch.float32
    assert torch.equal(text, kept[0])
    assert torch.equal(vector, kept[1])


def test_two_means_are_a_difference():
    text, means = states(7), states(2, seed=3)
    torch.testing.assert_close(steer(text, means), steer(text, means[:1] - means[1:]))


@pytest.mark.parametrize("kind", sorted(kinds_of_states(5, 6)))
def test_any_text_stays_finite(kind):
    text = kinds_of_states(5, 6)[kind]
    assert torch.isfinite(steer(text, states(1, 6))).all()
    assert torch.equal(steer(text, torch.zeros(1, 6)), text), "a vector of zeros is no change"


def test_a_vector_of_another_width_is_refused():
    with pytest.raises(ValueError, match="the vector has width 5, the text 6"):
        steer(states(3, 6), states(1, 5))


def problem(**parameters):
    plain = {stage.name: stage.default for stage in STAGES.values()} | {"blend": "steer", "alpha": 0.5}
    return transform("blend", "steer").problem_with({**plain, "vector": FILE, **parameters})


def test_what_it_cannot_go_with():
    assert problem() is None
    assert problem(vector=None, alpha=0.0) is None
    assert "needs a vector; set vector: {file: path}" in problem(vector=None)
    assert "normalization is 'global'; set normalization: none" in problem(normalization="global")
    assert "masking is 'zero'" in problem(masking="zero")
    assert "combination is 'multi_reference'" in problem(combination="multi_reference")
    assert "token_mode is 'image_only'; leave token_mode out" in problem(token_mode="image_only")
    assert problem(token_mode="roles", token_roles=["prompt"]) is None
    assert "token_mode is 'roles'" in problem(token_mode="roles", token_roles=["image"])
