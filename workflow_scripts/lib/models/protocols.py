"""What the workflow expects of any encoder and any generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class EncodedSequence:
    """One encoded input: a single sequence without padding.

    Attributes:
        token_ids: int64 (tokens,).
        roles: uint8 (tokens,), codes of `tokens.ROLES`.
        positions: int64 (axes, tokens); one axis for Qwen3, three (time, height, width) for M-RoPE.
        hidden_states: Entry of the library's `hidden_states` -> (tokens, hidden_size), the model's dtype, on
            the CPU.
    """

    token_ids: np.ndarray
    roles: np.ndarray
    positions: np.ndarray
    hidden_states: "dict[int, torch.Tensor]"


class Encoder(Protocol):
    """Turns a prompt, and an image where it can, into hidden states."""

    def encode(
        self, prompt: str, image: "Image.Image | None", image_key: str | None, layers: Sequence[int]
    ) -> EncodedSequence:
        """Encodes one input.

        Args:
            prompt: Text as written by the user; the chat template is added here.
            image: RGB, or None. Raises ValueError where the encoder takes no images.
            image_key: Stands for the image's content: with the same key as in the call before, its features
                are used again. None computes them.
            layers: Entries of `hidden_states`, non-negative (see `description.resolve_layer`).
        """
        ...


class Generator(Protocol):
    """Turns conditioning into images."""

    def generate(
        self,
        prompt_embeds: "Sequence[torch.Tensor]",
        seeds: Sequence[int],
        *,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row; see `z_image.sample_images`."""
        ...
