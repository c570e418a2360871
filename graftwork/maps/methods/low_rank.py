"""The identity plus a map of low rank."""

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.linear import Coordinates, solve_ridge
from graftwork.maps.methods.ridge import RIDGES, Ridges
from graftwork.maps.registry import Fit, MethodParameters, register_method

if TYPE_CHECKING:
    import torch

    _Decomposed = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]

# Of the mean of the diagonal: keeps a metric invertible.
_JITTER = 1e-6


class LowRankParameters(MethodParameters):
    """Parameters of `fit_low_rank`."""

    rank: Annotated[int, Field(ge=1)] = Field(64, description="Rank of what is added to the identity.")
    metric: Literal["generator", "standardized"] = Field(
        "standardized",
        description="What the rank is spent on: errors as the `generator`'s first caption layer sees them, or of `standardized` "
        "dimensions, all alike.",
    )
    ridges: Ridges = Field(
        default_factory=lambda: list(RIDGES), description="As in `ridge`; chosen for the full rank."
    )


def _rank_problem(parameters: LowRankParameters, width: int) -> str | None:
    if parameters.rank > width:
        return f"rank {parameters.rank} is above {width}, the width of the states; allowed: 1 to {width}"
    return None


@register_method(
    "low_rank",
    formula="y = x + (x D) U + b: reduced-rank ridge regression of y - x",
    source="Izenman (1975); Mukherjee and Zhu (2011), Reduced rank ridge regression",
    parameters=LowRankParameters,
    draws_ranks=True,
    takes_metric=lambda parameters: parameters.metric == "generator",
    pairs_needed=lambda parameters: parameters.rank + 1,
    problem_with=_rank_problem,
)
def fit_low_rank(corpus: PairedCorpus, parameters: LowRankParameters) -> Fit:
    """Fits the identity plus a map of low rank, in the generator's metric or that of standardized dimensions."""
    fitted, kept, root, values, ridge = corpus.once(
        ("low_rank", parameters.metric, tuple(parameters.ridges)), lambda: _decompose(corpus, parameters)
    )
    import torch

    at = Coordinates.of(corpus.total, corpus.normalization, "identity")
    kept = kept[:, -parameters.rank :]
    down = (fitted @ kept).numpy()
    up = torch.linalg.solve_triangular(root.T, kept, upper=True).T.numpy()
    # In coordinates (x - m) / s: down takes the states' scale away, up brings the target's back.
    down, up = down / at.x_scale[:, None], up * at.y_scale[None, :]
    scale = at.y_scale / at.x_scale
    bias = at.y_mean - at.x_mean * scale - (at.x_mean @ down) @ up
    share = float(values[-parameters.rank :].sum() / values.clamp(min=0).sum().clamp(min=1e-300))
    return Fit(
        {"scale": scale, "down": down, "up": up, "bias": bias}, {"ridge": ridge, "share_of_change": share}
    )


def _decompose(corpus: PairedCorpus, parameters: LowRankParameters) -> "_Decomposed":
    """Returns what all ranks have in common.

    The change B of the full ridge times a root L of the metric; the eigenvectors of L'B'(X'X/n + ridge)BL, the largest last;
    L; their eigenvalues; and the ridge.
    """
    import torch

    ridge = corpus.chosen_ridge(parameters.ridges, "identity").ridge
    at = Coordinates.of(corpus.total, corpus.normalization, "identity")
    xx, xy = at.moments(corpus.total)
    dim = len(xx)
    residual = solve_ridge(xx, xy, ridge, "identity") - np.eye(dim)
    metric = np.eye(dim)
    if parameters.metric == "generator":
        metric = corpus.metric * np.outer(at.y_scale, at.y_scale)
        metric = metric + _JITTER * np.trace(metric) / dim * np.eye(dim)
    root = torch.linalg.cholesky(torch.from_numpy(metric))
    fitted = torch.from_numpy(residual) @ root
    values, vectors = torch.linalg.eigh(fitted.T @ torch.from_numpy(xx + ridge * np.eye(dim)) @ fitted)
    return fitted, vectors, root, values, ridge
