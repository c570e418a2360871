"""Intervals of shares and of means, and what repeated observations are worth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scores.intervals import (
    adjust_by_holm,
    bootstrap_interval,
    effective_number,
    share_interval,
    sign_flip_p,
    wilson_interval,
)

SHARES = st.floats(0, 1)
NUMBERS = st.floats(0.5, 1e6)


@pytest.mark.parametrize(
    ("follows", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(follows, n, low, high):
    assert wilson_interval(follows / n, n) == pytest.approx((low, high), abs=5e-5)


@given(SHARES, NUMBERS)
def test_an_interval_holds_the_share_and_stays_within_0_and_1(share, n):
    low, high = wilson_interval(share, n)
    assert 0 <= low <= high <= 1
    assert low <= share + 1e-12
    assert share <= high + 1e-12


@given(SHARES, NUMBERS)
def test_the_ends_solve_the_equation_of_the_score_test(share, n):
    """|p - share| = z * sqrt(p (1 - p) / n) at both ends."""
    for end in wilson_interval(share, n, z=1.5):
        assert abs(end - share) == pytest.approx(1.5 * math.sqrt(end * (1 - end) / n), abs=1e-6)


@given(SHARES, NUMBERS)
def test_intervals_mirror_and_shrink(share, n):
    low, high = wilson_interval(share, n)
    assert wilson_interval(1 - share, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    low_more, high_more = wilson_interval(share, 2 * n)
    assert high_more - low_more < high - low


@pytest.mark.parametrize(("share", "n"), [(1.1, 5), (-0.1, 5), (0.5, 0), (0.5, -1), (math.nan, 5)])
def test_what_is_no_share_is_refused(share, n):
    with pytest.raises(ValueError, match=r"share|at least one"):
        wilson_interval(share, n)


@given(st.sets(st.integers(), min_size=1), st.integers(1, 9))
def test_equal_repetitions_count_once(units, times):
    assert effective_number([*units] * times) == pytest.approx(len(units))


@given(st.lists(st.integers(0, 5), min_size=1))
def test_repetitions_are_worth_something_between_one_and_all(units):
    worth = effective_number(units)
    assert 1 <= worth <= len(set(units)) + 1e-9 <= len(units) + 1e-9


def test_unequal_repetitions_are_worth_less_than_the_units():
    assert effective_number("aaab") == pytest.approx(16 / 10)
    assert effective_number([]) == 0


def test_the_bootstrap_resamples_units_and_not_observations():
    """Seeds of a prompt that all say the same add nothing."""
    once = bootstrap_interval([0.0, 1.0, 0.5, 0.2], "abcd")
    many = bootstrap_interval([0.0, 1.0, 0.5, 0.2] * 10, "abcd" * 10)
    assert once == pytest.approx(many, abs=1e-12)
    independent = bootstrap_interval([0.0, 1.0, 0.5, 0.2] * 10, range(40))
    assert independent[1] - independent[0] < 0.5 * (many[1] - many[0])


def test_the_bootstrap_has_an_exact_distribution_for_two_units():
    """Two prompts of 0 and 1: the mean of a resample is 0, 0.5 or 1, each end in a quarter of them."""
    assert bootstrap_interval([0.0, 1.0], "ab") == (0.0, 1.0)
    assert bootstrap_interval([2.0, 2.0, 2.0], "abc") == (2.0, 2.0)


def test_units_of_different_sizes_count_by_their_observations():
    """A resample of the large unit alone has its mean, and so has one of the small unit."""
    low, high = bootstrap_interval([0.0] * 9 + [1.0], "a" * 9 + "b")
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize("units", ["", "a", "aaa"])
def test_one_unit_has_no_interval(units):
    assert bootstrap_interval([1.0] * len(units), units) is None


def test_the_bootstrap_is_repeatable_and_does_not_need_memory_for_all_resamples(monkeypatch):
    values, units = list(np.random.default_rng(0).normal(size=60)), [number // 3 for number in range(60)]
    found = bootstrap_interval(values, units)
    assert bootstrap_interval(values, units) == found
    monkeypatch.setattr("graftwork.scores.intervals._MOST_VALUES", 50)
    assert bootstrap_interval(values, units) == found


def test_about_95_in_100_intervals_hold_the_mean():
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        prompts = random.normal(size=40)
        values = np.repeat(prompts, 3) + 0.5 * random.normal(size=120)
        low, high = bootstrap_interval(list(values), [number // 3 for number in range(120)])
        held += low <= 0 <= high
    assert 180 <= held <= 198


def test_a_share_has_the_interval_of_its_prompts():
    follows, prompts = [1, 1, 0, 0, 1, 0], "aabbcc"
    assert share_interval(follows, prompts, range(6)) == bootstrap_interval(follows, prompts)
    # Prompts that agree: three observations; a single prompt: as many as it has different images.
    assert share_interval([1] * 6, prompts, range(6)) == wilson_interval(1.0, 3)
    assert share_interval([1] * 6, "aaaaaa", "xxxyyy") == wilson_interval(1.0, 2)


def test_flipped_signs_have_an_exact_distribution():
    """Of 2^5 choices of signs, all and none give the largest sum; seeds of a prompt flip together."""
    assert sign_flip_p([1.0, 2.0, 3.0, 1.0, 2.0], "abcde") == 2 / 32
    assert sign_flip_p([1.0, 2.0, 3.0, 1.0, 2.0] * 9, "abcde" * 9) == 2 / 32
    assert sign_flip_p([1.0, -1.0], "ab") == 1.0
    assert sign_flip_p([1.0, 1.0], "aa") is None


def test_many_units_are_drawn_and_never_give_0():
    p = sign_flip_p([1.0] * 40, range(40))
    assert 0 < p < 0.001
    random = np.random.default_rng(3)
    found = [sign_flip_p(list(random.normal(size=20)), range(20)) for _ in range(100)]
    assert 0.3 < np.mean(found) < 0.7


def test_holm():
    # The smallest counts as often as there are p-values, the next once less; the order is kept, and 1 is the limit.
    assert adjust_by_holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])
    assert adjust_by_holm([0.6, 0.9]) == [1.0, 1.0]
    assert adjust_by_holm([]) == []
