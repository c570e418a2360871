"""Results of an analysis for its encoders and pairs of encoders, from statistics and hidden states."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.compare import Measurement, compare_statistics, compare_tokens
from graftwork.statistics.reference import ReferenceStatistics, global_std
from graftwork.statistics.sink import (
    MassiveActivation,
    expected_global_std,
    find_massive_activations,
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
        stds_without_sink: The same without the sink token; NaN where no other token is left.
        massive: (token, dimension) -> activation.
        first: Magnitude of the largest value of every token of the first input, float64 (tokens,).
    """

    lengths: list[int] = field(default_factory=list)
    stds: list[float] = field(default_factory=list)
    stds_without_sink: list[float] = field(default_factory=list)
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
        rest = one.states[one.roles != ROLE_CODES["sink"]].astype(np.float64)
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

    def activations(self) -> list[RepeatedActivation]:
        """Returns the massive activations, largest magnitude first."""
        return sorted(
            self.massive.values(),
            key=lambda one: (-abs(one.activation.value), one.activation.token, one.activation.dim),
        )


@dataclass(frozen=True)
class SinkReport:
    """Effect of the attention-sink token on the statistics of a layer.

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
    """Returns the effect of the sink, from the statistics of all tokens and of those without it."""
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
    lengths: Sequence[int], every: ReferenceStatistics, rest: ReferenceStatistics
) -> tuple[list[float], list[float]]:
    """Returns the standard deviation that sequences of these lengths have if their tokens are independent.

    Args:
        lengths: Tokens, sink included, 2 or more.
        every: Statistics of all tokens.
        rest: Statistics of the tokens without the sink.

    Returns:
        With the sink, and without it (of one token fewer).
    """
    _, sink, _ = subtract_tokens(every, rest)
    return (
        expected_global_std(lengths, rest.mean, rest.std, sink),
        expected_global_std([length - 1 for length in lengths], rest.mean, rest.std),
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
        inputs: Number of inputs that the tokens are from.
        is_all: Whether all inputs are included; false where `MOST_PAIRED_TOKENS` left some out.
    """

    a: np.ndarray
    b: np.ndarray
    roles: np.ndarray
    inputs: int
    is_all: bool


def pair_inputs(
    pairs: Iterable[tuple[ReadInput, ReadInput]], classes: tuple[str, str]
) -> PairedTokens | None:
    """Returns tokens that both encoders have, row by row; None where those of some input differ.

    Each side contributes the tokens of its class without those of images, which a text encoder cannot have.

    Args:
        pairs: The same input with A and with B.
        classes: Token classes of A and of B.
    """
    parts, tokens, inputs, is_all = [], 0, 0, True
    for sides in pairs:
        kept = [
            select_class(name, side.roles) & ~np.isin(side.roles, _OF_IMAGES)
            for name, side in zip(classes, sides, strict=True)
        ]
        ids = [side.token_ids[mask] for side, mask in zip(sides, kept, strict=True)]
        if len(ids[0]) == 0 or not np.array_equal(*ids):
            return None
        if tokens + len(ids[0]) > MOST_PAIRED_TOKENS:
            is_all = False
            break
        tokens, inputs = tokens + len(ids[0]), inputs + 1
        parts.append(
            (*(side.states[mask] for side, mask in zip(sides, kept, strict=True)), sides[0].roles[kept[0]])
        )
    if not parts:
        return None
    a, b, roles = (np.concatenate(part) for part in zip(*parts, strict=True))
    return PairedTokens(a, b, roles, inputs, is_all)


def compare_paired(paired: PairedTokens) -> dict[str, Measurement]:
    """Compares the same tokens of two encoders."""
    return compare_tokens(paired.a, paired.b, paired.roles)


def magnitude_rows(readings: Mapping[int, LayerReading]) -> tuple[list[int], np.ndarray] | None:
    """Returns layers, and the largest magnitude of every token of the first input, float64 (layers, tokens)."""
    known = [(layer, one.first) for layer, one in readings.items() if one.first is not None]
    if not known:
        return None
    return [layer for layer, _ in known], np.stack([row for _, row in known])
