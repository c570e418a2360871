"""Generators of the published architectures at tiny sizes, beside a family's text encoders, for tests.

Weights are drawn so that captions, layers and their order give visibly different images. No text encoder is written: a
generator uses one of the family.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
)

from tests.small_family import initialise

# Layers of the family's text encoders, of 6, and tokens that texts are padded to.
LAYERS, SEQUENCE = (1, 3, 5), 96

# Settings of the published schedulers.
FLUX2_SCHEDULER = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True}
KREA2_SCHEDULER = {
    "num_train_timesteps": 1000,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 6400,
}


def new_flux2_klein(hidden_size: int, layers: int, is_distilled: bool = True) -> Flux2KleinPipeline:
    """Returns FLUX.2 [klein] without its text encoder, one block of each kind, images in steps of 16 pixels.

    Args:
        hidden_size: Width of the text encoder.
        layers: Layers of it that are concatenated.
        is_distilled: Whether guidance is ignored.
    """
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=layers * hidden_size,
        timestep_guidance_channels=32,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        sample_size=32,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(**FLUX2_SCHEDULER)
    _draw(transformer, vae, 11, ("proj_out", "context_embedder"))
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    return Flux2KleinPipeline(scheduler, vae, None, None, transformer, is_distilled)


def new_krea2(hidden_size: int, layers: tuple[int, ...], is_distilled: bool = True) -> Krea2Pipeline:
    """Returns Krea 2 without its text encoder, two blocks, images in steps of 8 pixels.

    Args:
        hidden_size: Width of the text encoder.
        layers: Layers of it that are stacked.
        is_distilled: Whether the schedule is that of distilled checkpoints.
    """
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        timestep_embed_dim=16,
        text_hidden_dim=hidden_size,
        num_text_layers=len(layers),
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=64,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.2, 2.0],
    )
    _draw(transformer, vae, 13, ("final_layer", "txt_in"))
    scheduler = FlowMatchEulerDiscreteScheduler(**KREA2_SCHEDULER)
    return Krea2Pipeline(
        scheduler, vae, None, None, transformer, text_encoder_select_layers=layers, is_distilled=is_distilled
    )


def _draw(transformer: torch.nn.Module, vae: torch.nn.Module, seed: int, loud: tuple[str, str]) -> None:
    initialise(transformer, seed, lambda name: 3.0 if name.startswith(loud) else 1.0)
    initialise(vae, seed + 1, lambda name: 0.5 if name.startswith("decoder.conv_out") else 1.0)


def new_generator(family: str, hidden_size: int = 64, is_distilled: bool = True) -> DiffusionPipeline:
    """Returns a generator of a family without its text encoder, on `LAYERS`."""
    if family == "flux2_klein":
        return new_flux2_klein(hidden_size, len(LAYERS), is_distilled)
    return new_krea2(hidden_size, LAYERS, is_distilled)


def generator_entries(folder: Path, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Returns the entries of config/models.yaml for generators that were saved under their family's name.

    Args:
        folder: Folder of the generators.
        prefix: What stands before the names of text encoders.
    """
    return {
        "flux2_klein": {
            "family": "flux2_klein",
            "path": str(folder / "flux2_klein"),
            "text_encoder": f"{prefix}qwen3",
            "text_hidden_layer": list(LAYERS),
            "max_sequence_length": SEQUENCE,
        },
        "krea2": {
            "family": "krea2",
            "path": str(folder / "krea2"),
            "text_encoder": f"{prefix}qwen3-vl-instruct",
        },
    }
