"""Hidden states of Qwen3: the text encoder of Z-Image, Qwen3-Embedding, and any other checkpoint of `Qwen3Model`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from graftwork.models.description import read_chat_template
from graftwork.models.hardware import parse_dtype
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions, lay_out
from graftwork.models.protocols import EncodedSequence
from graftwork.models.tokens import PromptLayout, assign_roles
from graftwork.models.weights import (
    UNUSED_WEIGHTS,
    check_layers,
    load_weights,
    rotary_base,
    take_states,
)


class TruncatedQwen3Model(Qwen3Model):
    """Qwen3Model that may have fewer layers than its checkpoint, which may have a language model's head."""

    _keys_to_ignore_on_load_unexpected = UNUSED_WEIGHTS


class Qwen3Encoder:
    """Encodes prompts with `Qwen3Model` in transformers.

    Attributes:
        model: Blocks up to the deepest layer; without the final norm unless the last entry is asked for.
        tokenizer: With its chat template.
        deepest: The deepest entry of `hidden_states` it can give.
    """

    def __init__(self, model: Qwen3Model, tokenizer: Any, deepest: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.deepest = deepest

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> "Qwen3Encoder":
        """Loads the layers that are needed; see `loading.load_encoder`."""
        weights = folder / (entry.get("subfolder") or "")
        config = Qwen3Config.from_pretrained(weights, local_files_only=True)
        total = config.num_hidden_layers
        deepest = check_layers(layers, total)[-1] if layers is not None else total
        # Entry 0 is the input of the first block, recorded when that runs.
        kept = max(deepest, 1)
        config.num_hidden_layers = kept
        config.layer_types = config.layer_types[:kept]
        model = load_weights(TruncatedQwen3Model, weights, config, parse_dtype(hardware["dtype"]))
        if kept < total:
            # The library replaces the last entry by the normed output; only the checkpoint's last one is
            # meant to be.
            model.norm = torch.nn.Identity()
        tokenizer = load_tokenizer(folder / (entry.get("tokenizer_subfolder") or ""))
        return cls(model.to(hardware["device"]), tokenizer, deepest)

    def render(self, prompt: str, system: str | None = None) -> str:
        """Returns the chat given to the tokenizer, as `ZImagePipeline` renders it."""
        turns = [] if system is None else [{"role": "system", "content": system}]
        return self.tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )

    @torch.no_grad()
    def encode(
        self,
        prompt: str,
        image: Image.Image | None,
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = NEUTRAL_OPTIONS,
    ) -> EncodedSequence:
        """Encodes one prompt; see `protocols.Encoder`.

        Raises:
            ValueError: where an image is given, or a layer that was not loaded, or the chat template cannot do what
                the options ask for.
            FloatingPointError: where a hidden state is not finite.
        """
        if image is not None:
            raise ValueError(
                "an image was given to a text encoder; use an encoder of family qwen3_vl, or no references, "
                "in config/experiments/*.yaml"
            )
        wanted = check_layers(layers, self.deepest)
        layout = lay_out(self.render, prompt, options)
        input_ids, offsets = tokenize(self.tokenizer, layout)
        with rotary_base(self.model, options.rope_theta):
            output = self.model(
                input_ids=input_ids.to(self.model.device), use_cache=False, output_hidden_states=wanted
            )
        token_ids = input_ids[0].numpy()
        return EncodedSequence(
            token_ids=token_ids,
            roles=assign_roles(layout, token_ids, offsets),
            # Sequential whatever `options.positions` says.
            positions=np.arange(len(token_ids), dtype=np.int64)[None],
            hidden_states=take_states(output.hidden_states, wanted),
        )


def load_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Loads a Qwen tokenizer and makes sure that it has its chat template."""
    tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        # Older vision checkpoints keep the template in a file that only their processor reads.
        tokenizer.chat_template = read_chat_template(folder)
    return tokenizer


def tokenize(tokenizer: Any, layout: PromptLayout) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Tokenizes a rendered prompt.

    Returns:
        int64 (1, tokens), and (start, end) in characters for each token.
    """
    encoding = tokenizer(layout.text, return_offsets_mapping=True)
    return torch.tensor([encoding["input_ids"]], dtype=torch.int64), encoding["offset_mapping"]
