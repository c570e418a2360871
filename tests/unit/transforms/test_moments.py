"""Moments over tokens and dimensions, held against float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.transforms.moments import (
    channel_moments,
    overall_std,
    standardize_channels,
    token_moments,
)
from tests.unit.transforms.samples import kinds_of_states, lengths, seeds, states, widths

KINDS = sorted(kinds_of_states(2, 2))


def spread(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Standard deviation, ddof 1, of float64, 0 for one value and for equal values."""
    constant = values.amin(dim=dim) == values.amax(dim=dim)
    return torch.where(constant, 0.0, values.std(dim=dim, correction=min(1, values.shape[dim] - 1)))


@settings(deadline=None)
@given(st.sampled_from(KINDS), lengths, widths, seeds)
def test_moments_of_dimensions(kind, tokens, width, seed):
    values = kinds_of_states(tokens, width, seed)[kind]
    mean, std = channel_moments(values)
    assert mean.dtype == std.dtype == torch.float32
    exact = spread(values.double(), 0)
    torch.testing.assert_close(std.double(), exact, rtol=1e-5, atol=1e-30)
    # The mean is good to a small part of the spread, where there is one, whatever its own size.
    error = (mean.double() - values.double().mean(dim=0)).abs()
    assert (error <= 1e-5 * exact + 1e-7 * mean.double().abs()).all()


@pytest.mark.parametrize("tokens", [2, 3, 50, 1041, 5000])
@pytest.mark.parametrize("value", [0.1, -7.3, 13510.1, 1e-3, 1e6 + 0.1, 0.0, 1e-30])
def test_equal_values_have_no_spread(tokens, value):
    mean, std = channel_moments(torch.full((tokens, 3), value))
    assert (std == 0.0).all()
    assert (mean == torch.tensor(value)).all()


@pytest.mark.parametrize("steepness", [1.0, 15.0, 17.0, 1e3, 1e5])
def test_a_mean_that_is_large_beside_the_spread_costs_nothing(steepness):
    values = states(1041, 8, seed=3, scale=1.0, shift=0.0) + steepness
    mean, std = channel_moments(values)
    torch.testing.assert_close(std.double(), values.double().std(dim=0), rtol=1e-5, atol=0)
    assert ((mean.double() - values.double().mean(dim=0)).abs() <= 3e-4 + 1e-7 * steepness).all()


@settings(deadline=None)
@given(st.sampled_from(KINDS), lengths, widths, seeds)
def test_moments_of_tokens(kind, tokens, width, seed):
    values = kinds_of_states(tokens, width, seed)[kind]
    mean, std = token_moments(values)
    exact = spread(values.double(), 1)
    # Values of both signs cancel: what is lost is a part of their size, not of what is left.
    size = values.double().abs().mean(dim=1)
    assert ((mean.double() - values.double().mean(dim=1)).abs() <= 1e-6 * size + 1e-30).all()
    # Of a spread below a thousandth of the mean nothing is left.
    assert ((std.double() - exact).abs() <= 2e-3 * mean.double().abs() + 1e-4 * exact).all()
    assert torch.isfinite(std).all()


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 24), widths, seeds)
def test_the_spread_of_all_values_follows_from_that_of_the_dimensions(kind, tokens, width, seed):
    values = kinds_of_states(tokens, width, seed)[kind]
    exact = float(values.double().std()) if values.min() < values.max() else 0.0
    found = overall_std(values.shape[0], *channel_moments(values)) if values.numel() > 1 else 0.0
    assert found == pytest.approx(exact, rel=1e-4, abs=1e-7 * float(values.abs().max()))
    if values.min() == values.max():
        assert found == 0.0


@settings(deadline=None)
@given(st.sampled_from(KINDS), lengths, widths, st.sampled_from([None, 0.5, 3.0]))
def test_standardizing_is_the_formula(kind, tokens, width, clip):
    values = kinds_of_states(tokens, width)[kind]
    mean, std = torch.linspace(-900, 900, width), torch.linspace(0, 40, width)
    result, _, _ = standardize_channels(values, mean.numpy(), std.numpy(), clip)
    exact = values.double()
    own = spread(exact, 0)
    scores = (exact - exact.mean(dim=0)) / own.clamp(min=1e-6)
    scores[:, own == 0.0] = 0.0
    if clip is not None:
        scores.clamp_(-clip, clip)
    expected = scores * std + mean
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=2e-3)


def test_inputs_are_not_changed():
    values = states(9)
    kept = values.clone()
    channel_moments(values)
    token_moments(values)
    standardize_channels(values, np.zeros(6, np.float32), np.ones(6, np.float32), 1.0)
    assert torch.equal(values, kept)
