"""Z-Image: a single-stream transformer on the last but one layer of Qwen3-4B, as `ZImagePipeline` in diffusers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.acceleration import ATTENTION_BACKENDS, NEUTRAL
from graftwork.models.description import read_json
from graftwork.models.families import (
    CaptionFormat,
    CaptionNormWeight,
    GeneratorFacts,
    GeneratorFamily,
    ModelFolder,
)

if TYPE_CHECKING:
    import torch

# Captions are padded to a multiple of this (`SEQ_MULTI_OF` in diffusers' transformer_z_image).
CAPTION_MULTIPLE = 32


def padded_length(tokens: int) -> int:
    """Returns the length of a caption of `tokens` tokens once the transformer has padded it."""
    return math.ceil(tokens / CAPTION_MULTIPLE) * CAPTION_MULTIPLE


def max_caption_tokens(axes_lens: Sequence[int]) -> int:
    """Returns the longest caption in tokens: with padding, it and the image's frame index must fit axis 0."""
    return (axes_lens[0] - 2) // CAPTION_MULTIPLE * CAPTION_MULTIPLE


def remaining_sigmas(num_inference_steps: int, first_step: int) -> list[float]:
    """Returns what the pipeline gives its scheduler for the steps from `first_step` on, before any shift.

    A shift moves each sigma by itself, so what comes out for a part of a schedule is that part of the whole.
    """
    from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

    return get_default_z_image_sigmas(num_inference_steps)[first_step:]


def scheduler_sigmas(
    scheduler_config: Mapping[str, Any], num_inference_steps: int, image_tokens: int, first_step: int = 0
) -> "torch.Tensor":
    """Returns the sigmas that the pipeline's scheduler goes through, as `ZImagePipeline.__call__` sets them.

    Args:
        scheduler_config: Settings of `FlowMatchEulerDiscreteScheduler` in diffusers; what is missing has its default.
        num_inference_steps: Steps of the whole schedule.
        image_tokens: Tokens of the image in the transformer, which decide a dynamic shift.
        first_step: First step that is run, from 0.

    Returns:
        float32 (num_inference_steps - first_step + 1,) on the CPU; the last is 0.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(scheduler_config))
    config = scheduler.config
    mu = calculate_shift(
        image_tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    scheduler.set_timesteps(sigmas=remaining_sigmas(num_inference_steps, first_step), device="cpu", mu=mu)
    return scheduler.sigmas


def read_facts(folder: Path) -> GeneratorFacts:
    """Reads the facts of a checkpoint out of the configurations of its parts."""
    transformer = read_json(folder / "transformer" / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    return GeneratorFacts(
        family="z_image",
        caption_channels=transformer["cap_feat_dim"],
        max_caption_tokens=max_caption_tokens(transformer["axes_lens"]),
        # The VAE halves a side once between two of its blocks, the transformer's patches once more.
        size_multiple=2 ** (len(vae["block_out_channels"]) - 1) * 2,
        latent_channels=transformer["in_channels"],
        scheduler_config={key: value for key, value in scheduler.items() if not key.startswith("_")},
    )


FAMILY = GeneratorFamily(
    name="z_image",
    generator=f"{__name__}.generator:ZImageGenerator",
    transformer_class="ZImageTransformer2DModel",
    folders=(
        ModelFolder("", ("model_index.json",), ("model_index.json",)),
        ModelFolder("transformer", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
        ModelFolder("vae", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
        ModelFolder("scheduler", ("*.json", "*.safetensors"), ("scheduler_config.json",)),
    ),
    read_facts=read_facts,
    captions=CaptionFormat(
        padded_length=padded_length,
        # `norm_eps` of `ZImageTransformer2DModel` in diffusers has the default 1e-5.
        norm=CaptionNormWeight("transformer", "cap_embedder.0.weight", "norm_eps", 1e-5),
    ),
    scheduler_sigmas=scheduler_sigmas,
    attention_backends=ATTENTION_BACKENDS,
    acceleration=tuple(NEUTRAL),
)
