"""The largest magnitude of every token at every layer, of the first input of an encoder."""

from collections.abc import Sequence

import numpy as np

from graftwork.core.charts import Axis, Chart, HeatMap, Panel
from graftwork.core.labels import slugify
from graftwork.reports.analysis.registry import AnalysisPlot, EncoderRead, analysis_plot
from graftwork.statistics.analysis import magnitude_rows


@analysis_plot(EncoderRead)
def magnitude_map(encoder: EncoderRead) -> AnalysisPlot | None:
    """Draws the first input; nothing where no input was read."""
    rows = magnitude_rows(encoder.readings)
    if rows is None:
        return None
    return AnalysisPlot(
        f"magnitudes_{slugify(encoder.name)}",
        f"Largest magnitude of each token of the first input, {encoder.name}",
        map_chart(*rows, "Largest magnitude of each token, first input", encoder.name),
    )


def map_chart(layers: Sequence[int], magnitudes: np.ndarray, title: str, subtitle: str) -> Chart:
    """Returns the plot, on a logarithmic colour scale.

    Args:
        layers: layer of each row, as in experiments.
        magnitudes: magnitudes, (layers, tokens), 0 or above.
        title: title of the plot.
        subtitle: name of the encoder.

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
    names = tuple(str(layer) for layer in layers)
    panel = Panel(
        Axis("token"),
        Axis("layer", "category", names=names),
        height=min(max(0.55, 0.4 + 0.055 * len(layers)), 2.6),
        map=HeatMap(values, "largest magnitude over dimensions", "log"),
    )
    return Chart(title, [subtitle], [panel])
