"""Length matching, held against the library and against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.conditioning.build import Step, share_of_source_used, share_of_weights
from graftwork.transforms.length_matching import AttentionPoolParameters, attention_pool_weights
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import call, kinds_of_states

COVERED = {"truncate", "linear", "area", "pad", "attention_pool", "none"}
TESTED = {"length_matching": COVERED}
RESAMPLING = ("linear", "area")
# What a row is made of does not depend on what is in the tokens.
LINEAR = sorted(COVERED - {"attention_pool"})

lengths = st.integers(1, 70)


def match(name: str, source: torch.Tensor, tokens: int, **parameters: float) -> torch.Tensor:
    entry = transform("length_matching", name)
    return call(entry, source, tokens, **parameters)


def share_used(name: str, source: torch.Tensor, tokens: int) -> float:
    entry = transform("length_matching", name)
    return share_of_source_used(Step(entry, entry.parameters(), {}), source, tokens)


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
@given(st.sampled_from(LINEAR), st.integers(1, 40), st.integers(1, 40))
def test_the_share_of_tokens_used_is_what_changing_them_one_by_one_finds(name, m, n):
    source = states(m, width=1)
    plain = match(name, source, n)
    used = 0
    for token in range(m):
        changed = source.clone()
        changed[token] += 1e3
        used += not torch.equal(match(name, changed, n), plain)
    assert share_used(name, source, n) == pytest.approx(used / m)


@pytest.mark.parametrize(
    ("name", "share"),
    [("linear", 21 / 1041), ("area", 1.0), ("truncate", 11 / 1041), ("pad", 11 / 1041), ("none", 1.0)],
)
def test_the_share_of_an_image_of_1041_tokens_in_a_prompt_of_11(name, share):
    """Two neighbours for each of the 11 rows; the middle one falls on a token."""
    assert share_used(name, states(1041), 11) == pytest.approx(share)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_none_is_allowed_where_nothing_is_mixed(alpha):
    assert transform("length_matching", "none").problem_with({"alpha": alpha}) is None


@pytest.mark.parametrize("alpha", [0.25, 0.999])
def test_none_is_refused_where_lengths_would_have_to_agree(alpha):
    problem = transform("length_matching", "none").problem_with({"alpha": alpha})
    assert str(alpha) in problem
    assert "length_matching" in problem


@settings(deadline=None)
@given(lengths, lengths)
def test_pad_appends_the_mean_token(m, n):
    source = states(m)
    result = match("pad", source, n)
    assert torch.equal(result[:m], source[:n])
    torch.testing.assert_close(result[m:], source.mean(dim=0).expand(max(n - m, 0), -1))
    assert share_used("pad", source, n) == pytest.approx(min(1.0, n / m))


def by_hand(source: torch.Tensor, n: int, temperature: float) -> torch.Tensor:
    """attention_pool, token by token, in float64."""
    x = source.double()
    m = len(x)
    directions = [row / row.norm() if row.norm() > 0 else row for row in x]
    distinct = []
    for i in range(m):
        near = [j for j in range(max(0, i - 2), min(m, i + 3)) if j != i]
        distinct.append(1 - sum(float(directions[i] @ directions[j]) for j in near) / max(len(near), 1))
    rows = []
    for i in range(n):
        window = range(i * m // n, math.ceil((i + 1) * m / n))
        weights = torch.tensor([distinct[j] / temperature for j in window]).double().softmax(dim=0)
        rows.append(sum(weight * x[j] for weight, j in zip(weights, window, strict=True)))
    return torch.stack(rows)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.05, 1.0, 10.0]))
def test_attention_pool_is_the_formula(m, n, temperature):
    source = states(m)
    expected = source.double() if m == n else by_hand(source, n, temperature)
    result = match("attention_pool", source, n, pool_temperature=temperature)
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(lengths, lengths)
def test_attention_pool_at_a_high_temperature_is_area(m, n):
    source = states(m)
    torch.testing.assert_close(
        match("attention_pool", source, n, pool_temperature=1e7),
        match("area", source, n),
        rtol=1e-4,
        atol=1e-5,
    )


def test_attention_pool_prefers_the_token_that_differs():
    source = torch.ones(9, 4)
    source[4] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    weights = attention_pool_weights(source, 1, AttentionPoolParameters(pool_temperature=0.1))[0]
    assert int(weights.argmax()) == 4
    assert weights[4] > 0.9


@settings(deadline=None)
@given(lengths, lengths, st.sampled_from([1e-4, 1.0]))
def test_weights_of_attention_pool_are_means_over_the_windows_of_area(m, n, temperature):
    source = states(m)
    share = attention_pool_weights(source, n, AttentionPoolParameters(pool_temperature=temperature))
    assert (share >= 0).all()
    torch.testing.assert_close(share.sum(dim=1), torch.ones(n), rtol=0, atol=1e-6)
    assert ((share > 0) <= (weights("area", m, n) > 0)).all()
    if temperature == 1.0:
        assert share_of_weights(share) == 1.0


def test_only_what_is_not_linear_has_weights_of_its_own():
    for name in COVERED:
        assert (transform("length_matching", name).weights is None) == (name in LINEAR)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(COVERED)),
    st.sampled_from(sorted(kinds_of_states(2, 2))),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_every_input_gives_finite_float32_and_the_same_again(name, kind, m, n):
    source = kinds_of_states(m, 5)[kind]
    kept = source.clone()
    result = match(name, source, n)
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert torch.equal(result, match(name, source, n))
    assert torch.equal(source, kept)


@pytest.mark.parametrize("blend", ["concat", "adain_per_dim", "intra", "ensemble"])
def test_none_is_allowed_at_any_alpha_where_the_blend_matches_nothing(blend):
    assert transform("length_matching", "none").problem_with({"alpha": 0.5, "blend": blend}) is None


@pytest.mark.parametrize("blend", ["style_only", "graduated", "adain", "noise", "per_token"])
def test_none_is_refused_where_the_blend_goes_row_by_row(blend):
    problem = transform("length_matching", "none").problem_with({"alpha": 1.0, "blend": blend})
    assert repr(blend) in problem
    assert "row by row" in problem
    assert transform("length_matching", "none").problem_with({"alpha": 0.0, "blend": blend}) is None


@pytest.mark.parametrize("blend", ["linear", "slerp"])
def test_none_is_allowed_at_alpha_one_where_the_source_is_the_result(blend):
    assert transform("length_matching", "none").problem_with({"alpha": 1.0, "blend": blend}) is None
    assert "0.5" in transform("length_matching", "none").problem_with({"alpha": 0.5, "blend": blend})
