"""What the workflow expects of any encoder and any generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graftwork.models.prompts import InputOptions

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
        self,
        prompt: str,
        image: "Image.Image | None",
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = ...,
    ) -> EncodedSequence:
        """Encodes one input.

        Args:
            prompt: Text as written by the user; the chat template is added here.
            image: RGB, or None. Raises ValueError where the encoder takes no images.
            image_key: Stands for the image's content: with the same key as in the call before, its features
                are used again. None computes them.
            layers: Entries of `hidden_states`, non-negative (see `description.resolve_layer`).
            options: What it is shown besides, and how; by default what its chat template does by itself.
        """
        ...


class ImageEncoder(Encoder, Protocol):
    """An encoder that also takes images."""

    def encode_image(self, image: "Image.Image", image_key: str | None) -> EncodedSequence:
        """Returns the vision tower's output for an image, projected to the language model's width.

        No prompt takes part and no language model runs. Every token has the role `image`, and the only entry of
        `hidden_states` is 0.
        """
        ...


class Generator(Protocol):
    """Turns conditioning into images."""

    def generate(
        self,
        prompt_embeds: "Sequence[torch.Tensor | Sequence[torch.Tensor]]",
        seeds: Sequence[int],
        *,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        negative_prompt_embeds: "Sequence[torch.Tensor] | None" = None,
        cfg_normalization: float = 0.0,
        cfg_truncation: float = 1.0,
        init_images: "Sequence[Image.Image] | None" = None,
        first_step: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row; see `z_image.sample_images`."""
        ...


class Launched(Protocol):
    """A batch that a device works on."""

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Waits, from any thread, and returns what `Generator.generate` returns."""
        ...


class LaunchingGenerator(Generator, Protocol):
    """A generator that starts a batch and lets the caller prepare the next one meanwhile.

    Attributes:
        is_compiled: Whether the first batch of a shape takes far longer than the others.
    """

    is_compiled: bool

    def launch(
        self,
        prompt_embeds: "Sequence[torch.Tensor | Sequence[torch.Tensor]]",
        seeds: Sequence[int],
        **sampling: Any,
    ) -> Launched:
        """Starts one image per row; arguments as those of `generate`."""
        ...

    def warm_up(
        self, rows: int, tokens: int, height: int, width: int, negative_tokens: int | None = None
    ) -> None:
        """Does what the first batch of this shape would have to do before it can run; nothing, if that is nothing."""
        ...
