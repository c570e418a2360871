"""Fixes of single dimensions: another encoder's states brought closer to those that the generator was trained on.

A fix is fitted on statistics, of the donor (the other encoder) and of the host (the generator's own), and applied to
states of any prompt. Fit on one set of prompts, judge on another.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from workflow_scripts.lib.statistics.dimensions import (
    DimensionLimits,
    compare_dimensions,
    dead_dimensions,
    std_ratio,
)
from workflow_scripts.lib.statistics.reference import ReferenceStatistics

if TYPE_CHECKING:
    import torch

FixMode = Literal["rescale", "mask", "clamp", "full"]
# Half the width to which `clamp` holds a dimension, in standard deviations of the host.
CLAMP_SIGMA = 3.0


@dataclass(frozen=True, eq=False)
class DimensionFix:
    """What to do to each dimension: min(max(x * scale + shift, low), high).

    Attributes:
        mode: What was fitted.
        scale: float32 (channels,), 0 where a dimension is silenced.
        shift: float32 (channels,).
        low: float32 (channels,), minus infinity where nothing is clamped.
        high: float32 (channels,), infinity where nothing is clamped.
        changed: Kind of change -> sorted dimensions, for reports.
    """

    mode: str
    scale: np.ndarray
    shift: np.ndarray
    low: np.ndarray
    high: np.ndarray
    changed: dict[str, list[int]]


def fit_dimension_fix(
    mode: FixMode,
    donor: ReferenceStatistics,
    host: ReferenceStatistics,
    limits: DimensionLimits | None = None,
) -> DimensionFix:
    """Fits a fix.

    `rescale` multiplies outliers (ratio of standard deviations above the limit or below its inverse) to the host's
    standard deviation; `mask` also silences dimensions that are dead in the donor alone; `clamp` also holds those that
    are hyperactive in the donor alone to the host's mean +- 3 standard deviations; `full` gives every dimension the
    host's mean and standard deviation. Source: fix modes of the seed document on Qwen3-Embedding.

    A dimension that is dead in the donor has no spread to rescale: what little it has is noise, and would be multiplied
    by hundreds. `rescale` leaves it alone, and `full` gives it the host's mean.

    Args:
        mode: One of the four.
        donor: Of the encoder to be fixed.
        host: Of the generator's own, of the same width.
        limits: Where classes of dimensions begin.

    Raises:
        ValueError: for another mode, or another width.
    """
    if mode not in get_args(FixMode):
        raise ValueError(f"fix mode {mode!r} does not exist; allowed: {', '.join(get_args(FixMode))}")
    limits = limits or DimensionLimits()
    found = compare_dimensions(donor.std, host.std, limits)
    dead = dead_dimensions(donor.std, limits)
    channels = donor.channels
    scale, shift = np.ones(channels), np.zeros(channels)
    low, high = np.full(channels, -np.inf), np.full(channels, np.inf)
    to_host = np.divide(1.0, std_ratio(donor.std, host.std), out=np.zeros(channels), where=~dead)
    changed: dict[str, np.ndarray] = {}
    if mode == "full":
        scale = to_host
        shift = host.mean - donor.mean * scale
        changed = {"standardized": np.flatnonzero(~dead), "set to the mean": np.flatnonzero(dead)}
    else:
        outliers = np.union1d(found.outlier.only_a, found.outlier.only_b)
        outliers = outliers[~dead[outliers]]
        scale[outliers] = to_host[outliers]
        changed["rescaled"] = outliers
    if mode in ("mask", "clamp"):
        scale[found.dead.only_a] = 0.0
        changed["silenced"] = found.dead.only_a
    if mode == "clamp":
        held = found.hyperactive.only_a
        low[held] = host.mean[held] - CLAMP_SIGMA * host.std[held]
        high[held] = host.mean[held] + CLAMP_SIGMA * host.std[held]
        changed["clamped"] = held
    return DimensionFix(
        mode,
        *(part.astype(np.float32) for part in (scale, shift, low, high)),
        {kind: dimensions.tolist() for kind, dimensions in changed.items()},
    )


def apply_dimension_fix(states: "torch.Tensor", fix: DimensionFix) -> "torch.Tensor":
    """Returns the states with a fix applied: float32 (tokens, channels), of any tokens.

    Raises:
        ValueError: where the states are of another width than the fix.
    """
    import torch

    if states.shape[1] != len(fix.scale):
        raise ValueError(f"the fix is for {len(fix.scale)} dimensions, the states have {states.shape[1]}")
    scale, shift, low, high = (torch.from_numpy(part) for part in (fix.scale, fix.shift, fix.low, fix.high))
    result = torch.addcmul(shift, states, scale)
    if bool(torch.isfinite(low).any()):
        result.clamp_(low, high)
    return result
