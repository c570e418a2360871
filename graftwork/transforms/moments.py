"""Means and standard deviations of hidden states, over tokens or over dimensions, fast and safe against rounding.

`torch.std` over the tokens of 1041 x 2560 values takes thirty times as long as copying them; the kernel of batch
normalization takes one and a half. It adds up naively in float32, which costs a dimension whose mean is large beside
its spread its last digits: such dimensions are computed again in float64. Standard deviations have ddof 1.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# Where |mean| is more than this many standard deviations, naive sums are not trusted.
STEEPEST = 16.0
# Standard deviations below are not divided by.
SMALLEST_STD = 1e-6


def channel_moments(states: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns mean and standard deviation of each dimension over the tokens.

    Args:
        states: float32 (tokens, dim), at least one token.

    Returns:
        Two float32 (dim,). The standard deviation of one token, and of equal values, is exactly 0.
    """
    import torch

    tokens, channels = states.shape
    if tokens == 1:
        return states[0].clone(), torch.zeros(channels)
    mean, variance = torch.zeros(channels), torch.zeros(channels)
    # With momentum 1, the running statistics are those of this batch.
    torch.batch_norm_update_stats(states.contiguous(), mean, variance, 1.0)
    std = variance.sqrt_()
    again = untrusted(mean, std)
    if again is not None:
        mean[again], std[again] = exact_moments(states[:, again].double())
    return mean, std


def untrusted(mean: "torch.Tensor", std: "torch.Tensor") -> "torch.Tensor | None":
    """Returns the dimensions, int64 (k,), whose moments and quotients float32 does not give well; None for none."""
    import torch

    # NumPy does little things in a tenth of the time.
    doubtful = std.numpy() < np.maximum(np.abs(mean.numpy()) / STEEPEST, SMALLEST_STD)
    return torch.from_numpy(np.flatnonzero(doubtful)) if doubtful.any() else None


def exact_moments(states: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns mean and standard deviation as float32 (k,) of float64 (tokens, k), two tokens or more."""
    mean = states.mean(dim=0)
    std = (states - mean).square().sum(dim=0).div(states.shape[0] - 1).sqrt()
    # The mean of equal values need not be that value, not even in float64.
    std[states.amin(dim=0) == states.amax(dim=0)] = 0.0
    return mean.float(), std.float()


def standardize_channels(
    states: "torch.Tensor", mean: np.ndarray, std: np.ndarray, clip_sigma: float | None
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Gives every dimension another mean and standard deviation.

    (x - own mean) / max(own std, 1e-6), clipped to +-`clip_sigma`, times `std`, plus `mean`. Equal values, and a single
    token, become `mean`.

    Args:
        states: float32 (tokens, dim), at least one token.
        mean: float32 (dim,), of the result.
        std: float32 (dim,), of the result.
        clip_sigma: None for no clipping.

    Returns:
        The result, float32 (tokens, dim), and the own mean and standard deviation, float32 (dim,).
    """
    import torch

    own_mean, own_std = channel_moments(states)
    scale = std / np.maximum(own_std.numpy(), np.float32(SMALLEST_STD))
    scale[own_std.numpy() == 0.0] = 0.0
    shift = mean - own_mean.numpy() * scale
    result = torch.addcmul(torch.from_numpy(shift), states, torch.from_numpy(scale))
    if clip_sigma is not None:
        reach = np.float32(clip_sigma) * std
        result.clamp_(torch.from_numpy(mean - reach), torch.from_numpy(mean + reach))
    again = untrusted(own_mean, own_std)
    if again is not None:
        again = again[own_std[again] > 0.0]
        columns = states[:, again].double()
        scores = (columns - columns.mean(dim=0)) / own_std[again].clamp(min=SMALLEST_STD)
        if clip_sigma is not None:
            scores.clamp_(-clip_sigma, clip_sigma)
        wanted_mean, wanted_std = (torch.from_numpy(part[again.numpy()]) for part in (mean, std))
        result[:, again] = (scores * wanted_std + wanted_mean).float()
    return result, own_mean, own_std


def token_moments(states: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns mean and standard deviation of each token over its dimensions.

    Args:
        states: float32 (tokens, dim).

    Returns:
        Two float32 (tokens,). The standard deviation of one dimension, and of values that differ by rounding alone,
        is exactly 0.
    """
    import torch

    channels = states.shape[1]
    mean = states.mean(dim=1)
    variance = torch.linalg.vector_norm(states, dim=1).double().square() / channels - mean.double().square()
    # What is left of the two when they cancel is rounding.
    variance[variance <= 1e-6 * mean.double().square()] = 0.0
    std = (variance * (channels / max(channels - 1, 1))).sqrt().float()
    again = untrusted(mean, std)
    if again is not None:
        again = again[std[again] > 0.0]
        if len(again):
            mean[again], std[again] = exact_moments(states[again].T.double())
    return mean, std


def overall_std(tokens: int, mean: "torch.Tensor", std: "torch.Tensor") -> float:
    """Returns the standard deviation of all values together, from those of each dimension.

    Args:
        tokens: How many there are.
        mean: (dim,).
        std: (dim,), ddof 1.
    """
    # From the first, so that equal means differ by exactly nothing.
    mean, std = mean.double() - float(mean[0]), std.double()
    values = tokens * mean.shape[0]
    squares = (tokens - 1) * std.square().sum() + tokens * (mean - mean.mean()).square().sum()
    return float((squares / max(values - 1, 1)).sqrt())
