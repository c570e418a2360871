"""Reference statistics that need no corpus: those of the same prompt's own text embeddings.

Transforms take `graftwork.statistics.reference.ReferenceStatistics`, from wherever it comes.
"""

import numpy as np

from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import find_sinks


def prompt_statistics(states: np.ndarray, roles: np.ndarray, with_covariance: bool) -> ReferenceStatistics:
    """Returns the statistics of a prompt's text embeddings without its attention sinks.

    It rests on the few dozen tokens that a prompt has: a standard deviation per dimension is good to a tenth or two, and the
    covariance has no more directions than there are tokens.

    Args:
        states: float32 (tokens, channels), from the generator's own text encoder.
        roles: uint8 (tokens,).
        with_covariance: Whether to compute it: 4 * channels**2 bytes.

    Raises:
        ValueError: where there are fewer than 2 tokens beside the sinks.
    """
    # Copied: the values may be the store's own, and are centred in place below.
    tokens = states[~find_sinks(states, roles)].astype(np.float64)
    if len(tokens) < 2:
        raise ValueError(
            f"the prompt has {len(tokens)} tokens beside the sink; statistics need 2 or more: write a longer prompt, "
            "or choose other statistics"
        )
    minimum, maximum = tokens.min(axis=0), tokens.max(axis=0)
    rms = np.sqrt(np.square(tokens).mean(axis=1))
    # Rounding must not give a constant dimension a spread, nor a mean that none of its values has.
    mean = np.clip(tokens.mean(axis=0), minimum, maximum)
    tokens -= mean
    return ReferenceStatistics(
        n=len(tokens),
        mean=mean,
        std=np.sqrt(np.square(tokens).sum(axis=0) / (len(tokens) - 1)),
        minimum=minimum,
        maximum=maximum,
        median_token_rms=float(np.median(rms)),
        covariance=tokens.T @ tokens / (len(tokens) - 1) if with_covariance else None,
    )
