"""Length matching, held against the library and against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.lib.conditioning.build import share_of_tokens_used
from workflow_scripts.lib.conditioning.registry import transform

COVERED = {"truncate", "linear", "area", "none"}
RESAMPLING = ("linear", "area")

lengths = st.integers(1, 70)


def match(name: str, source: torch.Tensor, tokens: int) -> torch.Tensor:
    return transform("length_matching", name).function(source, tokens)


def states(tokens: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def weights(name: str, source_tokens: int, tokens: int) -> torch.Tensor:
    """(tokens, source_tokens): how much of each source token is in each row."""
    return match(name, torch.eye(source_tokens), tokens)


@settings(deadline=None)
@given(st.sampled_from(sorted(COVERED)), lengths, lengths)
def test_shapes(name, m, n):
    result = match(name, states(m), n)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    expected = {"truncate": min(m, n), "none": m}.get(name, n)
    assert result.shape == (expected, 6)


@pytest.mark.parametrize("name", sorted(COVERED))
@pytest.mark.parametrize("tokens", [1, 2, 31, 257])
def test_equal_lengths_change_nothing(name, tokens):
    source = states(tokens)
    assert torch.equal(match(name, source, tokens), source)


@settings(deadline=None)
@given(lengths, lengths)
def test_truncate_keeps_the_first_rows(m, n):
    source = states(m)
    assert torch.equal(match("truncate", source, n), source[:n])


@settings(deadline=None)
@given(st.sampled_from(RESAMPLING), lengths, lengths)
def test_every_row_is_a_weighted_mean(name, m, n):
    share = weights(name, m, n)
    assert (share >= 0).all()
    torch.testing.assert_close(share.sum(dim=1), torch.ones(n), rtol=0, atol=1e-6)
    source = states(m)
    torch.testing.assert_close(match(name, source, n), share @ source, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.sampled_from(RESAMPLING), lengths, lengths, st.floats(-100, 100, width=32))
def test_a_constant_stays_that_constant(name, m, n, value):
    result = match(name, torch.full((m, 3), value), n)
    torch.testing.assert_close(result, torch.full((n, 3), value), rtol=1e-6, atol=1e-30)


@settings(deadline=None)
@given(st.sampled_from(sorted(COVERED)), lengths, lengths, st.permutations(range(6)))
def test_dimensions_do_not_mix(name, m, n, order):
    source = states(m)
    # Not bit for bit: a sum over tokens is vectorized over dimensions, in an order that depends on their place.
    torch.testing.assert_close(
        match(name, source[:, order], n), match(name, source, n)[:, order], rtol=1e-5, atol=1e-6
    )


@settings(deadline=None)
@given(lengths, lengths)
def test_area_is_the_mean_of_a_range_of_tokens(m, n):
    source = states(m).double()
    expected = torch.stack([source[i * m // n : math.ceil((i + 1) * m / n)].mean(dim=0) for i in range(n)])
    torch.testing.assert_close(match("area", source.float(), n).double(), expected, rtol=1e-4, atol=1e-6)


@settings(deadline=None)
@given(lengths, lengths)
def test_area_uses_every_token(m, n):
    assert (weights("area", m, n) > 0).any(dim=0).all()


@settings(deadline=None)
@given(lengths, lengths)
def test_linear_is_that_of_torch(m, n):
    source = states(m)
    expected = torch.nn.functional.interpolate(source.T[None], size=n, mode="linear")[0].T
    assert torch.equal(match("linear", source, n), expected)


@settings(deadline=None)
@given(lengths, lengths)
def test_linear_interpolates_between_neighbours(m, n):
    source = states(m).double()
    rows = []
    for i in range(n):
        at = min(max((i + 0.5) * m / n - 0.5, 0.0), m - 1.0)
        low = int(at)
        high = min(low + 1, m - 1)
        rows.append(source[low] * (1 - (at - low)) + source[high] * (at - low))
    torch.testing.assert_close(
        match("linear", source.float(), n).double(), torch.stack(rows), rtol=1e-3, atol=1e-4
    )


@settings(deadline=None)
@given(st.sampled_from(sorted(COVERED)), st.integers(1, 40), st.integers(1, 40))
def test_the_share_of_tokens_used_is_what_changing_them_one_by_one_finds(name, m, n):
    source = states(m, width=1)
    plain = match(name, source, n)
    used = 0
    for token in range(m):
        changed = source.clone()
        changed[token] += 1e3
        used += not torch.equal(match(name, changed, n), plain)
    share = share_of_tokens_used(transform("length_matching", name).function, m, n, {})
    assert share == pytest.approx(used / m)


@pytest.mark.parametrize(
    ("name", "share"), [("linear", 21 / 1041), ("area", 1.0), ("truncate", 11 / 1041), ("none", 1.0)]
)
def test_the_share_of_an_image_of_1041_tokens_in_a_prompt_of_11(name, share):
    """Two neighbours for each of the 11 rows; the middle one falls on a token."""
    function = transform("length_matching", name).function
    assert share_of_tokens_used(function, 1041, 11, {}) == pytest.approx(share)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_none_is_allowed_where_nothing_is_mixed(alpha):
    assert transform("length_matching", "none").problem_with({"alpha": alpha}) is None


@pytest.mark.parametrize("alpha", [0.25, 0.999])
def test_none_is_refused_where_lengths_would_have_to_agree(alpha):
    problem = transform("length_matching", "none").problem_with({"alpha": alpha})
    assert str(alpha) in problem
    assert "length_matching" in problem
