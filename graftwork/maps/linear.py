"""Linear maps in closed form, from sums over pairs.

Everything is computed in standardized coordinates: x and y minus their means, divided by a scale per dimension. The loss
of a map W is the mean over pairs of |y - x W|^2 over the number of dimensions, plus the penalty: ridge * |W - W0|^2 over
the number of dimensions, with W0 = 1 (towards the identity) or 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graftwork.maps.pairs import STANDARDIZE
from graftwork.maps.sums import Sums, total_of

Towards = Literal["identity", "zero"]
# A dimension that varies less than this share of the median is as good as constant.
_LEAST_SCALE = 1e-4


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Standardized coordinates.

    Attributes:
        x_mean: float64 (dim,).
        y_mean: float64 (dim,).
        x_scale: float64 (dim,).
        y_scale: float64 (dim,).
    """

    x_mean: np.ndarray
    y_mean: np.ndarray
    x_scale: np.ndarray
    y_scale: np.ndarray

    @classmethod
    def of(cls, sums: Sums, normalization: str, towards: Towards) -> "Coordinates":
        """Returns the coordinates of a fit.

        A map towards the identity has one scale for both sides, the spread of the target, so that the identity stays what it
        is; with `standardize`, and towards zero, each side has its own.
        """
        x_mean, y_mean = sums.x / sums.n, sums.y / sums.n
        y_scale = _spread(sums.yy / sums.n - np.square(y_mean))
        x_scale = y_scale
        if towards == "zero" or normalization == STANDARDIZE:
            x_scale = _spread(np.diag(sums.xx) / sums.n - np.square(x_mean))
        return cls(x_mean, y_mean, x_scale, y_scale)

    def moments(self, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """Returns the covariance of x and that of x with y in these coordinates, float64 (dim, dim) each."""
        xx = sums.xx / sums.n - np.outer(self.x_mean, self.x_mean)
        xy = sums.xy / sums.n - np.outer(self.x_mean, self.y_mean)
        xx /= np.outer(self.x_scale, self.x_scale)
        xy /= np.outer(self.x_scale, self.y_scale)
        return xx, xy

    def to_states(self, weight: np.ndarray) -> np.ndarray:
        """Returns a map of coordinates as a map of states: float64 (dim, dim)."""
        return weight * (self.y_scale[None, :] / self.x_scale[:, None])

    def bias(self, weight: np.ndarray) -> np.ndarray:
        """Returns what is added to x W for states: float64 (dim,)."""
        return self.y_mean - self.x_mean @ weight


def _spread(variance: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.maximum(variance, 0.0))
    return np.maximum(scale, _LEAST_SCALE * (np.median(scale) or 1.0))


def solve_ridge(xx: np.ndarray, xy: np.ndarray, ridge: float, towards: Towards) -> np.ndarray:
    """Returns W0 + (X'X/n + ridge)^-1 (X'Y/n - X'X/n W0), float64 (dim, dim); Hoerl and Kennard (1970), shrunk to W0."""
    import torch

    matrix = torch.from_numpy(xx + ridge * np.eye(len(xx)))
    right = torch.from_numpy(xy - xx if towards == "identity" else xy)
    found = torch.cholesky_solve(right, torch.linalg.cholesky(matrix)).numpy()
    if towards == "identity":
        found[np.diag_indices_from(found)] += 1.0
    return found


def squared_error(weight: np.ndarray, bias: np.ndarray, sums: Sums, y_scale: np.ndarray) -> float:
    """Returns the sum over pairs of |(y - x W - b) / y_scale|^2, from sums alone.

    Args:
        weight: float64 (dim, dim), a map of states.
        bias: float64 (dim,).
        sums: of the pairs.
        y_scale: (dim,).
    """
    per_dim = (
        sums.yy
        - 2 * bias * sums.y
        - 2 * np.einsum("ij,ij->j", weight, sums.xy)
        + sums.n * np.square(bias)
        + 2 * bias * (sums.x @ weight)
        + np.einsum("ij,ij->j", weight, sums.xx @ weight)
    )
    return float((per_dim / np.square(y_scale)).sum())


@dataclass(frozen=True)
class ChosenRidge:
    """The ridge that folds chose.

    Attributes:
        ridge: the one with the least loss.
        losses: ridge -> mean squared error per pair and dimension on pairs of prompts that were left out.
    """

    ridge: float
    losses: Mapping[float, float]


def choose_ridge(
    folds: Sequence[Sums],
    ridges: Sequence[float],
    normalization: str,
    towards: Towards,
) -> ChosenRidge:
    """Returns the ridge with the least loss on prompts that were left out; the first where there is one alone.

    Args:
        folds: sums of each fold.
        ridges: candidates.
        normalization: see `pairs.NORMALIZATIONS`.
        towards: what the map is shrunk towards.
    """
    if len(ridges) == 1:
        return ChosenRidge(ridges[0], {})
    total = total_of(folds)
    errors = dict.fromkeys(ridges, 0.0)
    y_scale = Coordinates.of(total, normalization, towards).y_scale
    for fold in folds:
        if not 0 < fold.n < total.n:
            continue
        rest = total - fold
        at = Coordinates.of(rest, normalization, towards)
        xx, xy = at.moments(rest)
        for ridge in ridges:
            weight = at.to_states(solve_ridge(xx, xy, ridge, towards))
            errors[ridge] += squared_error(weight, at.bias(weight), fold, y_scale)
    losses = {ridge: error / (total.n * len(y_scale)) for ridge, error in errors.items()}
    return ChosenRidge(min(losses, key=losses.__getitem__), losses)


def loss_of(
    weight: np.ndarray, at: Coordinates, sums: Sums, ridge: float, towards: Towards
) -> tuple[float, float]:
    """Returns the loss of a map and its part without the penalty, per pair and dimension.

    Args:
        weight: float64 (dim, dim), a map of coordinates.
        at: the coordinates.
        sums: of the pairs.
        ridge: weight of the penalty.
        towards: what the map is shrunk towards.
    """
    states = at.to_states(weight)
    dim = len(weight)
    error = squared_error(states, at.bias(states), sums, at.y_scale) / (sums.n * dim)
    away = weight - np.eye(dim) if towards == "identity" else weight
    return error + ridge * float(np.square(away).sum()) / dim, error
