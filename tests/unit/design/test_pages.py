"""Pages of grids: how many there are, and their names."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from graftwork.design.cells import Grid
from graftwork.design.pages import page_names

axes_of_lengths = st.lists(st.integers(1, 4), min_size=2, max_size=5)


def axes(lengths):
    return {f"axis{n}": length for n, length in enumerate(lengths)}


@given(axes_of_lengths, st.booleans())
def test_pages_cover_every_combination_once(lengths, with_y):
    grid = Grid("axis0", "axis1" if with_y else None)
    pages = page_names(axes(lengths), [grid])
    rest = lengths[2:] if with_y else lengths[1:]
    assert len(pages) == math.prod(rest)
    fixed = [tuple(page.fixed.items()) for page in pages.values()]
    assert len(set(fixed)) == len(fixed)
    assert {tuple(v for _, v in items) for items in fixed} == set(itertools.product(*map(range, rest)))
    assert list(pages) == sorted(pages)


def test_names_of_pages():
    three = axes([2, 3, 1])
    assert list(page_names(three, [Grid("axis0", "axis1")])) == ["axis0_by_axis1"]
    assert list(page_names(three, [Grid("axis0", "axis2")])) == [f"axis0_by_axis2_00{n}" for n in (1, 2, 3)]
    assert list(page_names(three, [Grid("axis1", None)])) == ["axis1_001", "axis1_002"]
    assert page_names(three, []) == {}
    both = page_names(three, [Grid("axis0", "axis1"), Grid("axis1", "axis0")])
    assert list(both) == ["axis0_by_axis1", "axis1_by_axis0"]
