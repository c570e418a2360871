"""The standard deviation of every dimension on one side against that on the other."""

import numpy as np

from graftwork.core.charts import Axis, Chart, Level, Panel, Series
from graftwork.reports.analysis.registry import AnalysisPlot, PairCompared, analysis_plot
from graftwork.statistics.dimensions import worst_dimensions

# Dimensions that are marked and labelled.
LABELLED = 10


@analysis_plot(PairCompared)
def std_scatter(pair: PairCompared) -> AnalysisPlot | None:
    """Draws the two sides; nothing where no dimension varies on both."""
    a, b = np.asarray(pair.a.std, np.float64), np.asarray(pair.b.std, np.float64)
    if not ((a > 0) & (b > 0)).any():
        return None
    words = ", without the sinks" if pair.is_without_sink else ""
    return AnalysisPlot(
        f"{pair.name}{'_without_sink' if pair.is_without_sink else ''}",
        f"Standard deviation per dimension, {pair.title}{words}",
        scatter_chart(a, b, pair.sides, f"Standard deviation per dimension{words}"),
    )


def scatter_chart(a: np.ndarray, b: np.ndarray, sides: tuple[str, str], title: str) -> Chart:
    """Returns the plot, with the dimensions that differ most labelled.

    Axes are logarithmic. Dimensions that are 0 on either side cannot be shown, and their number is said.

    Args:
        a: standard deviations of the first side, (channels,).
        b: standard deviations of the second side, (channels,).
        sides: both sides in words.
        title: title of the plot.

    Raises:
        ValueError: where the widths differ or no dimension can be shown.
    """
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
    values = np.concatenate([a[shown], b[shown]])
    limits = float(values.min()) / 1.5, float(values.max()) * 1.5
    marked = [one.dim for one in worst_dimensions(a, b, LABELLED) if shown[one.dim]]
    note = f" ({hidden} dimensions with 0 not shown)" if hidden else ""
    return Chart(
        title,
        [f"{sides[0]}, against", sides[1]],
        [
            Panel(
                Axis(f"std in {sides[1]}{note}", "log", limits),
                Axis(f"std in {sides[0]}", "log", limits),
                [
                    Series("a dimension", _points(b[shown], a[shown]), style="points"),
                    Series(
                        "differs most",
                        _points(b[marked], a[marked]),
                        style="points",
                        labels=[str(d) for d in marked],
                    ),
                ],
                [Level("equal on both sides", [(limits[0], limits[0]), (limits[1], limits[1])])],
                is_square=True,
                height=1.6,
            )
        ],
    )


def _points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))
