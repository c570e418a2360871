"""Charts as data: panels, series, labels and units. Those who know what was measured describe a chart; reports draw it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

Scale = Literal["linear", "log", "percent", "category"]
Style = Literal["line", "points", "curve"]
# More names have no room beside each other below a panel.
MOST_SIDE_BY_SIDE = 12


@dataclass(frozen=True)
class Axis:
    """One direction of a panel.

    Attributes:
        label: quantity, with its unit where it has one.
        scale: `percent` shows shares of 0 to 1 in percent; `category` has the positions 0, 1, ... of `names`.
        limits: (lowest, highest), which are always shown; None where the data decide.
        ticks: values that are labelled; none: chosen by the data.
        names: labels of a `category` axis.
    """

    label: str
    scale: Scale = "linear"
    limits: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        label: name in the legend; the same name has the same look on all panels of a chart.
        points: (x, y), x ascending where they are joined.
        intervals: (lowest, highest) of each point; none where they are not known.
        style: `line` joins measured points, `points` does not, `curve` is a formula, without markers.
        labels: text beside each point, the most important first; none: no labels.
    """

    label: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()
    style: Style = "line"
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Level:
    """A value to compare with, such as chance, drawn dashed.

    Attributes:
        label: name in the legend.
        points: (x, y); a single point is drawn over the whole panel.
        series: label of the series that it belongs to and whose colour it has; empty: grey.
    """

    label: str
    points: Sequence[tuple[float, float]]
    series: str = ""


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Values over two axes, as colours.

    Attributes:
        values: (rows, columns), finite; row 0 is the lowest.
        label: quantity and unit, beside the colour scale.
        scale: of the colours.
    """

    values: np.ndarray
    label: str
    scale: Literal["linear", "log"] = "linear"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        x: horizontal axis.
        y: vertical axis; a `category` axis makes a dot plot, with the first name on top and intervals along x.
        series: points and lines.
        levels: what they are compared with.
        title: heading of the panel.
        note: lines below the title, such as how much was counted.
        remark: text in the panel that says why something is not there.
        height: height relative to other panels.
        is_square: whether both axes have the same length and limits.
        map: values as colours, in place of series.
    """

    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    levels: Sequence[Level] = ()
    title: str = ""
    note: Sequence[str] = ()
    remark: str = ""
    height: float = 1.0
    is_square: bool = False
    map: HeatMap | None = None


def dot_plot(panel: Panel) -> Panel:
    """Returns a panel over many categories with the categories from top to bottom instead of from left to right."""
    return replace(
        panel,
        x=panel.y,
        y=panel.x,
        series=[replace(one, points=[(y, x) for x, y in one.points]) for one in panel.series],
        levels=[replace(one, points=[(y, x) for x, y in one.points]) for one in panel.levels],
        height=0.2 + 0.045 * len(panel.x.names),
    )


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        title: what is measured.
        subtitle: lines below the title.
        panels: at least one, row by row.
        columns: panels in a row; None: by their number.
        footer: paragraphs at the bottom, such as how intervals were made.
    """

    title: str
    subtitle: Sequence[str]
    panels: Sequence[Panel]
    columns: int | None = None
    footer: Sequence[str] = field(default=())
