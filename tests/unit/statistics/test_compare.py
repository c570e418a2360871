"""Measures, held against NumPy, against what must not change them, and against what they are blind to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graftwork.statistics.accumulator import measure_tokens, summarize
from graftwork.statistics.compare import (
    STD_MEASURES,
    TOKEN_MEASURES,
    compare_statistics,
    compare_tokens,
    cosine,
    linear_cka,
    mean_log_ratio,
    median_log_ratio,
    pearson,
    pearson_log,
    spearman,
    top_dimensions,
)
from graftwork.statistics.reference import ReferenceStatistics
from tests.unit.statistics.samples import gaussian, with_sink

WIDTH = 12
positive = arrays.arrays(np.float64, WIDTH, elements=st.floats(1e-3, 1e4))
with_zeros = arrays.arrays(np.float64, WIDTH, elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e4)))
VECTOR_FUNCTIONS = [measure.function for measure in STD_MEASURES.values()]


def sinks(tokens: int) -> np.ndarray:
    return np.arange(tokens) == 0


def of_std(std: np.ndarray) -> ReferenceStatistics:
    return ReferenceStatistics(9, np.zeros(len(std)), np.asarray(std))


def equal(a: float, b: float, tolerance: float = 1e-9) -> bool:
    return (np.isnan(a) and np.isnan(b)) or a == pytest.approx(b, rel=tolerance, abs=tolerance)


def spread(*vectors: np.ndarray) -> bool:
    """Whether correlations are well conditioned: no vector is almost constant."""
    return all(np.ptp(vector) > 1e-3 * np.abs(vector).max() for vector in vectors)


@given(positive, positive)
def test_against_numpy(a, b):
    if spread(a, b):
        assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    if spread(np.log(a), np.log(b)):
        assert pearson_log(a, b) == pytest.approx(np.corrcoef(np.log(a), np.log(b))[0, 1], abs=1e-6)
    assert cosine(a, b) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    assert median_log_ratio(a, b) == pytest.approx(np.median(np.abs(np.log(a / b))), abs=1e-12)
    assert mean_log_ratio(a, b) == pytest.approx(np.mean(np.abs(np.log(a / b))), abs=1e-12)
    if len(set(a)) == len(set(b)) == WIDTH:
        by_sorting = np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1]
        assert spearman(a, b) == pytest.approx(by_sorting, abs=1e-12)


def test_equal_values_share_their_mean_rank():
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: the value of scipy.stats.spearmanr."""
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(0.9486832980505138)


@pytest.mark.parametrize("function", VECTOR_FUNCTIONS)
@given(with_zeros, with_zeros, st.permutations(range(WIDTH)))
def test_measures_are_symmetric_and_do_not_know_the_order_of_dimensions(function, a, b, order):
    # Almost equal values are told apart by their rounding alone.
    if np.isnan(function(a, b)) or spread(a, b):
        assert equal(function(a, b), function(b, a))
        if function is not pearson_log:
            assert equal(function(a, b), function(a[order], b[order]))


@pytest.mark.parametrize("function", [pearson, cosine, spearman])
@given(positive, positive, st.floats(1e-2, 1e2))
def test_a_common_factor_changes_no_correlation(function, a, b, factor):
    if spread(a, b):
        assert function(a * factor, b) == pytest.approx(function(a, b), abs=1e-6)


@given(positive, st.floats(1.01, 1e2))
def test_a_common_factor_is_the_log_ratio(a, factor):
    assert median_log_ratio(a * factor, a) == pytest.approx(np.log(factor))
    assert mean_log_ratio(a * factor, a) == pytest.approx(np.log(factor))


@given(positive)
def test_a_vector_agrees_with_itself(a):
    assert median_log_ratio(a, a) == mean_log_ratio(a, a) == 0.0
    assert cosine(a, a) == pytest.approx(1.0)
    if spread(a):
        for function in (pearson, spearman, pearson_log):
            assert function(a, a) == pytest.approx(1.0)


@pytest.mark.parametrize("function", [pearson, spearman, pearson_log])
def test_correlation_with_a_constant_is_not_defined(function):
    assert np.isnan(function(np.full(5, 0.1), np.arange(1.0, 6.0)))
    assert np.isnan(function(np.ones(1), np.ones(1)))


def test_without_common_positive_dimensions_there_is_no_log_ratio():
    a, b = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    for function in (pearson_log, median_log_ratio, mean_log_ratio):
        assert np.isnan(function(a, b))
    assert np.isnan(cosine(np.zeros(2), b))
    assert median_log_ratio(np.array([0.0, 1.0, 4.0]), np.array([3.0, 1.0, 1.0])) == pytest.approx(
        np.log(4) / 2
    )


def test_a_few_large_dimensions_hide_that_all_others_are_shuffled():
    """The reason for the robust measures."""
    generator = np.random.default_rng(0)
    std = np.exp(generator.normal(1.5, 0.5, 500))
    std[[7, 70]] = 2700.0, 950.0
    shuffled = std.copy()
    rest = np.setdiff1d(np.arange(500), [7, 70])
    shuffled[rest] = generator.permutation(std[rest])
    found = {
        name: one.value for name, one in compare_statistics(of_std(std), of_std(shuffled), top_dims=2).items()
    }
    assert found["pearson_std"] > 0.99
    assert found["cosine_std"] > 0.99
    assert abs(found["spearman_std"]) < 0.2
    assert abs(found["pearson_std_without_top2"]) < 0.2
    assert found["cosine_std_without_top2"] > 0.7
    assert found["median_log_ratio"] > 0.3


def test_every_variant_is_there_in_order_and_says_what_it_is():
    a, b = summarize(measure_tokens(with_sink(20, 8))), summarize(measure_tokens(with_sink(20, 8, seed=1)))
    c, d = summarize(measure_tokens(gaussian(19, 8))), summarize(measure_tokens(gaussian(19, 8, seed=1)))
    found = compare_statistics(a, b, c, d, top_dims=2)
    suffixes = ("", "_without_top2", "_without_sink", "_without_sink_without_top2")
    assert list(found) == [name + suffix for name in STD_MEASURES for suffix in suffixes]
    assert found["pearson_std"].tokens == "all"
    assert found["pearson_std"].dims == 8
    assert found["pearson_std_without_sink_without_top2"].tokens == "non_sink"
    assert found["pearson_std_without_sink_without_top2"].dims == 6
    assert found["pearson_std_without_top2"].without_dims == (0, 1)
    assert found["pearson_std"].value > 0.99 > found["pearson_std_without_sink"].value
    for one in found.values():
        assert one.description
        assert one.misleads
    assert list(compare_statistics(a, b, top_dims=0)) == list(STD_MEASURES)
    for measure in (*STD_MEASURES.values(), *TOKEN_MEASURES.values()):
        assert measure.source


def test_top_dimensions_are_relative_to_each_encoder():
    a = np.array([1.0, 1, 1, 9, 1, 1])
    b = np.array([100.0, 100, 5000, 100, 100, 100])
    assert top_dimensions(a, b, 2) == (2, 3)
    assert top_dimensions(b, a, 2) == (2, 3)
    assert top_dimensions(a, b, 0) == ()
    assert top_dimensions(np.ones(5), np.ones(5), 2) == (0, 1)
    with pytest.raises(ValueError, match="5 top dimensions of 6 cannot be left out; at most 4"):
        top_dimensions(a, b, 5)


def test_what_statistics_cannot_be_compared():
    with pytest.raises(ValueError, match="have 4 channels, the other encoder has 5"):
        compare_statistics(of_std(np.ones(5)), of_std(np.ones(4)))
    with pytest.raises(ValueError, match="for one encoder alone"):
        compare_statistics(of_std(np.ones(5)), of_std(np.ones(5)), of_std(np.ones(5)))


def naive_cka(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(np.linalg.norm(b.T @ a) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b))


@settings(deadline=None)
@given(st.integers(3, 30), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_cka_is_its_definition(tokens, width_a, width_b, seed):
    a = gaussian(tokens, width_a, seed).astype(np.float64)
    b = gaussian(tokens, width_b, seed + 1).astype(np.float64)
    assert linear_cka(a, b) == pytest.approx(naive_cka(a, b), rel=1e-9)


@settings(deadline=None)
@given(st.integers(3, 20), st.integers(0, 99), st.floats(0.01, 100), st.floats(-100, 100))
def test_cka_is_blind_to_rotation_scale_and_shift(tokens, seed, scale, shift):
    a, b = (gaussian(tokens, 6, seed + side).astype(np.float64) for side in (0, 1))
    rotation = np.linalg.qr(gaussian(6, 6, seed + 2).astype(np.float64))[0]
    assert linear_cka(a, b @ rotation * scale + shift) == pytest.approx(linear_cka(a, b), rel=1e-6)
    assert linear_cka(a, a @ rotation) == pytest.approx(1.0)
    order = np.random.default_rng(seed).permutation(tokens)
    assert linear_cka(a[order], b[order]) == pytest.approx(linear_cka(a, b))


@pytest.mark.parametrize("tokens", [1, 7])
def test_cka_of_tokens_that_are_all_equal_is_not_defined(tokens):
    constant = np.full((tokens, 3), 0.1)
    assert np.isnan(linear_cka(constant, gaussian(tokens, 3).astype(np.float64)))


def test_the_sink_makes_strangers_agree():
    a, b = with_sink(40, 16), with_sink(40, 16, seed=1)
    found = {name: one.value for name, one in compare_tokens(a, b, sinks(40)).items()}
    assert list(found) == [
        "flattened_cosine",
        "flattened_cosine_without_sink",
        "linear_cka",
        "linear_cka_without_sink",
    ]
    assert found["flattened_cosine"] > 0.999
    assert found["linear_cka"] > 0.999
    assert found["flattened_cosine_without_sink"] < 0.3
    assert found["linear_cka_without_sink"] < 0.6


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 99))
def test_tokens_agree_with_themselves(tokens, seed):
    a = with_sink(tokens, seed=seed)
    for name, one in compare_tokens(a, a, sinks(tokens)).items():
        if not (name == "linear_cka_without_sink" and tokens == 2):
            assert one.value == pytest.approx(1.0), name


def test_a_sink_alone_leaves_nothing_to_compare():
    found = compare_tokens(with_sink(1), with_sink(1, seed=1), sinks(1))
    assert found["flattened_cosine"].value > 0.9
    assert np.isnan(found["flattened_cosine_without_sink"].value)
    assert np.isnan(found["linear_cka"].value)
    assert np.isnan(found["linear_cka_without_sink"].value)


def test_large_values_do_not_overflow():
    a = np.full((3, 2), 3e38, dtype=np.float32) * np.array([[1, 0.5], [0.2, 1], [0.1, 0.7]], dtype=np.float32)
    for one in compare_tokens(a, a, sinks(3)).values():
        assert one.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (gaussian(3), gaussian(4), r"\(3, 4\) and \(4, 4\)"),
        (gaussian(3, 4), gaussian(3, 5), r"\(3, 4\) and \(3, 5\)"),
        (gaussian(0), gaussian(0), r"\(0, 4\)"),
        (gaussian(3), np.full((3, 4), np.nan, np.float32), "states of B have values that are NaN"),
        (gaussian(2), gaussian(2), "bool, one for each of 2 tokens"),
    ],
)
def test_tokens_that_cannot_be_compared(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare_tokens(a, b, sinks(3))
