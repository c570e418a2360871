"""Z-Image: a single-stream transformer on the last but one layer of Qwen3-4B, as `ZImagePipeline` in diffusers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.acceleration import ATTENTION_BACKENDS, NEUTRAL
from graftwork.models.config_files import ConfigFile, conditioning_layers, decoder_shapes, refuse_keys
from graftwork.models.families import (
    PIPELINE_FOLDERS,
    CaptionFormat,
    CaptionNormWeight,
    GeneratorFacts,
    GeneratorFamily,
    SamplingOptions,
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


def read_facts(folder: Path, entry: Mapping[str, Any]) -> GeneratorFacts:
    """Reads the facts of a checkpoint out of the configurations of its parts; whether it is distilled is in no file."""
    refuse_keys(entry, "max_sequence_length")
    transformer = ConfigFile(folder / "transformer" / "config.json")
    vae = ConfigFile(folder / "vae" / "config.json")
    scheduler = ConfigFile(folder / "scheduler" / "scheduler_config.json")
    axes = transformer.whole_list("axes_lens")
    if len(axes) != 3:
        raise transformer.wrong("axes_lens", "a list of three whole numbers")
    # The VAE halves a side once between two of its blocks, the transformer's patches once more.
    multiple = 2 ** (len(vae.whole_list("block_out_channels")) - 1) * 2
    return GeneratorFacts(
        family="z_image",
        conditioning_layers=conditioning_layers(entry, (-2,), most=1),
        caption_channels=transformer.whole("cap_feat_dim"),
        caption_padding=0,
        max_caption_tokens=max_caption_tokens(axes),
        size_multiple=multiple,
        latent_channels=transformer.whole("in_channels"),
        scheduler_config={key: value for key, value in scheduler.values.items() if not key.startswith("_")},
        # The rotary embedding has so many rows and columns of image tokens.
        max_height=axes[1] * multiple,
        max_width=axes[2] * multiple,
        # More steps than the schedule has levels of noise repeat some.
        max_steps=scheduler.whole("num_train_timesteps", 1000),
        is_distilled=entry.get("is_distilled"),
    )


def weight_shapes(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of the transformer or the VAE that decide its size, as diffusers makes them."""
    config = ConfigFile(folder / "config.json")
    return [decoder_shapes(config) if "block_out_channels" in config.values else _transformer_shapes(config)]


def _transformer_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    width, caption, channels = config.whole("dim"), config.whole("cap_feat_dim"), config.whole("in_channels")
    inner = int(width / 3 * 8)
    shapes: dict[str, tuple[int, ...]] = {
        "cap_embedder.0.weight": (caption,),
        "cap_embedder.1.weight": (width, caption),
        "cap_pad_token": (1, width),
        "x_pad_token": (1, width),
    }
    for patch, frames in zip(
        config.whole_list("all_patch_size"), config.whole_list("all_f_patch_size"), strict=False
    ):
        shapes[f"all_x_embedder.{patch}-{frames}.weight"] = (width, frames * patch * patch * channels)
        shapes[f"all_final_layer.{patch}-{frames}.linear.weight"] = (frames * patch * patch * channels, width)
    refiners = config.whole("n_refiner_layers")
    for name, count in (
        ("layers", config.whole("n_layers")),
        ("noise_refiner", refiners),
        ("context_refiner", refiners),
    ):
        for layer in range(count):
            shapes[f"{name}.{layer}.attention.to_q.weight"] = (width, width)
            shapes[f"{name}.{layer}.attention.to_out.0.weight"] = (width, width)
            shapes[f"{name}.{layer}.feed_forward.w1.weight"] = (inner, width)
            shapes[f"{name}.{layer}.feed_forward.w2.weight"] = (width, inner)
    return shapes


def batch_bytes(hardware: Mapping[str, Any], rows: int, pixels: int) -> int:
    """Returns what a batch takes on the device besides the weights, in bytes, a little more than was measured.

    Source: benchmarks/RESULTS.md, peaks on an H100 at 1024 pixels (1 and 4 rows) and 512 (1 and 8), less 12.48 GB of weights:
    2.7, 8.7, 0.8 and 4.4 GB eager; 5.5 GB (4 rows), 0.5 and 2.8 GB with compiled and fused blocks and a compiled decoder.
    Decoding decides it: with `vae_slicing`, 4 rows of 1024 pixels took what 1 row takes.
    """
    is_fast = hardware.get("compile") and hardware.get("fuse_blocks") and hardware.get("compile_vae")
    at_once = 1 if hardware.get("vae_slicing") else rows
    return 400_000_000 + 1_300 * pixels * at_once if is_fast else 600_000_000 + 2_000 * pixels * at_once


FAMILY = GeneratorFamily(
    name="z_image",
    generator=f"{__name__}.generator:ZImageGenerator",
    transformer_class="ZImageTransformer2DModel",
    transformer_folder="transformer",
    folders=PIPELINE_FOLDERS,
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    captions=CaptionFormat(
        layout="single",
        think_block="template",
        system_prompt=None,
        dropped_prefix=0,
        padding="learned",
        padded_length=padded_length,
        # `norm_eps` of `ZImageTransformer2DModel` in diffusers has the default 1e-5.
        first_layer=CaptionNormWeight("transformer", "cap_embedder.0.weight", "norm_eps", 1e-5),
        order_is_visible=True,
        changes_between_steps=True,
        projection="cap_embedder.1.weight",
    ),
    sampling=SamplingOptions(
        guidance_problem=lambda facts: None,
        guidance_options=("cfg_normalization", "cfg_truncation"),
        starts_from_images=True,
        noise_dtype="float32",
    ),
    scheduler_sigmas=scheduler_sigmas,
    attention_backends=ATTENTION_BACKENDS,
    acceleration=tuple(NEUTRAL),
    batch_bytes=batch_bytes,
    velocity=f"{__name__}.velocity:velocity",
    references=None,
)
