"""Normalizations that take reference statistics: exact statistics, directions, and inputs without spread."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.conditioning.reference import prompt_statistics
from graftwork.statistics.reference import (
    MissingStatistic,
    ReferenceStatistics,
    global_std,
)
from graftwork.transforms.normalization import (
    HybridParameters,
    WhiteningParameters,
    colour_tokens,
    covariance_spectrum,
    decompose_covariance,
    overall_reference_std,
    std_without_sink,
    whiten_tokens,
)
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import (
    as_the_generator_sees,
    call,
    context,
    kinds_of_states,
    lengths,
    roles,
    seeds,
    states,
    statistics,
    widths,
)

COVERED = {"per_dim", "hybrid", "rms", "whiten"}
TESTED = {"normalization": COVERED}
MODES = sorted(COVERED)
ALL_MODES = sorted(COVERED | {"none", "global"})
KINDS = sorted(kinds_of_states(2, 2))


def normalize(name, source, reference=None, text=None, **parameters):
    """Result and warnings."""
    entry = transform("normalization", name)
    text = states(5, source.shape[1], seed=9) if text is None else text
    around = context(
        text,
        text_roles=roles(["sink"] + ["prompt"] * (len(text) - 1)),
        statistics=statistics(source.shape[1]) if reference is None else reference,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(entry, source, around=around, **parameters)
    return result, [str(item.message) for item in caught]


def exactly(name: str) -> dict:
    """Parameters at which statistics are reached exactly."""
    return {"per_dim": {"clip_sigma": None}, "hybrid": {"clip_sigma": None}}.get(name, {})


@settings(deadline=None)
@given(st.integers(2, 30), widths, seeds, st.floats(1e-3, 1e3), st.floats(-9, 9))
def test_per_dim_reaches_mean_and_std_of_every_dimension(tokens, width, seed, scale, shift):
    reference = statistics(width)
    source = states(tokens, width, seed, scale, shift * scale)
    result, said = normalize("per_dim", source, reference, clip_sigma=None)
    exact = result.double()
    np.testing.assert_allclose(exact.std(dim=0), reference.std, rtol=1e-4)
    np.testing.assert_allclose(exact.mean(dim=0), reference.mean, atol=1e-4 * float(reference.std.max()))
    assert said == []


def test_per_dim_clips_scores():
    source, reference = states(60, 5), statistics(5)
    source[7, 2] = 1e3
    plain, _ = normalize("per_dim", source, reference, clip_sigma=None)
    for sigma in (1.0, 3.0):
        clipped, _ = normalize("per_dim", source, reference, clip_sigma=sigma)
        mean, std = (torch.from_numpy(part.copy()) for part in (reference.mean, reference.std))
        torch.testing.assert_close(clipped, plain.clamp(mean - sigma * std, mean + sigma * std))
    assert torch.equal(normalize("per_dim", source, reference)[0], clipped), "3 is the default"


def test_the_largest_value_of_a_clipped_dimension_is_that_of_the_seed_documents():
    """ref_mean + 3 ref_std of dimension 4 of Qwen3-4B is the "max 9182" that they report."""
    source = torch.zeros(200, 1)
    source[0] = 1.0
    mean, std = 924.870, 2752.569
    reference = ReferenceStatistics(n=220, mean=np.array([mean]), std=np.array([std]))
    assert float(normalize("per_dim", source, reference)[0].max()) == pytest.approx(9182.58, abs=0.05)


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(2, 9), seeds, st.floats(0, 1), st.sampled_from([None, 3.0, 1.0]))
def test_hybrid_is_the_weighted_sum(tokens, width, seed, weight, clip):
    source, reference = states(tokens, width, seed), statistics(width)
    result, _ = normalize("hybrid", source, reference, hybrid_weight=weight, clip_sigma=clip)
    per_dim, _ = normalize("per_dim", source, reference, clip_sigma=clip)
    whole, _ = normalize("global", source, target_std=overall_reference_std(reference))
    expected = weight * per_dim.double() + (1 - weight) * whole.double()
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-3)


def test_hybrid_at_its_ends_is_one_of_the_two():
    source, reference = states(20), statistics()
    assert torch.equal(
        normalize("hybrid", source, reference, hybrid_weight=1.0)[0],
        normalize("per_dim", source, reference)[0],
    )
    whole, _ = normalize("global", source, target_std=overall_reference_std(reference))
    torch.testing.assert_close(normalize("hybrid", source, reference, hybrid_weight=0.0)[0], whole)


@settings(deadline=None)
@given(st.integers(1, 30), widths, seeds, st.floats(1e-3, 1e3))
def test_rms_gives_every_token_one_size_and_keeps_its_direction(tokens, width, seed, scale):
    source, reference = states(tokens, width, seed, scale), statistics(width)
    result, _ = normalize("rms", source, reference)
    sizes = result.double().square().mean(dim=1).sqrt()
    torch.testing.assert_close(sizes, torch.full_like(sizes, reference.median_token_rms), rtol=1e-5, atol=0)
    seen, before = as_the_generator_sees(result), as_the_generator_sees(source)
    torch.testing.assert_close(seen, before, rtol=0, atol=1e-5)


@settings(deadline=None)
@given(st.integers(2, 8), seeds, st.floats(1e-2, 1e2))
def test_whiten_reaches_mean_and_covariance(width, seed, scale):
    """Up to the shrinkage, where there are enough tokens to have a covariance of full rank."""
    source, reference = states(60, width, seed, scale), statistics(width)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
    source = source @ (torch.eye(width) + 0.1 * mixing)
    result, said = normalize("whiten", source, reference, whiten_shrinkage=1e-6)
    covariance = torch.cov(result.double().T).reshape(width, width)
    largest = float(reference.covariance.diagonal().max())
    np.testing.assert_allclose(covariance, reference.covariance, atol=5e-3 * largest)
    np.testing.assert_allclose(result.double().mean(dim=0), reference.mean, atol=1e-4 * largest**0.5)
    assert said == []


def test_whiten_with_full_shrinkage_changes_only_spread_and_mean():
    source, reference = states(20), statistics()
    result, _ = normalize("whiten", source, reference, whiten_shrinkage=1.0)
    centred = source.double() - source.double().mean(dim=0)
    variance = centred.square().sum() / (19 * 6)
    wanted = reference.covariance.astype(np.float64).trace() / 6
    expected = centred * np.sqrt(wanted / float(variance)) + torch.from_numpy(reference.mean.copy())
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), seeds, st.sampled_from([1e-6, 0.01, 0.5]))
def test_whitening_is_the_inverse_root_whichever_side_is_decomposed(tokens, width, seed, shrinkage):
    centred = states(tokens, width, seed).double()
    centred -= centred.mean(dim=0)
    covariance = centred.T @ centred / (tokens - 1)
    shrunk = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / width * torch.eye(width)
    values, vectors = torch.linalg.eigh(shrunk)
    root = vectors * values.rsqrt() @ vectors.T
    torch.testing.assert_close(whiten_tokens(centred, shrinkage), centred @ root, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [2, 5, 9, 20, 21, 60])
@pytest.mark.parametrize("shrinkage", [1e-6, 0.01, 1.0])
def test_colouring_a_covariance_of_few_tokens_is_the_root_all_the_same(tokens, shrinkage):
    width = 40
    values = states(tokens, width, seed=4).double()
    values -= values.mean(dim=0)
    covariance = values.T @ values / (tokens - 1)
    base = shrinkage * covariance.trace() / width
    spectrum, vectors = torch.linalg.eigh((1 - shrinkage) * covariance + base * torch.eye(width))
    white = states(7, width, seed=5).double()
    expected = white @ (vectors * spectrum.clamp(min=0).sqrt() @ vectors.T)
    torch.testing.assert_close(
        colour_tokens(white, *decompose_covariance(covariance, tokens), shrinkage),
        expected,
        rtol=1e-6,
        atol=1e-6,
    )


@settings(deadline=None)
@given(st.sampled_from(MODES), st.integers(2, 24), st.integers(2, 9), seeds, st.floats(0.1, 1e3))
def test_target_std_rescales_after_any(name, tokens, width, seed, target):
    source, reference = states(tokens, width, seed), statistics(width)
    plain, _ = normalize(name, source, reference)
    result, _ = normalize(name, source, reference, target_std=target)
    assert float(result.double().std()) == pytest.approx(target, rel=1e-4)
    torch.testing.assert_close(result, plain * (result[0, 0] / plain[0, 0]), rtol=1e-3, atol=1e-3 * target)


@pytest.mark.parametrize("name", MODES)
def test_the_target_can_be_that_of_the_prompt_or_of_the_reference(name):
    source, reference, text = states(20), statistics(), states(9, seed=5, scale=30)
    to_prompt, _ = normalize(name, source, reference, text, target_std="prompt")
    expected = std_without_sink(text, roles(["sink"] + ["prompt"] * 8))
    assert float(to_prompt.double().std()) == pytest.approx(expected, rel=1e-5)
    to_reference, _ = normalize(name, source, reference, text, target_std="reference")
    assert float(to_reference.double().std()) == pytest.approx(overall_reference_std(reference), rel=1e-5)


def test_the_overall_std_of_a_reference_is_that_of_all_its_values():
    text, text_roles = states(12, 8, shift=30.0), roles(["sink"] + ["prompt"] * 11)
    measured = prompt_statistics(text.numpy(), text_roles, with_covariance=False)
    assert overall_reference_std(measured) == pytest.approx(std_without_sink(text, text_roles), rel=1e-5)
    reference = statistics(dead=2)
    assert overall_reference_std(reference) == pytest.approx(global_std(reference), rel=1e-6)


@settings(deadline=None)
@given(st.sampled_from(ALL_MODES), st.sampled_from(KINDS), lengths, widths, seeds)
def test_every_input_gives_finite_float32_and_the_same_again(name, kind, tokens, width, seed):
    source = kinds_of_states(tokens, width, seed)[kind]
    if name == "global" and source.numel() == 1:
        return  # says so, and is tested there
    kept = source.clone()
    result, said = normalize(name, source, statistics(width, dead=width // 3))
    assert result.dtype == torch.float32
    assert result.shape == source.shape
    assert torch.isfinite(result).all()
    assert torch.equal(source, kept)
    again = normalize(name, source, statistics(width, dead=width // 3))
    assert torch.equal(result, again[0])
    assert said == again[1]


@pytest.mark.parametrize("name", ["per_dim", "whiten"])
@pytest.mark.parametrize("kind", ["one token", "equal tokens", "equal values", "zeros"])
def test_tokens_without_spread_get_the_mean_of_the_reference_and_it_is_said(name, kind):
    source, reference = kinds_of_states(9, 6)[kind], statistics()
    result, said = normalize(name, source, reference)
    assert torch.equal(result, torch.from_numpy(reference.mean.copy()).expand_as(source))
    assert len(said) == 1
    assert name in said[0]


def test_constant_dimensions_get_the_mean_of_the_reference_and_it_is_said():
    source, reference = states(1041, 6), statistics()
    source[:, 2] = 13510.1
    result, said = normalize("per_dim", source, reference)
    assert (result[:, 2] == float(reference.mean[2])).all()
    assert "1 of 6 dimensions of the source are constant" in said[0]


def test_a_token_of_zeros_stays_one():
    source = torch.cat([states(3), torch.zeros(2, 6)])
    result, said = normalize("rms", source)
    assert (result[3:] == 0.0).all()
    assert "2 tokens are zero" in said[0]


def test_a_source_without_variation_is_not_rescaled():
    source, reference = torch.full((4, 1), 3.0), statistics(1)
    result, said = normalize("per_dim", source, reference, target_std=61.0)
    assert (result == float(reference.mean[0])).all()
    assert "not rescaled" in said[-1]


@settings(deadline=None)
@given(st.sampled_from(ALL_MODES), st.integers(2, 16), widths, seeds, st.randoms())
def test_the_order_of_tokens_does_not_count(name, tokens, width, seed, random):
    source, order = states(tokens, width, seed), random.sample(range(tokens), tokens)
    plain = normalize(name, source)[0]
    torch.testing.assert_close(normalize(name, source[order])[0], plain[order], rtol=1e-3, atol=1e-3)


@settings(deadline=None)
@given(st.sampled_from(ALL_MODES), st.integers(2, 16), widths, seeds, st.randoms())
def test_the_order_of_dimensions_does_not_count(name, tokens, width, seed, random):
    source, reference = states(tokens, width, seed), statistics(width)
    text, order = states(9, width, seed=8), random.sample(range(width), width)
    turned = ReferenceStatistics(
        n=reference.n,
        mean=reference.mean[order],
        std=reference.std[order],
        median_token_rms=reference.median_token_rms,
        covariance=reference.covariance[order][:, order],
    )
    plain, _ = normalize(name, source, reference, text)
    result, _ = normalize(name, source[:, order], turned, text[:, order])
    torch.testing.assert_close(result, plain[:, order], rtol=1e-3, atol=1e-3)


@settings(deadline=None)
@given(st.sampled_from(ALL_MODES), st.integers(2, 16), st.integers(2, 9), seeds, st.floats(1e-2, 1e2))
def test_the_scale_of_the_source_does_not_reach_the_generator(name, tokens, width, seed, factor):
    """Alone, at alpha 1: the first caption layer normalizes every token."""
    source = states(tokens, width, seed)
    parameters = exactly(name)
    one = as_the_generator_sees(normalize(name, source, **parameters)[0])
    other = as_the_generator_sees(normalize(name, source * factor, **parameters)[0])
    torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


@settings(deadline=None)
@given(st.sampled_from(MODES), st.integers(2, 16), st.integers(2, 9), seeds, st.floats(1e-2, 1e2))
def test_rescaling_does_not_reach_the_generator(name, tokens, width, seed, target):
    source = states(tokens, width, seed)
    plain = as_the_generator_sees(normalize(name, source)[0])
    rescaled = as_the_generator_sees(normalize(name, source, target_std=target)[0])
    torch.testing.assert_close(plain, rescaled, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["per_dim", "hybrid", "whiten"])
def test_statistics_of_another_width_are_refused(name):
    with pytest.raises(ValueError, match="7 channels, the source has 6"):
        normalize(name, states(4), statistics(7))


@pytest.mark.parametrize(("name", "missing"), [("rms", "median_token_rms"), ("whiten", "covariance")])
def test_statistics_that_lack_what_is_needed_are_refused(name, missing):
    lacking = ReferenceStatistics(n=10, mean=np.zeros(6), std=np.ones(6))
    with pytest.raises(MissingStatistic, match=missing):
        normalize(name, states(4), lacking)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (HybridParameters, {"hybrid_weight": 1.5}),
        (HybridParameters, {"clip_sigma": 0}),
        (HybridParameters, {"target_std": 0}),
        (HybridParameters, {"target_std": "text"}),
        (HybridParameters, {"statistics": "other"}),
        (WhiteningParameters, {"whiten_shrinkage": 0}),
        (WhiteningParameters, {"whiten_shrinkage": 1.5}),
    ],
)
def test_parameters_that_are_refused(model, wrong):
    with pytest.raises(ValidationError):
        model(**wrong)


def test_a_covariance_is_decomposed_once_for_each_object():
    one, other = statistics(seed=7), statistics(seed=8)
    first = covariance_spectrum(one)
    assert covariance_spectrum(one) is first
    assert not torch.equal(covariance_spectrum(other)[0], first[0])
    source = states(12, seed=3)
    before = normalize("whiten", source, one)[0]
    normalize("whiten", source, other)[0]
    assert torch.equal(normalize("whiten", source, one)[0], before)
    assert not torch.equal(normalize("whiten", source, other)[0], before)
