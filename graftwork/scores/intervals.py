"""How far means and shares can be trusted: intervals of 95 %."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

# The quantile of the standard normal distribution that leaves 2.5 % on either side.
Z_95 = 1.959963984540054
RESAMPLES = 2000
# Values that are held in memory at once while resampling.
_MOST_VALUES = 1_000_000


def bootstrap_interval(values: Sequence[float], units: Sequence[Hashable]) -> tuple[float, float] | None:
    """Returns the 95 % interval of a mean over observations that come in independent units, such as prompts.

    Units are drawn with replacement and keep all of their observations (seeds, layers) with them: the cluster bootstrap
    with percentiles of A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8. With
    few units, ten or less, the interval is too narrow.

    Args:
        values: observations.
        units: unit of each observation.

    Returns:
        The ends of the interval, the same for the same arguments; None for fewer than two units.
    """
    names = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    if len(names) < 2:
        return None
    place = np.array([names[unit] for unit in units])
    sums = np.bincount(place, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(place)
    random, means = np.random.Generator(np.random.PCG64(0)), []
    at_once = max(1, _MOST_VALUES // len(names))
    for start in range(0, RESAMPLES, at_once):
        size = (min(at_once, RESAMPLES - start), len(names))
        drawn = (random.random(size) * len(names)).astype(np.intp)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def wilson_interval(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Returns the Wilson score interval of a share.

    Unlike the normal approximation it stays within 0 and 1, and has a width at shares of 0 and 1. Source: E. B.
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), without continuity
    correction.

    Args:
        share: share of successes, 0 to 1.
        n: number of observations, above 0, not necessarily whole.
        z: quantile of the standard normal distribution; the default gives an interval of 95 %.

    Raises:
        ValueError: If the share is not in 0 to 1, or n not above 0.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share {share} is not in 0 to 1")
    if not n > 0:
        raise ValueError(f"n is {n}; an interval needs at least one observation")
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # At shares of 0 and 1 the ends are exact, but for rounding.
    low = 0.0 if share == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if share == 1 else min(1.0, (centre + half) / scale)
    return low, high


def effective_number(units: Iterable[Hashable]) -> float:
    """Returns how many independent observations a sample is worth in which some units occur repeatedly.

    The mean over a sample in which unit i occurs m_i times varies like the mean of n^2 / sum(m_i^2) independent
    observations (Kish's effective sample size): n where each unit occurs once, and the number of units where all
    occur equally often.
    """
    counts = Counter(units).values()
    return sum(counts) ** 2 / sum(count**2 for count in counts) if counts else 0.0
