"""The same loss as `ridge`, by gradient descent: a check of the closed form, and what the documents describe."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from graftwork.maps.corpus import AllPairs, PairedCorpus
from graftwork.maps.linear import Coordinates, Towards, loss_of
from graftwork.maps.methods.ridge import RIDGES, Ridges
from graftwork.maps.registry import Fit, MethodParameters, register_method

_FIRST_SPREAD = 0.02


class SgdParameters(MethodParameters):
    """Parameters of `fit_by_descent`."""

    form: Literal["linear", "lora"] = Field(
        "linear", description="A full matrix, or the identity plus D U of low rank (LoRA, without a scale)."
    )
    towards: Towards = Field("identity", description="As in `ridge`; `lora` is always towards the identity.")
    rank: Annotated[int, Field(ge=1)] = Field(64, description="Rank of `lora`.")
    ridges: Ridges = Field(default_factory=lambda: list(RIDGES), description="As in `ridge`.")
    steps: Annotated[int, Field(ge=1)] = Field(3000, description="Steps.")
    batch: Annotated[int, Field(ge=1)] = Field(512, description="Pairs in a step, drawn at random.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        2e-2, description="At first; it falls to 0 along a cosine."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of batches and first weights.")


def _needed(parameters: SgdParameters) -> int:
    return parameters.rank + 1 if parameters.form == "lora" else 2


def _rank_problem(parameters: SgdParameters, width: int) -> str | None:
    if parameters.form == "lora" and parameters.rank > width:
        return f"rank {parameters.rank} is above {width}, the width of the states; allowed: 1 to {width}"
    return None


@register_method(
    "sgd",
    formula="argmin of |y - x W - b|^2 + ridge |W - W0|^2 by Adam on batches; lora: W = 1 + D U",
    source="Kingma and Ba (2015); Hu et al. (2021), LoRA",
    parameters=SgdParameters,
    pairs_needed=_needed,
    problem_with=_rank_problem,
)
def fit_by_descent(corpus: PairedCorpus, parameters: SgdParameters) -> Fit:
    """Fits the loss of `ridge` by gradient descent, with a full matrix or in the form of LoRA."""
    towards: Towards = "identity" if parameters.form == "lora" else parameters.towards
    ridge = corpus.chosen_ridge(parameters.ridges, towards).ridge
    at = Coordinates.of(corpus.total, corpus.normalization, towards)
    parts = _descend(corpus.everything, at, ridge, towards, parameters)
    weight = (
        parts["weight"]
        if parameters.form == "linear"
        else np.eye(len(at.x_mean)) + (parts["down"] @ parts["up"])
    )
    loss, error = loss_of(weight, at, corpus.total, ridge, towards)
    facts = {"ridge": ridge, "loss": loss, "error": error}
    if parameters.form == "linear":
        states = at.to_states(weight)
        return Fit({"weight": states, "bias": at.bias(states)}, facts)
    down, up = parts["down"] / at.x_scale[:, None], parts["up"] * at.y_scale[None, :]
    scale = at.y_scale / at.x_scale
    bias = at.y_mean - at.x_mean * scale - (at.x_mean @ down) @ up
    return Fit({"scale": scale, "down": down, "up": up, "bias": bias}, facts)


def _descend(
    pairs: AllPairs, at: Coordinates, ridge: float, towards: Towards, parameters: SgdParameters
) -> dict[str, np.ndarray]:
    """Returns weights in standardized coordinates, float64: `weight`, or `down` and `up`."""
    import torch

    mean_x, scale_x, mean_y, scale_y = (
        torch.from_numpy(part).float() for part in (at.x_mean, at.x_scale, at.y_mean, at.y_scale)
    )
    source, target = torch.from_numpy(pairs.source[0]), torch.from_numpy(pairs.target)
    dim = len(mean_x)
    random = torch.Generator().manual_seed(parameters.seed)
    start = torch.eye(dim) if towards == "identity" else torch.zeros(dim, dim)
    if parameters.form == "linear":
        weights = {"weight": start.clone()}
    else:
        first = torch.randn(dim, parameters.rank, generator=random) * _FIRST_SPREAD
        weights = {"down": first, "up": torch.zeros(parameters.rank, dim)}
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=parameters.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.steps)
    for _ in range(parameters.steps):
        rows = torch.randint(len(target), (min(parameters.batch, len(target)),), generator=random)
        x, y = (source[rows] - mean_x) / scale_x, (target[rows] - mean_y) / scale_y
        if parameters.form == "linear":
            made, away = x @ weights["weight"], weights["weight"] - start
        else:
            away = weights["down"] @ weights["up"]
            made = x + (x @ weights["down"]) @ weights["up"]
        loss = (y - made).square().sum() / len(y) + ridge * away.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach().double().numpy() for name, tensor in weights.items()}
