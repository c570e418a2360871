"""The standard deviation of all values of an input against its number of tokens, with its sinks and without."""

from collections.abc import Sequence

from graftwork.core.charts import Axis, Chart, Panel, Series, Style
from graftwork.core.labels import slugify
from graftwork.reports.analysis.registry import AnalysisPlot, LayerMeasured, analysis_plot
from graftwork.statistics.analysis import expected_stds


@analysis_plot(LayerMeasured)
def std_against_length(measured: LayerMeasured) -> AnalysisPlot:
    """Draws what was measured of each input, and what is expected of tokens that are independent of each other."""
    reading = measured.reading
    tokens = list(range(max(2, min(reading.lengths)), max(reading.lengths) + 1))
    expected, expected_rest = expected_stds(tokens, measured.every, measured.rest)
    where = f"{measured.name}, layer {measured.layer}"
    series = [
        _series("an input, with its sinks", reading.lengths, reading.stds),
        _series("an input, without them", reading.lengths, reading.stds_without_sink),
        _series("expected of independent tokens, with one sink of mean value", tokens, expected, "curve"),
        _series("expected, without it", tokens, expected_rest, "curve"),
    ]
    return AnalysisPlot(
        f"std_against_length_{slugify(measured.name)}_layer{measured.layer}",
        f"Standard deviation against sequence length, {where}",
        Chart(
            "Standard deviation of all values against length",
            [where],
            [
                Panel(
                    Axis("tokens in the sequence", "log"),
                    Axis("standard deviation of all values", "log"),
                    series,
                )
            ],
        ),
    )


def _series(label: str, lengths: Sequence[int], stds: Sequence[float], style: Style = "points") -> Series:
    # A logarithmic axis cannot show 0, nor what is not defined.
    points = [(float(x), float(y)) for x, y in zip(lengths, stds, strict=True) if y > 0]
    return Series(label, points, style=style)
