"""Which pages an experiment's grids have: they follow from its axes."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graftwork.design.cells import Grid


@dataclass(frozen=True)
class Page:
    """One page of a grid.

    Attributes:
        x: axis of the columns.
        y: axis of the rows; None for a single row.
        fixed: axis -> index of the value that it has on this page, for the axes that the grid does not show.
    """

    x: str
    y: str | None
    fixed: Mapping[str, int]


def page_names(lengths: Mapping[str, int], grids: Iterable[Grid]) -> dict[str, Page]:
    """Returns name -> page, one page per combination of the axes that a grid does not show.

    Args:
        lengths: axis -> how many values it has, in the order of the experiment.
        grids: grids of the experiment.
    """
    pages = {}
    for grid in grids:
        x, y = grid.x, grid.y
        rest: Sequence[str] = [axis for axis in lengths if axis not in (x, y)]
        combinations = list(itertools.product(*(range(lengths[axis]) for axis in rest)))
        name = x if y is None else f"{x}_by_{y}"
        for number, combination in enumerate(combinations, start=1):
            page = name if len(combinations) == 1 else f"{name}_{number:03d}"
            pages[page] = Page(x, y, dict(zip(rest, combination, strict=True)))
    return pages
