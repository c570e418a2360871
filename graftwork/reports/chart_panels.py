"""One pair of axes of a chart: lines, intervals, levels of chance, and words where there is nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from graftwork.reports.chart_page import Chart, Panel
from graftwork.reports.chart_text import wrap_lines
from graftwork.reports.typography import clean_text

# Okabe and Ito's palette, which people with any kind of colour vision can tell apart; blue and vermilion differ in
# lightness too. Markers differ besides.
PALETTE = (("#0072B2", "o"), ("#D55E00", "s"))
PALE = "#666666"
DASHES = (0, (4, 3))
_GRID = "#E3E3E3"
# Points.
_REMARK_SIZE = 9
_NOTE_POINTS = 12.5
_MOST_TICKS = 6


def draw_panel(axes: Any, panel: Panel, chart: Chart, single: bool, is_left: bool, is_lowest: bool) -> None:
    """Draws a panel.

    Args:
        axes: Empty ones of matplotlib.
        panel: What is on it.
        chart: What all panels share.
        single: The only panel: its lines are labelled where they end.
        is_left: In the first column, which has the labels of y.
        is_lowest: The last of its column, which has the label of x.
    """
    span = (max(chart.x_values) - min(chart.x_values)) or 1.0
    _set_up_axes(axes, chart.x_values, span)
    axes.set_ylim(-3, 103)
    axes.set_yticks(range(0, 101, 25), [f"{tick} %" if is_left else "" for tick in range(0, 101, 25)])
    if is_left:
        axes.set_ylabel(chart.y_label)
    if is_lowest:
        axes.set_xlabel(chart.x_label)
    # Upwards from the axes: the last line of the note first, the title on top, at one height in all panels.
    unused = max(len(each.note) for each in chart.panels) - len(panel.note)
    above = [(line, {"size": 8.5, "color": PALE}) for line in [*[""] * unused, *reversed(panel.note)]]
    above.append((panel.title, {"size": 10.5, "weight": "bold"}))
    for number, (text, look) in enumerate(above):
        at = (0, 7 + _NOTE_POINTS * number)
        axes.annotate(clean_text(text), (0, 1), at, "axes fraction", "offset points", **look)
    ends = []
    for place, (series, (colour, marker)) in enumerate(zip(panel.series, PALETTE, strict=False)):
        if not series.points:
            continue
        # Side by side, so that one interval does not hide the other.
        shift = (place - (len(panel.series) - 1) / 2) * 0.016 * span
        x = np.array([point[0] for point in series.points]) + shift
        y, low, high = (100 * np.array([point[i] for point in series.points]) for i in (1, 2, 3))
        axes.vlines(x, low, high, colors=colour, linewidth=1.6, alpha=0.55, zorder=3)
        axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.6, zorder=4)
        axes.plot(
            x, y, marker, color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.7, zorder=5
        )
        ends.append((float(y[-1]), series.label, colour))
    ends += _draw_chance(axes, panel, chart.x_values)
    if single:
        _label_ends(axes, ends)
    if panel.remark:
        has_points = any(series.points for series in panel.series)
        inches = axes.get_position().width * axes.figure.get_figwidth()
        axes.text(
            0.5,
            _emptiest_height(panel) if has_points else 0.5,
            "\n".join(wrap_lines([panel.remark], _REMARK_SIZE, 0.7 * inches)),
            transform=axes.transAxes,
            ha="center",
            va="center",
            size=_REMARK_SIZE,
            color=PALE,
            zorder=2.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )


def _emptiest_height(panel: Panel) -> float:
    """Returns the height, 0 to 1, that is farthest from anything drawn in a panel."""
    taken = [share for series in panel.series for point in series.points for share in point[1:]]
    taken += [share for series in panel.series for _, share in series.chance]
    return max((0.88, 0.5, 0.7, 0.3, 0.12), key=lambda height: min(abs(height - share) for share in taken))


def _draw_chance(axes: Any, panel: Panel, x_values: Sequence[float]) -> list[tuple[float, str, str]]:
    """Draws one line where the levels of all series agree to a percent, else one for each; returns their labels."""
    lines = [
        (series, colour) for series, (colour, _) in zip(panel.series, PALETTE, strict=False) if series.chance
    ]
    levels = [share for series, _ in lines for _, share in series.chance]
    if not levels:
        return []
    if max(levels) - min(levels) < 0.01:
        level = 100 * sum(levels) / len(levels)
        axes.axhline(level, color=PALE, linewidth=1.1, linestyle=DASHES, zorder=2)
        return [(level, "chance", PALE)]
    ends = []
    for series, colour in lines:
        x, y = np.array(series.chance).T
        if len(x) == 1:
            x, y = np.array([min(x_values), max(x_values)]), np.repeat(y, 2)
        axes.plot(x, 100 * y, color=colour, linewidth=1.1, linestyle=DASHES, alpha=0.8, zorder=2)
        ends.append((float(100 * y[-1]), series.chance_label, colour))
    return ends


def _label_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes each label at the height where its line ends, moved apart where they would overlap."""
    least = 7.0
    placed = sorted(ends)
    heights = [y for y, _, _ in placed]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + least)
    # What was pushed beyond the top pushes the others down.
    limit = 101.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], limit)
        limit = heights[i] - least
    for y, (_, label, colour) in zip(heights, placed, strict=True):
        axes.annotate(
            clean_text(label),
            (1, y),
            (6, 0),
            ("axes fraction", "data"),
            "offset points",
            va="center",
            size=10,
            color=colour,
            annotation_clip=False,
        )


def draw_strip(axes: Any, chart: Chart) -> None:
    """Draws the strip of a chart that has one on empty axes."""
    assert chart.strip is not None
    label, points = chart.strip
    span = (max(chart.x_values) - min(chart.x_values)) or 1.0
    _set_up_axes(axes, chart.x_values, span)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel(chart.x_label)
    if points:
        x, y = np.array(points).T
        axes.plot(x, y, "D-", color=PALE, linewidth=1.2, markersize=4, markeredgecolor="white", zorder=4)
        axes.annotate(
            "\n".join(wrap_lines([label], _REMARK_SIZE, 1.7)),
            (1, y[-1]),
            (6, 0),
            ("axes fraction", "data"),
            "offset points",
            va="center",
            size=9,
            color=PALE,
            annotation_clip=False,
        )
    else:
        axes.text(
            0.5,
            0.5,
            "no image was read",
            transform=axes.transAxes,
            ha="center",
            va="center",
            size=9,
            color=PALE,
        )


def _set_up_axes(axes: Any, x_values: Sequence[float], span: float) -> None:
    margin = 0.06 * span if len(x_values) > 1 else 0.5
    axes.set_xlim(min(x_values) - margin, max(x_values) + margin)
    ticks = x_values[:: -(-len(x_values) // _MOST_TICKS)]
    axes.set_xticks(list(ticks), [f"{x:.3g}" for x in ticks])
    axes.grid(axis="y", color=_GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
