"""A fitted map, and its use on hidden states of any tokens.

Every map has one form, whatever fitted it: y = x * scale + x W + (x D) U + b, where everything but the bias may be missing
and then counts as zero. A map over layers makes one state of several first (`pool_layers`). Tensors by name:

    scale (dim,)   weight (dim, dim)   down (dim, rank)   up (rank, dim)   bias (dim,)
    query, key (2, dim, width)   layer_weights (layers,)        of maps over layers
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graftwork.core.code_digest import outside_digests
from graftwork.maps.pairs import EPS, RMS

if TYPE_CHECKING:
    import torch

TENSORS = ("scale", "weight", "down", "up", "bias", "query", "key", "layer_weights")


@outside_digests("holds values")
@dataclass(frozen=True, eq=False)
class FittedMap:
    """A map from hidden states of an encoder to those of the generator's own text encoder.

    Attributes:
        method: what fitted it.
        normalization: what is done to a token first, see `pairs.NORMALIZATIONS`.
        tensors: float32, by the names above.
        token_rms: median root mean square of the target's tokens, which `rms` gives to what it makes.
        pairs: number of pairs that it was fitted on.
        prompts: number of prompts that they are of.
        sink: float32 (dim,), what takes the place of the token in role `sink` where both encoders begin with the same one;
            None where they do not.
        facts: what the fit found, such as the ridge that folds chose, for people.
    """

    method: str
    normalization: str
    tensors: Mapping[str, np.ndarray]
    token_rms: float
    pairs: int
    prompts: int
    sink: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Number of layers that it takes."""
        return len(self.tensors.get("layer_weights", (0,)))

    @property
    def parameters(self) -> int:
        """Number of fitted values."""
        return sum(value.size for value in self.tensors.values())


def apply_map(fitted: FittedMap, states: "torch.Tensor") -> "torch.Tensor":
    """Returns mapped states, float32 (tokens, dim).

    Args:
        fitted: the map.
        states: float32 (layers, tokens, dim), the layers that it was fitted on.
    """
    mapped = map_normalized(fitted, normalized(fitted, states))
    return mapped * fitted.token_rms if fitted.normalization == RMS else mapped


def map_sequence(fitted: FittedMap, states: "torch.Tensor", is_sink: "torch.Tensor") -> "torch.Tensor":
    """Returns a mapped sequence, float32 (tokens, dim), its first token that of the text encoder where both begin alike.

    Args:
        fitted: the map.
        states: float32 (layers, tokens, dim).
        is_sink: bool (tokens,), which token is in role `sink`.
    """
    import torch

    mapped = apply_map(fitted, states)
    if fitted.sink is not None:
        mapped[is_sink] = torch.from_numpy(fitted.sink)
    return mapped


def normalized(fitted: FittedMap, states: "torch.Tensor") -> "torch.Tensor":
    """Returns states as a map takes them; see `pairs.normalize_tokens`."""
    import torch

    if fitted.normalization != RMS:
        return states
    mean_square = states.double().square().mean(dim=-1, keepdim=True)
    return states * torch.rsqrt(mean_square + EPS).float()


def map_normalized(fitted: FittedMap, states: "torch.Tensor") -> "torch.Tensor":
    """Returns what a map makes of normalized states: float32 (tokens, dim), of float32 (layers, tokens, dim)."""
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in fitted.tensors.items()}
    if "layer_weights" in tensors:
        x = pool_layers(states, tensors["query"], tensors["key"], tensors["layer_weights"])
    else:
        (x,) = states
    result = tensors["bias"].expand(x.shape).clone()
    if "scale" in tensors:
        result += x * tensors["scale"]
    if "weight" in tensors:
        result += x @ tensors["weight"]
    if "down" in tensors:
        result += (x @ tensors["down"]) @ tensors["up"]
    return result


def pool_layers(
    states: "torch.Tensor", query: "torch.Tensor", key: "torch.Tensor", layer_weights: "torch.Tensor"
) -> "torch.Tensor":
    """Returns one state of the layers of each token: float32 (tokens, dim).

    Attention across the layers of a token, twice, each time x + softmax(x Q (x K)' / sqrt(width)) x, then a weighted sum over
    layers. The layerwise attention pooling of UniFusion (arXiv 2510.12789) with the states themselves as values.

    Args:
        states: float32 (layers, tokens, dim).
        query: float32 (2, dim, width).
        key: float32 (2, dim, width).
        layer_weights: float32 (layers,).
    """
    import torch

    x = states.transpose(0, 1)
    for q, k in zip(query, key, strict=True):
        scores = (x @ q) @ (x @ k).transpose(1, 2) / q.shape[1] ** 0.5
        x = x + torch.softmax(scores, dim=-1) @ x
    return torch.einsum("tld,l->td", x, layer_weights)
