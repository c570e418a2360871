"""Hidden states of a text with `Qwen3Model` in transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen3Config, Qwen3Model

from graftwork.models.description import encoder_folders
from graftwork.models.families import families_with_images
from graftwork.models.hardware import parse_dtype
from graftwork.models.prompts import InputOptions, lay_out
from graftwork.models.tokens import assign_roles, mark_prompt
from graftwork.models.transformers_encoder import (
    UNUSED_WEIGHTS,
    ModelInput,
    TransformersEncoder,
    check_layers,
    load_tokenizer,
    load_weights,
    tokenize,
)


class TruncatedQwen3Model(Qwen3Model):
    """Qwen3Model that may have fewer layers than its checkpoint, which may have a language model's head."""

    _keys_to_ignore_on_load_unexpected = UNUSED_WEIGHTS


class Qwen3Encoder(TransformersEncoder):
    """Encodes texts with `Qwen3Model`."""

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> "Qwen3Encoder":
        """Loads the layers that are needed; see `loading.load_encoder`."""
        weights, tokenizer = encoder_folders(entry, folder)
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
        return cls(model.to(hardware["device"]), load_tokenizer(tokenizer), deepest)

    def render(self, prompt: str, system: str | None = None) -> str:
        """Returns the chat given to the tokenizer, as `ZImagePipeline` renders it."""
        turns = [] if system is None else [{"role": "system", "content": system}]
        return self.tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )

    def prepare(
        self, prompt: str, image: Image.Image | None, image_key: str | None, options: InputOptions
    ) -> ModelInput:
        """Renders and tokenizes a text; see `TransformersEncoder`."""
        if image is not None:
            raise ValueError(
                f"an image was given to an encoder of text; use an encoder of family {families_with_images()}, or no "
                "references, in config/experiments/*.yaml"
            )
        layout = lay_out(self.render, prompt, options)
        input_ids, offsets = tokenize(self.tokenizer, layout)
        token_ids = input_ids[0].numpy()
        # Sequential whatever `options.positions` says.
        positions = np.arange(len(token_ids), dtype=np.int64)[None]
        roles = assign_roles(layout, token_ids, offsets)
        return ModelInput(input_ids, roles, mark_prompt(layout, offsets), positions)
