"""Massive activations and the sink: found where they were put, and taken apart again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.statistics.accumulator import fold_inputs, measure_tokens, summarize
from graftwork.statistics.reference import ReferenceStatistics, global_std
from graftwork.statistics.sink import (
    expected_global_std,
    find_massive_activations,
    largest_shares,
    subtract_tokens,
    variance_shares,
)
from tests.unit.statistics.published import energy_shares, shuffled_correlation, solve_sink, split_sink
from tests.unit.statistics.samples import gaussian, role_codes, states, with_sink


def roles(tokens: int) -> np.ndarray:
    return role_codes("sink", *["prompt"] * (tokens - 1))


def test_massive_activations_are_found_where_they_are():
    sample = with_sink(12, 8)
    sample[5, 3] = -3008.0
    found = find_massive_activations(sample, roles(12), layer=7)
    assert [(one.token, one.role, one.dim, one.value) for one in found] == [
        (0, "sink", 0, 13504.0),
        (0, "sink", 1, -4544.0),
        (5, "prompt", 3, -3008.0),
    ]
    assert {one.layer for one in found} == {7}
    median = float(np.median(np.abs(sample.astype(np.float64))))
    assert found[0].factor == pytest.approx(13504.0 / median)
    assert len(find_massive_activations(sample, roles(12), 7, limit=2)) == 2


def test_both_conditions_count():
    sample = np.full((4, 4), 0.01, dtype=np.float32)
    sample[1, 2] = 99.0
    assert find_massive_activations(sample, roles(4), 0) == []
    assert len(find_massive_activations(sample, roles(4), 0, min_magnitude=98.0)) == 1
    sample[:] = 1.0
    sample[1, 2] = 900.0
    assert find_massive_activations(sample, roles(4), 0) == []
    assert len(find_massive_activations(sample, roles(4), 0, min_factor=900.0)) == 1


def test_a_median_of_zero_gives_an_infinite_factor():
    sample = np.zeros((2, 4), dtype=np.float32)
    sample[0, 1] = 500.0
    assert [one.factor for one in find_massive_activations(sample, roles(2), 0)] == [np.inf]


def test_ordinary_states_have_none():
    assert find_massive_activations(gaussian(30, 64), roles(30), 0) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_states_that_are_refused(bad):
    with pytest.raises(ValueError, match="layer 3 have values that are NaN or infinite"):
        find_massive_activations(np.full((2, 2), bad, np.float32), roles(2), 3)
    with pytest.raises(ValueError, match=r"layer 3 have the shape \(0, 4\)"):
        find_massive_activations(gaussian(0), role_codes(), 3)


@settings(deadline=None)
@given(states(2))
def test_shares_are_those_of_the_values(sample):
    x = sample.astype(np.float64)
    moments = measure_tokens(sample)
    total = np.square(x - x.mean()).sum()
    if total <= 1e-9 * np.square(x).sum():
        return
    np.testing.assert_allclose(
        variance_shares(moments), np.square(x - x.mean()).sum(axis=0) / total, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        energy_shares(moments), np.square(x).sum(axis=0) / np.square(x).sum(), rtol=1e-6
    )
    within = np.square(x - x.mean(axis=0)).sum(axis=0)
    if within.sum() > 1e-9 * np.square(x).sum():
        np.testing.assert_allclose(
            variance_shares(moments, about_global_mean=False), within / within.sum(), rtol=1e-6, atol=1e-9
        )


def test_the_largest_shares_come_first():
    assert largest_shares(np.array([0.1, 0.4, 0.1, 0.4]), 3) == [(1, 0.4), (3, 0.4), (0, 0.1)]


@pytest.mark.parametrize("function", [variance_shares, energy_shares])
def test_nothing_cannot_be_divided(function):
    with pytest.raises(ValueError, match=r"no (variance|energy) to divide"):
        function(measure_tokens(np.zeros((3, 4), np.float32)))


sink_values = st.lists(st.floats(-20000, 20000, width=32), min_size=3, max_size=3)


@settings(deadline=None)
@given(st.integers(3, 60), st.integers(1, 9), sink_values, sink_values)
def test_a_sink_among_constant_tokens_is_solved(rest, sinks, sink, other):
    sink, other = np.array(sink), np.array(other) / 100
    if sinks >= rest:
        return
    sample = np.concatenate([np.tile(sink, (sinks, 1)), np.tile(other, (rest, 1))]).astype(np.float32)
    found = solve_sink(measure_tokens(sample), sinks)
    mean = sample.astype(np.float64).mean(axis=0)
    # Only two moments are known, so the sink has to be on that side of the rest on which the mean is of 0.
    decided = ((sample[0] - sample[-1]) * mean > 0) | (sample[0] == sample[-1])
    np.testing.assert_allclose(found.sink[decided], sample[0][decided], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.rest_mean[decided], sample[-1][decided], rtol=1e-6, atol=1e-3)


def test_other_tokens_that_vary_make_the_solution_an_upper_bound():
    sample = np.concatenate([with_sink(1, 8), gaussian(30, 8, shift=0.0)])
    found = solve_sink(measure_tokens(sample), 1)
    bound = np.abs(found.sink - found.rest_mean)
    actual = np.abs(sample[0] - sample[1:].mean(axis=0))
    assert (bound >= actual).all()
    assert found.sink[0] == pytest.approx(13504.0, rel=1e-3)
    assert found.sink[1] == pytest.approx(-4544.0, rel=1e-3)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 99))
def test_a_known_sink_leaves_the_statistics_of_the_rest(rest, sinks, seed):
    sink = np.array([13504.0, -4544.0, 0.5, 3.0], dtype=np.float32)
    others = gaussian(rest, seed=seed)
    moments = measure_tokens(np.concatenate([np.tile(sink, (sinks, 1)), others]))
    found = split_sink(moments, sinks, sink)
    expected = measure_tokens(others)
    np.testing.assert_allclose(found.rest_mean, expected.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.rest_std, np.sqrt(expected.m2 / (rest - 1)), rtol=1e-3, atol=1e-3)
    assert (found.sink == sink).all()


def test_a_sink_that_contradicts_the_statistics_is_no_number():
    moments = measure_tokens(gaussian(10))
    assert np.isnan(split_sink(moments, 1, np.float64(1e6)).rest_std).all()


@pytest.mark.parametrize("function", [solve_sink, lambda moments, k: split_sink(moments, k, np.zeros(4))])
@pytest.mark.parametrize("count", [0, 10, 11, -1])
def test_sink_counts_that_are_refused(function, count):
    with pytest.raises(ValueError, match=f"^{count} sink tokens among 10 .* allowed are 1 to 9"):
        function(measure_tokens(gaussian(10)), count)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_subtracting_undoes_merging(one, other, seed):
    a, b = with_sink(one, seed=seed), gaussian(other, seed=seed + 1)
    first, second = measure_tokens(a), measure_tokens(b)
    n, mean, m2 = subtract_tokens(fold_inputs([{"all": first}, {"all": second}])["all"], second)
    assert n == one
    np.testing.assert_allclose(mean, first.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(m2, first.m2, rtol=1e-6, atol=1e-5)
    assert (m2 >= 0).all()


def test_the_sink_follows_from_two_classes():
    sinks = np.array([[13504.0, -4544.0, 1.0, 2.0], [13440.0, -4512.0, 1.5, 2.5]], dtype=np.float32)
    rest = gaussian(40)
    whole = summarize(measure_tokens(np.concatenate([sinks, rest])))
    n, mean, _ = subtract_tokens(whole, summarize(measure_tokens(rest)))
    assert n == 2
    np.testing.assert_allclose(mean, sinks.mean(axis=0), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="42 tokens cannot be taken from 42"):
        subtract_tokens(whole, whole)


@pytest.mark.parametrize("has_sink", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5, 23])
def test_the_expected_std_is_the_mean_of_many_draws(length, has_sink):
    generator = np.random.default_rng(length)
    mean, std = np.array([0.2, -1.0, 3.0]), np.array([1.0, 2.0, 0.5])
    sink = np.array([50.0, -20.0, 0.0]) if has_sink else None
    draws = generator.normal(mean, std, (20000, length, 3))
    if has_sink:
        draws[:, 0] = sink
    measured = np.sqrt(draws.reshape(20000, -1).var(axis=1, ddof=1).mean())
    assert expected_global_std([length], mean, std, sink)[0] == pytest.approx(measured, rel=0.01)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 99))
def test_without_variance_the_expected_std_is_exact(length, seed):
    rest, sink = gaussian(2, seed=seed).astype(np.float64)
    sample = np.concatenate([sink[None], np.tile(rest, (length - 1, 1))])
    assert expected_global_std([length], rest, np.zeros(4), sink)[0] == pytest.approx(sample.std(ddof=1))


def test_with_a_sink_the_global_std_tells_the_length_and_without_it_does_not():
    rest, sink = gaussian(500, 64), np.zeros(64)
    sink[:2] = 13504.0, -4544.0
    moments = measure_tokens(rest)
    std = np.sqrt(moments.m2 / (moments.n - 1))
    lengths = [10, 40, 160]
    with_it = expected_global_std(lengths, moments.mean, std, sink)
    without = expected_global_std(lengths, moments.mean, std)
    assert with_it[0] / with_it[2] == pytest.approx(4.0, rel=0.01)
    assert without[0] == pytest.approx(without[2], rel=0.01)
    assert without[2] == pytest.approx(global_std(moments), rel=0.01)


def test_lengths_that_are_refused():
    with pytest.raises(ValueError, match="a sequence of 0 tokens"):
        expected_global_std([3, 0], np.zeros(2), np.ones(2))
    assert expected_global_std([1], np.zeros(1), np.ones(1)) == [0.0]


def test_shuffling_leaves_what_a_few_dimensions_decide():
    std = np.exp(np.random.default_rng(0).normal(1.5, 0.5, 500))
    std[[3, 33]] = 2700.0, 950.0
    with_them = shuffled_correlation(std, [3, 33])
    without = shuffled_correlation(np.delete(std, [3, 33]), [])
    assert with_them.pearson_minimum <= with_them.pearson <= with_them.pearson_maximum
    assert with_them.pearson_minimum > 0.99
    assert abs(without.pearson) < 0.05
    assert with_them == shuffled_correlation(std, [33, 3])
    assert with_them != shuffled_correlation(std, [3, 33], seed=1)


def test_shuffles_that_are_refused():
    with pytest.raises(ValueError, match="0 repeats"):
        shuffled_correlation(np.ones(4), [], repeats=0)
    with pytest.raises(ValueError, match="dimension 4 does not exist"):
        shuffled_correlation(np.ones(4), [4])


def test_rounded_statistics_do_as_well_as_moments():
    sample = with_sink(30, 8)
    moments, rounded = measure_tokens(sample), summarize(measure_tokens(sample))
    assert isinstance(rounded, ReferenceStatistics)
    np.testing.assert_allclose(variance_shares(rounded), variance_shares(moments), rtol=1e-6)
    np.testing.assert_allclose(solve_sink(rounded, 1).sink, solve_sink(moments, 1).sink, rtol=1e-5)
