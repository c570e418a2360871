"""Results of an analysis for its encoders and pairs of encoders, from statistics and hidden states."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.compare import Measurement, compare_statistics, compare_tokens
from graftwork.statistics.reference import ReferenceStatistics, global_std
from graftwork.statistics.sink import (
    FurtherSinks,
    MassiveActivation,
    SinkCounter,
    expected_global_std,
    find_massive_activations,
    find_sinks,
    largest_shares,
    subtract_tokens,
    variance_shares,
)
from graftwork.statistics.token_classes import select_class

# Linear CKA needs a matrix of tokens x tokens.
MOST_PAIRED_TOKENS = 2048
TOP_DIMS = 3
# Roles of tokens that a text encoder cannot have.
_OF_IMAGES = (ROLE_CODES["image"], ROLE_CODES["vision_marker"])


@dataclass(frozen=True, eq=False)
class ReadInput:
    """One input at one layer.

    Attributes:
        states: float32 (tokens, channels).
        roles: uint8 (tokens,).
        token_ids: int64 (tokens,).
    """

    states: np.ndarray
    roles: np.ndarray
    token_ids: np.ndarray


@dataclass(frozen=True)
class RepeatedActivation:
    """A massive activation that inputs have at the same place.

    Attributes:
        activation: The activation with the largest magnitude.
        inputs: Number of inputs that have it.
    """

    activation: MassiveActivation
    inputs: int


@dataclass
class LayerReading:
    """Values of one encoder at one layer, collected over all inputs.

    Attributes:
        lengths: Tokens of each input.
        stds: Standard deviation (ddof 1) of all values of each input.
        stds_without_sink: The same without sinks; NaN where no other token is left.
        sinks: Number of sinks of each input.
        massive: (token, dimension) -> activation.
        counter: counter of the sinks beyond position 0.
        first: Magnitude of the largest value of every token of the first input, float64 (tokens,).
    """

    lengths: list[int] = field(default_factory=list)
    stds: list[float] = field(default_factory=list)
    stds_without_sink: list[float] = field(default_factory=list)
    sinks: list[int] = field(default_factory=list)
    counter: SinkCounter = field(default_factory=SinkCounter)
    massive: dict[tuple[int, int], RepeatedActivation] = field(default_factory=dict)
    first: np.ndarray | None = None

    def add(self, one: ReadInput, layer: int, min_magnitude: float, min_factor: float) -> None:
        """Adds the values of the next input.

        Args:
            one: The input.
            layer: Layer for the activations, as reports number it.
            min_magnitude: Argument of `find_massive_activations`.
            min_factor: Argument of `find_massive_activations`.
        """
        sinks = self.counter.add(one.states, one.roles, one.token_ids)
        self.sinks.append(int(sinks.sum()))
        rest = one.states[~sinks].astype(np.float64)
        self.lengths.append(len(one.states))
        self.stds.append(float(one.states.astype(np.float64).std(ddof=1)))
        self.stds_without_sink.append(float(rest.std(ddof=1)) if rest.size > 1 else np.nan)
        if self.first is None:
            self.first = np.abs(one.states.astype(np.float64)).max(axis=1)
        for found in find_massive_activations(one.states, one.roles, layer, min_magnitude, min_factor):
            before = self.massive.get((found.token, found.dim))
            larger = before is None or abs(found.value) > abs(before.activation.value)
            self.massive[found.token, found.dim] = RepeatedActivation(
                found if larger else before.activation, 1 + (before.inputs if before else 0)
            )

    def further_sinks(self) -> FurtherSinks:
        """Returns the sinks beyond position 0."""
        return self.counter.counted()

    def activations(self) -> list[RepeatedActivation]:
        """Returns the massive activations, largest magnitude first."""
        return sorted(
            self.massive.values(),
            key=lambda one: (-abs(one.activation.value), one.activation.token, one.activation.dim),
        )


@dataclass(frozen=True)
class SinkReport:
    """Effect of attention sinks on the statistics of a layer.

    Attributes:
        sink_tokens: Number of sink tokens.
        tokens: Number of all tokens.
        std: Standard deviation of all values.
        std_without_sink: The same without the sinks.
        sink_share: Share of the variance that is gone when the sinks are left out.
        top_dims: The dimensions with the largest shares of the variance of the other tokens.
        top_share: Their share together.
    """

    sink_tokens: int
    tokens: int
    std: float
    std_without_sink: float
    sink_share: float
    top_dims: tuple[int, ...]
    top_share: float


def report_sink(every: ReferenceStatistics, rest: ReferenceStatistics) -> SinkReport:
    """Returns the effect of the sink, from the statistics of all tokens and of those that are none."""
    std, std_rest = global_std(every), global_std(rest)
    left = np.square(std_rest) * (rest.n * rest.channels - 1)
    whole = np.square(std) * (every.n * every.channels - 1)
    largest = largest_shares(variance_shares(rest), TOP_DIMS)
    return SinkReport(
        every.n - rest.n,
        every.n,
        std,
        std_rest,
        float(1.0 - left / whole),
        tuple(dim for dim, _ in largest),
        float(sum(share for _, share in largest)),
    )


def expected_stds(
    lengths: Sequence[int],
    every: ReferenceStatistics,
    rest: ReferenceStatistics,
    sinks: Sequence[int] | None = None,
) -> tuple[list[float], list[float]]:
    """Returns the standard deviation that sequences of these lengths have if their tokens are independent.

    Args:
        lengths: Tokens, sinks included, 2 or more, of which one or more are none.
        every: Statistics of all tokens.
        rest: Statistics of the tokens that are no sinks.
        sinks: Sinks of each sequence; None for one in each.

    Returns:
        With the sinks, each of them the mean one, and without them (of as many tokens fewer).
    """
    _, sink, _ = subtract_tokens(every, rest)
    numbers = [1] * len(lengths) if sinks is None else sinks
    left = [length - number for length, number in zip(lengths, numbers, strict=True)]
    return (
        expected_global_std(lengths, rest.mean, rest.std, sink, numbers),
        expected_global_std(left, rest.mean, rest.std),
    )


def compare_sides(
    a: ReferenceStatistics,
    b: ReferenceStatistics,
    a_without_sink: ReferenceStatistics | None,
    b_without_sink: ReferenceStatistics | None,
) -> dict[str, Measurement]:
    """Compares two sides by their statistics, with and without their largest dimensions and, where given, the sink."""
    top = min(TOP_DIMS, a.channels - 2)
    return compare_statistics(a, b, a_without_sink, b_without_sink, max(top, 0))


@dataclass(frozen=True, eq=False)
class PairedTokens:
    """The same tokens of two encoders.

    Attributes:
        a: float32 (tokens, channels) of A.
        b: float32 (tokens, channels) of B.
        roles: uint8 (tokens,), of A.
        sinks: bool (tokens,), which are sinks in A or in B.
        inputs: Number of inputs that the tokens are from.
        is_all: Whether all inputs are included; false where `MOST_PAIRED_TOKENS` left some out.
    """

    a: np.ndarray
    b: np.ndarray
    roles: np.ndarray
    sinks: np.ndarray
    inputs: int
    is_all: bool


def pair_inputs(
    pairs: Iterable[tuple[ReadInput, ReadInput]], classes: tuple[str, str]
) -> PairedTokens | None:
    """Returns tokens that both encoders have, row by row; None where those of some input differ.

    Each side contributes the tokens of its class without those of images, which a text encoder cannot have. Of a class
    without sinks, a token that is massive on that side is left out on both.

    Args:
        pairs: The same input with A and with B.
        classes: Token classes of A and of B.
    """
    parts, tokens, inputs, is_all = [], 0, 0, True
    for sides in pairs:
        part = _pair(sides, classes)
        if part is None:
            return None
        if tokens + len(part[0]) > MOST_PAIRED_TOKENS:
            is_all = False
            break
        tokens, inputs = tokens + len(part[0]), inputs + 1
        parts.append(part)
    if not parts:
        return None
    a, b, roles, sinks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return PairedTokens(a, b, roles, sinks, inputs, is_all)


def _pair(sides: tuple[ReadInput, ReadInput], classes: tuple[str, str]) -> tuple[np.ndarray, ...] | None:
    """Returns states of A and of B, roles of A, and which are sinks, of one input; None where the tokens differ."""
    rows, sinks = [], []
    for name, side in zip(classes, sides, strict=True):
        # By role first: tokens that are massive on one side alone are no reason not to pair the others.
        member = select_class(name, side.roles, side.roles == ROLE_CODES["sink"])
        rows.append(np.flatnonzero(member & ~np.isin(side.roles, _OF_IMAGES)))
        sinks.append(find_sinks(side.states, side.roles)[rows[-1]])
    ids = [side.token_ids[at] for side, at in zip(sides, rows, strict=True)]
    if len(ids[0]) == 0 or not np.array_equal(*ids):
        return None
    left_out = np.zeros(len(ids[0]), dtype=bool)
    for name, found in zip(classes, sinks, strict=True):
        left_out |= found & (name != "all")
    kept = ~left_out
    if not kept.any():
        return None
    a, b = (side.states[at[kept]] for side, at in zip(sides, rows, strict=True))
    return a, b, sides[0].roles[rows[0][kept]], (sinks[0] | sinks[1])[kept]


def compare_paired(paired: PairedTokens) -> dict[str, Measurement]:
    """Compares the same tokens of two encoders."""
    return compare_tokens(paired.a, paired.b, paired.sinks)


def magnitude_rows(readings: Mapping[int, LayerReading]) -> tuple[list[int], np.ndarray] | None:
    """Returns layers, and the largest magnitude of every token of the first input, float64 (layers, tokens)."""
    known = [(layer, one.first) for layer, one in readings.items() if one.first is not None]
    if not known:
        return None
    return [layer for layer, _ in known], np.stack([row for _, row in known])
