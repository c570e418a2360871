"""Common parts of encoders: the class that runs one, and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from graftwork.models.prompts import NEUTRAL_OPTIONS, AskedInput, InputOptions

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class EncodedSequence:
    """One encoded input: a single sequence without padding.

    Attributes:
        token_ids: int64 (tokens,).
        roles: uint8 (tokens,), codes of `tokens.ROLES`.
        positions: int64 (axes, tokens); one axis for ordinary rotary embeddings, three (time, height, width) for M-RoPE.
        hidden_states: Entry of the library's `hidden_states` -> (tokens, hidden_size), the model's dtype, on
            the CPU.
        in_prompt: bool (tokens,), which tokens are of the prompt, whatever their role; None for those in role `prompt`.
    """

    token_ids: np.ndarray
    roles: np.ndarray
    positions: np.ndarray
    hidden_states: "dict[int, torch.Tensor]"
    in_prompt: np.ndarray | None = None


@dataclass(frozen=True)
class PromptToEncode:
    """A prompt that is encoded in a batch.

    Attributes:
        prompt: Text as written by the user.
        layers: Entries of `hidden_states`, non-negative.
        options: How the encoder is shown text and image.
    """

    prompt: str
    layers: tuple[int, ...]
    options: InputOptions


class Encoder(ABC):
    """Turns a prompt, and an image where it can, into hidden states."""

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> Self:
        """Loads the layers that are needed; see `loading.load_encoder`."""

    @abstractmethod
    def encode(
        self,
        prompt: str,
        image: "Image.Image | None",
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = NEUTRAL_OPTIONS,
    ) -> EncodedSequence:
        """Encodes one input.

        Args:
            prompt: Text as written by the user; the chat template is added here.
            image: RGB, or None.
            image_key: Stands for the image's content: with the same key as in the call before, its features
                are used again. None computes them.
            layers: Entries of `hidden_states`, non-negative (see `description.resolve_layer`).
            options: how text and image are shown; by default as its chat template does by itself.

        Raises:
            ValueError: where an image is given to an encoder of text, a text contains tokens that stand for an image, a
                layer was not loaded, or the chat template cannot do what the options ask for.
            FloatingPointError: where a hidden state is not finite.
        """

    def encode_batches(
        self, prompts: Sequence[PromptToEncode], image: "Image.Image | None", image_key: str | None, rows: int
    ) -> "Iterator[tuple[int, EncodedSequence | Exception]]":
        """Encodes prompts in batches of one shape; families that do so say `batches_prompts`.

        What a prompt becomes depends on `rows`, on its own length and on the image, and on no other prompt.

        Args:
            prompts: In any order.
            image: The image that all of them have, RGB, or None.
            image_key: As for `encode`; with None the image's features are computed for each prompt.
            rows: Rows of every batch; unused ones are filled.

        Yields:
            For each prompt its number in `prompts`, and its states, or why there are none, as `encode` raises it. In another order.
        """
        raise NotImplementedError(f"{type(self).__name__} encodes one input at a time")

    def files_of(self, asked: AskedInput) -> Sequence[Path] | None:
        """Returns the files that the states of an input are read from when it is encoded, some of the model's own.

        None where they follow from all files of the model.
        """
        return None

    def encode_image(self, image: "Image.Image", image_key: str | None) -> EncodedSequence:
        """Returns the vision tower's output for an image, projected to the language model's width.

        No prompt takes part and no language model runs. Every token has the role `image`, the only entry of
        `hidden_states` is 0, and positions are those on the image's own grid.

        Raises:
            ValueError: where the encoder has no vision tower.
            FloatingPointError: where a value is not finite.
        """
        raise ValueError(f"{type(self).__name__} is an encoder of text and has no vision tower")


class Captioner(ABC):
    """Answers questions about an image."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads the whole model; see `loading.load_captioner`."""

    @abstractmethod
    def answer(self, image: "Image.Image", question: str, max_new_tokens: int) -> str:
        """Returns the most probable answer, token by token, without a thought before it and without line breaks.

        Args:
            image: RGB.
            question: Text of the user.
            max_new_tokens: Most tokens, those of a thought included.

        Raises:
            ValueError: where the answer is empty, or does not begin or end within so many tokens.
        """
