"""Massive activations and the attention sink: where they are, and how much of a statistic is theirs.

In these models a few dimensions of one token, the first, can be thousands of times larger than everything else (Sun et
al., "Massive Activations in Large Language Models", 2024; Xiao et al., "Efficient Streaming Language Models with
Attention Sinks", 2024). Statistics over a sequence then tell how many such tokens it has among how many.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graftwork.models.tokens import ROLES
from graftwork.statistics.compare import cosine, pearson
from graftwork.statistics.reference import kept_dims
from graftwork.statistics.token_classes import check_roles


class HasMoments(Protocol):
    """`ReferenceStatistics` or `Moments`: token count, mean and sum of squared deviations per dimension."""

    @property
    def n(self) -> int:
        """Number of tokens."""

    @property
    def mean(self) -> np.ndarray:
        """Mean per dimension, (channels,)."""

    @property
    def m2(self) -> np.ndarray:
        """Sum of squared deviations per dimension, float64 (channels,)."""


@dataclass(frozen=True)
class MassiveActivation:
    """One value that is far above the others of its layer.

    Attributes:
        layer: As in `hidden_states`.
        token: Position in the sequence.
        role: One of `ROLES`.
        dim: Dimension.
        value: The value itself.
        factor: Its magnitude over the median magnitude of the layer; infinite where that is 0.
    """

    layer: int
    token: int
    role: str
    dim: int
    value: float
    factor: float


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


def find_massive_activations(
    states: np.ndarray,
    roles: np.ndarray,
    layer: int,
    min_magnitude: float = 100.0,
    min_factor: float = 1000.0,
    limit: int = 50,
) -> list[MassiveActivation]:
    """Returns the massive activations of one layer, largest magnitude first.

    A value is massive where its magnitude is above `min_magnitude` and at least `min_factor` times the median
    magnitude of the layer's values (Sun et al. 2024, section 2; 100 and 1000 there).

    Args:
        states: float32 (tokens, channels).
        roles: uint8 (tokens,), codes of `ROLES`.
        layer: Number of the layer, for the result.
        min_magnitude: See above.
        min_factor: See above.
        limit: How many at most.

    Raises:
        ValueError: for states without tokens, or roles that do not fit.
    """
    magnitude = _magnitudes(states, layer)
    check_roles(roles, len(states))
    median = float(np.median(magnitude))
    massive = np.flatnonzero((magnitude > min_magnitude) & (magnitude >= min_factor * median))
    order = massive[np.argsort(-magnitude.ravel()[massive], kind="stable")][:limit]
    found = []
    for index in order.tolist():
        token, dim = divmod(index, states.shape[1])
        factor = float(magnitude[token, dim]) / median if median else float("inf")
        found.append(
            MassiveActivation(layer, token, ROLES[roles[token]], dim, float(states[token, dim]), factor)
        )
    return found


def magnitude_map(layers: Mapping[int, np.ndarray]) -> tuple[list[int], np.ndarray]:
    """Returns the largest magnitude of every token at every layer.

    Args:
        layers: Layer -> float32 (tokens, channels), the same tokens in all.

    Returns:
        The layers in order, and float64 (layers, tokens).

    Raises:
        ValueError: where there are none, or their token counts differ.
    """
    order = sorted(layers)
    counts = {layer: len(layers[layer]) for layer in order}
    if len(set(counts.values())) != 1:
        raise ValueError(
            f"a map needs layers with the same tokens; their counts are {counts or 'none at all'}"
        )
    return order, np.stack([_magnitudes(layers[layer], layer).max(axis=1) for layer in order])


def variance_shares(statistics: HasMoments, *, about_global_mean: bool = True) -> np.ndarray:
    """Returns which share of the variance of all values each dimension has: float64 (channels,), sum 1.

    Args:
        statistics: Of all tokens.
        about_global_mean: Whether deviations count from the one mean of all values, so that means that differ between
            dimensions count, as they do in a global standard deviation; else from each dimension's own mean.

    Raises:
        ValueError: where there is no variance to divide.
    """
    parts = np.array(statistics.m2, dtype=np.float64)
    if about_global_mean:
        mean = np.asarray(statistics.mean, dtype=np.float64)
        parts += statistics.n * np.square(mean - mean.mean())
    return _shares(parts, "variance")


def energy_shares(statistics: HasMoments) -> np.ndarray:
    """Returns which share of the sum of squares each dimension has: float64 (channels,), sum 1.

    What is normalized per dimension to these statistics gets this distribution.
    """
    mean = np.asarray(statistics.mean, dtype=np.float64)
    return _shares(statistics.m2 + statistics.n * np.square(mean), "energy")


def largest_shares(shares: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Returns the `count` dimensions with the largest shares, (dim, share), largest first."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [(dim, float(shares[dim])) for dim in order.tolist()]


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


def subtract_tokens(whole: HasMoments, part: HasMoments) -> tuple[int, np.ndarray, np.ndarray]:
    """Returns count, mean and M2 of the tokens of `whole` that are not in `part` (merging, backwards).

    Of statistics of all tokens and of those without the sink, it gives the sink's, without any assumption.

    Args:
        whole: Statistics of a set of tokens.
        part: Statistics of a part of them.

    Returns:
        n, mean float64 (channels,), m2 float64 (channels,), not below 0.

    Raises:
        ValueError: where nothing is left.
    """
    n = whole.n - part.n
    if n < 1:
        raise ValueError(f"{part.n} tokens cannot be taken from {whole.n}; at least one has to be left")
    whole_mean, part_mean = np.asarray(whole.mean, np.float64), np.asarray(part.mean, np.float64)
    mean = (whole.n * whole_mean - part.n * part_mean) / n
    m2 = whole.m2 - part.m2 - n * part.n / whole.n * np.square(mean - part_mean)
    return n, mean, np.maximum(m2, 0.0)


def expected_global_std(
    lengths: Sequence[int], rest_mean: np.ndarray, rest_std: np.ndarray, sink: np.ndarray | None = None
) -> list[float]:
    """Returns the standard deviation of all values (root of the expected variance, ddof 1) of sequences by length.

    The tokens are independent draws with `rest_mean` and `rest_std`; the first is replaced by the sink, if given.

    Args:
        lengths: Tokens of each sequence, sink included, 1 or more.
        rest_mean: (channels,) of ordinary tokens.
        rest_std: (channels,) of ordinary tokens.
        sink: (channels,) value of the sink token, or None for sequences without one.

    Raises:
        ValueError: for a length below 1.
    """
    mean, variance = np.asarray(rest_mean, np.float64), np.square(np.asarray(rest_std, np.float64))
    fixed = np.zeros(0) if sink is None else np.asarray(sink, np.float64)
    stds = []
    for length in lengths:
        if length < 1:
            raise ValueError(
                f"a sequence of {length} tokens has no standard deviation; lengths are 1 or more"
            )
        drawn, values = length - (sink is not None), length * len(mean)
        square_sum = np.square(fixed).sum() + drawn * (np.square(mean) + variance).sum()
        squared_sum = np.square(fixed.sum() + drawn * mean.sum()) + drawn * variance.sum()
        expected = max(square_sum - squared_sum / values, 0.0) / (values - 1) if values > 1 else 0.0
        stds.append(float(np.sqrt(expected)))
    return stds


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


def _magnitudes(states: np.ndarray, layer: int) -> np.ndarray:
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"states of layer {layer} have the shape {states.shape}, not (tokens, channels)")
    if not np.isfinite(states).all():
        raise ValueError(f"states of layer {layer} have values that are NaN or infinite")
    return np.abs(states.astype(np.float64))


def _shares(parts: np.ndarray, what: str) -> np.ndarray:
    total = parts.sum()
    if not total > 0:
        raise ValueError(f"all values are equal, so there is no {what} to divide among dimensions")
    return parts / total


def _sink_counts(statistics: HasMoments, sink_tokens: int) -> tuple[float, float]:
    if not 1 <= sink_tokens < statistics.n:
        raise ValueError(
            f"{sink_tokens} sink tokens among {statistics.n} cannot be told from the rest; allowed are 1 to "
            f"{statistics.n - 1}, usually one per sequence"
        )
    return float(statistics.n), float(sink_tokens)
