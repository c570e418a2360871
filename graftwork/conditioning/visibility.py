"""The part of a conditioning that its generator can see.

Where its first caption layer divides every token by the token's RMS, any positive scale of the embeddings, global or per
token, changes nothing; where it is linear with fewer outputs than inputs, some directions change nothing; where tokens have
no positions, their order does not. So how far a recipe is from the text alone has to be measured after that layer. Which
layer a generator has is asked of its family. Computed from the float32 result, before it is cast.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from graftwork.conditioning.sketches import NUMBERS, TOLERANCE, encode_sketch, signs
from graftwork.models.families import CaptionLinearWeight, CaptionNormWeight, generator_family
from graftwork.store.records import Sketch


class CaptionNorm:
    """The first caption layer of a generator: `RMSNorm` in diffusers.

    A token of several layers is taken as one vector: captions are (tokens, dim) or (tokens, layers, dim / layers).

    Attributes:
        weight: float32 (dim,).
        eps: Added to the mean square of a token.
        order_is_visible: Whether another order of the tokens is a change.
    """

    order_is_visible = True

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps

    @classmethod
    def read(cls, folder: Path, family: str) -> "CaptionNorm":
        """Reads the first caption layer out of a generator's folder, and nothing else of its weights.

        Returns:
            The norm; `CaptionLinear` where the layer is linear, `NoCaptionNorm` where it hides nothing.

        Raises:
            ValueError: where there is no such weight, naming it and the folder.
        """
        captions = generator_family(family).captions
        layer = captions.first_layer
        if isinstance(layer, CaptionNormWeight):
            config = json.loads((folder / layer.folder / "config.json").read_text(encoding="utf-8"))
            seen = cls(_read_weight(folder, layer, family), config.get(layer.eps, layer.default_eps))
        elif isinstance(layer, CaptionLinearWeight):
            seen = CaptionLinear(_read_weight(folder, layer, family))
        else:
            seen = NoCaptionNorm()
        seen.order_is_visible = captions.order_is_visible
        return seen

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what comes out of the norm: float32 (tokens, dim), from float32 (tokens, dim)."""
        return states * self._inverse_rms(states) * self.weight

    def _inverse_rms(self, states: torch.Tensor) -> torch.Tensor:
        mean_square = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square() / states.shape[-1]
        return torch.rsqrt(mean_square + self.eps)

    def _change(self, states: torch.Tensor, text: torch.Tensor) -> float:
        """Returns how far apart two captions of one shape are, after the layer."""
        return float(torch.linalg.vector_norm(self(states).sub_(self(text))))

    def _length(self, text: torch.Tensor) -> float:
        return float(torch.linalg.vector_norm(self(text)))

    def _in_order(self, states: torch.Tensor) -> torch.Tensor:
        """Returns a caption as (tokens, dim), in an order of its own where the given one is not visible."""
        states = states.flatten(1)
        if self.order_is_visible:
            return states
        keys = states @ torch.from_numpy(signs(0, states.shape[1], stream=2)[:, :1])
        return states[keys[:, 0].argsort(stable=True)]

    def _signs(self, dim: int) -> torch.Tensor:
        """Returns signs of the dimensions, with the weight of the layer in them: float32 (dim, NUMBERS)."""
        return self._weighted_signs

    @cached_property
    def _weighted_signs(self) -> torch.Tensor:
        return self.weight[:, None] * torch.from_numpy(signs(0, len(self.weight), stream=1))

    def relative_change(self, steps: Sequence[torch.Tensor], text: torch.Tensor) -> float | None:
        """Returns how much of a conditioning the generator sees: |y - y_text| / |y_text|, y what the norm gives.

        Args:
            steps: Conditioning of each step before the cast, float32 (tokens, dim); one where all steps have the same.
            text: The text alone, float32 (tokens, dim).

        Returns:
            The quotient of Frobenius norms over all steps; 0 where that is no more than rounding, None where the numbers
            of tokens differ or the text is nothing.
        """
        if any(states.shape != text.shape for states in steps):
            return None
        own = self._in_order(text)
        length = self._length(own) * len(steps) ** 0.5
        distance = sum(self._change(self._in_order(states), own) ** 2 for states in steps) ** 0.5
        if distance <= TOLERANCE * length:
            return 0.0
        return float(f"{distance / length:.6g}") if length else None

    def sketch(self, steps: Sequence[torch.Tensor], negative: torch.Tensor | None = None) -> Sketch:
        """Returns the sketch of what the norm makes of a conditioning, that of the negative prompt included.

        Number j is sum over tokens i and dimensions d of a_ij y_id b_jd with independent signs a and b, over the root of
        how many numbers there are: its expected square is |y|^2, that of a difference is the squared difference (Johnson
        and Lindenstrauss). Token i has signs of its own, so that an exchange of tokens is a change.

        Args:
            steps: Conditioning of each step before the cast, float32 (tokens, dim); one where all steps have the same.
            negative: Conditioning of the negative prompt, float32 (negative tokens, dim), where there is guidance.
        """
        tensors = {f"step {number}": states for number, states in enumerate(steps)}
        if negative is not None:
            tensors["negative"] = negative
        total, first, names = torch.zeros(NUMBERS, dtype=torch.float64), 0, sorted(tensors)
        for name in names:
            states = self._in_order(tensors[name])
            # The layer's weight is in the signs: y itself, as large as the states, is not needed.
            projected = (states @ self._signs(states.shape[1])) * self._inverse_rms(states)
            own = torch.from_numpy(signs(first, len(states), stream=0))
            total += (projected * own).double().sum(dim=0)
            first += len(states)
        return encode_sketch({name: len(tensors[name]) for name in names}, (total / NUMBERS**0.5).numpy())


def caption_metric(folder: Path, family: str) -> np.ndarray:
    """Returns what a generator's first caption layer makes of differences: M = diag(g) W'W diag(g), float64 (dim, dim).

    |d|^2 in this metric is the squared length of what comes out of the layer for a difference d of tokens of root mean square
    1, with g the weight of the norm and W that of the linear layer after it.

    Raises:
        ValueError: where the family has no such layer, or the folder lacks its weight.
    """
    captions = generator_family(family).captions
    layer, name = captions.first_layer, captions.projection
    if not isinstance(layer, CaptionNormWeight) or name is None:
        raise ValueError(
            f"generators of family {family!r} have no linear layer after the norm of captions that is known"
        )
    norm = _read_weight(folder, layer, family).double()
    seen = _read_weight(folder, CaptionLinearWeight(layer.folder, name), family).double() * norm
    return (seen.T @ seen).numpy()


class NoCaptionNorm(CaptionNorm):
    """The first caption layer of a generator that sees embeddings as they are, with their scale."""

    def __init__(self) -> None:
        super().__init__(torch.ones(1), 0.0)

    def _inverse_rms(self, states: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(states), 1)

    def _signs(self, dim: int) -> torch.Tensor:
        return torch.from_numpy(signs(0, dim, stream=1))


class CaptionLinear(NoCaptionNorm):
    """The first caption layer of a generator: `Linear` in torch, whose bias is the same for all captions.

    Attributes:
        weight: float32 (outputs, dim).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight
        self._last: tuple[torch.Tensor, float] | None = None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what comes out of the layer but for its bias: float32 (tokens, outputs), from float32 (tokens, dim)."""
        return states @ self.weight.T

    def _change(self, states: torch.Tensor, text: torch.Tensor) -> float:
        # Most tokens may be pads, which are the same.
        differ = (states != text).any(dim=1)
        return float(torch.linalg.vector_norm(self(states[differ] - text[differ])))

    def _length(self, text: torch.Tensor) -> float:
        # Recipes of one text follow each other, and the product is the costly part.
        if self._last is None or not torch.equal(self._last[0], text):
            self._last = text, super()._length(text)
        return self._last[1]

    def _signs(self, dim: int) -> torch.Tensor:
        return self._weighted_signs

    @cached_property
    def _weighted_signs(self) -> torch.Tensor:
        return self.weight.T @ torch.from_numpy(signs(0, len(self.weight), stream=1))


def _read_weight(folder: Path, layer: CaptionNormWeight | CaptionLinearWeight, family: str) -> torch.Tensor:
    """Returns the weight of a first caption layer, float32."""
    weights, name = folder / layer.folder, layer.weight
    for file in _files_with(weights, name):
        with safe_open(file, "pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118
                return tensors.get_tensor(name).float()
    raise ValueError(
        f"no file in {weights} has {name!r}, the first caption layer of family {family!r}; set config/models.yaml: "
        "generators to a complete model"
    )


def _files_with(folder: Path, name: str) -> list[Path]:
    """Returns the files of weights that may hold a tensor: the one that an index names, else all."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        file = json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(name)
        if file is not None:
            return [folder / file]
    return sorted(folder.glob("*.safetensors"))
