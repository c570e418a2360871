"""What studies say of readings: shares with intervals, differences of pairs with intervals, and their power."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftwork.scores.intervals import Z_95, bootstrap_interval, share_interval, sign_flip_p

# The quantile of the standard normal distribution for a power of 80 %.
Z_POWER = 0.8416212335729143
Cells = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Share:
    """A share of readings.

    Attributes:
        follows: how many are 1.
        n: how many there are.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    follows: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.follows / self.n

    @property
    def text(self) -> str:
        """In words: `6 of 8 (36 to 100 %)`."""
        return f"{self.follows} of {self.n} ({100 * self.low:.0f} to {100 * self.high:.0f} %)"


def share_of(cells: Cells, columns: Iterable[str]) -> Share | None:
    """Returns the share of 1 in some columns of 1, 0 and nothing; None where nothing was read.

    Args:
        cells: rows of cells_full.csv.
        columns: names of columns; those that the table has not are left out.
    """
    found = [
        (int(float(row[column])), row["prompt"], row["image"])
        for column in columns
        for row in cells
        if row.get(column)
    ]
    if not found:
        return None
    follows, prompts, images = zip(*found, strict=True)
    low, high = share_interval(follows, prompts, images)
    return Share(sum(follows), len(follows), low, high)


def columns_of(cells: Cells, prefix: str, attributes: Iterable[str] = ()) -> list[str]:
    """Returns the columns of a score that begin with a prefix, of some attributes or of all."""
    wanted = {f"{prefix}{attribute}" for attribute in attributes}
    names = list(cells[0]) if cells else []
    return [name for name in names if (name in wanted if wanted else name.startswith(prefix))]


@dataclass(frozen=True)
class PairedDifference:
    """The mean of differences of pairs.

    Attributes:
        mean: the mean.
        low: lower end of the 95 % interval, units resampled; NaN with one unit.
        high: upper end.
        n: number of pairs.
        units: number of units, such as prompts.
        p: two-sided p-value by flipping signs of whole units; None with one unit.
        detectable: difference that would have been seen with a probability of 80 %: 2.8 standard errors; NaN where the
            standard error is not known.
    """

    mean: float
    low: float
    high: float
    n: int
    units: int
    p: float | None
    detectable: float

    @property
    def text(self) -> str:
        """In words."""
        if math.isnan(self.low):
            return f"{self.mean:+.3f} ({self.n} pairs, no interval: one unit)"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f}, {self.n} pairs)"


def paired_difference(differences: Sequence[float], units: Sequence[Hashable]) -> PairedDifference | None:
    """Returns the mean of differences with its interval and power; None without pairs.

    Args:
        differences: one for each pair.
        units: what is independent, such as (prompt, setting); pairs of one unit are resampled together.
    """
    if not differences:
        return None
    by_unit: dict[Hashable, list[float]] = {}
    for value, unit in zip(differences, units, strict=True):
        by_unit.setdefault(unit, []).append(value)
    means = np.array([np.mean(values) for values in by_unit.values()])
    error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
    low, high = bootstrap_interval(differences, units) or (math.nan, math.nan)
    return PairedDifference(
        float(np.mean(differences)),
        low,
        high,
        len(differences),
        len(by_unit),
        sign_flip_p(differences, units),
        (Z_95 + Z_POWER) * error,
    )


def numbers(cells: Cells, column: str) -> list[float]:
    """Returns the numbers of a column, those that are there."""
    return [float(row[column]) for row in cells if row.get(column)]


def group(cells: Cells, *names: str) -> dict[tuple[Any, ...], list[Mapping[str, str]]]:
    """Returns values of columns -> rows that have them, in the order of the table."""
    found: dict[tuple[Any, ...], list[Mapping[str, str]]] = {}
    for row in cells:
        found.setdefault(tuple(row.get(name) or "" for name in names), []).append(row)
    return found
