"""Massive activations and the attention sink: where they are, and their share in a statistic.

In these models a few dimensions of one token, the first, can be thousands of times larger than everything else (Sun et
al., "Massive Activations in Large Language Models", 2024; Xiao et al., "Efficient Streaming Language Models with
Attention Sinks", 2024). Statistics over a sequence then depend mostly on the share of such tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graftwork.models.tokens import ROLES
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
        layer: Index of the entry of `hidden_states`.
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
        min_magnitude: Smallest magnitude of a massive activation.
        min_factor: Smallest ratio to the median magnitude of the layer.
        limit: Largest number of results.

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


def variance_shares(statistics: HasMoments, *, about_global_mean: bool = True) -> np.ndarray:
    """Returns which share of the variance of all values each dimension has: float64 (channels,), sum 1.

    Args:
        statistics: Statistics of all tokens.
        about_global_mean: Whether deviations count from the one mean of all values, so that means that differ between
            dimensions count, as they do in a global standard deviation; else from each dimension's own mean.

    Raises:
        ValueError: where there is no variance to divide.
    """
    parts = np.array(statistics.m2, dtype=np.float64)
    if about_global_mean:
        mean = np.asarray(statistics.mean, dtype=np.float64)
        parts += statistics.n * np.square(mean - mean.mean())
    total = parts.sum()
    if not total > 0:
        raise ValueError("all values are equal, so there is no variance to divide among dimensions")
    return parts / total


def largest_shares(shares: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Returns the `count` dimensions with the largest shares, (dim, share), largest first."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [(dim, float(shares[dim])) for dim in order.tolist()]


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


def _magnitudes(states: np.ndarray, layer: int) -> np.ndarray:
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"states of layer {layer} have the shape {states.shape}, not (tokens, channels)")
    if not np.isfinite(states).all():
        raise ValueError(f"states of layer {layer} have values that are NaN or infinite")
    return np.abs(states.astype(np.float64))
