"""Classes of dimensions: dead, hyperactive, outliers between two encoders, and which are worst.

Source: the project's design; the thresholds are those of llm-dit-experiments for Qwen3-Embedding, and are parameters.
"""

from dataclasses import dataclass

import numpy as np

# In the order of precedence: a dimension that is both hyperactive and an outlier is labelled hyperactive.
LABELS = ("dead", "hyperactive", "outlier", "normal")


@dataclass(frozen=True)
class DimensionLimits:
    """Limits of the classes.

    Attributes:
        dead_std: A dimension is dead below this standard deviation.
        hyperactive_factor: Hyperactive above this multiple of the median standard deviation over dimensions.
        outlier_ratio: Two encoders differ where the ratio of their standard deviations is above this, or below its
            inverse.
    """

    dead_std: float = 0.01
    hyperactive_factor: float = 5.0
    outlier_ratio: float = 3.0

    def __post_init__(self):
        """Refuses limits that make classes meaningless."""
        for name, above in (("dead_std", 0.0), ("hyperactive_factor", 1.0), ("outlier_ratio", 1.0)):
            value = getattr(self, name)
            if not above < value < np.inf:
                raise ValueError(f"{name} is {value}; it has to be a finite number above {above:g}")


@dataclass(frozen=True, eq=False)
class Sides:
    """Dimensions of a kind in two encoders A and B, as sorted int64 arrays.

    Attributes:
        only_a: Dimensions in A alone.
        only_b: Dimensions in B alone.
        common: Dimensions in both.
    """

    only_a: np.ndarray
    only_b: np.ndarray
    common: np.ndarray


@dataclass(frozen=True, eq=False)
class DimensionComparison:
    """Two encoders, dimension by dimension.

    Attributes:
        ratio: float64 (channels,), std of A over std of B; infinite where B alone is 0, NaN where both are.
        dead: Dimensions that are dead.
        hyperactive: Dimensions that are hyperactive.
        outlier: Outliers that are larger in A (`only_a`) or in B (`only_b`); never common.
        label_a: Label of each dimension in A, str (channels,), one of `LABELS`.
        label_b: The same for B.
    """

    ratio: np.ndarray
    dead: Sides
    hyperactive: Sides
    outlier: Sides
    label_a: np.ndarray
    label_b: np.ndarray


@dataclass(frozen=True)
class WorstDimension:
    """One dimension in which two encoders differ.

    Attributes:
        dim: Its index.
        std_a: Standard deviation in A.
        std_b: Standard deviation in B.
        factor: The larger over the smaller; infinite where the smaller is 0.
        larger: "a", "b" or "equal": which side is the larger.
    """

    dim: int
    std_a: float
    std_b: float
    factor: float
    larger: str


_DEFAULT_LIMITS = DimensionLimits()


def dead_dimensions(std: np.ndarray, limits: DimensionLimits = _DEFAULT_LIMITS) -> np.ndarray:
    """Returns where std < dead_std: (channels,) to bool (channels,)."""
    return np.asarray(std, dtype=np.float64) < limits.dead_std


def hyperactive_dimensions(std: np.ndarray, limits: DimensionLimits = _DEFAULT_LIMITS) -> np.ndarray:
    """Returns where std > hyperactive_factor * median(std), dead dimensions included in the median.

    Takes (channels,), returns bool (channels,).
    """
    std = np.asarray(std, dtype=np.float64)
    return std > limits.hyperactive_factor * np.median(std)


def std_ratio(std_a: np.ndarray, std_b: np.ndarray) -> np.ndarray:
    """Returns std_a / std_b, float64 (channels,): infinite where B alone is 0, NaN where both are.

    Raises:
        ValueError: where the widths differ.
    """
    a, b = np.asarray(std_a, dtype=np.float64), np.asarray(std_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"standard deviations have the shapes {a.shape} and {b.shape}; both have to be (channels,), "
            "so choose two encoders of the same width"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return a / b


def compare_dimensions(
    std_a: np.ndarray, std_b: np.ndarray, limits: DimensionLimits = _DEFAULT_LIMITS
) -> DimensionComparison:
    """Classifies the dimensions of two encoders.

    Args:
        std_a: (channels,) standard deviations in A.
        std_b: (channels,) standard deviations in B, the reference.
        limits: Limits of the classes.

    Raises:
        ValueError: where the widths differ.
    """
    ratio = std_ratio(std_a, std_b)
    above, below = ratio > limits.outlier_ratio, ratio < 1.0 / limits.outlier_ratio
    dead = dead_dimensions(std_a, limits), dead_dimensions(std_b, limits)
    hyperactive = hyperactive_dimensions(std_a, limits), hyperactive_dimensions(std_b, limits)
    label_a, label_b = (
        np.select([dead[side], hyperactive[side], above | below], LABELS[:3], LABELS[3]) for side in (0, 1)
    )
    return DimensionComparison(
        ratio, divide_sides(*dead), divide_sides(*hyperactive), divide_sides(above, below), label_a, label_b
    )


def divide_sides(in_a: np.ndarray, in_b: np.ndarray) -> Sides:
    """Returns which dimensions are in A alone, in B alone and in both, from two bool (channels,)."""
    return Sides(np.flatnonzero(in_a & ~in_b), np.flatnonzero(in_b & ~in_a), np.flatnonzero(in_a & in_b))


def worst_dimensions(std_a: np.ndarray, std_b: np.ndarray, count: int) -> list[WorstDimension]:
    """Returns the dimensions that differ most, largest factor first, equal ones by index.

    Dimensions that are 0 on both sides have no ratio and are not among them.

    Args:
        std_a: (channels,) standard deviations in A.
        std_b: (channels,) standard deviations in B.
        count: Largest number of results.

    Raises:
        ValueError: where the widths differ or `count` is negative.
    """
    if count < 0:
        raise ValueError(f"{count} worst dimensions were asked for; allowed are 0 or more")
    ratio = std_ratio(std_a, std_b)
    with np.errstate(divide="ignore"):
        factor = np.fmax(ratio, 1.0 / ratio)
    order = np.argsort(-factor, kind="stable")[: min(count, int((~np.isnan(factor)).sum()))]
    return [
        WorstDimension(
            dim,
            float(std_a[dim]),
            float(std_b[dim]),
            float(factor[dim]),
            "equal" if ratio[dim] == 1 else "a" if ratio[dim] > 1 else "b",
        )
        for dim in order.tolist()
    ]
