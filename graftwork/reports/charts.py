"""Charts of shares with intervals, as pixels.

Equal content gives equal pixels on one machine: bundled fonts, settings of the library rather than the user's, no time
and no version in the file. matplotlib is imported when a chart is drawn, for it takes a second.
"""

from typing import Any

import numpy as np

from graftwork.reports.chart_page import Chart
from graftwork.reports.chart_panels import DASHES, PALE, PALETTE, draw_panel, draw_strip
from graftwork.reports.chart_text import DPI, text_inches, use_bundled_fonts, wrap_lines

_INK = "#222222"
# Panels in a row, and inches.
_MOST_COLUMNS = 3
_LINE_INCHES = 0.21
_NOTE_INCHES = 0.18
# Points.
_TITLE_SIZE, _SUBTITLE_SIZE, _FOOTER_SIZE, _KEY_SIZE = 13, 9.5, 8, 10
_SETTINGS = {
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.labelsize": 10,
    "figure.dpi": DPI,
}


def draw_chart(chart: Chart) -> np.ndarray:
    """Draws a chart.

    Returns:
        uint8 (height, width, 3).
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # Not the user's matplotlibrc.
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
        figure = _compose(chart)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _compose(chart: Chart) -> Any:
    from matplotlib.figure import Figure

    single = len(chart.panels) == 1
    columns = min(len(chart.panels), _MOST_COLUMNS)
    # Three in a row and one below look like a mistake.
    columns = 2 if len(chart.panels) == 4 else columns
    rows = -(-len(chart.panels) // columns)
    width = 8.6 if single else max(8.6, 0.5 + 3.6 * columns)
    title = wrap_lines([chart.title], _TITLE_SIZE, width - 0.5, bold=True)
    subtitle = wrap_lines(chart.subtitle, _SUBTITLE_SIZE, width - 0.5)
    footer = wrap_lines(chart.footer, _FOOTER_SIZE, width - 0.5)
    head = 0.2 + 0.28 * len(title) + _LINE_INCHES * len(subtitle) + (0.2 if single else 0.35)
    foot = 0.15 + 0.18 * len(footer) + 0.55
    strip = 1.35 if chart.strip else 0.0
    notes = max(len(panel.note) for panel in chart.panels)
    body = 3.6 if single else (2.7 + _NOTE_INCHES * notes) * rows
    height = head + body + strip + foot
    figure = Figure(figsize=(round(width * DPI) / DPI, round(height * DPI) / DPI))

    y = height - 0.2
    for line in title:
        _write(figure, 0.25, y, line, (width, height), _TITLE_SIZE, bold=True)
        y -= 0.28
    for line in subtitle:
        _write(figure, 0.25, y, line, (width, height), _SUBTITLE_SIZE, colour=PALE)
        y -= _LINE_INCHES
    if not single:
        _draw_key(figure, chart, 0.25, y - 0.06, (width, height))
    for number, line in enumerate(footer):
        _write(
            figure,
            0.25,
            0.13 + 0.18 * (len(footer) - number),
            line,
            (width, height),
            _FOOTER_SIZE,
            colour=PALE,
        )

    left, right = 0.85, 2.15 if single else 0.25
    gap_x, gap_y = 0.45, 0.75 + _NOTE_INCHES * notes
    top = height - head - (0.1 if single else 0.35 + _NOTE_INCHES * notes)
    panel_width = (width - left - right - gap_x * (columns - 1)) / columns
    panel_height = (top - foot - strip - gap_y * (rows - 1)) / rows
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, columns)
        x0 = left + column * (panel_width + gap_x)
        y0 = top - panel_height - row * (panel_height + gap_y)
        axes = figure.add_axes((x0 / width, y0 / height, panel_width / width, panel_height / height))
        below = number + columns >= len(chart.panels)
        draw_panel(axes, panel, chart, single, column == 0, below and not chart.strip)
    if chart.strip:
        axes = figure.add_axes((left / width, foot / height, panel_width / width, (strip - 0.25) / height))
        draw_strip(axes, chart)
    use_bundled_fonts(figure)
    return figure


def _draw_key(figure: Any, chart: Chart, x: float, y: float, size: tuple[float, float]) -> None:
    """Draws what the colours mean, once for all panels, left to right from (x, y) in inches."""
    from matplotlib.lines import Line2D

    names = [series.label for series in chart.panels[0].series]
    entries: list[tuple[str, str, str, Any]] = [
        (name, colour, marker, "-") for name, (colour, marker) in zip(names, PALETTE, strict=False)
    ]
    entries.append(("chance", PALE, "", DASHES))
    width, height = size
    for name, colour, marker, style in entries:
        xs = np.array([x, x + 0.35]) / width
        figure.add_artist(Line2D(xs, [(y - 0.06) / height] * 2, color=colour, linewidth=1.3, linestyle=style))
        if marker:
            figure.add_artist(
                Line2D(
                    [xs.mean()],
                    [(y - 0.06) / height],
                    color=colour,
                    marker=marker,
                    markersize=6,
                    linestyle="",
                )
            )
        _write(figure, x + 0.43, y, name, size, _KEY_SIZE, colour=colour if marker else PALE)
        x += 0.43 + text_inches(name, _KEY_SIZE) + 0.35


def _write(
    figure: Any,
    x: float,
    y: float,
    text: str,
    figure_size: tuple[float, float],
    size: float,
    bold: bool = False,
    colour: str = _INK,
) -> None:
    """Writes text with its upper left corner at (x, y), in inches from the lower left of the figure."""
    weight = "bold" if bold else "normal"
    figure.text(
        x / figure_size[0], y / figure_size[1], text, size=size, weight=weight, color=colour, va="top"
    )
