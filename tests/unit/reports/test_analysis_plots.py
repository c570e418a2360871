"""Plots of an analysis: what is on them, and what is refused."""

import numpy as np
import pytest

from graftwork.reports.analysis import registry
from graftwork.reports.analysis.plots.magnitude_map import map_chart
from graftwork.reports.analysis.plots.std_against_length import std_against_length
from graftwork.reports.analysis.plots.std_scatter import LABELLED, scatter_chart
from graftwork.reports.analysis.registry import (
    EncoderRead,
    LayerMeasured,
    PairCompared,
    analysis_plot,
    plots_code,
    plots_of,
)
from graftwork.reports.charts import draw_chart
from graftwork.statistics.accumulator import measure_tokens, summarize
from graftwork.statistics.analysis import LayerReading
from graftwork.statistics.dimensions import worst_dimensions
from tests.unit.statistics.samples import gaussian, with_sink

STD_A = np.exp(gaussian(1, 60, 0)[0].astype(np.float64))
STD_B = np.exp(gaussian(1, 60, 1)[0].astype(np.float64))


def test_every_dimension_is_a_point_and_the_worst_are_labelled():
    (panel,) = scatter_chart(STD_A, STD_B, ("A", "B_1"), "std of $A$ and $B$").panels
    dimensions, worst = panel.series
    assert dimensions.points == list(zip(STD_B.tolist(), STD_A.tolist(), strict=True))
    found = worst_dimensions(STD_A, STD_B, LABELLED)
    assert worst.labels == [str(one.dim) for one in found]
    assert worst.points == [(one.std_b, one.std_a) for one in found]
    assert (panel.x.label, panel.y.label) == ("std in B_1", "std in A")
    assert panel.is_square


def test_dimensions_that_are_zero_are_left_out_and_said_so():
    std_a, std_b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0])
    (panel,) = scatter_chart(std_a, std_b, ("A", "B"), "zeros").panels
    assert panel.series[0].points == [(2.0, 2.0)]
    assert panel.x.label == "std in B (2 dimensions with 0 not shown)"


@pytest.mark.parametrize("rows", [[0], [0, 1], range(60)])
def test_maps_of_zeros_of_one_value_and_of_many_layers_can_be_drawn(rows):
    chart = map_chart(rows, np.zeros((len(rows), 3)), "zeros", "an encoder")
    assert draw_chart(chart).shape[2] == 3
    assert chart.panels[0].y.names == tuple(str(row) for row in rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scatter_chart(np.ones(2), np.ones(3), ("A", "B"), ""), r"\(2,\) and \(3,\)"),
        (lambda: scatter_chart(np.zeros(2), np.ones(2), ("A", "B"), ""), "nothing to plot"),
        (lambda: map_chart([0, 1], np.ones((1, 2)), "", ""), r"2 layers for a map of the shape \(1, 2\)"),
        (lambda: map_chart([0], np.full((1, 2), np.nan), "", ""), "finite values"),
        (lambda: map_chart([0], -np.ones((1, 2)), "", ""), "0 or above"),
    ],
)
def test_what_cannot_be_drawn(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def measured() -> LayerMeasured:
    every, rest = (summarize(measure_tokens(tokens)) for tokens in (with_sink(9), with_sink(9)[1:]))
    reading = LayerReading([3, 9], [80.0, 50.0], [2.0, float("nan")])
    return LayerMeasured("small", -2, reading, every, rest)


def test_lengths_are_drawn_with_what_is_expected():
    plot = std_against_length(measured())
    assert plot.name == "std_against_length_small_layer-2"
    assert plot.caption.endswith("small, layer -2")
    (panel,) = plot.chart.panels
    inputs, without, *expected = panel.series
    assert inputs.points == [(3.0, 80.0), (9.0, 50.0)]
    assert without.points == [(3.0, 2.0)], "what is not defined has no place on a logarithmic axis"
    assert [series.style for series in expected] == ["curve", "curve"]
    assert [len(series.points) for series in expected] == [7, 7]


def test_subjects_get_their_plots():
    assert list(plots_of(EncoderRead("small", {-2: LayerReading()}))) == []
    first = np.array([1.0, 5000.0])
    assert [p.name for p in plots_of(EncoderRead("small", {-2: LayerReading(first=first)}))] == [
        "magnitudes_small"
    ]
    assert [plot.name for plot in plots_of(measured())] == ["std_against_length_small_layer-2"]
    one = measured().every
    pairs = [
        PairCompared("a_vs_b", "a against b", ("a", "b"), one, one, without) for without in (False, True)
    ]
    assert [p.name for pair in pairs for p in plots_of(pair)] == ["a_vs_b", "a_vs_b_without_sink"]
    constant = summarize(measure_tokens(np.ones((4, 4), dtype=np.float32)))
    assert list(plots_of(PairCompared("a_vs_b", "", ("a", "b"), one, constant, False))) == []


def test_what_is_registered_wrongly_fails_where_it_is_defined():
    with pytest.raises(
        ValueError, match="no subject of a plot; allowed: EncoderRead, LayerMeasured, PairCompared"
    ):
        analysis_plot(int)
    plots_code()
    with pytest.raises(ValueError, match="there is a plot 'std_scatter' already"):
        analysis_plot(PairCompared)(
            next(draw for _, draw in registry._PLOTS.values() if draw.__name__ == "std_scatter")
        )
