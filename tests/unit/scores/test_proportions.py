"""Wilson intervals, and what repeated observations are worth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scores.proportions import effective_number, wilson_interval

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
