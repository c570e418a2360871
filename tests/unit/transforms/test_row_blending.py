"""Blends that go row by row: exact at the ends, silent about rows that are not reached, finite for any input."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.transforms.blending import (
    AttentionWeightedParameters,
    GraduatedParameters,
    NoiseParameters,
    PerTokenParameters,
    StyleOnlyParameters,
    curve_values,
)
from graftwork.transforms.context import WHOLE_SOURCE
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import (
    alphas,
    call,
    kinds_of_states,
    lengths,
    seeds,
    states,
    widths,
)

COVERED = {
    "slerp",
    "style_only",
    "graduated",
    "per_token",
    "attention_weighted",
    "noise",
    "adain",
    "adain_per_dim",
}
TESTED = {"blend": COVERED}
BLENDS = sorted(COVERED)
# Those that leave the rows alone which the source does not reach.
BY_ROW = sorted(COVERED - {"adain_per_dim"})
KINDS = sorted(kinds_of_states(2, 2))
LISTS = {
    "per_token": {"token_alphas": [0.0, 1.0, 0.25]},
    "attention_weighted": {"token_importance": [3.0, 0.5, 1.0, 0.5]},
}


def blend(name, text, source, alpha, **parameters):
    entry = transform("blend", name)
    return call(entry, text, source, alpha, **{**LISTS.get(name, {}), **parameters})


def pair(tokens: int, width: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return states(tokens, width, seed), states(tokens, width, seed + 100, scale=30.0)


@settings(deadline=None)
@given(
    st.sampled_from(BLENDS),
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
    st.integers(1, 12),
    st.integers(1, 12),
    widths,
    alphas,
)
def test_every_input_gives_finite_float32_and_the_same_again(name, of_text, of_source, n, k, width, alpha):
    text, source = kinds_of_states(n, width)[of_text], kinds_of_states(k, width, seed=1)[of_source]
    kept = text.clone(), source.clone()
    result = blend(name, text, source, alpha)
    assert result.dtype == torch.float32
    assert result.shape == text.shape
    assert torch.isfinite(result).all()
    assert torch.equal(result, blend(name, text, source, alpha))
    assert torch.equal(text, kept[0])
    assert torch.equal(source, kept[1])


@settings(deadline=None)
@given(st.sampled_from(BY_ROW), lengths, lengths, alphas)
def test_rows_that_the_source_does_not_reach_are_the_text_bit_for_bit(name, n, k, alpha):
    text, source = states(n), states(k, seed=1)
    assert torch.equal(blend(name, text, source, alpha)[k:], text[k:])


@settings(deadline=None)
@given(st.sampled_from(BLENDS), lengths, widths, seeds)
def test_towards_alpha_zero_it_becomes_the_text(name, n, width, seed):
    text, source = pair(n, width, seed)
    largest = max(float(text.abs().max()), float(source.abs().max()))
    if name == "adain":
        largest *= 1e3  # a token of nearly equal values is stretched
    torch.testing.assert_close(blend(name, text, source, 1e-6), text, rtol=0, atol=3e-5 * largest + 1e-6)


@settings(deadline=None)
@given(st.sampled_from(sorted(set(BY_ROW) - {"noise"})), st.integers(2, 16), widths, alphas, st.randoms())
def test_rows_do_not_mix(name, n, width, alpha, random):
    """Without an order of positions in it, a blend of turned rows is the turned blend."""
    parameters = {"graduated": {"curve_start": 0.5, "curve_end": 0.5}}.get(name, {})
    if name in LISTS:
        return  # positions count
    text, source = pair(n, width)
    order = random.sample(range(n), n)
    plain = blend(name, text, source, alpha, **parameters)
    turned = blend(name, text[order], source[order], alpha, **parameters)
    torch.testing.assert_close(turned, plain[order], rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(
    st.sampled_from(["slerp", "graduated", "per_token", "attention_weighted", "adain", "adain_per_dim"]),
    st.integers(1, 16),
    widths,
    alphas,
    st.randoms(),
)
def test_the_order_of_dimensions_does_not_count(name, n, width, alpha, random):
    text, source = pair(n, width)
    order = random.sample(range(width), width)
    plain = blend(name, text, source, alpha)
    turned = blend(name, text[:, order], source[:, order], alpha)
    torch.testing.assert_close(turned, plain[:, order], rtol=1e-3, atol=1e-3)


@settings(deadline=None)
@example(n=9, width=2, seed=86, alpha=0.5)  # A row that is nearly opposite.
@given(lengths, st.integers(2, 9), seeds, alphas)
def test_slerp_turns_by_a_share_of_the_angle_and_mixes_magnitudes(n, width, seed, alpha):
    text, source = pair(n, width, seed)
    result = blend("slerp", text, source, alpha).double()
    t, v = text.double(), source.double()
    norms = [part.norm(dim=1) for part in (t, v, result)]
    torch.testing.assert_close(norms[2], (1 - alpha) * norms[0] + alpha * norms[1], rtol=1e-3, atol=1e-5)

    def angle(a, b):
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))

    whole = angle(t, v)
    wide = whole < math.pi - 1e-2
    torch.testing.assert_close(angle(t, result)[wide], alpha * whole[wide], rtol=2e-3, atol=2e-3)


@settings(deadline=None)
@given(lengths, widths, seeds)
def test_slerp_at_alpha_one_is_the_source_bit_for_bit(n, width, seed):
    text, source = pair(n, width, seed)
    assert torch.equal(blend("slerp", text, source, 1.0), source)


@pytest.mark.parametrize("factor", [1.0, 7.0, 1e-3])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_slerp_of_parallel_tokens_is_linear(factor, alpha):
    text = states(5)
    result = blend("slerp", text, factor * text, alpha)
    torch.testing.assert_close(result, text * (1 - alpha + alpha * factor))


def test_slerp_of_opposite_and_zero_tokens_is_linear():
    text = states(5)
    torch.testing.assert_close(blend("slerp", text, -text, 0.25), 0.5 * text)
    torch.testing.assert_close(blend("slerp", text, torch.zeros(5, 6), 0.25), 0.75 * text)


@settings(deadline=None)
@given(lengths, st.integers(2, 9), seeds, alphas)
def test_adain_gives_each_token_mean_and_spread_of_the_source(n, width, seed, alpha):
    text, source = pair(n, width, seed)
    t, v = text.double(), source.double()
    moved = (t - t.mean(1, True)) / t.std(1, keepdim=True) * v.std(1, keepdim=True) + v.mean(1, True)
    expected = alpha * moved + (1 - alpha) * t
    torch.testing.assert_close(
        blend("adain", text, source, alpha).double(),
        expected,
        rtol=1e-3,
        atol=1e-3 * float(moved.abs().max()),
    )


def test_adain_of_constant_tokens():
    text, source = torch.full((3, 6), 2.0), states(3)
    torch.testing.assert_close(
        blend("adain", text, source, 1.0), source.mean(dim=1, keepdim=True).expand(3, 6)
    )
    flat = blend("adain", states(3), torch.full((3, 6), 5.0), 1.0)
    torch.testing.assert_close(flat, torch.full((3, 6), 5.0))


@settings(deadline=None)
@given(st.integers(2, 20), lengths, widths, seeds, alphas)
def test_adain_per_dim_gives_each_dimension_the_statistics_of_all_tokens(n, m, width, seed, alpha):
    text, source = states(n, width, seed), states(m, width, seed + 100, scale=30.0)
    t, v = text.double(), source.double()
    std = v.std(dim=0) if m > 1 else torch.zeros(width)
    moved = (t - t.mean(0)) / t.std(0) * std + v.mean(0)
    expected = alpha * moved + (1 - alpha) * t
    torch.testing.assert_close(
        blend("adain_per_dim", text, source, alpha).double(), expected, rtol=1e-3, atol=1e-2
    )


def test_adain_per_dim_takes_all_tokens():
    assert WHOLE_SOURCE in transform("blend", "adain_per_dim").needs
    assert WHOLE_SOURCE not in transform("blend", "adain").needs


def test_adain_per_dim_of_one_token_of_text_is_the_mean():
    source = states(9)
    torch.testing.assert_close(blend("adain_per_dim", states(1), source, 1.0)[0], source.mean(dim=0))


@settings(deadline=None)
@given(lengths, lengths, st.integers(1, 9), seeds, alphas)
def test_style_only_mixes_the_last_third(n, k, width, seed, alpha):
    text, source = states(n, width, seed), states(k, width, seed + 1)
    result, rows, first = blend("style_only", text, source, alpha), min(n, k), width * 2 // 3
    assert torch.equal(result[:, :first], text[:, :first])
    expected = alpha * source[:rows, first:] + (1 - alpha) * text[:rows, first:]
    torch.testing.assert_close(result[:rows, first:], expected, rtol=1e-4, atol=1e-4)


def test_style_only_over_all_dimensions_is_linear():
    text, source = pair(7)
    torch.testing.assert_close(
        blend("style_only", text, source, 0.3, style_dimensions=[0, 6]), 0.3 * source + 0.7 * text
    )
    chosen = blend("style_only", text, source, 1.0, style_dimensions=[2, 4])
    assert torch.equal(chosen[:, 2:4], source[:, 2:4])
    assert torch.equal(chosen[:, [0, 1, 4, 5]], text[:, [0, 1, 4, 5]])


@pytest.mark.parametrize(
    ("dimensions", "problem"),
    [
        (None, None),
        ([0, 6], None),
        ([2, 4], None),
        ([2, 7], "up to 6"),
        ([4, 4], "up to 6"),
        ([5, 2], "up to 6"),
    ],
)
def test_ranges_of_dimensions_that_are_refused(dimensions, problem):
    found = transform("blend", "style_only").problem_with({"style_dimensions": dimensions, "width": 6})
    assert (found is None) if problem is None else (problem in found and str(dimensions) in found)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ("linear", [0.2, 0.35, 0.5, 0.65, 0.8]),
        ("ease_in", [0.2, 0.2375, 0.35, 0.5375, 0.8]),
        ("ease_out", [0.2, 0.4625, 0.65, 0.7625, 0.8]),
    ],
)
def test_curves(curve, expected):
    torch.testing.assert_close(curve_values(curve, 0.2, 0.8, 5), torch.tensor(expected))
    assert curve_values(curve, 0.2, 0.8, 1).tolist() == pytest.approx([0.2])


@settings(deadline=None)
@given(lengths, seeds, alphas, st.sampled_from(["linear", "ease_in", "ease_out"]))
def test_graduated_is_an_alpha_for_each_position(n, seed, alpha, curve):
    text, source = pair(n, seed=seed)
    weights = alpha * curve_values(curve, 0.1, 0.9, n)[:, None].double()
    expected = weights * source.double() + (1 - weights) * text.double()
    result = blend("graduated", text, source, alpha, curve=curve, curve_start=0.1, curve_end=0.9)
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_flat_curve_is_linear_and_the_ends_are_exact():
    text, source = pair(7)
    flat = blend("graduated", text, source, 0.3, curve_start=1.0, curve_end=1.0)
    torch.testing.assert_close(flat, 0.3 * source + 0.7 * text)
    rising = blend("graduated", text, source, 1.0)
    assert torch.equal(rising[0], text[0])
    assert torch.equal(rising[-1], source[-1])


def test_per_token_takes_a_list_whose_last_value_holds_on():
    text, source = pair(5)
    result = blend("per_token", text, source, 1.0, token_alphas=[0.0, 1.0, 0.5])
    assert torch.equal(result[0], text[0])
    assert torch.equal(result[1], source[1])
    torch.testing.assert_close(result[2:], 0.5 * (text + source)[2:])
    assert torch.equal(blend("per_token", text[:1], source[:1], 1.0, token_alphas=[1.0, 0.0]), source[:1])


def test_attention_weighted_protects_what_is_important():
    text, source = pair(4)
    result = blend("attention_weighted", text, source, 0.5, token_importance=[10.0, 20.0, 15.0, 10.0])
    weights = 0.5 * torch.tensor([1.0, 0.2, 0.6, 1.0])[:, None]
    torch.testing.assert_close(result, weights * source + (1 - weights) * text)


def test_attention_weighted_with_equal_importance_is_linear():
    text, source = pair(4)
    for importance in ([0.0], [7.0], [2.0, 2.0]):
        result = blend("attention_weighted", text, source, 0.5, token_importance=importance)
        torch.testing.assert_close(result, 0.5 * (text + source))


@pytest.mark.parametrize(
    ("name", "parameter"), [("per_token", "token_alphas"), ("attention_weighted", "token_importance")]
)
def test_lists_that_are_needed_are_asked_for(name, parameter):
    problem = transform("blend", name).problem_with
    assert f"{parameter}: [" in problem({"blend": name, parameter: None})
    assert problem({"blend": name, parameter: [1.0]}) is None


@settings(deadline=None)
@given(lengths, st.integers(2, 9), seeds, alphas, st.integers(0, 2**63 - 1))
def test_noise_goes_as_far_as_linear(n, width, seed, alpha, noise_seed):
    text, source = pair(n, width, seed)
    result = blend("noise", text, source, alpha, noise_seed=noise_seed)
    moved = (result.double() - text.double()).norm(dim=1)
    linear = alpha * (source.double() - text.double()).norm(dim=1)
    torch.testing.assert_close(moved, linear, rtol=1e-3, atol=1e-4)


def test_noise_follows_its_seed_alone():
    text, source = pair(7, 64)
    state = torch.random.get_rng_state()
    one, same, other = (blend("noise", text, source, 0.5, noise_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    directions = [(result - text) / (result - text).norm(dim=1, keepdim=True) for result in (one, other)]
    assert (directions[0] * directions[1]).sum(dim=1).abs().max() < 0.6


def test_noise_towards_the_text_itself_is_the_text():
    text = states(5)
    assert torch.equal(blend("noise", text, text.clone(), 1.0), text)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (StyleOnlyParameters, {"style_dimensions": [1]}),
        (StyleOnlyParameters, {"style_dimensions": [-1, 3]}),
        (GraduatedParameters, {"curve": "cubic"}),
        (GraduatedParameters, {"curve_end": 1.5}),
        (PerTokenParameters, {"token_alphas": []}),
        (PerTokenParameters, {"token_alphas": [1.5]}),
        (AttentionWeightedParameters, {"token_importance": [-1.0]}),
        (NoiseParameters, {"noise_seed": -1}),
    ],
)
def test_parameters_that_are_refused(model, wrong):
    with pytest.raises(ValidationError):
        model(**wrong)
