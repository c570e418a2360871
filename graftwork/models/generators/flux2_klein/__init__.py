"""FLUX.2 [klein]: a double- and single-stream transformer on three layers of Qwen3, as `Flux2KleinPipeline` in diffusers.

The layers are concatenated and go through one linear layer without a norm, so that scale and the ratio between layers are
visible. Texts are padded, and pads are not masked: the transformer sees what the text encoder gives for them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.config_files import ConfigFile, conditioning_layers, decoder_shapes, refuse_keys
from graftwork.models.families import (
    PIPELINE_FOLDERS,
    CaptionFormat,
    CaptionLinearWeight,
    GeneratorFacts,
    GeneratorFamily,
    ReferenceInput,
    SamplingOptions,
)

if TYPE_CHECKING:
    import torch

# Defaults of `Flux2KleinPipeline.__call__`.
OUT_LAYERS = (9, 18, 27)
MAX_SEQUENCE_LENGTH = 512
# Of a reference, as `Flux2ImageProcessor.check_image_input` in diffusers.
LEAST_SIDE, MOST_RATIO = 64, 8


def read_facts(folder: Path, entry: Mapping[str, Any]) -> GeneratorFacts:
    """Reads the facts of a checkpoint out of the configurations of its parts; layers and padding are in no file."""
    refuse_keys(entry, "is_distilled")
    index = ConfigFile(folder / "model_index.json")
    transformer = ConfigFile(folder / "transformer" / "config.json")
    vae = ConfigFile(folder / "vae" / "config.json")
    scheduler = ConfigFile(folder / "scheduler" / "scheduler_config.json")
    layers = conditioning_layers(entry, OUT_LAYERS)
    width = transformer.whole("joint_attention_dim")
    if width % len(layers):
        raise transformer.wrong("joint_attention_dim", f"a multiple of {len(layers)}, for so many layers,")
    if transformer.whole("in_channels") % 4:
        raise transformer.wrong("in_channels", "a multiple of 4, for patches of 2 x 2 latents,")
    length = entry.get("max_sequence_length") or MAX_SEQUENCE_LENGTH
    return GeneratorFacts(
        family="flux2_klein",
        conditioning_layers=layers,
        caption_channels=width // len(layers),
        caption_padding=length,
        max_caption_tokens=length,
        # The VAE halves a side once between two of its blocks, patches of latents once more.
        size_multiple=2 ** len(vae.whole_list("block_out_channels")),
        latent_channels=transformer.whole("in_channels") // 4,
        scheduler_config={key: value for key, value in scheduler.values.items() if not key.startswith("_")},
        # The rotary embedding is computed for whatever positions there are.
        max_height=None,
        max_width=None,
        # More steps than the schedule has levels of noise repeat some.
        max_steps=scheduler.whole("num_train_timesteps", 1000),
        is_distilled=bool(index.values.get("is_distilled", False)),
    )


def guidance_problem(facts: GeneratorFacts) -> str | None:
    """Returns why a checkpoint cannot be guided: the pipeline ignores guidance of distilled ones."""
    return "it was distilled, and its pipeline ignores guidance" if facts.is_distilled else None


def scheduler_sigmas(
    scheduler_config: Mapping[str, Any], num_inference_steps: int, image_tokens: int, first_step: int = 0
) -> "torch.Tensor":
    """Returns the sigmas that the pipeline's scheduler goes through, as `Flux2KleinPipeline.__call__` sets them.

    Args:
        scheduler_config: Settings of `FlowMatchEulerDiscreteScheduler` in diffusers; what is missing has its default.
        num_inference_steps: Steps of the whole schedule.
        image_tokens: Tokens of the image in the transformer, which decide the shift.
        first_step: First step that is run, from 0.

    Returns:
        float32 (num_inference_steps - first_step + 1,) on the CPU; the last is 0.
    """
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(scheduler_config))
    mu = compute_empirical_mu(image_seq_len=image_tokens, num_steps=num_inference_steps)
    if scheduler.config.get("use_flow_sigmas"):
        scheduler.set_timesteps(num_inference_steps, device="cpu", mu=mu)
    else:
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(sigmas=sigmas, device="cpu", mu=mu)
    return scheduler.sigmas[first_step:]


def image_problem(width: int, height: int) -> str | None:
    """Returns why an image of this size in pixels cannot be a reference, or None."""
    if min(width, height) < LEAST_SIDE:
        return f"a side of it is below {LEAST_SIDE} pixels; enlarge it"
    if max(width, height) > MOST_RATIO * min(width, height):
        return f"a side of it is more than {MOST_RATIO} times the other; crop it"
    return None


def weight_shapes(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of the transformer or the VAE that decide its size, as diffusers makes them."""
    config = ConfigFile(folder / "config.json")
    return [_vae_shapes(config) if "block_out_channels" in config.values else _transformer_shapes(config)]


def _transformer_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    width = config.whole("num_attention_heads") * config.whole("attention_head_dim")
    channels, caption = config.whole("in_channels"), config.whole("joint_attention_dim")
    inner = int(width * config.number("mlp_ratio"))
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.weight": (width, channels),
        "context_embedder.weight": (width, caption),
        "time_guidance_embed.timestep_embedder.linear_1.weight": (
            width,
            config.whole("timestep_guidance_channels"),
        ),
        "double_stream_modulation_img.linear.weight": (6 * width, width),
        "double_stream_modulation_txt.linear.weight": (6 * width, width),
        "single_stream_modulation.linear.weight": (3 * width, width),
        "norm_out.linear.weight": (2 * width, width),
    }
    for block in range(config.whole("num_layers")):
        own = {
            "attn.to_q": (width, width),
            "attn.add_q_proj": (width, width),
            "ff.linear_in": (2 * inner, width),
            "ff_context.linear_out": (width, inner),
        }
        shapes |= {f"transformer_blocks.{block}.{name}.weight": shape for name, shape in own.items()}
    for block in range(config.whole("num_single_layers")):
        name = f"single_transformer_blocks.{block}.attn"
        shapes[f"{name}.to_qkv_mlp_proj.weight"] = (3 * width + 2 * inner, width)
        shapes[f"{name}.to_out.weight"] = (width, width + inner)
    return shapes


def _vae_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    patched = 4 * config.whole("latent_channels")
    return {
        **decoder_shapes(config),
        # What latents are scaled and shifted by.
        "bn.running_mean": (patched,),
        "bn.running_var": (patched,),
    }


FAMILY = GeneratorFamily(
    name="flux2_klein",
    generator=f"{__name__}.generator:Flux2KleinGenerator",
    transformer_class="Flux2Transformer2DModel",
    transformer_folder="transformer",
    folders=PIPELINE_FOLDERS,
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    captions=CaptionFormat(
        layout="channels",
        think_block="empty",
        system_prompt=None,
        dropped_prefix=0,
        padding="visible",
        # The caption has its pads when it comes here.
        padded_length=lambda tokens: tokens,
        first_layer=CaptionLinearWeight("transformer", "context_embedder.weight"),
        order_is_visible=True,
        changes_between_steps=True,
        projection=None,
    ),
    sampling=SamplingOptions(
        guidance_problem=guidance_problem,
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
        control="edit",
        generator=f"{__name__}.editor:Flux2KleinEditor",
        image_problem=image_problem,
    ),
)
