"""CSV of statistics: every number reads back as itself."""

import csv
import io
import math

import numpy as np
import pytest

from graftwork.reports.analysis.tables import (
    comparison_table,
    lengths_table,
    statistics_table,
    worst_dimensions_table,
)
from graftwork.statistics.accumulator import measure_tokens, summarize
from graftwork.statistics.compare import compare_statistics
from graftwork.statistics.dimensions import worst_dimensions
from graftwork.statistics.reference import ReferenceStatistics
from tests.unit.statistics.samples import gaussian, with_sink


def rows(text: str) -> list[dict[str, str]]:
    assert "\r" not in text
    return list(csv.DictReader(io.StringIO(text)))


def test_statistics_read_back():
    sample = with_sink(9)
    sample[:, 3] = 0.1
    statistics = summarize(measure_tokens(sample))
    found = rows(statistics_table(statistics))
    assert [row["dim"] for row in found] == ["0", "1", "2", "3"]
    for name in ("mean", "std", "minimum", "maximum", "skewness", "kurtosis"):
        values = np.array([row[name] or "nan" for row in found], dtype=np.float32)
        assert np.array_equal(values, getattr(statistics, name), equal_nan=True), name
    assert found[3]["skewness"] == ""
    assert found[3]["mean"] == "0.1"


def test_what_is_not_known_has_no_column():
    text = statistics_table(ReferenceStatistics(3, np.array([0.5]), np.array([2.0])))
    assert text == "dim,mean,std\n0,0.5,2.0\n"


def test_a_comparison_says_what_each_measure_is():
    a, b = summarize(measure_tokens(with_sink(9))), summarize(measure_tokens(gaussian(9)))
    measurements = compare_statistics(a, b, top_dims=2)
    found = rows(comparison_table(measurements))
    assert [row["name"] for row in found] == list(measurements)
    for row in found:
        one = measurements[row["name"]]
        assert math.isnan(one.value) if row["value"] == "" else float(row["value"]) == one.value
        assert row["description"] == one.description
        assert row["misleads"] == one.misleads
        assert row["dims"] == str(one.dims)
    assert found[1]["without_dims"] == "0 1"


def test_lists_of_dimensions():
    worst = worst_dimensions(np.array([1.0, 0.0, 6.0]), np.array([1.0, 2.0, 3.0]), 2)
    assert worst_dimensions_table(worst) == (
        "dim,std_a,std_b,factor,larger\n1,0.0,2.0,inf,b\n2,6.0,3.0,2.0,a\n"
    )


def test_lengths():
    text = lengths_table([10, 20], {"with_sink": [61.0, 40.5], "without_sink": [7.0, math.nan]})
    assert text == "tokens,with_sink,without_sink\n10,61.0,7.0\n20,40.5,\n"
    with pytest.raises(ValueError, match="shorter"):
        lengths_table([10, 20], {"with_sink": [61.0]})
