"""Formulas that test published claims about statistics: the sink's value, and what a few dimensions decide.

The workflow does not need them: it has the hidden states, and measures the sink.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graftwork.statistics.compare import cosine, pearson
from graftwork.statistics.reference import kept_dims
from graftwork.statistics.sink import HasMoments


@dataclass(frozen=True, eq=False)
class SinkSplit:
    """Statistics divided into those of the sink tokens and those of the rest, all float64 (channels,).

    Attributes:
        sink: Value of the sink tokens, equal in all of them.
        rest_mean: Mean of the other tokens.
        rest_std: Standard deviation of the other tokens, ddof 1; NaN where the sink value contradicts the statistics.
    """

    sink: np.ndarray
    rest_mean: np.ndarray
    rest_std: np.ndarray


@dataclass(frozen=True)
class ShuffledCorrelation:
    """What remains of an agreement when most dimensions are shuffled.

    Attributes:
        pearson: Mean over the repeats of the Pearson correlation with the unshuffled vector.
        pearson_minimum: Smallest of them.
        pearson_maximum: Largest of them.
        cosine: Mean over the repeats of the uncentred cosine.
    """

    pearson: float
    pearson_minimum: float
    pearson_maximum: float
    cosine: float


def energy_shares(statistics: HasMoments) -> np.ndarray:
    """Returns which share of the sum of squares each dimension has: float64 (channels,), sum 1.

    What is normalized per dimension to these statistics gets this distribution.
    """
    mean = np.asarray(statistics.mean, dtype=np.float64)
    parts = statistics.m2 + statistics.n * np.square(mean)
    if not parts.sum() > 0:
        raise ValueError("all values are 0, so there is no energy to divide among dimensions")
    return parts / parts.sum()


def solve_sink(statistics: HasMoments, sink_tokens: int) -> SinkSplit:
    """Returns the value that the sink tokens have if every other token is constant.

    With k of n tokens at s and the others at o: mean = o + (s - o) k/n and M2 = (s - o)**2 k (n - k)/n, two equations
    for two unknowns. Other tokens that vary make |s - o| an upper bound, close where the sink makes most of M2; in
    other dimensions the result means nothing. Of two solutions this is the one with s on the side of the mean, which
    gives the smaller |o| while fewer than half of the tokens are sinks.

    Args:
        statistics: Of all tokens.
        sink_tokens: k, usually one per sequence.

    Raises:
        ValueError: where k is not between 1 and n - 1.
    """
    n, k = _sink_counts(statistics, sink_tokens)
    mean = np.asarray(statistics.mean, dtype=np.float64)
    distance = np.where(mean < 0, -1.0, 1.0) * np.sqrt(statistics.m2 * n / (k * (n - k)))
    rest = mean - distance * k / n
    return SinkSplit(rest + distance, rest, np.zeros_like(rest))


def split_sink(statistics: HasMoments, sink_tokens: int, sink: np.ndarray) -> SinkSplit:
    """Returns the statistics of the other tokens where the value of the sink tokens is known.

    Args:
        statistics: Of all tokens.
        sink_tokens: How many of them are sinks.
        sink: (channels,), or what broadcasts to it: their value, equal in all of them.

    Raises:
        ValueError: where `sink_tokens` is not between 1 and n - 1.
    """
    n, k = _sink_counts(statistics, sink_tokens)
    sink = np.broadcast_to(np.asarray(sink, dtype=np.float64), np.shape(statistics.mean))
    rest = (n * np.asarray(statistics.mean, dtype=np.float64) - k * sink) / (n - k)
    m2 = statistics.m2 - k * (n - k) / n * np.square(sink - rest)
    with np.errstate(invalid="ignore", divide="ignore"):
        return SinkSplit(sink.copy(), rest, np.sqrt(m2 / (n - k - 1)))


def shuffled_correlation(
    std: np.ndarray, kept: Iterable[int], seed: int = 0, repeats: int = 100
) -> ShuffledCorrelation:
    """Returns how a vector agrees with itself when all dimensions but `kept` are shuffled among each other.

    Args:
        std: (channels,) standard deviations.
        kept: Dimensions that stay where they are.
        seed: Of the shuffles.
        repeats: How many.

    Raises:
        ValueError: for dimensions that do not exist, or fewer than 1 repeat.
    """
    if repeats < 1:
        raise ValueError(f"{repeats} repeats were asked for; allowed are 1 or more")
    values = np.asarray(std, dtype=np.float64)
    others = np.flatnonzero(kept_dims(len(values), kept))
    generator = np.random.default_rng(seed)
    correlations, cosines = [], []
    for _ in range(repeats):
        shuffled = values.copy()
        shuffled[others] = generator.permutation(values[others])
        correlations.append(pearson(values, shuffled))
        cosines.append(cosine(values, shuffled))
    return ShuffledCorrelation(
        float(np.mean(correlations)), min(correlations), max(correlations), float(np.mean(cosines))
    )


def _sink_counts(statistics: HasMoments, sink_tokens: int) -> tuple[float, float]:
    if not 1 <= sink_tokens < statistics.n:
        raise ValueError(
            f"{sink_tokens} sink tokens among {statistics.n} cannot be told from the rest; allowed are 1 to "
            f"{statistics.n - 1}, usually one per sequence"
        )
    return float(statistics.n), float(sink_tokens)
