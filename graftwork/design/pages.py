"""Which pages an experiment's grids have: they follow from its axes, so that they are known before there is an image."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from graftwork.design.cells import Grid

# A page of so many rows and columns can be drawn whatever its labels, and be looked at without getting lost.
MOST_ROWS = 24
MOST_COLUMNS = 24


@dataclass(frozen=True)
class Page:
    """One page of a grid.

    Attributes:
        x: axis of the columns.
        y: axis of the rows; None for a single row.
        fixed: axis -> index of the value that it has on this page, for the axes that the grid does not show.
        columns: first index of a value of x, and the one after the last.
        rows: the same of y; (0, 1) for a single row.
    """

    x: str
    y: str | None
    fixed: Mapping[str, int]
    columns: tuple[int, int]
    rows: tuple[int, int]


def page_names(lengths: Mapping[str, int], grids: Iterable[Grid]) -> dict[str, Page]:
    """Returns name -> page: one for each combination of the axes that a grid does not show, and of parts of long axes.

    Args:
        lengths: axis -> how many values it has, in the order of the experiment.
        grids: grids of the experiment.
    """
    return {name: page for grid in grids for name, page in _pages_of(lengths, grid)}


def first_pages(lengths: Mapping[str, int], grids: Iterable[Grid]) -> list[str]:
    """Returns the names of the pages that are drawn without being asked for, as many of each grid as it says.

    Args:
        lengths: axis -> how many values it has, in the order of the experiment.
        grids: grids of the experiment.
    """
    return [name for grid in grids for name, _ in itertools.islice(_pages_of(lengths, grid), grid.pages)]


def _pages_of(lengths: Mapping[str, int], grid: Grid) -> Iterator[tuple[str, Page]]:
    x, y = grid.x, grid.y
    rest = [axis for axis in lengths if axis not in (x, y)]
    combinations = itertools.product(*(range(lengths[axis]) for axis in rest))
    columns, rows = _parts(lengths[x], MOST_COLUMNS), _parts(lengths[y] if y else 1, MOST_ROWS)
    several = math.prod(lengths[axis] for axis in rest) * len(columns) * len(rows) > 1
    name = x if y is None else f"{x}_by_{y}"
    for number, (combination, row, column) in enumerate(
        itertools.product(combinations, rows, columns), start=1
    ):
        page = Page(x, y, dict(zip(rest, combination, strict=True)), column, row)
        yield (f"{name}_{number:03d}" if several else name), page


def _parts(length: int, most: int) -> list[tuple[int, int]]:
    """Cuts so many values into parts of about the same length: (first, one after the last)."""
    count = math.ceil(length / most)
    ends = [round(length * part / count) for part in range(count + 1)]
    return list(itertools.pairwise(ends))
