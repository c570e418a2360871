"""Floating-point operations of the models, counted by torch on the meta device: shapes without values."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lab.random_models import (
    random_pipeline,
    random_text_encoder,
    random_vision_language_encoder,
)


def count(function: Callable[[], Any]) -> int:
    """Returns the operations of matrix products, convolutions and attention; a multiplication and an addition are two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def image_flops(height: int, width: int, tokens: int, *, small: bool = False) -> dict[str, int]:
    """Returns the operations for one image: `forward`, one step of the transformer, and `decode`.

    Args:
        height: Pixels.
        width: Pixels.
        tokens: Number of tokens of the caption.
        small: Whether to count the tiny models in place of the published sizes.
    """
    pipeline = random_pipeline("meta", torch.bfloat16, small=small)
    channels = pipeline.transformer.in_channels
    latents = torch.empty(1, channels, height // 8, width // 8, device="meta")
    caption = torch.empty(
        tokens, pipeline.transformer.config.cap_feat_dim, dtype=torch.bfloat16, device="meta"
    )
    forward = count(
        lambda: pipeline(
            prompt_embeds=[caption],
            latents=latents,
            height=height,
            width=width,
            num_inference_steps=1,
            guidance_scale=0.0,
            output_type="latent",
        )
    )
    return {"forward": forward, "decode": count(lambda: pipeline.vae.decode(latents.to(torch.bfloat16)))}


def text_flops(tokens: int, *, small: bool = False) -> int:
    """Returns the operations of the text encoder at its whole depth, for one sequence of `tokens` tokens."""
    model = random_text_encoder("meta", torch.bfloat16, small=small).model
    ids = torch.zeros(1, tokens, dtype=torch.int64, device="meta")
    # The library would look at values to find out that a sequence without padding needs no mask.
    masks = {"full_attention": None}
    return count(lambda: model(input_ids=ids, attention_mask=masks, use_cache=False))


def vision_flops(patches: int, *, small: bool = False) -> int:
    """Returns the operations of the blocks of the vision tower for one image of `patches` patches.

    By formula: the library reads the grid's values, which the meta device does not have.
    """
    config = random_vision_language_encoder("meta", torch.bfloat16, small=small).model.config.vision_config
    width, inner = config.hidden_size, config.intermediate_size
    linear = 2 * patches * (4 * width * width + 2 * width * inner)
    attention = 4 * patches * patches * width
    return config.depth * (linear + attention)
