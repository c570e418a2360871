"""Sinks are found where they were planted, at any position, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.statistics.accumulator import decode_states, summarize
from graftwork.statistics.analysis import ReadInput, compare_paired, pair_inputs
from graftwork.statistics.corpus import measure_corpus
from graftwork.statistics.sink import (
    LEAST_CHANNELS,
    MASSIVE_NORM,
    MASSIVE_SHARE,
    FurtherSinks,
    SinkCounter,
    SinkPlace,
    find_sinks,
    massive_norms,
)
from graftwork.store.hidden_states import HiddenStates
from tests.unit.statistics.samples import gaussian, role_codes, states, with_sinks_at


def roles(tokens: int = 12, first: str = "sink") -> np.ndarray:
    return role_codes(first, *["prompt"] * (tokens - 1))


def found(sample: np.ndarray, of: np.ndarray | None = None) -> list[int]:
    return np.flatnonzero(find_sinks(sample, roles(len(sample)) if of is None else of)).tolist()


@pytest.mark.parametrize("planted", [(), (0,), (1,), (5,), (0, 1), (0, 5), (1, 5), (0, 1, 5, 11)])
def test_planted_sinks_are_found_beside_the_one_by_role(planted):
    assert found(with_sinks_at(*planted)) == sorted({0, *planted})


@pytest.mark.parametrize("planted", [(), (0,), (1,), (3, 7)])
def test_without_a_role_only_massive_tokens_are_sinks(planted):
    assert found(with_sinks_at(*planted), roles(first="prompt")) == list(planted)


def test_layers_are_judged_by_themselves():
    layers = {3: with_sinks_at(), 7: with_sinks_at(0, 1), 11: with_sinks_at(0, 1, 5)}
    assert {layer: found(sample) for layer, sample in layers.items()} == {3: [0], 7: [0, 1], 11: [0, 1, 5]}


@pytest.mark.parametrize(
    ("factor", "dims", "is_sink"),
    [(1.05, 1, True), (1.05, 3, True), (0.95, 1, False), (10.0, 12, False), (10.0, 64, False)],
)
def test_norm_and_share_both_count(factor, dims, is_sink):
    """A token with all of its energy in some dimensions, as large as where a massive norm begins, times a factor."""
    sample = np.ones((9, 64), dtype=np.float32)
    sample[4] = 0.0
    sample[4, :dims] = factor * MASSIVE_NORM * np.sqrt(64 / dims)
    assert found(sample) == ([0, 4] if is_sink else [0])


@pytest.mark.parametrize(("share", "is_sink"), [(0.98, False), (1.02, True)])
def test_half_of_the_energy_is_where_few_dimensions_begin(share, is_sink):
    sample = np.ones((9, 64), dtype=np.float32)
    sample[4] *= 10.0
    rest = 100.0 * (64 - 3)
    share *= MASSIVE_SHARE
    sample[4, :3] = np.sqrt(rest * share / (1 - share) / 3)
    assert found(sample) == ([0, 4] if is_sink else [0])


def test_the_smallest_inputs():
    """A sink by role, a planted one and a single other token: that one is typical."""
    assert found(with_sinks_at(0, 1, tokens=3)) == [0, 1]
    assert found(with_sinks_at(0, 1, tokens=2)) == [0]  # There is no other token to hold it against.
    assert found(with_sinks_at(0, tokens=1)) == [0]
    assert found(np.zeros((0, 64), np.float32), role_codes()) == []


@pytest.mark.parametrize(
    ("planted", "expected", "untypical"), [(12, [0], True), (7, [0], True), (6, [*range(6)], False)]
)
def test_where_most_tokens_are_massive_none_is_and_that_is_counted(planted, expected, untypical):
    sample = with_sinks_at(*range(planted))
    assert found(sample) == expected
    counter = SinkCounter()
    counter.add(sample, roles(), np.arange(12))
    assert counter.counted().untypical == untypical
    assert ("cannot be told there and all tokens count" in counter.counted().described()) == untypical


def test_narrow_states_have_sinks_by_role_alone():
    assert found(with_sinks_at(0, 5, width=LEAST_CHANNELS)) == [0, 5]
    assert found(with_sinks_at(0, 5, width=LEAST_CHANNELS - 1)) == [0]


def test_zeros_and_values_that_are_not_finite_are_no_sinks():
    sample = gaussian(6, 64)
    sample[2, 3], sample[3, 4] = np.nan, np.inf
    assert found(sample) == [0]
    mostly_zero = np.zeros((6, 64), dtype=np.float32)
    mostly_zero[4, 0] = 5.0
    assert found(mostly_zero) == [0]


def test_norms_are_over_that_of_the_typical_token():
    sample = with_sinks_at(0, 5)
    norms = np.linalg.norm(sample.astype(np.float64), axis=1)
    factors = massive_norms(sample, roles())
    typical = np.sort(norms[1:])[5]
    np.testing.assert_allclose(factors[[0, 5]], norms[[0, 5]] / typical)
    assert not factors[[1, 2, 3, 4, *range(6, 12)]].any()


def test_roles_have_to_fit():
    with pytest.raises(ValueError, match="11 roles for 12 tokens"):
        find_sinks(with_sinks_at(), roles(11))


@settings(deadline=None)
@given(states(1, width=40), st.integers(0, 99))
def test_a_scale_and_an_order_of_dimensions_change_nothing(sample, seed):
    order = np.random.default_rng(seed).permutation(40)
    assert found(sample[:, order]) == found(sample)
    magnitudes = np.abs(sample[sample != 0.0])
    if magnitudes.size and 1e-30 < magnitudes.min() <= magnitudes.max() < 1e30:
        assert found(sample * np.float32(4.0)) == found(sample)


def test_half_precision_is_judged_alike():
    sample = with_sinks_at(0, 5)
    bits = (sample.view(np.uint32) >> 16).astype(np.uint16)
    assert found(decode_states(bits, "bfloat16")) == [0, 5]
    assert found(sample.astype(np.float16)) == [0, 5]


def counted(*inputs: tuple[list[int], list[int]]) -> FurtherSinks:
    counter = SinkCounter()
    for positions, ids in inputs:
        counter.add(with_sinks_at(*positions, tokens=12), roles(), np.array(ids + [99] * (12 - len(ids))))
    return counter.counted()


@pytest.mark.parametrize(
    ("inputs", "places", "words"),
    [
        ([([0], [5, 6])], (), "none of 1 inputs has a sink beyond position 0"),
        (
            [([0, 1], [5, 6]), ([0], [5, 6])],
            (SinkPlace(1, 6, 1),),
            "1 of 2 inputs has a sink at position 1",
        ),
        (
            [([0, 1, 2], [5, 6, 7]), ([0, 1], [5, 8, 7]), ([1], [5, 8, 7])],
            (SinkPlace(1, 8, 2), SinkPlace(1, 6, 1), SinkPlace(2, 7, 1)),
            "3 of 3 inputs have a sink beyond position 0 (at position 1 in 3, at position 2 in 1)",
        ),
    ],
)
def test_they_are_counted_and_named(inputs, places, words):
    sinks = counted(*inputs)
    assert sinks.places == places
    assert sinks.described() == words


def corpus(planted: list[tuple[int, ...]]) -> dict[str, HiddenStates]:
    ids = np.arange(12)
    return {
        f"input{n}": HiddenStates(with_sinks_at(*positions, seed=n), "float32", ids, roles(), ids[None])
        for n, positions in enumerate(planted)
    }


@pytest.mark.parametrize("covariance_of", [None, "non_sink", "prompt"])
def test_statistics_of_a_corpus_leave_them_out_and_count_them(covariance_of):
    inputs = corpus([(0,), (0, 1), (0,), (0, 1, 5)])
    measured = measure_corpus(list(inputs), inputs.__getitem__, covariance_of)
    assert measured.sinks == FurtherSinks(4, 2, (SinkPlace(1, 1, 2), SinkPlace(5, 5, 1)))
    left = np.concatenate([one.values[~find_sinks(one.values, one.roles)] for one in inputs.values()])
    assert len(left) == 4 * 11 - 3
    for name in [covariance_of] if covariance_of else ["non_sink", "prompt"]:
        summary = summarize(measured.classes[name])
        assert summary.n == len(left)
        np.testing.assert_allclose(summary.std, left.astype(np.float64).std(axis=0, ddof=1), rtol=1e-6)
        assert summary.std.max() < 10.0
    if covariance_of is None:
        assert measured.classes["all"].n == 48


def test_statistics_without_further_sinks_are_those_by_role():
    inputs = corpus([(0,), (0,)])
    measured = measure_corpus(list(inputs), inputs.__getitem__, None)
    assert measured.sinks == FurtherSinks(2, 0)
    by_role = np.concatenate([one.values[1:] for one in inputs.values()])
    assert np.array_equal(summarize(measured.classes["non_sink"]).minimum, by_role.min(axis=0))
    assert measured.classes["non_sink"].n == 22


@pytest.mark.parametrize(
    ("classes", "tokens", "sinks"), [(("all", "all"), 12, 3), (("prompt", "prompt"), 9, 0)]
)
def test_the_same_tokens_are_compared_without_the_sinks_of_either(classes, tokens, sinks):
    ids = np.arange(12)
    a = ReadInput(with_sinks_at(0, 1), roles(), ids)
    b = ReadInput(with_sinks_at(0, 5, seed=1), roles(), ids)
    paired = pair_inputs([(a, b)], classes)
    assert (len(paired.a), int(paired.sinks.sum())) == (tokens, sinks)
    rest = [n for n in range(12) if n not in (0, 1, 5)]
    assert np.array_equal(paired.a[~paired.sinks], a.states[rest])
    assert np.array_equal(paired.b[~paired.sinks], b.states[rest])
    assert abs(compare_paired(paired)["flattened_cosine_without_sink"].value) < 0.3
