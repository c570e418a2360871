"""Images from caption embeddings with Z-Image, through the pipeline of diffusers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging

from workflow_scripts.lib.models.description import CAPTION_MULTIPLE, max_caption_tokens, padded_length
from workflow_scripts.lib.models.hardware import parse_dtype

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()


class ZImageGenerator:
    """Z-Image without its text encoder.

    Attributes:
        pipeline: `ZImagePipeline` in diffusers; its text encoder and tokenizer are None.
    """

    def __init__(self, pipeline: ZImagePipeline) -> None:
        self.pipeline = pipeline

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "ZImageGenerator":
        """Loads transformer, VAE and scheduler; see `loading.load_generator`."""
        pipeline = ZImagePipeline.from_pretrained(
            folder,
            text_encoder=None,
            tokenizer=None,
            dtype=parse_dtype(hardware["dtype"]),
            use_safetensors=True,
            local_files_only=True,
        )
        pipeline.set_progress_bar_config(disable=True)
        if hardware["device"] != "cpu" and hardware.get("offload", "none") == "model":
            pipeline.enable_model_cpu_offload(device=hardware["device"])
        else:
            pipeline.to(hardware["device"])
        return cls(pipeline)

    def generate(
        self,
        prompt_embeds: Sequence[torch.Tensor],
        seeds: Sequence[int],
        *,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row; see `sample_images`."""
        return sample_images(
            self.pipeline,
            prompt_embeds,
            seeds,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            on_step=on_step,
        )

    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns the embedding that fills an unused row of a batch for captions of `tokens` tokens.

        Returns:
            (padded_length(tokens), channels), the transformer's dtype, on the CPU.
        """
        transformer = self.pipeline.transformer
        return padding_row(tokens, transformer.config.cap_feat_dim, transformer.dtype)


def padding_row(tokens: int, channels: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Returns ones of shape (padded_length(tokens), channels): a valid caption that nobody looks at."""
    return torch.ones(padded_length(tokens), channels, dtype=dtype)


def initial_latents(seeds: Sequence[int], channels: int, height: int, width: int) -> torch.Tensor:
    """Draws the noise that sampling starts from, each row from a CPU generator of its own.

    Args:
        seeds: One per row.
        channels: Latent channels.
        height: Of the latents, not of the image.
        width: Likewise.

    Returns:
        float32 (rows, channels, height, width) on the CPU, equal on every device.
    """
    rows = [
        torch.randn(
            (channels, height, width), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32
        )
        for seed in seeds
    ]
    return torch.stack(rows)


@torch.no_grad()
def sample_images(
    pipeline: ZImagePipeline,
    prompt_embeds: Sequence[torch.Tensor],
    seeds: Sequence[int],
    *,
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Samples a batch of images with the pipeline's own loop.

    Args:
        pipeline: `ZImagePipeline` in diffusers, on its device.
        prompt_embeds: One (tokens_i, channels) per row, ragged, any float dtype, any device. All must have
            the same padded length, so that no attention mask arises and a row does not depend on its
            neighbours.
        seeds: One per row.
        height: Pixels, a multiple of `size_multiple` (16 for the published model).
        width: Likewise.
        num_inference_steps: 8 for Turbo.
        guidance_scale: 0.0 only; guidance needs negative embeddings, which are not supported yet.
        on_step: Called with (steps done, num_inference_steps) after each step.

    Returns:
        Images, uint8 (rows, height, width, 3), rounded as the pipeline rounds its PIL images; and bool
        (rows,), False where a row's decoded pixels or latents were not finite and its image means
        nothing.

    Raises:
        ValueError: where an argument is outside what is said above, before anything is computed.
    """
    _check_arguments(pipeline, prompt_embeds, seeds, height, width, num_inference_steps, guidance_scale)
    scale = pipeline.vae_scale_factor
    channels = pipeline.transformer.in_channels
    latents = initial_latents(seeds, channels, height // scale, width // scale)
    device, dtype = pipeline._execution_device, pipeline.transformer.dtype
    finite = torch.ones(len(seeds), dtype=torch.bool)

    def after_step(_pipeline: Any, step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step + 1, num_inference_steps)
        if step + 1 == num_inference_steps:
            finite.logical_and_(_finite_rows(values["latents"]))
        return {}

    def after_decoding(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        # Here, and not on the result: the pipeline clamps, which makes infinities look like white.
        finite.logical_and_(_finite_rows(output))

    hook = pipeline.vae.decoder.register_forward_hook(after_decoding)
    try:
        decoded = pipeline(
            prompt_embeds=[embeds.to(device, dtype) for embeds in prompt_embeds],
            latents=latents.to(device),
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            output_type="pt",
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        ).images
    finally:
        hook.remove()
    return _round_to_uint8(decoded), finite.numpy()


def _finite_rows(values: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(values).flatten(1).all(dim=1).cpu()


def _round_to_uint8(decoded: torch.Tensor) -> np.ndarray:
    """Rounds (rows, 3, height, width) in [0, 1] as `VaeImageProcessor.numpy_to_pil` in diffusers does."""
    pixels = decoded.cpu().permute(0, 2, 3, 1).float().numpy()
    return (np.nan_to_num(pixels, nan=0.0) * 255).round().astype(np.uint8)


def _check_arguments(
    pipeline: ZImagePipeline,
    prompt_embeds: Sequence[torch.Tensor],
    seeds: Sequence[int],
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float,
) -> None:
    sampling = "set it in config/experiments/*.yaml: base"
    if len(prompt_embeds) != len(seeds) or not seeds:
        raise ValueError(
            f"{len(prompt_embeds)} embeddings and {len(seeds)} seeds: one of each per image, at least one"
        )
    if guidance_scale != 0:
        raise ValueError(
            f"guidance_scale {guidance_scale} needs negative embeddings, which are not supported yet: "
            f"0.0 is allowed; {sampling}"
        )
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps {num_inference_steps} is below 1; {sampling}")
    multiple = pipeline.vae_scale_factor * 2
    for name, pixels in (("height", height), ("width", width)):
        if pixels < multiple or pixels % multiple:
            raise ValueError(f"{name} {pixels} is not a positive multiple of {multiple} pixels; {sampling}")
    config = pipeline.transformer.config
    limit = max_caption_tokens(config.axes_lens)
    for row, embeds in enumerate(prompt_embeds):
        if embeds.ndim != 2 or embeds.shape[1] != config.cap_feat_dim:
            raise ValueError(
                f"embedding {row} has shape {tuple(embeds.shape)}, the transformer takes (tokens, "
                f"{config.cap_feat_dim}); set another encoder in config/experiments/*.yaml"
            )
        if not 1 <= embeds.shape[0] <= limit:
            raise ValueError(
                f"caption {row} has {embeds.shape[0]} tokens, this generator takes 1 to {limit}; shorten the "
                "prompt, use a smaller reference or another length matching in config/experiments/*.yaml"
            )
    lengths = sorted({padded_length(embeds.shape[0]) for embeds in prompt_embeds})
    if len(lengths) > 1:
        raise ValueError(
            f"captions of padded lengths {lengths} in one batch: one length is allowed, since others create "
            f"an attention mask; batch captions by their length in multiples of {CAPTION_MULTIPLE} tokens"
        )
