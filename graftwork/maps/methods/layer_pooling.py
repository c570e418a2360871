"""One state of several layers, by attention across layers, then a linear map."""

from typing import Annotated

import numpy as np
from pydantic import Field

from graftwork.maps.corpus import FOLDS, AllPairs, PairedCorpus
from graftwork.maps.fitted import pool_layers
from graftwork.maps.linear import Coordinates, Towards, choose_ridge, solve_ridge
from graftwork.maps.methods.ridge import RIDGES, Ridges
from graftwork.maps.registry import Fit, MethodParameters, register_method
from graftwork.maps.sums import sum_folds, total_of

_FIRST_SPREAD = 0.02
_BLOCKS = 2
_ROWS_AT_ONCE = 4096


class PoolingParameters(MethodParameters):
    """Parameters of `fit_layer_pooling`."""

    hidden_layers: Annotated[list[int], Field(min_length=2)] = Field(
        description="Layers of the encoder, in place of `hidden_layer`."
    )
    width: Annotated[int, Field(ge=1)] = Field(64, description="Width of queries and keys.")
    towards: Towards = Field("zero", description="As in `ridge`, of the map after the pooling.")
    ridges: Ridges = Field(default_factory=lambda: list(RIDGES), description="As in `ridge`.")
    steps: Annotated[int, Field(ge=1)] = Field(1000, description="Steps of the pooling.")
    batch: Annotated[int, Field(ge=1)] = Field(256, description="Pairs in a step, drawn at random.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        3e-3, description="At first; it falls to 0 along a cosine."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of batches and first weights.")


@register_method(
    "layer_pooling",
    formula="y = p(x) W + b, p: attention across the layers of a token, twice, and a weighted sum over layers",
    source="layerwise attention pooling of UniFusion, arXiv 2510.12789, with the states as values",
    parameters=PoolingParameters,
    takes_layers=True,
)
def fit_layer_pooling(corpus: PairedCorpus, parameters: PoolingParameters) -> Fit:
    """Trains the pooling with a linear map by gradient descent, then fits the map again in closed form."""
    import torch

    pairs = corpus.everything
    weights = _train(pairs, parameters)
    with torch.no_grad():
        pooled = torch.cat(
            [
                pool_layers(torch.from_numpy(part), *weights.values())
                for part in np.array_split(
                    pairs.source, max(1, pairs.source.shape[1] // _ROWS_AT_ONCE), axis=1
                )
            ]
        ).numpy()
    parts = ((f, pooled[pairs.folds == f], pairs.target[pairs.folds == f]) for f in range(FOLDS))
    folds = sum_folds(parts, FOLDS, pooled.shape[1])
    towards = parameters.towards
    chosen = choose_ridge(folds, parameters.ridges, corpus.normalization, towards)
    total = total_of(folds)
    at = Coordinates.of(total, corpus.normalization, towards)
    weight = at.to_states(solve_ridge(*at.moments(total), chosen.ridge, towards))
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    return Fit({**arrays, "weight": weight, "bias": at.bias(weight)}, {"ridge": chosen.ridge})


def _train(pairs: AllPairs, parameters: PoolingParameters) -> dict:
    """Returns query, key and layer_weights, trained with a linear map beside them that is thrown away."""
    import torch

    layers, count, dim = pairs.source.shape
    source, target = torch.from_numpy(pairs.source), torch.from_numpy(pairs.target)
    mean, scale = target.mean(dim=0), target.std(dim=0).clamp(min=1e-6)
    random = torch.Generator().manual_seed(parameters.seed)
    shape = (_BLOCKS, dim, parameters.width)
    weights = {
        "query": torch.randn(shape, generator=random) * _FIRST_SPREAD,
        "key": torch.randn(shape, generator=random) * _FIRST_SPREAD,
        # Each block adds a mean of the layers to them: this begins with about the mean of the layers.
        "layer_weights": torch.full((layers,), 1.0 / (layers * 2**_BLOCKS)),
    }
    head = {"weight": torch.eye(dim), "bias": torch.zeros(dim)}
    for tensor in (*weights.values(), *head.values()):
        tensor.requires_grad_()
    optimizer = torch.optim.Adam([*weights.values(), *head.values()], lr=parameters.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.steps)
    for _ in range(parameters.steps):
        rows = torch.randint(count, (min(parameters.batch, count),), generator=random)
        pooled = pool_layers(source[:, rows], *weights.values())
        made = ((pooled - mean) / scale) @ head["weight"] + head["bias"]
        loss = (made - (target[rows] - mean) / scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach() for name, tensor in weights.items()}
