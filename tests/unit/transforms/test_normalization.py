"""Normalization, held against the formulas in float64."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.models.tokens import ROLE_CODES
from graftwork.transforms.normalization import GlobalParameters, std_without_sink
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import call, context

COVERED = {"none", "global"}
TESTED = {"normalization": COVERED}
PROMPT, SINK = ROLE_CODES["prompt"], ROLE_CODES["sink"]


def states(
    tokens: int, width: int = 8, seed: int = 0, scale: float = 3.0, shift: float = 0.5
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, width, generator=generator) * scale + shift


def normalize(source: torch.Tensor, text: torch.Tensor | None = None, name: str = "global", **parameters):
    text = states(5, source.shape[1], seed=9) if text is None else text
    roles = np.array([SINK] + [PROMPT] * (text.shape[0] - 1), dtype=np.uint8)
    return call(
        transform("normalization", name), source, around=context(text, text_roles=roles), **parameters
    )


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda size: size[0] * size[1] > 1)


def test_none_returns_the_source():
    source = states(4)
    assert normalize(source, name="none") is source


@settings(deadline=None)
@given(sizes, st.integers(0, 99), st.floats(1e-3, 1e3), st.floats(-9, 9), st.floats(1e-2, 1e3))
def test_global_reaches_the_target_by_scale_alone(size, seed, scale, shift, target):
    source = states(*size, seed=seed, scale=scale, shift=shift * scale)
    result = normalize(source, target_std=target)
    assert result.dtype == torch.float32
    assert result.shape == source.shape
    assert float(result.double().std()) == pytest.approx(target, rel=1e-3)
    factor = target / float(source.double().std())
    torch.testing.assert_close(result.double(), source.double() * factor, rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 5), (300, 64)])
def test_a_source_without_variation_is_left_alone_and_said_so(value, size):
    source = torch.full(size, value)
    with pytest.warns(UserWarning, match="no variation"):
        result = normalize(source, target_std=61.0)
    assert torch.equal(result, source)


def test_a_number_and_the_measured_std_give_the_same():
    source, text = states(6), states(5, seed=3)
    measured = std_without_sink(text, np.array([SINK] + [PROMPT] * 4, dtype=np.uint8))
    assert torch.equal(
        normalize(source, text, target_std="prompt"), normalize(source, text, target_std=measured)
    )


def test_the_sink_does_not_set_the_target():
    text = states(5)
    loud = text.clone()
    loud[0] *= 1e4
    source = states(6, seed=1)
    assert torch.equal(
        normalize(source, text, target_std="prompt"), normalize(source, loud, target_std="prompt")
    )
    expected = float(text[1:].double().std())
    assert float(normalize(source, text, target_std="prompt").double().std()) == pytest.approx(
        expected, rel=1e-5
    )


def test_no_warning_for_ordinary_states():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normalize(states(6), target_std="prompt")


def test_the_source_is_not_changed_in_place():
    source = states(6)
    kept = source.clone()
    normalize(source, target_std=2.0)
    assert torch.equal(source, kept)


@pytest.mark.parametrize("target", [0, 0.0, -1.0, "text", None])
def test_targets_that_are_refused(target):
    with pytest.raises(ValidationError):
        GlobalParameters(target_std=target)


def test_targets_that_are_allowed():
    assert GlobalParameters(target_std=61).target_std == 61.0
    assert GlobalParameters().target_std == "prompt"
