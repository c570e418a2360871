"""Krea 2: a single-stream transformer on twelve layers of Qwen3-VL, as `Krea2Pipeline` in diffusers.

The layers are stacked, and a part of the transformer attends over them before it sees the tokens. Texts have no positions
there: their order is not visible but through the states themselves. Pads are masked, and left out here.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.config_files import ConfigFile, conditioning_layers, refuse_keys
from graftwork.models.families import (
    PIPELINE_FOLDERS,
    CaptionFormat,
    GeneratorFacts,
    GeneratorFamily,
    SamplingOptions,
)

if TYPE_CHECKING:
    import torch

# Defaults of `Krea2Pipeline`.
SELECT_LAYERS = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)
MAX_SEQUENCE_LENGTH = 512
PATCH_SIZE = 2
# The shift of distilled checkpoints, whatever the size of the image.
DISTILLED_SHIFT = 1.15
# Captions are padded to a multiple of this, so that few shapes occur.
CAPTION_MULTIPLE = 32
# A setting of the pipeline that decides its schedule, among those of the scheduler.
DISTILLED = "is_distilled"


def padded_length(tokens: int) -> int:
    """Returns the length of a caption of `tokens` tokens with masked pads."""
    return math.ceil(tokens / CAPTION_MULTIPLE) * CAPTION_MULTIPLE


def read_facts(folder: Path, entry: Mapping[str, Any]) -> GeneratorFacts:
    """Reads the facts of a checkpoint out of the configurations of its parts."""
    refuse_keys(entry, "is_distilled")
    index = ConfigFile(folder / "model_index.json")
    transformer = ConfigFile(folder / "transformer" / "config.json")
    vae = ConfigFile(folder / "vae" / "config.json")
    scheduler = ConfigFile(folder / "scheduler" / "scheduler_config.json")
    own_layers = index.values.get("text_encoder_select_layers")
    layers = conditioning_layers(entry, SELECT_LAYERS if own_layers is None else tuple(own_layers))
    if transformer.whole("num_text_layers") != len(layers):
        raise transformer.wrong(
            "num_text_layers", f"{len(layers)}, the number of layers of model_index.json,"
        )
    patch = index.whole("patch_size", PATCH_SIZE)
    if transformer.whole("in_channels") % patch**2:
        raise transformer.wrong("in_channels", f"a multiple of {patch**2}, for patches of {patch} x {patch},")
    is_distilled = bool(index.values.get(DISTILLED, False))
    settings = {key: value for key, value in scheduler.values.items() if not key.startswith("_")}
    return GeneratorFacts(
        family="krea2",
        conditioning_layers=layers,
        caption_channels=transformer.whole("text_hidden_dim"),
        caption_padding=0,
        max_caption_tokens=entry.get("max_sequence_length") or MAX_SEQUENCE_LENGTH,
        size_multiple=2 ** len(_list_of(vae, "temperal_downsample")) * patch,
        latent_channels=transformer.whole("in_channels") // patch**2,
        scheduler_config={**settings, DISTILLED: is_distilled},
        # The rotary embedding is computed for whatever positions there are.
        max_height=None,
        max_width=None,
        # More steps than the schedule has levels of noise repeat some.
        max_steps=scheduler.whole("num_train_timesteps", 1000),
        is_distilled=is_distilled,
    )


def _list_of(config: ConfigFile, key: str) -> list[Any]:
    value = config.values.get(key)
    if not isinstance(value, list) or not value:
        raise config.wrong(key, "a list")
    return value


def scheduler_sigmas(
    scheduler_config: Mapping[str, Any], num_inference_steps: int, image_tokens: int, first_step: int = 0
) -> "torch.Tensor":
    """Returns the sigmas that the pipeline's scheduler goes through, as `Krea2Pipeline.__call__` sets them.

    Args:
        scheduler_config: Settings of `FlowMatchEulerDiscreteScheduler` in diffusers, and `is_distilled` of the pipeline.
        num_inference_steps: Steps of the whole schedule.
        image_tokens: Tokens of the image in the transformer, which decide the shift where it is not distilled.
        first_step: First step that is run, from 0.

    Returns:
        float32 (num_inference_steps - first_step + 1,) on the CPU; the last is 0.
    """
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.krea2.pipeline_krea2 import calculate_shift

    settings = {key: value for key, value in scheduler_config.items() if key != DISTILLED}
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(settings)
    config = scheduler.config
    mu = DISTILLED_SHIFT
    if not scheduler_config.get(DISTILLED, False):
        mu = calculate_shift(
            image_tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 6400),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
    sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
    scheduler.set_timesteps(sigmas=sigmas, device="cpu", mu=mu)
    return scheduler.sigmas[first_step:]


def weight_shapes(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of the transformer or the VAE that decide its size, as diffusers makes them."""
    config = ConfigFile(folder / "config.json")
    return [_vae_shapes(config) if "base_dim" in config.values else _transformer_shapes(config)]


def _transformer_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    head = config.whole("attention_head_dim")
    width, keys = config.whole("num_attention_heads") * head, config.whole("num_key_value_heads") * head
    channels, inner = config.whole("in_channels"), config.whole("intermediate_size")
    caption, text_inner = config.whole("text_hidden_dim"), config.whole("text_intermediate_size")
    shapes: dict[str, tuple[int, ...]] = {
        "img_in.weight": (width, channels),
        "time_embed.linear_1.weight": (width, config.whole("timestep_embed_dim")),
        "time_mod_proj.weight": (6 * width, width),
        "text_fusion.projector.weight": (1, config.whole("num_text_layers")),
        "txt_in.linear_1.weight": (width, caption),
        "final_layer.linear.weight": (channels, width),
    }
    for part, count in (
        ("layerwise", config.whole("num_layerwise_text_blocks")),
        ("refiner", config.whole("num_refiner_text_blocks")),
    ):
        for block in range(count):
            name = f"text_fusion.{part}_blocks.{block}"
            shapes[f"{name}.attn.to_q.weight"] = (caption, caption)
            shapes[f"{name}.ff.gate.weight"] = (text_inner, caption)
    for block in range(config.whole("num_layers")):
        name = f"transformer_blocks.{block}"
        shapes[f"{name}.attn.to_q.weight"] = (width, width)
        shapes[f"{name}.attn.to_k.weight"] = (keys, width)
        shapes[f"{name}.ff.gate.weight"] = (inner, width)
        shapes[f"{name}.ff.down.weight"] = (width, inner)
    return shapes


def _vae_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    base, latents, factors = (
        config.whole("base_dim"),
        config.whole("z_dim"),
        config.whole_list("dim_mult"),
    )
    shapes: dict[str, tuple[int, ...]] = {
        "post_quant_conv.weight": (latents, latents, 1, 1, 1),
        "decoder.conv_in.weight": (base * factors[-1], latents, 3, 3, 3),
        "decoder.conv_out.weight": (config.whole("input_channels", 3), base * factors[0], 3, 3, 3),
    }
    for block, factor in enumerate(reversed(factors)):
        for layer in range(config.whole("num_res_blocks") + 1):
            name = f"decoder.up_blocks.{block}.resnets.{layer}.conv2.weight"
            shapes[name] = (base * factor, base * factor, 3, 3, 3)
    return shapes


FAMILY = GeneratorFamily(
    name="krea2",
    generator=f"{__name__}.generator:Krea2Generator",
    transformer_class="Krea2Transformer2DModel",
    transformer_folder="transformer",
    folders=PIPELINE_FOLDERS,
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    captions=CaptionFormat(
        layout="stack",
        think_block="template",
        # `prompt_template_encode_prefix` of `Krea2Pipeline`, whose tokens are left out.
        system_prompt=(
            "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
            "objects and background:"
        ),
        dropped_prefix=34,
        padding="masked",
        padded_length=padded_length,
        # A norm comes first, but around it goes a residual connection, which carries the scale.
        first_layer=None,
        order_is_visible=False,
        changes_between_steps=True,
        projection=None,
    ),
    sampling=SamplingOptions(
        guidance_problem=lambda facts: None,
        guidance_options=(),
        starts_from_images=False,
        noise_dtype="caption",
    ),
    scheduler_sigmas=scheduler_sigmas,
    attention_backends=("native",),
    acceleration=(),
    # Not measured.
    batch_bytes=None,
    velocity=None,
    references=None,
)
