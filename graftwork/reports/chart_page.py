"""What is on a chart: panels of lines over one quantity, shares with intervals.

The interface between those who know what was measured and `charts`, which draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        label: What it is.
        points: (x, share, low, high), shares and the ends of their intervals 0 to 1; x ascending.
        chance: (x, share) of the level that chance would give.
        chance_label: What that level is called where another line has another.
    """

    label: str
    points: Sequence[tuple[float, float, float, float]]
    chance: Sequence[tuple[float, float]] = ()
    chance_label: str = "chance"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Of the panel.
        note: Lines below the title, such as how much was counted.
        series: Up to two lines, always in the same order, as their place gives the colour; those without points too.
        remark: Written where lines would be, or beside them: why something is not there.
    """

    title: str
    note: Sequence[str]
    series: Sequence[Series]
    remark: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        title: What is measured.
        subtitle: Lines below it.
        x_label: Of every panel.
        y_label: Of every panel; shares are shown in percent.
        x_values: Where there are data, for the ticks.
        panels: At least one.
        strip: (label, [(x, value)]), a small panel below a single one: values of 0 to 1 over the same x.
        footer: Lines at the bottom.
    """

    title: str
    subtitle: Sequence[str]
    x_label: str
    y_label: str
    x_values: Sequence[float]
    panels: Sequence[Panel]
    strip: tuple[str, Sequence[tuple[float, float]]] | None = None
    footer: Sequence[str] = ()
