"""Classes of dimensions, and the worst of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graftwork.statistics.dimensions import (
    DimensionLimits,
    compare_dimensions,
    dead_dimensions,
    hyperactive_dimensions,
    std_ratio,
    worst_dimensions,
)

stds = arrays.arrays(np.float32, 12, elements=st.one_of(st.just(0.0), st.floats(0, 1e4, width=32)))

A = np.array([1.0, 0.005, 0.005, 1.0, 90.0, 50.0, 1.0, 4.0, 1.0, 0.0], dtype=np.float32)
B = np.array([1.0, 0.005, 1.0, 0.005, 80.0, 2.0, 60.0, 1.0, 2.9, 0.0], dtype=np.float32)


def test_by_example():
    found = compare_dimensions(A, B)
    assert found.dead.common.tolist() == [1, 9]
    assert found.dead.only_a.tolist() == [2]
    assert found.dead.only_b.tolist() == [3]
    assert found.hyperactive.common.tolist() == [4]
    assert found.hyperactive.only_a.tolist() == [5]
    assert found.hyperactive.only_b.tolist() == [6]
    assert found.outlier.only_a.tolist() == [3, 5, 7]
    assert found.outlier.only_b.tolist() == [2, 6]
    assert found.outlier.common.tolist() == []
    assert found.label_a.tolist() == [
        *("normal", "dead", "dead", "outlier", "hyperactive", "hyperactive"),
        *("outlier", "outlier", "normal", "dead"),
    ]
    assert found.label_b.tolist() == [
        *("normal", "dead", "outlier", "dead", "hyperactive", "outlier"),
        *("hyperactive", "outlier", "normal", "dead"),
    ]
    assert math.isnan(found.ratio[9])


def test_limits_are_not_reached_by_equality():
    std = np.array([1.0, 1.0, 5.0, 0.01])
    assert not hyperactive_dimensions(std).any()
    assert not dead_dimensions(std).any()
    assert not compare_dimensions(np.array([3.0, 1.0]), np.array([1.0, 3.0])).outlier.only_a.size
    assert hyperactive_dimensions(np.array([1.0, 1.0, 5.1])).tolist() == [False, False, True]


def test_limits_are_parameters():
    limits = DimensionLimits(dead_std=2.0, hyperactive_factor=1.5, outlier_ratio=1.1)
    assert dead_dimensions(np.array([1.9, 2.0]), limits).tolist() == [True, False]
    assert hyperactive_dimensions(np.array([1.0, 1.0, 1.6]), limits).tolist() == [False, False, True]
    assert compare_dimensions(np.array([1.2, 1.0]), np.array([1.0, 1.2]), limits).outlier.only_b.tolist() == [
        1
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("dead_std", 0.0), ("hyperactive_factor", 1.0), ("outlier_ratio", 0.5), ("outlier_ratio", float("inf"))],
)
def test_limits_that_mean_nothing(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it has to be a finite number above"):
        DimensionLimits(**{name: value})


@given(stds, stds)
def test_exchanging_sides_exchanges_the_result(a, b):
    one, other = compare_dimensions(a, b), compare_dimensions(b, a)
    for kind in ("dead", "hyperactive", "outlier"):
        assert getattr(one, kind).only_a.tolist() == getattr(other, kind).only_b.tolist()
        assert getattr(one, kind).common.tolist() == getattr(other, kind).common.tolist()
    assert one.label_a.tolist() == other.label_b.tolist()
    worst, exchanged = worst_dimensions(a, b, 5), worst_dimensions(b, a, 5)
    factors = [found.factor for found in worst]
    assert factors == pytest.approx([found.factor for found in exchanged])
    swap = {"a": "b", "b": "a", "equal": "equal"}
    if len(set(factors)) == len(factors):
        assert [(one.dim, swap[one.larger]) for one in worst] == [(one.dim, one.larger) for one in exchanged]


@given(stds, stds, st.permutations(range(12)))
def test_dimensions_are_classified_apart(a, b, order):
    one, other = compare_dimensions(a, b), compare_dimensions(a[order], b[order])
    assert one.label_a[order].tolist() == other.label_a.tolist()
    assert one.label_b[order].tolist() == other.label_b.tolist()
    for kind in ("dead", "hyperactive", "outlier"):
        for side in ("only_a", "only_b", "common"):
            moved = sorted(order.index(dim) for dim in getattr(getattr(one, kind), side).tolist())
            assert moved == getattr(getattr(other, kind), side).tolist()


@given(stds, stds, st.integers(0, 15))
def test_the_worst_are_the_worst(a, b, count):
    worst = worst_dimensions(a, b, count)
    with np.errstate(all="ignore"):
        every = np.abs(np.log(a.astype(np.float64)) - np.log(b.astype(np.float64)))
    defined = np.sort(every[~np.isnan(every)])[::-1]
    assert [math.log(one.factor) for one in worst] == pytest.approx(defined[:count].tolist(), abs=1e-9)
    for one in worst:
        assert (one.std_a, one.std_b) == (float(a[one.dim]), float(b[one.dim]))
        larger = "equal" if one.std_a == one.std_b else "a" if one.std_a > one.std_b else "b"
        assert one.larger == larger
    assert [one.dim for one in worst] == [one.dim for one in sorted(worst, key=lambda x: (-x.factor, x.dim))]


def test_a_dimension_that_is_dead_on_one_side_is_the_worst():
    worst = worst_dimensions(np.array([9.0, 0.0, 0.0, 2.0]), np.array([1.0, 1.0, 0.0, 2.0]), 9)
    assert [(one.dim, one.factor, one.larger) for one in worst] == [
        (1, math.inf, "b"),
        (0, 9.0, "a"),
        (3, 1.0, "equal"),
    ]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\).*same width"):
        std_ratio(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="-1 worst dimensions"):
        worst_dimensions(np.ones(3), np.ones(3), -1)
