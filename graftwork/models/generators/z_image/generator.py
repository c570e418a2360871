"""Images from caption embeddings with Z-Image, through the pipeline of diffusers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging
from PIL import Image

from graftwork.core.code_digest import outside_digests
from graftwork.models.description import CAPTION_MULTIPLE, max_caption_tokens, padded_length
from graftwork.models.generators.z_image.schedule import remaining_sigmas, scheduler_sigmas
from graftwork.models.hardware import parse_dtype

# What a row is conditioned on: (tokens, channels), or a schedule, one of these for each step that is run.
RowEmbeds = torch.Tensor | Sequence[torch.Tensor]

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
        self, prompt_embeds: Sequence[RowEmbeds], seeds: Sequence[int], **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row; see `sample_images`."""
        return sample_images(self.pipeline, prompt_embeds, seeds, **sampling)

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
    prompt_embeds: Sequence[RowEmbeds],
    seeds: Sequence[int],
    *,
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt_embeds: Sequence[torch.Tensor] | None = None,
    cfg_normalization: float = 0.0,
    cfg_truncation: float = 1.0,
    init_images: Sequence[Image.Image] | None = None,
    first_step: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one image per row with `ZImagePipeline.__call__`.

    Args:
        pipeline: Diffusers' pipeline; it needs no text encoder.
        prompt_embeds: One per row: (tokens, channels), ragged, any dtype, any device; or a schedule, one of these for
            each step that is run, where a tensor that occurs more than once is copied to the device once. All must
            have the same padded length, so that no attention mask arises and a row does not depend on its neighbours.
        seeds: One per row.
        height: Pixels, a multiple of `size_multiple` (16 for the published model).
        width: Likewise.
        num_inference_steps: 8 for Turbo.
        guidance_scale: 0.0 for no guidance. Else the transformer runs on twice as many rows.
        negative_prompt_embeds: For guidance only, one per row, (tokens, channels). All must have the same padded length;
            where it is another than that of the others, the pipeline masks what is missing.
        cfg_normalization: 0.0 for none; else the most that guidance may leave of the norm without it, as a factor.
        cfg_truncation: Guidance ends where 1 - sigma is above it.
        init_images: One RGB image of any size per row, stretched to height x width, to start from; see
            `noisy_images`. None starts from noise.
        first_step: First step that is run, from 0; see `z_image_steps.first_step`.
        on_step: Called with (steps done, steps that are run) after each step.

    Returns:
        Images, uint8 (rows, height, width, 3), rounded as the pipeline rounds its PIL images; and bool
        (rows,), False where a row's decoded pixels or latents were not finite and its image means
        nothing.

    Raises:
        ValueError: where an argument is outside what is said above, before anything is computed.
    """
    _check_arguments(
        pipeline,
        prompt_embeds,
        seeds,
        height,
        width,
        num_inference_steps,
        guidance_scale,
        negative_prompt_embeds,
        init_images,
        first_step,
    )
    scale = pipeline.vae_scale_factor
    channels = pipeline.transformer.in_channels
    latents = initial_latents(seeds, channels, height // scale, width // scale)
    device, dtype = pipeline._execution_device, pipeline.transformer.dtype
    finite = torch.ones(len(seeds), dtype=torch.bool)
    steps = num_inference_steps - first_step
    rows = convert_rows(prompt_embeds, lambda embeds: embeds.to(device, dtype))
    latents = latents.to(device)
    if init_images is not None:
        latents = noisy_images(
            pipeline, latents, init_images, num_inference_steps, first_step, lambda values: values.to(device)
        )

    def after_step(_pipeline: Any, step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step + 1, steps)
        if step + 1 == steps:
            finite.logical_and_(_finite_rows(values["latents"]))
            return {}
        return {"prompt_embeds": embeds_at(rows, step + 1)}

    def after_decoding(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        # Here, and not on the result: the pipeline clamps, which makes infinities look like white.
        finite.logical_and_(_finite_rows(output))

    hook = pipeline.vae.decoder.register_forward_hook(after_decoding)
    try:
        decoded = pipeline(
            prompt_embeds=embeds_at(rows, 0),
            latents=latents,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            sigmas=remaining_sigmas(num_inference_steps, first_step),
            **guidance_arguments(
                guidance_scale,
                [embeds.to(device, dtype) for embeds in negative_prompt_embeds or ()],
                cfg_normalization,
                cfg_truncation,
            ),
            output_type="pt",
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
        ).images
    finally:
        hook.remove()
    return _round_to_uint8(decoded), finite.numpy()


def convert_rows(
    rows: Sequence[RowEmbeds], convert: Callable[[torch.Tensor], torch.Tensor]
) -> list[RowEmbeds]:
    """Returns the rows with `convert` applied to each tensor, once to one that occurs more than once."""
    converted: dict[int, torch.Tensor] = {}

    def once(embeds: torch.Tensor) -> torch.Tensor:
        if id(embeds) not in converted:
            converted[id(embeds)] = convert(embeds)
        return converted[id(embeds)]

    return [once(row) if isinstance(row, torch.Tensor) else [once(embeds) for embeds in row] for row in rows]


def embeds_at(rows: Sequence[RowEmbeds], step: int) -> list[torch.Tensor]:
    """Returns what each row is conditioned on at a step, counted from 0 over those that are run."""
    return [row if isinstance(row, torch.Tensor) else row[step] for row in rows]


def guidance_arguments(
    guidance_scale: float,
    negative_prompt_embeds: list[torch.Tensor],
    cfg_normalization: float,
    cfg_truncation: float,
) -> dict[str, Any]:
    """Returns what the pipeline is told about guidance: prediction = pos + guidance_scale * (pos - neg)."""
    if guidance_scale == 0:
        return {"guidance_scale": guidance_scale}
    return {
        "guidance_scale": guidance_scale,
        "negative_prompt_embeds": negative_prompt_embeds,
        "cfg_normalization": cfg_normalization,
        # 1 leaves no step out, and for any number the pipeline would wait for the device to look at the time.
        "cfg_truncation": cfg_truncation if cfg_truncation < 1 else None,
    }


def noisy_images(
    pipeline: ZImagePipeline,
    noise: torch.Tensor,
    init_images: Sequence[Image.Image],
    num_inference_steps: int,
    first_step: int,
    copy: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Returns the latents that image-to-image starts from: sigma * noise + (1 - sigma) * latents of the image.

    As `ZImageImg2ImgPipeline` in diffusers, but for the mode of the VAE's posterior in place of a sample of it: the
    noise is then the seed's first and only draw, the same as without an image, and at sigma 1 nothing else is left.
    Each image is encoded alone, so that a row does not depend on its neighbours.

    Args:
        pipeline: See `sample_images`.
        noise: float32 (rows, channels, height, width) of the latents, on the device.
        init_images: One per row; one that occurs more than once is encoded once.
        num_inference_steps: Of the whole schedule.
        first_step: First step that is run, from 0.
        copy: Brings a tensor to the device.

    Returns:
        float32, the shape of `noise`.
    """
    vae, (height, width) = pipeline.vae, noise.shape[2:]
    scale = pipeline.vae_scale_factor
    encoded: dict[int, torch.Tensor] = {}
    for image in init_images:
        if id(image) not in encoded:
            pixels = pipeline.image_processor.preprocess(image, height=height * scale, width=width * scale)
            encoded[id(image)] = vae.encode(copy(pixels.to(vae.dtype))).latent_dist.mode().float()
    latents = torch.cat([encoded[id(image)] for image in init_images])
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    sigmas = scheduler_sigmas(
        pipeline.scheduler.config, num_inference_steps, (height // 2) * (width // 2), first_step
    )
    sigma = copy(sigmas[:1].reshape(1, 1, 1, 1))
    return sigma * noise + (1.0 - sigma) * latents


def _finite_rows(values: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(values).flatten(1).all(dim=1).cpu()


def _round_to_uint8(decoded: torch.Tensor) -> np.ndarray:
    """Rounds (rows, 3, height, width) in [0, 1] as `VaeImageProcessor.numpy_to_pil` in diffusers does."""
    pixels = decoded.cpu().permute(0, 2, 3, 1).float().numpy()
    return (np.nan_to_num(pixels, nan=0.0) * 255).round().astype(np.uint8)


@outside_digests("raises errors, computes nothing")
def _check_arguments(
    pipeline: ZImagePipeline,
    prompt_embeds: Sequence[RowEmbeds],
    seeds: Sequence[int],
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt_embeds: Sequence[torch.Tensor] | None,
    init_images: Sequence[Image.Image] | None,
    first_step: int,
) -> None:
    sampling = "set it in config/experiments/*.yaml: base"
    if len(prompt_embeds) != len(seeds) or not seeds:
        raise ValueError(
            f"{len(prompt_embeds)} embeddings and {len(seeds)} seeds: one of each per image, at least one"
        )
    for name, given in (("negative embeddings", negative_prompt_embeds), ("init images", init_images)):
        if given is not None and len(given) != len(seeds):
            raise ValueError(f"{len(given)} {name} for {len(seeds)} images: one per image, or none at all")
    if guidance_scale < 0:
        raise ValueError(f"guidance_scale {guidance_scale} is below 0, which is no guidance; {sampling}")
    if (guidance_scale > 0) != (negative_prompt_embeds is not None):
        raise ValueError(
            f"guidance_scale {guidance_scale} with{'out' if guidance_scale else ''} negative embeddings: both or neither "
            f"are needed; {sampling}"
        )
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps {num_inference_steps} is below 1; {sampling}")
    if not 0 <= first_step < num_inference_steps:
        raise ValueError(
            f"first step {first_step} of {num_inference_steps} leaves nothing to run; set a larger strength in "
            "config/experiments/*.yaml: base"
        )
    if first_step and init_images is None:
        raise ValueError(f"first step {first_step} needs init images to start from; {sampling}")
    multiple = pipeline.vae_scale_factor * 2
    for name, pixels in (("height", height), ("width", width)):
        if pixels < multiple or pixels % multiple:
            raise ValueError(f"{name} {pixels} is not a positive multiple of {multiple} pixels; {sampling}")
    steps = num_inference_steps - first_step
    for row, embeds in enumerate(prompt_embeds):
        if not isinstance(embeds, torch.Tensor) and len(embeds) != steps:
            raise ValueError(
                f"the schedule of row {row} has {len(embeds)} entries: one for each of {steps} steps is needed"
            )
    positive = [e for row in prompt_embeds for e in ([row] if isinstance(row, torch.Tensor) else row)]
    _check_captions(pipeline, "caption", positive)
    _check_captions(pipeline, "negative caption", negative_prompt_embeds or ())


def _check_captions(pipeline: ZImagePipeline, what: str, captions: Sequence[torch.Tensor]) -> None:
    config = pipeline.transformer.config
    limit = max_caption_tokens(config.axes_lens)
    for number, embeds in enumerate(captions):
        if embeds.ndim != 2 or embeds.shape[1] != config.cap_feat_dim:
            raise ValueError(
                f"{what} {number} has shape {tuple(embeds.shape)}, the transformer takes (tokens, "
                f"{config.cap_feat_dim}); set another encoder in config/experiments/*.yaml"
            )
        if not 1 <= embeds.shape[0] <= limit:
            raise ValueError(
                f"{what} {number} has {embeds.shape[0]} tokens, this generator takes 1 to {limit}; shorten the "
                "prompt, use a smaller reference or another length matching in config/experiments/*.yaml"
            )
    lengths = sorted({padded_length(embeds.shape[0]) for embeds in captions})
    if len(lengths) > 1:
        raise ValueError(
            f"{what}s of padded lengths {lengths} in one batch: one length is allowed, since others create "
            f"an attention mask; batch captions by their length in multiples of {CAPTION_MULTIPLE} tokens"
        )
