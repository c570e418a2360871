"""Moments of hidden states, streamed and merged in float64, rounded to float32 once.

One partial per encoder input, folded in the order of the corpus: floating-point addition is not associative, so only a
fixed order gives the same bytes, however the inputs were divided into jobs that extracted them. Elementwise float64
arithmetic gives the same bits on every processor; the covariance goes through BLAS, which promises that for one machine
and build only.

Sources: Chan, Golub, LeVeque, "Algorithms for computing the sample variance" (1983), for two passes over each input
and for merging; Pebay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
statistical moments" (SAND2008-6212), for M3, M4 and the covariance.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import find_sinks
from graftwork.statistics.token_classes import TOKEN_CLASSES, check_roles, select_class


class NonFiniteStates(ValueError):
    """Hidden states with NaN or infinite values; their input is refused."""


class TooFewTokens(ValueError):
    """Fewer tokens than a standard deviation needs."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a set of tokens, in a form in which two of them can be merged.

    Memory is constant but for `token_rms`: no constant-memory sketch gives the exact median whatever the order, and
    four bytes a token are little beside the token itself.

    Attributes:
        n: Number of tokens, 0 or more.
        mean: float64 (channels,); 0 where n is 0.
        m2: float64 (channels,), sum of (x - mean)**2.
        m3: float64 (channels,), sum of (x - mean)**3.
        m4: float64 (channels,), sum of (x - mean)**4.
        minimum: float64 (channels,); infinite where n is 0.
        maximum: float64 (channels,); minus infinite where n is 0.
        token_rms: float32 (n,), root mean square of each token over its channels.
        scatter: float64 (channels, channels), sum of (x - mean)(x - mean)^T, or None where no covariance is wanted.
    """

    n: int
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    token_rms: np.ndarray
    scatter: np.ndarray | None = None


def decode_states(values: np.ndarray, dtype: str) -> np.ndarray:
    """Returns stored hidden states as float32; bfloat16 widens exactly.

    Args:
        values: (tokens, channels), float32, or uint16 that holds bfloat16 bits.
        dtype: "float32" or "bfloat16": what `values` means.

    Raises:
        ValueError: for another dtype.
    """
    if dtype == "bfloat16" and values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float32" and values.dtype == np.float32:
        return values
    raise ValueError(
        f"hidden states are stored as {values.dtype} that means {dtype}; known are float32, and bfloat16 as uint16"
    )


def empty_moments(channels: int, with_covariance: bool = False) -> Moments:
    """Returns the moments of no tokens: merging them changes nothing."""
    zero = np.zeros(channels)
    scatter = np.zeros((channels, channels)) if with_covariance else None
    far = np.full(channels, np.inf)
    return Moments(0, zero, zero, zero, zero, far, -far, np.zeros(0, np.float32), scatter)


def measure_tokens(states: np.ndarray, with_covariance: bool = False) -> Moments:
    """Returns the moments of tokens.

    Args:
        states: (tokens, channels), float16 or float32; no tokens is allowed.
        with_covariance: Whether to keep the scatter matrix: 8 * channels**2 bytes.

    Raises:
        NonFiniteStates: where a value is NaN or infinite.
        ValueError: for another dtype or shape.
    """
    _check_states(states)
    tokens, channels = states.shape
    if tokens == 0:
        return empty_moments(channels, with_covariance)
    # In C order, for the order of the additions of a column follows the layout.
    x = np.asarray(states, dtype=np.float64, order="C")
    # No correction of the mean: equal float32 values add up exactly in float64, so a constant dimension has exactly no
    # variance, and the steps between unequal ones are far above the rounding of their mean.
    mean = x.sum(axis=0) / tokens
    deviation = x - mean
    square = deviation * deviation
    scatter = deviation.T @ deviation if with_covariance else None
    token_rms = np.sqrt(np.square(x).mean(axis=1)).astype(np.float32)
    return Moments(
        tokens,
        mean,
        square.sum(axis=0),
        (square * deviation).sum(axis=0),
        (square * square).sum(axis=0),
        x.min(axis=0),
        x.max(axis=0),
        token_rms,
        scatter,
    )


def fold_inputs(partials: Iterable[Mapping[str, Moments]]) -> dict[str, Moments]:
    """Merges the partials of inputs, token class by token class, from left to right; memory is for one of them.

    Raises:
        ValueError: where there are none, or they do not fit each other.
    """
    totals: dict[str, Moments] = {}
    token_rms: dict[str, list[np.ndarray]] = {}
    for partial in partials:
        for name, moments in partial.items():
            totals[name] = _merge_sums(totals[name], moments) if name in totals else moments
            token_rms.setdefault(name, []).append(moments.token_rms)
    if not totals:
        raise ValueError("there are no partials to fold; the corpus of the statistics is empty")
    return {name: replace(total, token_rms=np.concatenate(token_rms[name])) for name, total in totals.items()}


def summarize(moments: Moments, owner: str = "the corpus") -> ReferenceStatistics:
    """Rounds moments to the statistics that the other packages use.

    Args:
        moments: Moments of the whole corpus.
        owner: Name of the corpus or token class, for errors.

    Raises:
        TooFewTokens: for fewer than 2 tokens.
        ValueError: where a statistic does not fit into float32.
    """
    n = moments.n
    if n < 2:
        raise TooFewTokens(
            f"{owner} has {n} token{'s' * (n != 1)}; a standard deviation needs 2 or more: "
            "add inputs to the corpus, or leave this token class out"
        )
    varies = moments.m2 > 0
    m2 = np.where(varies, moments.m2, 1.0)
    # Not np.power, whose last bit depends on the library; square roots are exact everywhere.
    skewness = np.sqrt(float(n)) * moments.m3 / (m2 * np.sqrt(m2))
    kurtosis = n * moments.m4 / (m2 * m2) - 3.0
    return ReferenceStatistics(
        n=n,
        mean=moments.mean,
        std=np.sqrt(moments.m2 / (n - 1)),
        minimum=moments.minimum,
        maximum=moments.maximum,
        skewness=np.where(varies, skewness, np.nan),
        kurtosis=np.where(varies, kurtosis, np.nan),
        median_token_rms=float(np.median(moments.token_rms.astype(np.float64))),
        covariance=None if moments.scatter is None else moments.scatter / (n - 1),
    )


def measure_input(
    states: np.ndarray, roles: np.ndarray, covariance_of: Collection[str] = ()
) -> dict[str, Moments]:
    """Returns the partial of one encoder input for every token class; classes without tokens are empty.

    Args:
        states: (tokens, channels), float16 or float32.
        roles: uint8 (tokens,), codes of `ROLES`.
        covariance_of: Token classes whose covariance is wanted.

    Raises:
        NonFiniteStates: where a value is NaN or infinite, in whatever class.
        ValueError: for roles that do not fit, or an unknown class.
    """
    unknown = sorted(set(covariance_of) - set(TOKEN_CLASSES))
    if unknown:
        raise ValueError(
            f"covariance is wanted of token class {unknown[0]!r}; allowed are {', '.join(TOKEN_CLASSES)}"
        )
    _check_states(states)
    check_roles(roles, len(states))
    sinks = find_sinks(states, roles)
    return {
        name: measure_tokens(states[select_class(name, roles, sinks)], name in covariance_of)
        for name in TOKEN_CLASSES
    }


def _check_states(states: np.ndarray) -> None:
    if states.ndim != 2 or states.shape[1] == 0:
        raise ValueError(f"states have the shape {states.shape}; they have to be (tokens, channels)")
    # Not float64: the fourth power of what it can hold overflows in float64.
    if states.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"states have the dtype {states.dtype}; allowed are float16 and float32. "
            "Stored bfloat16 goes through decode_states first"
        )
    finite = np.isfinite(states)
    if not finite.all():
        tokens = np.flatnonzero(~finite.all(axis=1))
        dims = np.flatnonzero(~finite[tokens[0]])
        raise NonFiniteStates(
            f"{len(tokens)} of {len(states)} tokens have values that are NaN or infinite; the first is token "
            f"{tokens[0]}, in {len(dims)} dimensions, {states[tokens[0], dims[0]]} in dimension {dims[0]}. The model "
            "may have overflowed: extract with dtype float32 or bfloat16"
        )


def _merge_sums(a: Moments, b: Moments) -> Moments:
    """Merges everything but `token_rms`, which is that of `a`."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments of {len(a.mean)} and of {len(b.mean)} channels cannot be merged; they are of two encoders"
        )
    if (a.scatter is None) != (b.scatter is None):
        raise ValueError("moments with a covariance and without cannot be merged; measure all inputs alike")
    if b.n == 0:
        return a
    if a.n == 0:
        return replace(b, token_rms=a.token_rms)
    na, nb, n = float(a.n), float(b.n), float(a.n + b.n)
    delta = b.mean - a.mean
    step = delta / n
    product = na * nb * delta * step
    m3 = a.m3 + b.m3 + product * (na - nb) * step + 3.0 * step * (na * b.m2 - nb * a.m2)
    m4 = (
        a.m4
        + b.m4
        + product * (na * na - na * nb + nb * nb) * (step * step)
        + 6.0 * (step * step) * (na * na * b.m2 + nb * nb * a.m2)
        + 4.0 * step * (na * b.m3 - nb * a.m3)
    )
    scatter = None
    if a.scatter is not None:
        scatter = a.scatter + b.scatter
        scatter += (na * nb / n) * np.outer(delta, delta)
    return Moments(
        a.n + b.n,
        a.mean + nb * step,
        a.m2 + b.m2 + product,
        m3,
        m4,
        np.minimum(a.minimum, b.minimum),
        np.maximum(a.maximum, b.maximum),
        a.token_rms,
        scatter,
    )
