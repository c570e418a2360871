"""Massive activations and attention sinks: where they are, and their share in a statistic.

In these models a few dimensions of a token, mostly of the first, can be thousands of times larger than everything else
(Sun et al., "Massive Activations in Large Language Models", 2024; Xiao et al., "Efficient Streaming Language Models with
Attention Sinks", 2024). Statistics over a sequence then depend mostly on the share of such tokens. `find_sinks` says which
tokens these are, and everything that leaves out "the sink" asks it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from graftwork.models.tokens import ROLE_CODES, ROLES
from graftwork.statistics.token_classes import check_roles

# A token is massive where its norm is at least this many times that of the typical token of its input ...
MASSIVE_NORM = 3.0
# ... and at least this share of its energy ...
MASSIVE_SHARE = 0.5
# ... is in this many dimensions.
FEW_DIMS = 3
# In narrower states, three dimensions are not few.
LEAST_CHANNELS = 32
SINK_IN_WORDS = (
    f"position 0, and every token whose norm is at least {MASSIVE_NORM:g} times that of the typical token of its input, with "
    f"at least {100 * MASSIVE_SHARE:g} % of its energy in {FEW_DIMS} dimensions"
)


def find_sinks(states: np.ndarray, roles: np.ndarray) -> np.ndarray:
    """Returns which tokens of one input, at one layer, are sinks: the one in role `sink`, and those that are massive.

    Args:
        states: float16 or float32 (tokens, channels), all tokens of the input.
        roles: uint8 (tokens,), codes of `ROLES`.

    Returns:
        bool (tokens,).

    Raises:
        ValueError: for roles that do not fit.
    """
    check_roles(roles, len(states))
    return (roles == ROLE_CODES["sink"]) | (massive_norms(states, roles) > 0.0)


def massive_norms(states: np.ndarray, roles: np.ndarray) -> np.ndarray:
    """Returns the norm of each massive token over that of the typical token, and 0 for every other token.

    A token is massive where its norm is at least `MASSIVE_NORM` times that of the typical token, and `MASSIVE_SHARE` of
    its energy (squared norm) or more is in its `FEW_DIMS` largest dimensions. The typical token has the lower median of
    the norms of all tokens but the one in role `sink`. Where half of the tokens or more are alike massive, none is.

    The reference is Sun et al. 2024: magnitudes above 100 and at least 1000 times the median of the layer. Such numbers go
    with the width and the depth of a model: in one of 128 dimensions the same tokens have 130 to 300 times the median. A
    norm and a share do not. In the miniature, tokens that are sinks have 54 % or more of their energy in three dimensions,
    and all others 49 % or less, mostly below 27 %; some of these have nine times the typical norm. So the share tells them apart, and the norm decides from where on it matters.

    Args:
        states: float16 or float32 (tokens, channels), all tokens of the input.
        roles: uint8 (tokens,), codes of `ROLES`.

    Returns:
        float64 (tokens,).
    """
    factors = np.zeros(len(states))
    rest = roles != ROLE_CODES["sink"]
    if not rest.any() or states.shape[1] < LEAST_CHANNELS:
        return factors
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # What is not finite is refused elsewhere, and is no sink.
        energy = np.einsum("ij,ij->i", states, states, dtype=np.float64)
        middle = (int(rest.sum()) - 1) // 2
        typical = np.partition(energy[rest], middle)[middle]
        if not 0.0 < typical < np.inf:
            return factors
        large = np.flatnonzero((energy >= MASSIVE_NORM**2 * typical) & (energy < np.inf))
        squares = np.square(states[large].astype(np.float64))
        largest = np.partition(squares, -FEW_DIMS, axis=1)[:, -FEW_DIMS:].sum(axis=1)
        massive = large[largest >= MASSIVE_SHARE * energy[large]]
        factors[massive] = np.sqrt(energy[massive] / typical)
    return factors


def has_no_typical_token(states: np.ndarray, roles: np.ndarray) -> bool:
    """Returns whether half of the tokens or more, that in role `sink` aside, have their energy in few dimensions.

    Where they are sinks, they are too many to be told from typical tokens, and `find_sinks` does not find them: a model
    does that with texts that are unlike those it was trained on.

    Args:
        states: float16 or float32 (tokens, channels), all tokens of the input.
        roles: uint8 (tokens,), codes of `ROLES`.
    """
    squares = np.square(states[roles != ROLE_CODES["sink"]].astype(np.float64))
    if len(squares) == 0 or states.shape[1] < LEAST_CHANNELS:
        return False
    largest = np.partition(squares, -FEW_DIMS, axis=1)[:, -FEW_DIMS:].sum(axis=1)
    energy = squares.sum(axis=1)
    return bool(2 * ((largest >= MASSIVE_SHARE * energy) & (energy > 0.0)).sum() >= len(squares))


@dataclass(frozen=True)
class SinkPlace:
    """Where inputs have a sink.

    Attributes:
        position: Index of the token.
        token_id: Which token it is.
        inputs: Number of inputs that have it.
    """

    position: int
    token_id: int
    inputs: int


@dataclass(frozen=True)
class FurtherSinks:
    """Sinks beyond position 0 in the inputs of a corpus, at one layer of an encoder.

    Attributes:
        inputs: Number of inputs that were read.
        inputs_with: Number of those that have one or more.
        places: Where, in order of position, then of their number.
        untypical: Number of inputs without a typical token, whose sinks cannot be told; see `has_no_typical_token`.
    """

    inputs: int
    inputs_with: int
    places: tuple[SinkPlace, ...] = ()
    untypical: int = 0

    @property
    def are_worth_a_warning(self) -> bool:
        """Whether statistics of these inputs are other than those by position 0 alone, or ought to be."""
        return bool(self.places or self.untypical)

    def positions(self) -> dict[int, int]:
        """Returns position -> number of inputs with a sink there."""
        found: Counter[int] = Counter()
        for place in self.places:
            found[place.position] += place.inputs
        return dict(found)

    def described(self) -> str:
        """Returns how many inputs have some, and where, in words."""
        if self.untypical:
            rest = replace(self, untypical=0).described()
            return (
                f"{rest}; {self.untypical} of {self.inputs} inputs have most of their energy in {FEW_DIMS} dimensions at half "
                "of their tokens or more, so that sinks cannot be told there and all tokens count"
            )
        if not self.places:
            return f"none of {self.inputs} inputs has a sink beyond position 0"
        verb = "has" if self.inputs_with == 1 else "have"
        positions = self.positions()
        if len(positions) == 1:
            where = f"at position {next(iter(positions))}"
        else:
            parts = [f"at position {position} in {count}" for position, count in positions.items()]
            where = f"beyond position 0 ({', '.join(parts)})"
        return f"{self.inputs_with} of {self.inputs} inputs {verb} a sink {where}"


class SinkCounter:
    """Counts the sinks beyond position 0 of one input after the other."""

    def __init__(self) -> None:
        self._inputs = 0
        self._inputs_with = 0
        self._untypical = 0
        self._places: Counter[tuple[int, int]] = Counter()

    def add(self, states: np.ndarray, roles: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        """Adds an input.

        Args:
            states: float16 or float32 (tokens, channels), all tokens of the input.
            roles: uint8 (tokens,), codes of `ROLES`.
            token_ids: int64 (tokens,).

        Returns:
            Its sinks, bool (tokens,), as `find_sinks` returns them.
        """
        sinks = find_sinks(states, roles)
        self._untypical += has_no_typical_token(states, roles)
        further = [position for position in np.flatnonzero(sinks).tolist() if position > 0]
        self._inputs += 1
        self._inputs_with += bool(further)
        self._places.update((position, int(token_ids[position])) for position in further)
        return sinks

    def counted(self) -> FurtherSinks:
        """Returns what was found."""
        order = sorted(self._places.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
        places = tuple(SinkPlace(*place, inputs) for place, inputs in order)
        return FurtherSinks(self._inputs, self._inputs_with, places, self._untypical)


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

    It follows from the statistics of all tokens and of those without the sink, without any assumption.

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
    lengths: Sequence[int],
    rest_mean: np.ndarray,
    rest_std: np.ndarray,
    sink: np.ndarray | None = None,
    sinks: Sequence[int] | None = None,
) -> list[float]:
    """Returns the standard deviation of all values (root of the expected variance, ddof 1) of sequences by length.

    The tokens are independent draws with `rest_mean` and `rest_std`; the first ones are replaced by the sink, if given.

    Args:
        lengths: Tokens of each sequence, sink included, 1 or more.
        rest_mean: (channels,) of ordinary tokens.
        rest_std: (channels,) of ordinary tokens.
        sink: (channels,) value of a sink token, or None for sequences without one.
        sinks: Number of sinks in each sequence; None for one in each.

    Raises:
        ValueError: for a length below 1.
    """
    mean, variance = np.asarray(rest_mean, np.float64), np.square(np.asarray(rest_std, np.float64))
    fixed = np.zeros(0) if sink is None else np.asarray(sink, np.float64)
    stds = []
    numbers = [1] * len(lengths) if sinks is None else sinks
    for length, number in zip(lengths, numbers, strict=True):
        if length < 1:
            raise ValueError(
                f"a sequence of {length} tokens has no standard deviation; lengths are 1 or more"
            )
        drawn, values = length - number * (sink is not None), length * len(mean)
        square_sum = number * np.square(fixed).sum() + drawn * (np.square(mean) + variance).sum()
        squared_sum = np.square(number * fixed.sum() + drawn * mean.sum()) + drawn * variance.sum()
        expected = max(square_sum - squared_sum / values, 0.0) / (values - 1) if values > 1 else 0.0
        stds.append(float(np.sqrt(expected)))
    return stds


def _magnitudes(states: np.ndarray, layer: int) -> np.ndarray:
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"states of layer {layer} have the shape {states.shape}, not (tokens, channels)")
    if not np.isfinite(states).all():
        raise ValueError(f"states of layer {layer} have values that are NaN or infinite")
    return np.abs(states.astype(np.float64))
