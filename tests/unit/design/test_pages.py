"""Pages of grids: how many there are, and their names."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from graftwork.design.cells import Grid
from graftwork.design.pages import MOST_COLUMNS, MOST_ROWS, first_pages, page_names

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


@given(st.integers(1, 200), st.integers(1, 200))
def test_every_place_of_a_grid_is_on_one_page(columns, rows):
    pages = page_names({"x": columns, "y": rows}, [Grid("x", "y")]).values()
    places = [place for page in pages for place in itertools.product(range(*page.rows), range(*page.columns))]
    assert len(places) == columns * rows
    assert set(places) == set(itertools.product(range(rows), range(columns)))
    assert all(page.rows[1] - page.rows[0] <= MOST_ROWS for page in pages)
    assert all(page.columns[1] - page.columns[0] <= MOST_COLUMNS for page in pages)


def test_long_axes_are_cut_into_equal_parts():
    assert [page.rows for page in page_names({"x": 3, "y": 60}, [Grid("x", "y")]).values()] == [
        (0, 20),
        (20, 40),
        (40, 60),
    ]
    assert list(page_names({"x": 3, "y": 24}, [Grid("x", "y")])) == ["x_by_y"]
    pages = page_names({"x": 25, "y": 2, "seed": 2}, [Grid("x", "y")])
    assert [(page.fixed["seed"], page.columns) for page in pages.values()] == [
        (0, (0, 12)),
        (0, (12, 25)),
        (1, (0, 12)),
        (1, (12, 25)),
    ]
    assert [page.rows for page in page_names({"x": 2}, [Grid("x", None)]).values()] == [(0, 1)]


def test_which_pages_are_drawn_first():
    lengths = {"x": 2, "y": 2, "seed": 3}
    assert first_pages(lengths, [Grid("x", "y")]) == ["x_by_y_001"]
    assert first_pages(lengths, [Grid("x", "y", 2), Grid("y", "x", 0)]) == ["x_by_y_001", "x_by_y_002"]
    assert first_pages(lengths, [Grid("x", "y", None)]) == list(page_names(lengths, [Grid("x", "y")]))
    assert first_pages(lengths, [Grid("x", "y", 9)]) == list(page_names(lengths, [Grid("x", "y")]))
