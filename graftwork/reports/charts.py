"""Draws charts with matplotlib, in one style.

Equal charts give equal bytes on one machine: default settings of the library instead of the user's, and no time and no version
in the file. Texts that the bundled font has are drawn with it alone; fonts of the machine are for characters that it lacks. matplotlib is imported when a chart is drawn, because that takes a second. Colours
are those of Okabe and Ito, "Color Universal Design" (2008), and the colour map is cividis (Nunez et al. 2018): both can be
told apart with any kind of colour vision, and series differ in marker or line too.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from graftwork.core.charts import Axis, Chart, HeatMap, Level, Panel, Series
from graftwork.core.png import encode_png
from graftwork.reports.typography import (
    FONT_FOLDER,
    REPLACEMENT,
    clean_text,
    is_bundled,
    load_font,
    tell_apart,
    undrawable,
    wrap_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
_CURVES = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_INK, _PALE, _RULE = "#222222", "#666666", "#E3E3E3"
_DASHES = (0, (4, 3))
# Lines of levels but chance, in the order in which a chart has them: two of one grey are told apart.
_LEVELS = ((0, (1, 1.2)), (0, (7, 2, 1, 2)), (0, (2.5, 1.2)), (0, (9, 3)))
# Sizes of text in points.
_TITLE, _SUBTITLE, _FOOTER, _LABEL, _NOTE = 13, 9.5, 8, 9, 8.5
# Inches: margin of the page, distance of two lines for a point of text and in the legend, sizes of panels.
_MARGIN, _LEADING, _LEGEND_LINE = 0.25, 1.35 / 72, 0.21
_SINGLE_WIDTH, _PANEL_WIDTH = 8.6, 3.9
_SINGLE_HEIGHT, _PANEL_HEIGHT = 4.2, 2.7
_MOST_COLUMNS, _MOST_TICKS = 3, 8
# Letters of a name below and beside a panel.
_LONGEST_NAME, _LONGEST_ROW = 24, 48
# Kinds of characters that a note on what cannot be drawn names.
_MOST_NAMED = 5
# Series are moved apart by this share of the width, so that one interval does not hide the other.
_SHIFT = 0.016
# Labels of points: width of a digit and height in points, and how many positions around a point are tried.
_DIGIT_WIDTH, _LABEL_RINGS = 5.4, 12
# Labels keep off markers of this many points across, where a panel has few enough of them.
_MARKER, _MOST_MARKERS = 6.0, 50
_SETTINGS = {
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _PALE,
    "axes.linewidth": 0.8,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": _PALE,
    "ytick.color": _PALE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.labelsize": _LABEL,
    "ytick.labelsize": _LABEL,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.dpi": DPI,
}


def chart_png(chart: Chart) -> bytes:
    """Returns a chart as PNG."""
    return encode_png(draw_chart(chart))


def draw_chart(chart: Chart) -> np.ndarray:
    """Draws a chart.

    Returns:
        Pixels, uint8 (height, width, 3).

    Raises:
        ValueError: where a panel has points that its axes cannot show, naming the panel.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for panel in chart.panels:
        _check(panel)
    defaults = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")
    }
    families = _families(_other_fonts("".join(_texts(chart))))
    with matplotlib.rc_context({**defaults, **_SETTINGS, "font.family": families}):
        figure = _compose(with_note_on_glyphs(chart))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def with_note_on_glyphs(chart: Chart) -> Chart:
    """Returns the chart with a note in its footer, where some of its text cannot be drawn."""
    lacking = undrawable(_texts(chart), is_for_plots=True)
    if not lacking:
        return chart
    note = (
        f"{REPLACEMENT} stands for characters that no font of this machine has as outlines ({', '.join(lacking[:_MOST_NAMED])}); tables "
        f"have the text. A font, such as the package fonts-noto-cjk, draws letters. Plots have no emoji in colour."
    )
    return replace(chart, footer=[*chart.footer, note])


def _texts(chart: Chart) -> list[str]:
    texts = [chart.title, *chart.subtitle, *chart.footer]
    for panel in chart.panels:
        texts += [panel.title, *panel.note, panel.remark, panel.x.label, panel.y.label]
        texts += [*panel.x.names, *panel.y.names, *(level.label for level in panel.levels)]
        texts += [text for series in panel.series for text in (series.label, *series.labels)]
        texts += [panel.map.label] if panel.map is not None else []
    return texts


def _check(panel: Panel) -> None:
    for series in panel.series:
        if series.intervals and len(series.intervals) != len(series.points):
            raise ValueError(
                f"series {series.label!r} has {len(series.points)} points and {len(series.intervals)} intervals"
            )
        for number, axis in enumerate((panel.x, panel.y)):
            if axis.scale == "log" and any(not point[number] > 0 for point in series.points):
                raise ValueError(
                    f"series {series.label!r} has values that are not above 0 on a logarithmic axis"
                )
    if panel.map is not None:
        values = np.asarray(panel.map.values)
        if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
            raise ValueError(f"a map needs finite values (rows, columns), not {values.shape}")


# As matplotlib takes it: where the line begins, and lengths of strokes and gaps.
_Dashes = tuple[int, tuple[float, ...]]


class Look(TypedDict, total=False):
    """Colours and lines of a series, as keyword arguments of matplotlib's `Line2D`."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]
    linewidth: float
    markersize: float


@dataclass(frozen=True)
class _Page:
    """The parts of a figure from top to bottom, in inches: title and subtitle, legend, panels, footer.

    Attributes:
        width: width of the figure.
        columns: panels in a row.
        row_heights: height of each row of panels, relative to the others.
        head: lines of the title and the subtitle.
        foot: lines of the footer.
        legend: label -> look.
        legend_columns: entries of the legend in a row.
        note_lines: most lines of a note above a panel.
    """

    width: float
    columns: int
    row_heights: list[float]
    head: list["_Line"]
    foot: list["_Line"]
    legend: dict[str, Look]
    legend_columns: int
    note_lines: int

    @property
    def legend_top(self) -> float:
        """Distance of the legend from the top of the figure."""
        return _MARGIN + sum(line.height for line in self.head)

    @property
    def head_height(self) -> float:
        """Height of everything above the panels."""
        return self.legend_top + -(-len(self.legend) // self.legend_columns) * _LEGEND_LINE + 0.1

    @property
    def foot_height(self) -> float:
        """Height of everything below the panels."""
        return _MARGIN + sum(line.height for line in self.foot)

    @property
    def height(self) -> float:
        """Height of the figure."""
        panel = _SINGLE_HEIGHT if self.columns == 1 else _PANEL_HEIGHT
        notes = len(self.row_heights) * self.note_lines * _NOTE * _LEADING
        return self.head_height + panel * sum(self.row_heights) + notes + 0.35 + self.foot_height


@dataclass(frozen=True)
class _Line:
    """One line of text above or below the panels."""

    text: str
    size: float
    weight: str
    colour: str

    @property
    def height(self) -> float:
        return self.size * _LEADING


def _plan_page(chart: Chart) -> _Page:
    columns = chart.columns or _columns(len(chart.panels))
    width = _SINGLE_WIDTH if columns == 1 else max(_SINGLE_WIDTH, _PANEL_WIDTH * columns)
    room = width - 2 * _MARGIN
    legend = _legend_entries(chart)
    widest = max((text_inches(label, _SUBTITLE) for label in legend), default=0.0) + 0.6
    title = wrap_lines([chart.title], _TITLE, room, bold=True)
    return _Page(
        width=width,
        columns=columns,
        row_heights=[
            max(panel.height for panel in chart.panels[start : start + columns])
            for start in range(0, len(chart.panels), columns)
        ],
        head=[
            *(_Line(line, _TITLE, "bold", _INK) for line in title),
            *(
                _Line(line, _SUBTITLE, "normal", _PALE)
                for line in wrap_lines(chart.subtitle, _SUBTITLE, room)
            ),
        ],
        foot=[_Line(line, _FOOTER, "normal", _PALE) for line in wrap_lines(chart.footer, _FOOTER, room)],
        legend=legend,
        legend_columns=max(1, min(len(legend), int(room / widest))),
        note_lines=max(len(panel.note) for panel in chart.panels),
    )


def _compose(chart: Chart) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = _plan_page(chart)
    width, height = page.width, page.height
    figure = Figure(figsize=(round(width * DPI) / DPI, round(height * DPI) / DPI))
    FigureCanvasAgg(figure)
    for lines, top in ((page.head, height - _MARGIN / 2), (page.foot, page.foot_height - _MARGIN / 2)):
        for line in lines:
            look = {"size": line.size, "weight": line.weight, "color": line.colour}
            figure.text(_MARGIN / width, top / height, line.text, va="top", in_layout=False, **look)
            top -= line.height
    figure.set_layout_engine(
        "constrained",
        rect=(0.0, page.foot_height / height, 1.0, 1 - (page.head_height + page.foot_height) / height),
        w_pad=0.12,
        h_pad=0.08,
        wspace=0.03,
        hspace=0.04,
    )
    grid = figure.add_gridspec(len(page.row_heights), page.columns, height_ratios=page.row_heights)
    drawn, looks = [], _looks(chart)
    dashes = _level_lines(chart)
    # Where all panels have one vertical axis, its label stands at the left of each row.
    is_shared = len({panel.y.label for panel in chart.panels}) == 1
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, page.columns)
        axes = figure.add_subplot(grid[row, column])
        _draw_panel(axes, panel, (looks, dashes), column == 0 or not is_shared)
        drawn.append((axes, panel))
    _draw_legend(figure, page)
    if any(panel.remark or any(series.labels for series in panel.series) for panel in chart.panels):
        # Until it has been laid out, a figure does not know where on the page a point is.
        figure.draw_without_rendering()
        for axes, panel in drawn:
            _write_remark(axes, panel)
            _label_points(axes, panel.series, panel.y.scale == "category")
    return figure


def _columns(panels: int) -> int:
    # Three in a row and one below look like a mistake.
    return 2 if panels == 4 else min(panels, _MOST_COLUMNS)


def _looks(chart: Chart) -> dict[str, Look]:
    """Returns label of a series -> colour, marker and line, the same on all panels."""
    styles = {series.label: series.style for panel in chart.panels for series in panel.series}
    looks, curves = {}, 0
    for number, (label, style) in enumerate(styles.items()):
        looks[label] = {
            "color": PALETTE[number % len(PALETTE)],
            "marker": "none" if style == "curve" else MARKERS[number % len(MARKERS)],
            "linestyle": {"line": "-", "points": "none", "curve": _CURVES[curves % len(_CURVES)]}[style],
        }
        curves += style == "curve"
    return looks


def _draw_panel(
    axes: "Axes", panel: Panel, styles: tuple[dict[str, Look], dict[str, _Dashes]], has_label: bool
) -> None:
    looks, dashes = styles
    axes.set_title(_clean(panel.title), pad=6 + 12.5 * len(panel.note))
    for number, line in enumerate(reversed(panel.note)):
        at = (0, 5 + 12.5 * number)
        axes.annotate(_clean(line), (0, 1), at, "axes fraction", "offset points", size=_NOTE, color=_PALE)
    if panel.map is not None:
        _draw_map(axes, panel.map)
        _set_up_axis_of_map(axes, panel.x, "x")
        _set_up_axis_of_map(axes, panel.y, "y")
        return
    _set_up_axis(axes, panel.x, "x")
    _set_up_axis(axes, panel.y, "y")
    if not has_label:
        axes.set_ylabel("")
    # Categories on the vertical axis make a dot plot, whose intervals lie flat.
    is_flat = panel.y.scale == "category"
    axes.grid(axis="x" if is_flat else "y", color=_RULE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    shown = [series for series in panel.series if series.points]
    is_crowded = _meet(shown, 1 if is_flat else 0)
    for place, series in enumerate(shown):
        # Only intervals hide each other.
        moves = is_crowded and series.intervals and panel.x.scale != "log"
        shift = (place - (len(shown) - 1) / 2) * _SHIFT if moves else 0.0
        _draw_series(axes, series, looks[series.label], shift, is_flat)
    for level in panel.levels:
        colour = looks[level.series]["color"] if level.series else _PALE
        _draw_level(axes, level, colour, dashes[level.label], is_flat)
    if panel.is_square:
        values = [value for series in panel.series for point in series.points for value in point]
        limits = panel.x.limits or (min(values), max(values))
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        axes.set_aspect("equal")
    for axis, target in ((panel.x, axes.xaxis), (panel.y, axes.yaxis)):
        if axis.scale == "log":
            _plain_log_ticks(target)


def _meet(shown: Sequence[Series], axis: int) -> bool:
    """Returns whether two series have a point at one place on an axis, 0 or 1."""
    places = [{point[axis] for point in series.points} for series in shown]
    return len(set().union(*places)) < sum(map(len, places))


def _set_up_axis(axes: "Axes", axis: Axis, which: str) -> None:
    from matplotlib.ticker import FuncFormatter

    target = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}label")(_clean(axis.label))
    set_limits = getattr(axes, f"set_{which}lim")
    if axis.scale == "log":
        getattr(axes, f"set_{which}scale")("log")
    elif axis.scale == "category":
        _set_up_categories(axes, axis, which)
        ends = (-0.5, max(len(axis.names), 1) - 0.5)
        set_limits(*(reversed(ends) if which == "y" else ends))
    elif axis.scale == "percent":
        target.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    if axis.limits is not None and axis.scale != "category":
        margin = 0.03 * (axis.limits[1] - axis.limits[0]) if axis.scale != "log" else 0.0
        set_limits(axis.limits[0] - margin, axis.limits[1] + margin)
        if axis.scale == "percent" and axis.limits == (0.0, 1.0):
            target.set_ticks([0.0, 0.25, 0.5, 0.75, 1.0])
    if axis.ticks:
        ticks = axis.ticks[:: -(-len(axis.ticks) // _MOST_TICKS)]
        target.set_ticks(list(ticks), [f"{tick:.3g}" for tick in ticks])
        if axis.limits is None:
            span = max(axis.ticks) - min(axis.ticks)
            margin = 0.06 * span or 0.5
            set_limits(min(axis.ticks) - margin, max(axis.ticks) + margin)


def _set_up_axis_of_map(axes: "Axes", axis: Axis, which: str) -> None:
    getattr(axes, f"set_{which}label")(_clean(axis.label))
    # Where tokens are counted there are no names, and the ticks are numbers.
    if axis.scale == "category":
        _set_up_categories(axes, axis, which)


def _set_up_categories(axes: "Axes", axis: Axis, which: str) -> None:
    # On a dot plot every row has its name; on a map and below a panel there is room for some.
    step = 1 if axis.scale == "category" and which == "y" else max(1, len(axis.names) // 24)
    longest = _LONGEST_ROW if which == "y" else _LONGEST_NAME
    names = tell_apart(axis.names, [_shorten(name, longest) for name in axis.names])[::step]
    getattr(axes, f"{which}axis").set_ticks(range(0, len(axis.names), step), names)
    if which == "x" and sum(map(len, names)) > 40:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _shorten(name: str, longest: int) -> str:
    text = " ".join(_clean(name).split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "\u2026"


def _plain_log_ticks(axis: Any) -> None:
    """Writes logarithmic ticks as numbers: powers of ten would be drawn as formulas, in another font."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high > 10 * low else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _draw_series(axes: "Axes", series: Series, look: Look, shift: float, is_flat: bool) -> None:
    """Draws a series, moved sideways by a share of the width, or of the distance of two categories."""
    x, y = np.array(series.points, dtype=np.float64).T
    left, right = axes.get_xlim()
    x, y = (x, y - 20 * shift) if is_flat else (x + shift * (right - left), y)
    colour = look["color"]
    if series.style == "curve":
        axes.plot(x, y, color=colour, linestyle=look["linestyle"], linewidth=1.5, zorder=4)
        return
    if series.intervals:
        lows, highs = np.array(series.intervals, dtype=np.float64).T
        draw, place = (axes.hlines, y) if is_flat else (axes.vlines, x)
        draw(place, lows, highs, colors=colour, linewidth=1.6, alpha=0.55, zorder=3)
    if series.style == "line":
        axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.6, zorder=4)
    # Many points without intervals are a cloud.
    cloud = {"markersize": 4, "alpha": 0.5, "markeredgewidth": 0}
    single = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.7}
    size = cloud if len(series.points) > 50 and not series.intervals else single
    axes.plot(x, y, linestyle="none", marker=look["marker"], color=colour, zorder=5, **size)


def _draw_level(axes: "Axes", level: Level, colour: str, dashes: _Dashes, is_flat: bool) -> None:
    x, y = np.array(level.points, dtype=np.float64).T
    style = {
        "color": colour,
        "linewidth": 1.1,
        "linestyle": dashes,
        "alpha": 0.9,
        "zorder": 2,
    }
    if len(x) > 1:
        axes.plot(x, y, **style)
    elif is_flat:
        axes.axvline(x[0], **style)
    else:
        axes.axhline(y[0], **style)


def _level_lines(chart: Chart) -> dict[str, _Dashes]:
    """Returns label of a level -> its line, the same on all panels."""
    lines: dict[str, _Dashes] = {}
    # Levels of a series have its colour.
    levels = [level for panel in chart.panels for level in panel.levels]
    grey = dict.fromkeys(level.label for level in levels if not level.series)
    others = [label for label in grey if not label.startswith("chance")]
    for level in levels:
        number = others.index(level.label) if level.label in others else 0
        is_chance = level.label.startswith("chance")
        lines[level.label] = _DASHES if is_chance else _LEVELS[number % len(_LEVELS)]
    return lines


def _draw_map(axes: "Axes", values: HeatMap) -> None:
    from matplotlib.colors import LogNorm

    shown, norm = np.asarray(values.values, dtype=np.float64), None
    if values.scale == "log":
        positive = shown[shown > 0]
        low = float(positive.min()) if positive.size else 1.0
        norm = LogNorm(low, max(float(shown.max()), low * 1.001))
        # Zero has no logarithm and gets the colour of the smallest value.
        shown = np.maximum(shown, low)
    image = axes.imshow(
        shown, aspect="auto", interpolation="nearest", cmap="cividis", norm=norm, origin="lower"
    )
    bar = axes.figure.colorbar(image, ax=axes)
    # The panel becomes lower when texts get their place.
    height = 0.8 * axes.get_position().height * axes.figure.get_figheight()
    bar.set_label("\n".join(wrap_lines([values.label], _SUBTITLE, height)))
    if values.scale == "log":
        _plain_log_ticks(bar.ax.yaxis)


def _legend_entries(chart: Chart) -> dict[str, Look]:
    """Returns label -> look of what colours, markers and dashes mean; none for a single series."""
    looks, dashes = _looks(chart), _level_lines(chart)
    entries = {label: {**look, "linewidth": 1.4, "markersize": 5.5} for label, look in looks.items()}
    for level in (level for panel in chart.panels for level in panel.levels):
        colour = looks[level.series]["color"] if level.series else _PALE
        entries[level.label] = {"color": colour, "linestyle": dashes[level.label], "linewidth": 1.2}
    return entries if len(entries) > 1 else {}


def _draw_legend(figure: "Figure", page: _Page) -> None:
    """Draws the legend between title and panels, where it covers no data."""
    from matplotlib.lines import Line2D

    if not page.legend:
        return
    legend = figure.legend(
        [Line2D([], [], **look) for look in page.legend.values()],
        tell_apart(list(page.legend), [_clean(label) for label in page.legend]),
        loc="upper left",
        bbox_to_anchor=(_MARGIN / page.width, 1 - page.legend_top / page.height),
        ncols=page.legend_columns,
        handlelength=2.6,
        columnspacing=1.6,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    legend.set_in_layout(False)


def _write_remark(axes: "Axes", panel: Panel) -> None:
    if not panel.remark:
        return
    inches = axes.get_position().width * axes.figure.get_figwidth()
    axes.text(
        0.5,
        _emptiest_height(axes, panel),
        "\n".join(wrap_lines([panel.remark], _LABEL, 0.8 * inches)),
        transform=axes.transAxes,
        ha="center",
        va="center",
        size=_LABEL,
        color=_PALE,
        zorder=2.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        in_layout=False,
    )


def _emptiest_height(axes: "Axes", panel: Panel) -> float:
    """Returns the height, 0 to 1, that is farthest from anything drawn in a panel."""
    if not any(series.points for series in panel.series):
        return 0.5
    values = [y for series in panel.series for _, y in series.points]
    values += [end for series in panel.series for interval in series.intervals for end in interval]
    values += [y for level in panel.levels for _, y in level.points]
    to_axes = axes.transData + axes.transAxes.inverted()
    left = axes.get_xlim()[0]
    taken = [to_axes.transform((left, value))[1] for value in values]
    return max((0.86, 0.5, 0.7, 0.3, 0.16), key=lambda height: min(abs(height - other) for other in taken))


def _label_points(axes: "Axes", shown: Sequence[Series], is_flat: bool) -> None:
    """Writes labels beside their points in the panel, where no other label and no marker is, farther ones with a line.

    A label for which there is no room is left out; the important ones come first. In a dot plot they stand in the row of
    their point, where they can.
    """
    inches = axes.transData + axes.figure.dpi_scale_trans.inverted()
    points = [point for series in shown for point in series.points]
    panel = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted()).extents * 72
    taken: list[tuple[float, ...]] = []
    if len(points) <= _MOST_MARKERS and any(series.labels for series in shown):
        half = np.array([_MARKER, _MARKER]) / 2
        middles = [inches.transform(point) * 72 for point in points]
        taken = [(*(middle - half), *(middle + half)) for middle in middles]
    labelled = [
        (text, point) for series in shown for text, point in zip(series.labels, series.points, strict=False)
    ]
    for text, (x, y) in labelled:
        left, bottom = inches.transform((x, y)) * 72
        width, height = len(text) * _DIGIT_WIDTH, _NOTE + 1.0
        for ring, (dx, dy) in _label_offsets(width, height, is_flat):
            box = (left + dx, bottom + dy, left + dx + width, bottom + dy + height)
            if not _is_inside(box, panel) or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            line = {"arrowstyle": "-", "linewidth": 0.5, "shrinkB": 3} if ring else None
            axes.annotate(
                _clean(text),
                (x, y),
                (dx, dy),
                textcoords="offset points",
                fontsize=_NOTE,
                arrowprops=line,
                in_layout=False,
            )
            break


def _label_offsets(width: float, height: float, is_flat: bool) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yields rings around a point and, in points, where the lower left corner of its label would be."""
    for ring in range(_LABEL_RINGS):
        far = 5.0 + ring * height
        for dx in (far, -far - width):
            above_below_beside = (far - 2.0, -far - height + 2.0, -height / 2)
            for dy in reversed(above_below_beside) if is_flat else above_below_beside:
                yield ring, (dx, dy)


def _is_inside(a: tuple[float, ...], b: Sequence[float]) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _font(points: float, bold: bool = False) -> Any:
    # Larger than drawn, because widths of small text are rounded to whole pixels.
    return load_font(round(8 * points * DPI / 72), bold, is_for_plots=True)


def _clean(text: str) -> str:
    return clean_text(text, _font(_LABEL))


def text_inches(text: str, points: float) -> float:
    """Returns how wide a text is."""
    return _font(points).getlength(_clean(text)) / (8 * DPI)


def wrap_lines(texts: Sequence[str], points: float, inches: float, bold: bool = False) -> list[str]:
    """Returns the lines of texts that are at most so wide."""
    # The layout engines differ a little.
    room = int(0.98 * inches * 8 * DPI)
    return [line for text in texts for line in wrap_text(_clean(text), _font(points, bold), room)]


def _other_fonts(text: str) -> list[Path]:
    """Returns the files of the fonts of the machine that draw what the bundled font lacks."""
    face = _font(_LABEL)
    lacking = (char for char in dict.fromkeys(text) if not is_bundled(char))
    return list(dict.fromkeys(font.path for char in lacking if (font := face.other_font(char)) is not None))


def _families(others: Sequence[Path]) -> list[str]:
    """Makes fonts known to matplotlib and returns their families: the bundled one, whatever a machine has, comes first.

    Under its own name, another file of the same family could be taken: each is known under the path of its file.
    """
    regular, bold = (FONT_FOLDER / f"DejaVuSans{weight}.ttf" for weight in ("", "-Bold"))
    return [_register(regular, bold), *(_register(file, file) for file in others)]


@functools.cache
def _register(regular: Path, bold: Path) -> str:
    from matplotlib.font_manager import FontEntry, fontManager

    name = str(regular)
    fontManager.ttflist += [
        FontEntry(fname=str(file), name=name, size="scalable", weight=weight)
        for file, weight in ((regular, "normal"), (bold, "bold"))
    ]
    return name
