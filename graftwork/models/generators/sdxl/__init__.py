"""SDXL with IP-Adapter Plus, as `StableDiffusionXLPipeline` in diffusers: a baseline that was trained to be shown a reference.

It is conditioned on its own two text encoders (family `clip_pair`), not on hidden states that a graft could replace. The adapter
lies in the folder `ip_adapter` of the pipeline, in the form of its repository.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.config_files import ConfigFile, conditioning_layers, decoder_shapes, refuse_keys
from graftwork.models.families import (
    CaptionFormat,
    GeneratorFacts,
    GeneratorFamily,
    ModelFolder,
    ReferenceInput,
    SamplingOptions,
)

if TYPE_CHECKING:
    import torch

# Tokens of the text encoders, and the row with the pooled text.
CAPTION_TOKENS = 77 + 1
ADAPTER = "ip_adapter"
ADAPTER_WEIGHTS = ("sdxl_models", "ip-adapter-plus_sdxl_vit-h.safetensors")
IMAGE_ENCODER = "models/image_encoder"


def read_facts(folder: Path, entry: Mapping[str, Any]) -> GeneratorFacts:
    """Reads the facts of a checkpoint out of the configurations of its parts."""
    refuse_keys(entry, "is_distilled", "max_sequence_length")
    unet = ConfigFile(folder / "unet" / "config.json")
    vae = ConfigFile(folder / "vae" / "config.json")
    scheduler = ConfigFile(folder / "scheduler" / "scheduler_config.json")
    return GeneratorFacts(
        family="sdxl",
        conditioning_layers=conditioning_layers(entry, (0,), most=1),
        caption_channels=unet.whole("cross_attention_dim"),
        caption_padding=0,
        max_caption_tokens=CAPTION_TOKENS,
        # The VAE halves a side once between two of its blocks.
        size_multiple=2 ** (len(vae.whole_list("block_out_channels")) - 1),
        latent_channels=unet.whole("in_channels"),
        scheduler_config={key: value for key, value in scheduler.values.items() if not key.startswith("_")},
        max_height=None,
        max_width=None,
        max_steps=scheduler.whole("num_train_timesteps", 1000),
        is_distilled=False,
    )


def scheduler_sigmas(
    scheduler_config: Mapping[str, Any], num_inference_steps: int, image_tokens: int, first_step: int = 0
) -> "torch.Tensor":
    """Returns the sigmas that the pipeline's scheduler goes through, in units of the noise it was trained with.

    Args:
        scheduler_config: Settings of `EulerDiscreteScheduler` in diffusers; what is missing has its default.
        num_inference_steps: Steps of the whole schedule.
        image_tokens: Takes no part.
        first_step: First step that is run, from 0.

    Returns:
        float32 (num_inference_steps - first_step + 1,) on the CPU; the last is 0.
    """
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler.from_config(dict(scheduler_config))
    scheduler.set_timesteps(num_inference_steps, device="cpu")
    return scheduler.sigmas[first_step:]


def weight_shapes(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of the U-Net, the VAE or the image encoder that decide its size, as diffusers makes them."""
    if not (folder / "config.json").is_file():
        return []  # The adapter's own weights have no configuration.
    config = ConfigFile(folder / "config.json")
    if "cross_attention_dim" in config.values:
        return [_unet_shapes(config)]
    if "patch_size" in config.values:
        return [_image_encoder_shapes(config)]
    return [decoder_shapes(config)]


def _unet_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    widths = config.whole_list("block_out_channels")
    return {
        "conv_in.weight": (widths[0], config.whole("in_channels"), 3, 3),
        "conv_out.weight": (config.whole("out_channels"), widths[0], 3, 3),
        "add_embedding.linear_1.weight": (
            4 * widths[0],
            config.whole("projection_class_embeddings_input_dim"),
        ),
        "mid_block.resnets.0.conv1.weight": (widths[-1], widths[-1], 3, 3),
        "mid_block.resnets.1.conv1.weight": (widths[-1], widths[-1], 3, 3),
    }


def _image_encoder_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    width = config.whole("hidden_size")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (
            width,
            3,
            config.whole("patch_size"),
            config.whole("patch_size"),
        )
    }
    for layer in range(config.whole("num_hidden_layers")):
        shapes[f"encoder.layers.{layer}.mlp.fc1.weight"] = (config.whole("intermediate_size"), width)
    return shapes


FAMILY = GeneratorFamily(
    name="sdxl",
    generator=f"{__name__}.generator:SdxlGenerator",
    transformer_class="UNet2DConditionModel",
    transformer_folder="unet",
    folders=(
        ModelFolder("", ("model_index.json",), ("model_index.json",)),
        ModelFolder("unet", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
        ModelFolder("vae", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
        ModelFolder("scheduler", ("*.json",), ("scheduler_config.json",)),
        ModelFolder(
            f"{ADAPTER}/{ADAPTER_WEIGHTS[0]}", (ADAPTER_WEIGHTS[1],), (ADAPTER_WEIGHTS[1],), has_weights=True
        ),
        ModelFolder(
            f"{ADAPTER}/{IMAGE_ENCODER}", ("config.json", "*.safetensors"), ("config.json",), has_weights=True
        ),
    ),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    captions=CaptionFormat(
        layout="single",
        think_block="template",
        system_prompt=None,
        dropped_prefix=0,
        padding="visible",
        # The caption has its pads when it comes here.
        padded_length=lambda tokens: tokens,
        first_layer=None,
        # The states have positions, and the row of the pooled text is told by its place.
        order_is_visible=True,
        changes_between_steps=False,
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
    references=ReferenceInput(
        control="ip_adapter",
        generator=f"{__name__}.adapter:SdxlIpAdapter",
        # The image encoder's processor scales whatever there is.
        image_problem=lambda width, height: None,
    ),
)
