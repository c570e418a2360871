"""Similarity of two encoders: common measures and robust ones, each with a note on how it can mislead.

A few dimensions and one token can be so large that they alone decide a measure. So each measure is also computed without
them. A measure that is not defined (a constant vector, one token) is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graftwork.statistics.reference import ReferenceStatistics, kept_dims


@dataclass(frozen=True)
class Measure:
    """A measure of similarity.

    Attributes:
        function: Two float64 arrays to a number; (channels,) for vectors of standard deviations, (tokens, channels)
            for token arrays.
        description: Description for tables.
        misleads: Wrong conclusion that a reader may draw from it.
        source: Paper, or function in a library.
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    description: str
    misleads: str
    source: str


@dataclass(frozen=True)
class Measurement:
    """The value of a measure on certain tokens and dimensions.

    Attributes:
        value: NaN where it is not defined.
        measure: Key in `STD_MEASURES` or `TOKEN_MEASURES`.
        tokens: "all" or "non_sink".
        without_dims: The dimensions left out, empty for none.
        dims: Number of dimensions that took part.
        description: See `Measure`.
        misleads: See `Measure`.
    """

    value: float
    measure: str
    tokens: str
    without_dims: tuple[int, ...]
    dims: int
    description: str
    misleads: str


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation of two (n,); NaN where one is constant."""
    return cosine(a - a.mean(), b - b.mean()) if len(a) > 1 and _varies(a) and _varies(b) else np.nan


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the cosine of the angle between two arrays, flattened and not centred; NaN where one is zero."""
    # Scaled first: the square of a large value need not overflow, nor that of a small one vanish.
    a, b = a / (np.abs(a).max(initial=0.0) or 1.0), b / (np.abs(b).max(initial=0.0) or 1.0)
    norms = np.sqrt(np.square(a).sum()) * np.sqrt(np.square(b).sum())
    return float(np.clip((a * b).sum() / norms, -1.0, 1.0)) if norms > 0 else np.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the correlation of the ranks of two (n,), equal values sharing their mean rank."""
    return pearson(_ranks(a), _ranks(b))


def pearson_log(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation of the logarithms of two (n,), over entries that are above 0 in both."""
    both = (a > 0) & (b > 0)
    return pearson(np.log(a[both]), np.log(b[both])) if both.any() else np.nan


def median_log_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the median of |ln(a/b)| of two (n,), over entries that are above 0 in both."""
    ratios = _log_ratios(a, b)
    return float(np.median(ratios)) if len(ratios) else np.nan


def mean_log_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the mean of |ln(a/b)| of two (n,), over entries that are above 0 in both."""
    ratios = _log_ratios(a, b)
    return float(ratios.mean()) if len(ratios) else np.nan


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the linear centred kernel alignment of (tokens, channels_a) and (tokens, channels_b).

    ||B^T A||_F^2 / (||A^T A||_F ||B^T B||_F), columns centred: Kornblith et al., "Similarity of Neural Network
    Representations Revisited" (2019), equation 5. Computed from the Gram matrices (tokens, tokens), which have the
    same Frobenius products.
    """
    a, b = _centred(a), _centred(b)
    return cosine(a @ a.T, b @ b.T)


_FEW_DIMS = "A handful of large dimensions decides it: the rest can be shuffled with hardly a change."
_SAYS_NOTHING = "Says nothing about means, directions or what a token encodes."
STD_MEASURES: dict[str, Measure] = {
    "pearson_std": Measure(
        pearson,
        "Pearson correlation of the standard deviations per dimension",
        f"{_FEW_DIMS} {_SAYS_NOTHING}",
        "numpy.corrcoef",
    ),
    "cosine_std": Measure(
        cosine,
        "Uncentred cosine of the standard deviations per dimension",
        f"{_FEW_DIMS} Without them it is still near 1, for standard deviations are positive. {_SAYS_NOTHING}",
        "scipy.spatial.distance.cosine",
    ),
    "spearman_std": Measure(
        spearman,
        "Spearman rank correlation of the standard deviations per dimension",
        f"Blind to how far the largest dimensions are apart. {_SAYS_NOTHING}",
        "scipy.stats.spearmanr",
    ),
    "pearson_log_std": Measure(
        pearson_log,
        "Pearson correlation of the logarithms of the standard deviations",
        f"Blind to a common factor; a dimension that is 0 on one side is left out. {_SAYS_NOTHING}",
        "numpy.corrcoef",
    ),
    "median_log_ratio": Measure(
        median_log_ratio,
        "Median over dimensions of |ln(std A / std B)|; 0 is equal, 0.69 a factor of 2",
        f"Half of the dimensions can differ without bound. A common factor counts. {_SAYS_NOTHING}",
        "numpy.median",
    ),
    "mean_log_ratio": Measure(
        mean_log_ratio,
        "Mean over dimensions of |ln(std A / std B)|; 0 is equal, 0.69 a factor of 2",
        f"A few extreme dimensions raise it; a common factor counts. {_SAYS_NOTHING}",
        "numpy.mean",
    ),
}
TOKEN_MEASURES: dict[str, Measure] = {
    "flattened_cosine": Measure(
        cosine,
        "Cosine of all values of all tokens as one vector",
        "Tokens with large norms decide it, the attention sink first; a shared mean vector makes it high.",
        "torch.nn.functional.cosine_similarity on flattened states",
    ),
    "linear_cka": Measure(
        linear_cka,
        "Linear centred kernel alignment of the tokens",
        "Blind to rotations, which the receiver is not. One far token makes it near 1, and so do fewer tokens than "
        "dimensions, whatever they encode.",
        "Kornblith et al. 2019",
    ),
}


def top_dimensions(std_a: np.ndarray, std_b: np.ndarray, count: int) -> tuple[int, ...]:
    """Returns the dimensions that are largest in either encoder, each relative to its own median, sorted.

    Args:
        std_a: (channels,) standard deviations in A.
        std_b: (channels,) in B.
        count: Number of dimensions.

    Raises:
        ValueError: where fewer than 2 dimensions would be left.
    """
    channels = len(std_a)
    if not 0 <= count <= channels - 2:
        raise ValueError(
            f"{count} top dimensions of {channels} cannot be left out; at most {channels - 2} can"
        )
    relative = [np.asarray(std, np.float64) / (np.median(std) or 1.0) for std in (std_a, std_b)]
    order = np.argsort(-np.maximum(*relative), kind="stable")
    return tuple(sorted(order[:count].tolist()))


def compare_statistics(
    a: ReferenceStatistics,
    b: ReferenceStatistics,
    a_non_sink: ReferenceStatistics | None = None,
    b_non_sink: ReferenceStatistics | None = None,
    top_dims: int = 3,
) -> dict[str, Measurement]:
    """Compares two encoders by their standard deviations.

    Args:
        a: Statistics of A over all tokens.
        b: Statistics of B over all tokens.
        a_non_sink: The same without sinks; needed, with `b_non_sink`, for the variants without it.
        b_non_sink: The same for B.
        top_dims: Number of largest dimensions that the variants `_without_top...` leave out.

    Returns:
        Name -> measurement, in the order of `STD_MEASURES`, each with its variants after it: `pearson_std`,
        `pearson_std_without_top3`, `pearson_std_without_sink`, `pearson_std_without_sink_without_top3`.

    Raises:
        ValueError: where widths differ, or only one side has statistics without the sink.
    """
    if (a_non_sink is None) != (b_non_sink is None):
        raise ValueError(
            "statistics without the sink token are given for one encoder alone; give both or neither"
        )
    pairs = [("all", "", a, b)]
    if a_non_sink is not None and b_non_sink is not None:
        pairs.append(("non_sink", "_without_sink", a_non_sink, b_non_sink))
    variants = []
    for tokens, suffix, one, other in pairs:
        other.check_width(one.channels, "the other encoder")
        top = top_dimensions(one.std, other.std, top_dims)
        for dims, dims_suffix in (((), ""), (top, f"_without_top{top_dims}"))[: 2 if top_dims else 1]:
            kept = kept_dims(one.channels, dims)
            vectors = one.std[kept].astype(np.float64), other.std[kept].astype(np.float64)
            variants.append((tokens, suffix + dims_suffix, dims, vectors))
    return {
        name + suffix: _measure(name, measure, tokens, dims, vectors)
        for name, measure in STD_MEASURES.items()
        for tokens, suffix, dims, vectors in variants
    }


def compare_tokens(a: np.ndarray, b: np.ndarray, sinks: np.ndarray) -> dict[str, Measurement]:
    """Compares the hidden states of two encoders for the same tokens.

    Args:
        a: float32 (tokens, channels) of A.
        b: float32 (tokens, channels) of B, row by row the same tokens.
        sinks: bool (tokens,), which of them are sinks of either encoder.

    Returns:
        Name -> measurement: `flattened_cosine`, `flattened_cosine_without_sink`, `linear_cka`,
        `linear_cka_without_sink`.

    Raises:
        ValueError: where the arrays are not of the same shape, `sinks` does not fit, or a value is not finite.
    """
    if a.shape != b.shape or a.ndim != 2 or 0 in a.shape:
        raise ValueError(
            f"token arrays have the shapes {a.shape} and {b.shape}; both have to be the same (tokens, channels): "
            "select the tokens that both encoders have before comparing"
        )
    if sinks.shape != a.shape[:1] or sinks.dtype != bool:
        raise ValueError(
            f"sinks are {sinks.dtype} {sinks.shape}; they have to be bool, one for each of {len(a)} tokens"
        )
    for side, states in (("A", a), ("B", b)):
        if not np.isfinite(states).all():
            raise ValueError(f"the hidden states of {side} have values that are NaN or infinite")
    rest = ~sinks
    full = a.astype(np.float64), b.astype(np.float64)
    variants = (("all", "", full), ("non_sink", "_without_sink", (full[0][rest], full[1][rest])))
    return {
        name + suffix: _measure(name, measure, tokens, (), arrays)
        for name, measure in TOKEN_MEASURES.items()
        for tokens, suffix, arrays in variants
    }


def _measure(
    name: str, measure: Measure, tokens: str, without: tuple[int, ...], arrays: tuple[np.ndarray, np.ndarray]
) -> Measurement:
    value = float(measure.function(*arrays)) if len(arrays[0]) else np.nan
    dims = arrays[0].shape[-1]
    return Measurement(value, name, tokens, without, dims, measure.description, measure.misleads)


def _varies(values: np.ndarray) -> bool:
    return bool(values.min() < values.max())


def _centred(states: np.ndarray) -> np.ndarray:
    """Returns (tokens, channels) with columns centred, and scaled as a whole, which no angle depends on."""
    # A constant column is exactly 0, not what rounding leaves of it.
    varies = states.min(axis=0) < states.max(axis=0)
    centred = np.where(varies, states - states.mean(axis=0), 0.0)
    return centred / (np.abs(centred).max() or 1.0)


def _log_ratios(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both = (a > 0) & (b > 0)
    return np.abs(np.log(a[both]) - np.log(b[both]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 1, ties averaged, as `scipy.stats.rankdata`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
