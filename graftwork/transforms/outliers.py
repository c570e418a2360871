"""Outlier dimensions: those whose spread is far from the reference's, found for masking.

With s_d the standard deviation of dimension d over the tokens of a class, and r_d that of the reference, q_d =
s_d / r_d is the dimension's ratio. It is an outlier where that is above the threshold, below its inverse, or both.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graftwork.statistics.token_classes import select_class
from graftwork.transforms.moments import channel_moments

if TYPE_CHECKING:
    import torch

    from graftwork.transforms.context import Context
    from graftwork.transforms.masking import MaskingParameters

# How many dimensions are named in the table of cells, and in a warning.
_MOST_LISTED = 32
_MOST_NAMED = 8


@dataclass(frozen=True, eq=False)
class Outliers:
    """Values that are masked.

    Attributes:
        rows: The tokens of the class: a slice, or int64 (k, 1).
        dimensions: int64 (masked,).
        ratio: float32 (masked,), NaN where there is none.
        mean: float32 (masked,), of the reference.
        std: float32 (masked,), of the reference.
    """

    rows: "slice | torch.Tensor"
    dimensions: np.ndarray
    ratio: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def described(self) -> list[str]:
        """Returns "dimension side ratio" for each, most extreme first; of very many only the first."""
        extreme = np.fmax(np.fmax(self.ratio, 1.0 / self.ratio), 0.0)
        order = np.lexsort((self.dimensions, -extreme))
        lines = [
            f"{self.dimensions[i]} {'above' if self.ratio[i] > 1 else 'below'} {extreme[i]:.4g}"
            if extreme[i] > 0
            else f"{self.dimensions[i]} without ratio"
            for i in order[:_MOST_LISTED]
        ]
        more = [f"and {len(order) - _MOST_LISTED} more"] if len(order) > _MOST_LISTED else []
        return lines + more


def rows_of_class(name: str, roles: np.ndarray, sinks: np.ndarray) -> "slice | torch.Tensor | None":
    """Returns the tokens of a class, to index with: a slice where they lie together, else int64 (k, 1), or None.

    Args:
        name: As in `statistics.token_classes`.
        roles: uint8 (tokens,).
        sinks: bool (tokens,), which of them are sinks.
    """
    import torch

    if name == "all":
        return slice(None)
    rows = np.flatnonzero(select_class(name, roles, sinks))
    if len(rows) == 0:
        return None
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return torch.from_numpy(rows)[:, None]


def find_outliers(
    source: "torch.Tensor", parameters: "MaskingParameters", context: "Context"
) -> Outliers | None:
    """Returns which dimensions of which tokens are to be masked, or None; what cannot be judged is warned of.

    Raises:
        ValueError: where the reference is of another width, or a listed dimension does not exist.
    """
    statistics, listed, channels = context.statistics, parameters.masking_dimensions, source.shape[1]
    statistics.check_width(channels, "the source")
    if listed is not None and listed[-1] >= channels:
        raise ValueError(f"masking_dimensions: {listed[-1]} does not exist; allowed: 0 to {channels - 1}")
    rows = rows_of_class(parameters.masking_tokens, context.source_roles, context.source_sinks)
    if rows is None:
        warnings.warn(
            f"masking: the selected tokens include none of class {parameters.masking_tokens}; nothing is masked",
            stacklevel=2,
        )
        return None
    members = source[rows] if isinstance(rows, slice) else source[rows[:, 0]]
    # In NumPy, which does little things in a tenth of the time.
    std, reference = channel_moments(members)[1].numpy(), statistics.std
    known = (std > 0) & (reference > 0)
    ratio = np.divide(std, reference, out=np.full_like(std, np.nan), where=known)
    if listed is not None:
        dimensions = np.array(listed)
    else:
        if len(members) == 1:
            warnings.warn(
                f"masking: class {parameters.masking_tokens} has one token, so no ratios; nothing is masked",
                stacklevel=2,
            )
            return None
        _warn_of("have no ratio, for they or the reference's are constant", np.flatnonzero(~known))
        above = ratio > parameters.masking_threshold
        below = ratio < 1.0 / parameters.masking_threshold
        beyond = {"above": above, "below": below, "both": above | below}[parameters.masking_direction]
        dimensions = np.flatnonzero(beyond)
    return Outliers(
        rows,
        dimensions,
        ratio[dimensions],
        statistics.mean[dimensions],
        reference[dimensions],
    )


def with_ratio(outliers: Outliers | None) -> Outliers | None:
    """Returns the outliers that have a ratio, for masks that change it; the others are left alone and warned of."""
    if outliers is None:
        return None
    known = ~np.isnan(outliers.ratio)
    _warn_of("have no ratio that could be changed", outliers.dimensions[~known])
    parts = (outliers.dimensions, outliers.ratio, outliers.mean, outliers.std)
    return Outliers(outliers.rows, *(part[known] for part in parts))


def _warn_of(problem: str, dimensions: np.ndarray) -> None:
    if len(dimensions) == 0:
        return
    named = ", ".join(map(str, dimensions[:_MOST_NAMED].tolist()))
    more = ", ..." if len(dimensions) > _MOST_NAMED else ""
    warnings.warn(f"masking: {len(dimensions)} dimensions {problem}; left alone: {named}{more}", stacklevel=2)
