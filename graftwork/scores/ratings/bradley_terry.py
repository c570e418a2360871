"""Strengths of things that were compared in pairs.

Model of Bradley and Terry (Rank analysis of incomplete block designs, Biometrika 39, 1952): thing i is preferred to thing j
with the probability sigmoid(s_i - s_j). A tie counts as half a win for each. Intervals are percentiles of a bootstrap over
groups of comparisons, here prompts: comparisons under one prompt are alike, and single ones would make intervals too narrow.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

# Standard deviation of a normal prior of the strengths. It only keeps those finite that always win or always lose.
PRIOR_DEVIATION = 3.0
RESAMPLES = 1000
_TOLERANCE = 1e-9
_MOST_STEPS = 100


@dataclass(frozen=True)
class Comparison:
    """One comparison of two things.

    Attributes:
        first: One of them.
        second: The other one.
        share: 1 where the first is preferred, 0 where the second is, 0.5 for a tie.
        group: group of choices that is resampled as a whole.
    """

    first: str
    second: str
    share: float
    group: Hashable


@dataclass(frozen=True)
class Strength:
    """How strong a thing is.

    Attributes:
        item: Name of the thing.
        strength: On the scale of log odds; the mean over all things is 0.
        low: Lower end of the interval of 95 %, None where there is only one group.
        high: Upper end of that interval, None where there is only one group.
        compared: Number of comparisons that it was part of.
    """

    item: str
    strength: float
    low: float | None
    high: float | None
    compared: int


def fit_strengths(wins: np.ndarray, deviation: float = PRIOR_DEVIATION) -> np.ndarray:
    """Returns the most probable strengths, by Newton's method.

    Args:
        wins: Shape (n, n): how often thing i was preferred to thing j.
        deviation: Standard deviation of the prior.

    Returns:
        Shape (n,); the mean is 0.
    """
    count = len(wins)
    strengths = np.zeros(count)
    pairs = wins + wins.T
    for _ in range(_MOST_STEPS):
        expected = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        gradient = (wins - pairs * expected).sum(axis=1) - strengths / deviation**2
        weights = pairs * expected * (1 - expected)
        curvature = np.diag(weights.sum(axis=1) + 1 / deviation**2) - weights
        step = np.linalg.solve(curvature, gradient)
        # Far from the solution a full step may overshoot.
        strengths += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    return strengths - strengths.mean()


def estimate_strengths(
    comparisons: Sequence[Comparison], resamples: int = RESAMPLES, seed: int = 0
) -> list[Strength]:
    """Returns the strengths of all things that were compared, the strongest first.

    Args:
        comparisons: At least one.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.
    """
    items = sorted({item for each in comparisons for item in (each.first, each.second)})
    index = {item: place for place, item in enumerate(items)}
    of_group: dict[Hashable, np.ndarray] = defaultdict(lambda: np.zeros((len(items), len(items))))
    for each in comparisons:
        first, second = index[each.first], index[each.second]
        of_group[each.group][first, second] += each.share
        of_group[each.group][second, first] += 1 - each.share
    groups = np.stack(list(of_group.values()))
    total = groups.sum(axis=0)
    strengths = fit_strengths(total)
    low = high = [None] * len(items)
    if len(groups) > 1:
        random = np.random.default_rng(seed)
        counts = random.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=resamples)
        samples = np.stack([fit_strengths(np.tensordot(count, groups, axes=1)) for count in counts])
        low, high = (ends.tolist() for ends in np.percentile(samples, (2.5, 97.5), axis=0))
    compared = (total + total.T).sum(axis=1)
    found = [
        Strength(item, float(strengths[place]), low[place], high[place], round(compared[place]))
        for place, item in enumerate(items)
    ]
    return sorted(found, key=lambda each: -each.strength)
