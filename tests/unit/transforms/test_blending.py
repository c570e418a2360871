"""Blends: exact at the ends, and silent about the rows that a source does not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import call

COVERED = {"linear"}
TESTED = {"blend": COVERED}


def states(tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(tokens, 6, generator=torch.Generator().manual_seed(seed)) * 50


def blend(text, source, alpha):
    return call(transform("blend", "linear"), text, source, alpha)


lengths = st.integers(1, 40)
alphas = st.floats(0, 1, exclude_min=True)


@settings(deadline=None)
@given(lengths, lengths, alphas)
def test_linear_is_the_formula(n, k, alpha):
    text, source = states(n, 0), states(k, 1)
    result = blend(text, source, alpha)
    rows = min(n, k)
    assert result.shape == text.shape
    assert result.dtype == torch.float32
    expected = alpha * source[:rows].double() + (1 - alpha) * text[:rows].double()
    torch.testing.assert_close(result[:rows].double(), expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(lengths, lengths)
def test_at_alpha_one_covered_rows_are_the_source_bit_for_bit(n, k):
    text, source = states(n, 0), states(k, 1)
    rows = min(n, k)
    assert torch.equal(blend(text, source, 1.0)[:rows], source[:rows])


@settings(deadline=None)
@given(lengths, lengths, alphas)
def test_rows_that_the_source_does_not_reach_are_the_text_bit_for_bit(n, k, alpha):
    text, source = states(n, 0), states(k, 1)
    assert torch.equal(blend(text, source, alpha)[k:], text[k:])


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_equal_states_blend_to_themselves(alpha):
    """Exactly, for alphas that binary numbers hold."""
    text = states(5, 0)
    torch.testing.assert_close(blend(text, text.clone(), alpha), text, rtol=1e-6, atol=0)


def test_inputs_are_not_changed_in_place():
    text, source = states(5, 0), states(5, 1)
    kept = text.clone(), source.clone()
    blend(text, source, 0.5)
    assert torch.equal(text, kept[0])
    assert torch.equal(source, kept[1])
