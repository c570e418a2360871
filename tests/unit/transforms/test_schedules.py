"""Schedules of alpha: the formulas, their ends, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.transforms.schedules import AlphaSchedule, alpha_at, alphas_of_steps

KINDS = ("constant", "linear", "cosine", "step", "peak_early", "points")
shares = st.floats(0, 1)


def schedule(kind: str, **changes) -> AlphaSchedule:
    if kind == "points":
        changes = {"points": [[0.0, 1.0], [0.3, 0.5], [1.0, 0.0]], **changes}
    return AlphaSchedule(kind=kind, **changes)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8, 0.8]),
        ("linear", [0.8, 0.65, 0.5, 0.35, 0.2]),
        ("cosine", [0.8, 0.5 + 0.3 * math.sqrt(0.5), 0.5, 0.5 - 0.3 * math.sqrt(0.5), 0.2]),
        ("step", [0.8, 0.8, 0.2, 0.2, 0.2]),
        ("peak_early", [0.8 * math.exp(-3 * p) for p in (0, 0.25, 0.5, 0.75, 1)]),
    ],
)
def test_the_formulas(kind, expected):
    values = alphas_of_steps(schedule(kind, maximum=0.8, minimum=0.2), 5)
    assert values == pytest.approx(expected, abs=1e-11)


def test_points_are_joined_by_lines_and_hold_outside():
    points = AlphaSchedule(kind="points", points=[[0.25, 1.0], [0.5, 0.2], [0.75, 0.4]])
    found = [alpha_at(points, p) for p in (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)]
    assert found == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.3, 0.4, 0.4])


@given(st.sampled_from(KINDS), shares, shares, shares, st.integers(1, 60))
def test_alpha_stays_from_0_to_1(kind, high, low, break_at, steps):
    chosen = schedule(kind, maximum=high, minimum=low, break_at=break_at)
    values = alphas_of_steps(chosen, steps)
    assert len(values) == steps
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values == alphas_of_steps(chosen, steps)


@given(shares, shares, st.integers(2, 60))
def test_the_ends(high, low, steps):
    for kind in ("linear", "cosine"):
        values = alphas_of_steps(schedule(kind, maximum=high, minimum=low), steps)
        assert values[0] == pytest.approx(high, abs=1e-11)
        assert values[-1] == pytest.approx(low, abs=1e-11)


@given(st.sampled_from(KINDS), st.integers(2, 60))
def test_every_kind_falls_by_default(kind, steps):
    values = alphas_of_steps(schedule(kind), steps)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_the_first(kind):
    assert alphas_of_steps(schedule(kind, maximum=0.7), 1) == [1.0 if kind == "points" else 0.7]


def test_over_sigma_the_seeds_high_alpha_from_1_to_0_7():
    """The scheduler's own list ends in a 0 that no step is taken at."""
    early = AlphaSchedule(kind="step", over="sigma", break_at=0.3, maximum=0.9, minimum=0.1)
    sigmas = [1.0, 0.9, 0.75, 0.69, 0.3, 0.0]
    assert alphas_of_steps(early, 5, sigmas) == [0.9, 0.9, 0.9, 0.1, 0.1]
    assert alphas_of_steps(early, 5, sigmas[:5]) == [0.9, 0.9, 0.9, 0.1, 0.1]


@given(st.sampled_from(KINDS), st.integers(2, 30))
def test_evenly_spaced_sigmas_are_steps(kind, steps):
    sigmas = [1.0 - step / (steps - 1) for step in range(steps)]
    over_sigma = alphas_of_steps(schedule(kind, over="sigma", break_at=0.37), steps, sigmas)
    assert over_sigma == pytest.approx(alphas_of_steps(schedule(kind, break_at=0.37), steps), abs=1e-9)


@pytest.mark.parametrize("sigmas", [None, [1.0], [1.0, 0.5, 0.2, 0.0, 0.0]])
def test_sigmas_that_do_not_fit_are_refused(sigmas):
    with pytest.raises(ValueError, match="one sigma for each of 3 steps"):
        alphas_of_steps(schedule("linear", over="sigma"), 3, sigmas)


def test_sigmas_of_another_parametrization_are_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        alphas_of_steps(schedule("linear", over="sigma"), 2, [14.6, 0.03])


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="0 steps"):
        alphas_of_steps(schedule("constant"), 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sawtooth"},
        {"maximum": 1.1},
        {"minimum": -0.1},
        {"over": "time"},
        {"kind": "points"},
        {"kind": "linear", "points": [[0.0, 1.0]]},
        {"kind": "points", "points": []},
        {"kind": "points", "points": [[0.0, 1.0], [0.0, 0.5]]},
        {"kind": "points", "points": [[0.5, 1.0], [0.25, 0.5]]},
        {"kind": "points", "points": [[0.0, 1.5]]},
        {"kind": "points", "points": [[0.0, 1.0, 1.0]]},
        {"steps": 3},
    ],
)
def test_schedules_that_are_refused(wrong):
    with pytest.raises(ValidationError):
        AlphaSchedule.model_validate(wrong)


def test_equal_numbers_are_equal_however_they_came_about():
    linear = alphas_of_steps(schedule("linear", maximum=0.9, minimum=0.3), 7)
    assert linear == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
