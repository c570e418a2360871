"""Statistics and comparisons as CSV; what is not defined is an empty field."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graftwork.core.tables import write_table
from graftwork.statistics.analysis import RepeatedActivation
from graftwork.statistics.compare import Measurement
from graftwork.statistics.dimensions import DimensionComparison, WorstDimension
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import FurtherSinks

_VECTORS = ("mean", "std", "minimum", "maximum", "skewness", "kurtosis")


def statistics_table(statistics: ReferenceStatistics) -> str:
    """Returns one row per dimension: dim, mean, std, minimum, maximum, skewness, kurtosis (those that are known)."""
    known = [name for name in _VECTORS if getattr(statistics, name) is not None]
    vectors = [getattr(statistics, name) for name in known]
    return _write(("dim", *known), ((dim, *values) for dim, values in enumerate(zip(*vectors, strict=True))))


def comparison_table(measurements: Mapping[str, Measurement]) -> str:
    """Returns one row per measurement: name, value, what it was taken on, what it is and what it misleads about."""
    rows = (
        (
            name,
            found.value,
            found.tokens,
            found.dims,
            " ".join(map(str, found.without_dims)),
            found.description,
            found.misleads,
        )
        for name, found in measurements.items()
    )
    return _write(("name", "value", "tokens", "dims", "without_dims", "description", "misleads"), rows)


def worst_dimensions_table(worst: Sequence[WorstDimension]) -> str:
    """Returns one row per dimension, in the order given."""
    return _write(
        ("dim", "std_a", "std_b", "factor", "larger"),
        ((one.dim, one.std_a, one.std_b, one.factor, one.larger) for one in worst),
    )


def repeated_activations_table(found: Sequence[RepeatedActivation]) -> str:
    """Returns one row per place, in the order given: the largest value there, and how many inputs have one."""
    return _write(
        ("layer", "token", "role", "dim", "value", "factor", "inputs"),
        (
            (
                *(
                    getattr(one.activation, name)
                    for name in ("layer", "token", "role", "dim", "value", "factor")
                ),
                one.inputs,
            )
            for one in found
        ),
    )


def further_sinks_table(found: Mapping[int, FurtherSinks], words: Mapping[int, str]) -> str:
    """Returns one row per layer, position and token: sinks beyond position 0, and in how many inputs they are.

    Args:
        found: layer -> sinks there.
        words: token id -> what it stands for; ids that are missing have an empty field.
    """
    rows = (
        (layer, place.position, place.token_id, words.get(place.token_id), place.inputs, sinks.inputs)
        for layer, sinks in found.items()
        for place in sinks.places
    )
    return _write(("layer", "position", "token_id", "token", "inputs", "of_inputs"), rows)


def dimensions_table(std_a: np.ndarray, std_b: np.ndarray, found: DimensionComparison) -> str:
    """Returns one row per dimension: both standard deviations, their ratio, and the class on both sides."""
    rows = zip(range(len(std_a)), std_a, std_b, found.ratio, found.label_a, found.label_b, strict=True)
    return _write(("dim", "std_a", "std_b", "ratio", "class_a", "class_b"), rows)


def lengths_table(lengths: Sequence[int], series: Mapping[str, Sequence[float]]) -> str:
    """Returns one row per sequence length, with a column per series, each as long as `lengths`."""
    return _write(("tokens", *series), zip(lengths, *series.values(), strict=True))


def _write(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return write_table([dict(zip(columns, row, strict=True)) for row in rows], columns)
