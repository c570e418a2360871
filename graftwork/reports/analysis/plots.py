"""Figures of statistics as PNG: equal data, equal bytes, whatever the user's settings of Matplotlib.

Matplotlib is imported inside the functions: the rest of the package is used where it is not needed. Colours are those
of Okabe and Ito, "Color Universal Design" (2008), and the map is cividis (Nunez et al. 2018): both can be told apart
without normal colour vision, and series differ in marker or line too.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graftwork.statistics.dimensions import WorstDimension

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

FONT = Path(__file__).resolve().parents[3] / "resources" / "fonts" / "DejaVuSans.ttf"
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
_SERIES_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK)
_SERIES_MARKERS = ("o", "^", "s", "D", "v", "x")
_DPI = 120
# Labels in points: size of the text, width of a digit, and how far from its point a label may go.
_LABEL_SIZE, _DIGIT_WIDTH, _LABEL_RINGS = 8, 5.2, 12


@dataclass(frozen=True)
class Series:
    """Points of one kind in a figure.

    Attributes:
        name: For the legend.
        x: Values on the horizontal axis.
        y: Values on the vertical axis, as many.
        is_line: Whether the points are joined, as those of a formula are, or stand alone, as measured ones do.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    is_line: bool = False


def plot_std_scatter(
    std_a: np.ndarray,
    std_b: np.ndarray,
    worst: Sequence[WorstDimension],
    names: tuple[str, str],
    title: str,
) -> bytes:
    """Plots the standard deviation of every dimension in A against that in B, worst dimensions labelled.

    Axes are logarithmic; dimensions that are 0 on either side cannot be shown, and their number is said.

    Args:
        std_a: (channels,) of A.
        std_b: (channels,) of B.
        worst: Dimensions to mark and label.
        names: Of A and B.
        title: Of the figure.

    Returns:
        A PNG.

    Raises:
        ValueError: where the widths differ or no dimension can be shown.
    """
    a, b = np.asarray(std_a, dtype=np.float64), np.asarray(std_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"standard deviations have the shapes {a.shape} and {b.shape}; both have to be (channels,)"
        )
    shown = (a > 0) & (b > 0)
    if not shown.any():
        raise ValueError(
            "every dimension has a standard deviation of 0 on one side; there is nothing to plot"
        )
    hidden = int((~shown).sum())
    with _figure(7.0, 6.0, title) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        limits = np.array(
            [min(a[shown].min(), b[shown].min()) / 1.5, max(a[shown].max(), b[shown].max()) * 1.5]
        )
        axes.plot(limits, limits, color=BLACK, linewidth=0.8, linestyle="--", label="equal", zorder=1)
        axes.scatter(
            b[shown], a[shown], s=7, color=BLUE, alpha=0.5, linewidths=0, label="dimension", zorder=2
        )
        marked = [one for one in worst if shown[one.dim]]
        axes.scatter(
            [b[one.dim] for one in marked],
            [a[one.dim] for one in marked],
            s=34,
            marker="^",
            color=VERMILION,
            label="differs most",
            zorder=3,
        )
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        axes.set_aspect("equal")
        axes.set_xlabel(f"std in {names[1]}" + (f" ({hidden} dimensions with 0 not shown)" if hidden else ""))
        axes.set_ylabel(f"std in {names[0]}")
        _plain_ticks(axes.xaxis, axes.yaxis)
        axes.legend(loc="upper left", fontsize=8)
        _label_points(figure, axes, [(str(one.dim), b[one.dim], a[one.dim]) for one in marked])
        return _png(figure)


def plot_magnitude_map(layers: Sequence[int], magnitudes: np.ndarray, title: str) -> bytes:
    """Plots the largest magnitude of every token at every layer, on a logarithmic colour scale.

    Args:
        layers: Labels of the rows, as in `hidden_states`.
        magnitudes: (layers, tokens), 0 or above.
        title: Of the figure.

    Returns:
        A PNG.

    Raises:
        ValueError: where shapes do not fit or a value is negative or not finite.
    """
    values = np.asarray(magnitudes, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape or len(layers) != len(values):
        raise ValueError(
            f"{len(layers)} layers for a map of the shape {values.shape}; it has to be (layers, tokens)"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("a map of magnitudes needs finite values, 0 or above")
    from matplotlib.colors import LogNorm

    with _figure(9.0, min(max(3.6, 2.0 + 0.22 * len(layers)), 12.0), title) as (figure, axes):
        positive = values[values > 0]
        low = float(positive.min()) if positive.size else 1.0
        high = max(float(values.max()), low * 1.001)
        # Zero has no logarithm: it gets the colour of the smallest.
        image = axes.imshow(
            np.maximum(values, low),
            aspect="auto",
            interpolation="nearest",
            cmap="cividis",
            norm=LogNorm(low, high),
            origin="lower",
        )
        step = max(1, len(layers) // 20)
        axes.set_yticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
        axes.set_xlabel("token")
        axes.set_ylabel("layer")
        bar = figure.colorbar(image, ax=axes)
        bar.set_label("largest magnitude over dimensions")
        _plain_ticks(bar.ax.yaxis)
        return _png(figure)


def plot_std_against_length(
    series: Sequence[Series], title: str, marks: Mapping[str, float] | None = None
) -> bytes:
    """Plots the standard deviation of all values of a sequence against its length, logarithmically.

    Args:
        series: Measured points and expected lines, with and without the sink.
        title: Of the figure.
        marks: Name -> level to draw as a horizontal line, such as one that a document quotes.

    Returns:
        A PNG.

    Raises:
        ValueError: where a series has different counts of x and y, or there is nothing to show.
    """
    for one in series:
        if len(one.x) != len(one.y):
            raise ValueError(f"series {one.name!r} has {len(one.x)} lengths for {len(one.y)} values")
    if not any(len(one.x) for one in series):
        raise ValueError("there are no sequences to plot")
    with _figure(8.0, 5.0, title) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        for index, one in enumerate(series):
            style = {"color": _SERIES_COLOURS[index % len(_SERIES_COLOURS)], "label": one.name}
            if one.is_line:
                axes.plot(one.x, one.y, linewidth=1.4, linestyle=("-", "--", ":", "-.")[index % 4], **style)
            else:
                marker = _SERIES_MARKERS[index % len(_SERIES_MARKERS)]
                axes.plot(one.x, one.y, linestyle="none", marker=marker, markersize=4, **style)
        for name, level in (marks or {}).items():
            axes.axhline(level, color=BLACK, linewidth=0.7, linestyle=":")
            axes.annotate(
                name,
                (1.0, level),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                xytext=(-4, 3),
                ha="right",
                fontsize=8,
            )
        axes.set_xlabel("tokens in the sequence")
        axes.set_ylabel("standard deviation of all values")
        _plain_ticks(axes.xaxis, axes.yaxis)
        axes.legend(fontsize=8)
        return _png(figure)


def _label_points(figure: "Figure", axes: "Axes", points: Sequence[tuple[str, float, float]]) -> None:
    """Writes labels (text, x, y) beside their points where no other label is, farther ones with a line.

    A label for which there is no room is left out; the caller gives the important ones first.
    """
    # Until it has been laid out, a figure does not know where on the page a point is.
    figure.draw_without_rendering()
    inches = axes.transData + figure.dpi_scale_trans.inverted()
    taken: list[tuple[float, float, float, float]] = []
    for text, x, y in points:
        left, bottom = inches.transform((x, y)) * 72
        width, height = len(text) * _DIGIT_WIDTH, _LABEL_SIZE + 1.0
        for ring, (dx, dy) in _label_offsets(width, height):
            box = (left + dx, bottom + dy, left + dx + width, bottom + dy + height)
            if any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            line = {"arrowstyle": "-", "linewidth": 0.5, "shrinkB": 3} if ring else None
            axes.annotate(
                text, (x, y), (dx, dy), textcoords="offset points", fontsize=_LABEL_SIZE, arrowprops=line
            )
            break


def _label_offsets(width: float, height: float) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yields rings around a point and, in points, where the lower left corner of its label would be."""
    for ring in range(_LABEL_RINGS):
        far = 5.0 + ring * height
        for dx in (far, -far - width):
            for dy in (far - 2.0, -far - height + 2.0, -height / 2):
                yield ring, (dx, dy)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@contextlib.contextmanager
def _figure(width: float, height: float, title: str) -> "Iterator[tuple[Figure, Axes]]":
    """Yields a figure of that many inches with one pair of axes, drawn without a display and without pyplot."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        # Not what the user's matplotlibrc says, but for the backend, which is not used.
        matplotlib.rcParams.update(
            {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
        )
        matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
        # Text is drawn as it is: a dollar sign in a name is no formula.
        matplotlib.rcParams["text.parse_math"] = False
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, fontsize=11)
        yield figure, axes


def _plain_ticks(*axes: "Axis") -> None:
    """Writes logarithmic ticks as numbers: powers of ten would be drawn as formulas, in another font."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _png(figure: "Figure") -> bytes:
    """Draws the figure with the bundled font; no version, date or name of a program in the file."""
    from matplotlib.text import Text

    # Tick labels exist only once they have been laid out.
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        font = text.get_fontproperties().copy()
        font.set_file(FONT)
        text.set_fontproperties(font)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
