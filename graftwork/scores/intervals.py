"""How far means, shares and differences can be trusted: intervals of 95 %, and p-values of many differences at once."""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

# The quantile of the standard normal distribution that leaves 2.5 % on either side.
Z_95 = 1.959963984540054
RESAMPLES = 2000
# Up to so many units every choice of signs is tried; beyond, as many as RESAMPLES times 5 are drawn.
_MOST_EXACT = 12
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


def share_interval(
    follows: Sequence[int], prompts: Sequence[Hashable], images: Iterable[Hashable]
) -> tuple[float, float]:
    """Returns the 95 % interval of a share: prompts are resampled, with all their images and attributes.

    Where all prompts have the same share, resampling gives no width: the interval is then Wilson's for one observation
    per prompt. A single prompt cannot be resampled: the interval is Wilson's for its different images, and says nothing
    of other prompts.

    Args:
        follows: 1 or 0 of each observation, at least one.
        prompts: prompt of each observation.
        images: what stands for the image of each observation.
    """
    share = sum(follows) / len(follows)
    found = bootstrap_interval(follows, prompts)
    if found is None:
        return wilson_interval(share, effective_number(images))
    return wilson_interval(share, len(set(prompts))) if found[0] == found[1] else found


def sign_flip_p(differences: Sequence[float], units: Sequence[Hashable]) -> float | None:
    """Returns the two-sided p-value of a mean difference: how often random signs of whole units give one as large.

    Under the hypothesis that the sign of a unit's difference is chance, its sum is as often negative. The test of R. A.
    Fisher, The Design of Experiments (1935), section 21, over the sums of units.

    Args:
        differences: paired differences.
        units: unit of each, such as its prompt.

    Returns:
        The p-value, never below 2 / 2^units; None for fewer than two units.
    """
    names = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    if len(names) < 2:
        return None
    sums = np.bincount([names[unit] for unit in units], weights=np.asarray(differences, dtype=np.float64))
    if len(names) <= _MOST_EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(names))))
        drawn = 0
    else:
        random = np.random.Generator(np.random.PCG64(0))
        drawn = 5 * RESAMPLES
        signs = np.where(random.random((drawn, len(names))) < 0.5, 1.0, -1.0)
    # The observed signs are one of those that are drawn, so that no p-value is 0.
    is_as_large = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)
    return float((is_as_large.sum() + bool(drawn)) / (len(signs) + bool(drawn)))


def adjust_by_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values adjusted for their number (S. Holm, Scandinavian Journal of Statistics 6, 1979); None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = highest
    return adjusted
