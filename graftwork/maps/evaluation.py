"""Measures of a map on held-out tokens, with intervals over prompts.

States are compared as the generator sees them: after `rms`, as directions. Intervals of 95 % come from resampling prompts,
which keep their tokens with them: the cluster bootstrap with percentiles of Davison and Hinkley (1997).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graftwork.maps.fitted import FittedMap, map_normalized
from graftwork.maps.pairs import RMS, PairedTokens, normalize_tokens

RESAMPLES = 1000
_MOST_KERNEL_TOKENS = 400


@dataclass(frozen=True)
class Measure:
    """A measure of a map.

    Attributes:
        name: name in tables.
        label: heading in words.
        better: whether a higher or a lower value is better.
        meaning: definition.
    """

    name: str
    label: str
    better: str
    meaning: str


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            "r2",
            "R2",
            "higher",
            "1 - |y - y'|^2 / |y - mean|^2 over all tokens and dimensions; 0 is what the mean of the held-out tokens gives",
        ),
        Measure(
            "cosine", "centred cosine", "higher", "mean over tokens of the cosine of y' - mean and y - mean"
        ),
        Measure(
            "cka",
            "debiased CKA",
            "higher",
            "linear centred kernel alignment of all tokens with unbiased HSIC (Song et al. 2012; Murphy et al. 2024); blind to "
            "rotations",
        ),
        Measure(
            "retrieval",
            "token retrieval",
            "higher",
            "share of tokens whose own y is the nearest of all held-out y by centred cosine",
        ),
        Measure(
            "velocity_error",
            "velocity error",
            "lower",
            "|v(mapped) - v(native)|^2 / |v(native) - v(empty)|^2 in the transformer, equal noise; 1 is as far as no prompt",
        ),
    )
}


@dataclass(frozen=True)
class Estimate:
    """A value and its interval.

    Attributes:
        value: value over all prompts.
        low: lower end of the interval of 95 %.
        high: upper end.
    """

    value: float
    low: float
    high: float


def estimate_ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Returns a quotient of sums over prompts with its interval, which is NaN with fewer than two prompts.

    Args:
        numerators: float64 (prompts,).
        denominators: float64 (prompts,).
    """
    value = float(numerators.sum() / denominators.sum())
    if len(numerators) < 2:
        return Estimate(value, np.nan, np.nan)
    drawn = _draws(len(numerators), RESAMPLES)
    ratios = numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _draws(prompts: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).integers(prompts, size=(count, prompts))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out tokens.

    Attributes:
        prompts: pairs of each prompt.
    """

    prompts: Sequence[PairedTokens]

    @property
    def tokens(self) -> int:
        """Number of pairs."""
        return sum(one.tokens for one in self.prompts)


def evaluate_map(fitted: FittedMap, held_out: HeldOut, with_kernel: bool = True) -> dict[str, Estimate]:
    """Returns measure -> estimate, but for velocities.

    Args:
        fitted: the map.
        held_out: pairs of the layers and the normalization of the map.
        with_kernel: whether CKA is among them, which takes longest.
    """
    import torch

    native = [one.target for one in held_out.prompts]
    made = []
    for one in held_out.prompts:
        mapped = map_normalized(fitted, torch.from_numpy(one.source)).numpy()
        made.append(normalize_tokens(mapped, RMS) if fitted.normalization == RMS else mapped)
    y, z = np.concatenate(native).astype(np.float64), np.concatenate(made).astype(np.float64)
    unit = np.repeat(np.arange(len(native)), [len(one) for one in native])
    mean = y.mean(axis=0)
    y, z = y - mean, z - mean
    directions = [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (y, z)]
    nearest = (directions[1] @ directions[0].T).argmax(axis=1)

    def per_prompt(values: np.ndarray) -> np.ndarray:
        return np.bincount(unit, weights=values, minlength=len(native))

    counts = per_prompt(np.ones(len(y)))
    error = estimate_ratio(per_prompt(np.square(y - z).sum(axis=1)), per_prompt(np.square(y).sum(axis=1)))
    found = {
        "r2": Estimate(1 - error.value, 1 - error.high, 1 - error.low),
        "cosine": estimate_ratio(per_prompt((directions[0] * directions[1]).sum(axis=1)), counts),
        "retrieval": estimate_ratio(per_prompt((nearest == np.arange(len(y))).astype(np.float64)), counts),
    }
    if with_kernel:
        found["cka"] = estimate_cka(y, z, unit)
    return found


def estimate_cka(y: np.ndarray, z: np.ndarray, units: np.ndarray) -> Estimate:
    """Returns debiased CKA with its interval.

    The interval is the value and 1.96 standard errors to either side, from the jackknife over prompts (Efron and Tibshirani
    1993, chapter 11). A bootstrap does not do here: a token that is drawn twice is its own neighbour, which biases HSIC.

    Args:
        y: float64 (tokens, dim).
        z: float64 (tokens, dim).
        units: int64 (tokens,), prompt of each token.
    """
    step = -(-len(y) // _MOST_KERNEL_TOKENS)
    y, z, units = y[::step], z[::step], units[::step]
    a, b = y @ y.T, z @ z.T
    every = np.arange(len(y))
    value = _cka(a, b, every)
    if len(np.unique(units)) < 2:
        return Estimate(value, np.nan, np.nan)
    left_out = np.array([_cka(a, b, every[units != unit]) for unit in np.unique(units)])
    spread = np.square(left_out - left_out.mean()).sum()
    error = 1.96 * float(np.sqrt((len(left_out) - 1) / len(left_out) * spread))
    return Estimate(value, value - error, value + error)


def _cka(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
    a, b = (kernel[np.ix_(rows, rows)] for kernel in (a, b))
    for kernel in (a, b):
        np.fill_diagonal(kernel, 0.0)
    product, one, other = unbiased_hsic(a, b), unbiased_hsic(a, a), unbiased_hsic(b, b)
    return product / np.sqrt(one * other) if one > 0 and other > 0 else np.nan


def unbiased_hsic(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the unbiased estimate of HSIC of two kernels (n, n) with zeros on the diagonal; Song et al. (2012), equation 5."""
    n = len(a)
    middle = a.sum() * b.sum() / ((n - 1) * (n - 2))
    cross = 2.0 / (n - 2) * float(a.sum(axis=0) @ b.sum(axis=0))
    return (float((a * b).sum()) + middle - cross) / (n * (n - 3))


@dataclass(frozen=True, eq=False)
class Velocities:
    """Squared distances of velocities, for each prompt.

    Attributes:
        from_native: sigma -> float64 (prompts,), |v(mapped) - v(native)|^2.
        of_prompt: sigma -> float64 (prompts,), |v(native) - v(empty)|^2.
    """

    from_native: Mapping[float, np.ndarray]
    of_prompt: Mapping[float, np.ndarray]

    def estimates(self) -> dict[float, Estimate]:
        """Returns sigma -> velocity error."""
        return {
            sigma: estimate_ratio(values, self.of_prompt[sigma]) for sigma, values in self.from_native.items()
        }
