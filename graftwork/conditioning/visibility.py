"""What a generator can see of its conditioning.

Where its first caption layer divides every token by the token's RMS, any positive scale of the embeddings, global or per
token, changes nothing, and how far a recipe is from the text alone has to be measured after that layer. Which generators
have such a norm is asked of their family. Computed from the float32 result, before it is cast.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open

from graftwork.conditioning.sketches import NUMBERS, TOLERANCE, encode_sketch, signs
from graftwork.models.families import generator_family
from graftwork.store.records import Sketch


class CaptionNorm:
    """The first caption layer of a generator: `RMSNorm` in diffusers.

    Attributes:
        weight: float32 (dim,).
        eps: Added to the mean square of a token.
    """

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps

    @classmethod
    def read(cls, folder: Path, family: str) -> "CaptionNorm":
        """Reads the norm out of a generator's folder, and nothing else of its weights; `NoCaptionNorm` where it has none.

        Raises:
            ValueError: where there is no such weight, naming it and the folder.
        """
        registered = generator_family(family)
        norm = registered.captions.norm
        if norm is None:
            return NoCaptionNorm(registered.read_facts(folder).caption_channels)
        weights, name = folder / norm.folder, norm.weight
        config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
        for file in _files_with(weights, name):
            with safe_open(file, "pt") as tensors:
                if name in tensors.keys():  # noqa: SIM118
                    return cls(tensors.get_tensor(name).float(), config.get(norm.eps, norm.default_eps))
        raise ValueError(
            f"no file in {weights} has {name!r}, the caption norm of family {family!r}; set config/models.yaml: "
            "generators to a complete model"
        )

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what comes out of the norm: float32 (tokens, dim), from float32 (tokens, dim)."""
        return states * self._inverse_rms(states) * self.weight

    def _inverse_rms(self, states: torch.Tensor) -> torch.Tensor:
        mean_square = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square() / states.shape[-1]
        return torch.rsqrt(mean_square + self.eps)

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
        own = self(text)
        length = float(torch.linalg.vector_norm(own)) * len(steps) ** 0.5
        squares = (float(torch.linalg.vector_norm(self(states).sub_(own))) ** 2 for states in steps)
        distance = sum(squares) ** 0.5
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
            states = tensors[name]
            # The norm's weight is in the signs: y itself, as large as the states, is not needed.
            projected = (states @ self._weighted_signs) * self._inverse_rms(states)
            own = torch.from_numpy(signs(first, len(states), stream=0))
            total += (projected * own).double().sum(dim=0)
            first += len(states)
        return encode_sketch({name: len(tensors[name]) for name in names}, (total / NUMBERS**0.5).numpy())


class NoCaptionNorm(CaptionNorm):
    """The first caption layer of a generator that sees embeddings as they are, with their scale."""

    def __init__(self, dim: int) -> None:
        super().__init__(torch.ones(dim), 0.0)

    def _inverse_rms(self, states: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(states), 1)


def _files_with(folder: Path, name: str) -> list[Path]:
    """Returns the files of weights that may hold a tensor: the one that an index names, else all."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        file = json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(name)
        if file is not None:
            return [folder / file]
    return sorted(folder.glob("*.safetensors"))
