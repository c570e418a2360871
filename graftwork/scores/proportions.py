"""Shares of counted observations, and how far they can be trusted."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable

# The quantile of the standard normal distribution that leaves 2.5 % on either side.
Z_95 = 1.959963984540054


def wilson_interval(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Returns the Wilson score interval of a share.

    Unlike the normal approximation it stays within 0 and 1, and has a width at shares of 0 and 1. Source: E. B.
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), without continuity
    correction.

    Args:
        share: Of successes, 0 to 1.
        n: Number of observations, above 0; need not be whole.
        z: Quantile of the standard normal distribution; the default makes an interval of 95 %.

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

    The mean over a sample in which unit i occurs m_i times varies as the mean of n^2 / sum(m_i^2) independent
    observations does (Kish's effective sample size): n where each unit occurs once, and the number of units where all
    occur equally often.
    """
    counts = Counter(units).values()
    return sum(counts) ** 2 / sum(count**2 for count in counts) if counts else 0.0
