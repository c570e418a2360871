"""Images with Z-Image on a GPU: launched without waiting, so that the next batch can be prepared meanwhile.

The computation is that of `z_image.sample_images`, and tests hold the two equal bit for bit where no setting of
`acceleration` asks for something else. What differs is where the host waits: there after the last step, after decoding
and while pixels are rounded; here nowhere before `Launched.result`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.utils import logging
from PIL import Image

from graftwork.models.acceleration import resolve_acceleration
from graftwork.models.generators.z_image.blocks import compile_blocks, compile_decoder, fuse_blocks
from graftwork.models.generators.z_image.generator import (
    RowEmbeds,
    ZImageGenerator,
    _check_arguments,
    convert_rows,
    embeds_at,
    guidance_arguments,
    initial_latents,
    noisy_images,
    padding_row,
)
from graftwork.models.generators.z_image.schedule import remaining_sigmas


class KeptSchedule(FlowMatchEulerDiscreteScheduler):
    """A scheduler that copies each schedule to the device once.

    The copy waits for everything that the device still has to do, and the pipeline asks for a schedule per batch.
    """

    # The pipeline looks at these names before it calls.
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """Sets the schedule; see `FlowMatchEulerDiscreteScheduler` in diffusers."""
        kept = self.__dict__.setdefault("_kept", {})
        key = repr((num_inference_steps, device, sigmas, mu, timesteps))
        if key not in kept:
            super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
            kept[key] = (self.num_inference_steps, self.timesteps, self.sigmas)
        self.num_inference_steps, self.timesteps, self.sigmas = kept[key]
        self._step_index = self._begin_index = None


class Launched:
    """A batch that the device works on.

    Attributes:
        images: uint8 (rows, height, width, 3), in main memory but not filled before `result`.
        finite: bool (rows,), likewise.
    """

    def __init__(self, images: torch.Tensor, finite: torch.Tensor) -> None:
        self.images, self.finite = _to_host(images), _to_host(finite)
        # Blocking: a thread that waits sleeps, and the one that launches keeps its core.
        self._done = torch.cuda.Event(blocking=True) if images.device.type == "cuda" else None
        if self._done is not None:
            self._done.record()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Waits, from any thread and as often as one likes, and returns what `sample_images` returns."""
        if self._done is not None:
            self._done.synchronize()
        return self.images.numpy(), self.finite.numpy()


class FastZImageGenerator(ZImageGenerator):
    """Z-Image with the settings of `acceleration`.

    Attributes:
        pipeline: See `ZImageGenerator`; changed by the settings, so it is no longer that of diffusers.
        is_compiled: Whether the first batch of a shape takes far longer than the others.
    """

    def __init__(self, pipeline: ZImagePipeline, hardware: Mapping[str, Any]) -> None:
        super().__init__(pipeline)
        self.is_compiled = accelerate(pipeline, hardware)

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]
    ) -> "FastZImageGenerator":
        """Loads transformer, VAE and scheduler; see `loading.load_generator`."""
        return cls(ZImageGenerator.load(folder, entry, hardware).pipeline, hardware)

    def launch(self, prompt_embeds: Sequence[RowEmbeds], seeds: Sequence[int], **sampling: Any) -> Launched:
        """Starts one image per row; arguments as in `z_image.sample_images`."""
        return launch_images(self.pipeline, prompt_embeds, seeds, **sampling)

    def generate(
        self, prompt_embeds: Sequence[RowEmbeds], seeds: Sequence[int], **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row; see `z_image.sample_images`."""
        return self.launch(prompt_embeds, seeds, **sampling).result()

    def warm_up(
        self, rows: int, tokens: int, height: int, width: int, negative_tokens: int | None = None
    ) -> None:
        """Compiles what a batch of this shape will run; does nothing where nothing is compiled.

        Args:
            rows: Of the batch.
            tokens: Of its captions, padded or not.
            height: Pixels.
            width: Pixels.
            negative_tokens: Of its negative captions, or None where there is no guidance.
        """
        if self.is_compiled:
            channels = self.pipeline.transformer.config.cap_feat_dim
            sampling: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": 0.0}
            if negative_tokens is not None:
                negative = [padding_row(negative_tokens, channels)] * rows
                sampling |= {"guidance_scale": 1.0, "negative_prompt_embeds": negative}
            captions = [padding_row(tokens, channels)] * rows
            self.generate(captions, [0] * rows, height=height, width=width, **sampling)


def accelerate(pipeline: ZImagePipeline, hardware: Mapping[str, Any]) -> bool:
    """Applies the settings to a loaded pipeline, once.

    Returns:
        Whether anything is compiled.

    Raises:
        RuntimeError: where the attention backend is not installed.
    """
    settings = resolve_acceleration(hardware)
    transformer, vae = pipeline.transformer, pipeline.vae
    pipeline.scheduler = KeptSchedule.from_config(pipeline.scheduler.config)
    if settings["fuse_blocks"]:
        fuse_blocks(transformer)
    _set_attention_backend(transformer, settings["attention_backend"])
    if settings["vae_channels_last"]:
        vae.to(memory_format=torch.channels_last)
    vae.use_slicing = settings["vae_slicing"]
    if settings["compile"]:
        compile_blocks(transformer, settings["compile"])
    if settings["compile_vae"]:
        compile_decoder(vae)
    return bool(settings["compile"] or settings["compile_vae"])


def _set_attention_backend(transformer: Any, backend: str) -> None:
    # Set even where it is the default, which an environment variable of the library could replace. The library says
    # each time that this interface may change.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        transformer.set_attention_backend(backend)
    except (ImportError, RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"attention backend {backend!r} cannot be used: {error} Install it, or set config/config.yaml: "
            "hardware.generation.attention_backend to native"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


@torch.no_grad()
def launch_images(
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
) -> Launched:
    """Starts a batch of images with the pipeline's own loop; see `z_image.sample_images` for the arguments.

    What a schedule changes to is on the device before the loop. The pipeline waits for the device where
    `cfg_normalization` is not 0, at each step, and where `cfg_truncation` is below 1, once.

    Raises:
        ValueError: where an argument is outside what is said there, before anything is computed.
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
    scale, vae = pipeline.vae_scale_factor, pipeline.vae
    device, dtype = pipeline._execution_device, pipeline.transformer.dtype
    noise = initial_latents(seeds, pipeline.transformer.in_channels, height // scale, width // scale)
    steps = num_inference_steps - first_step
    rows = convert_rows(prompt_embeds, lambda embeds: _to_device(embeds.to(dtype), device))
    latents = _to_device(noise, device)
    if init_images is not None:
        latents = noisy_images(
            pipeline, latents, init_images, num_inference_steps, first_step, lambda v: _to_device(v, device)
        )

    def after_step(_pipeline: Any, step: int, _timestep: Any, _values: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step + 1, steps)
        return {"prompt_embeds": embeds_at(rows, step + 1)} if step + 1 < steps else {}

    latents = pipeline(
        prompt_embeds=embeds_at(rows, 0),
        latents=latents,
        height=height,
        width=width,
        num_inference_steps=num_inference_steps,
        sigmas=remaining_sigmas(num_inference_steps, first_step),
        **guidance_arguments(
            guidance_scale,
            [_to_device(embeds.to(dtype), device) for embeds in negative_prompt_embeds or ()],
            cfg_normalization,
            cfg_truncation,
        ),
        output_type="latent",
        callback_on_step_end=after_step,
    ).images
    # From here on as `ZImagePipeline.__call__` in diffusers goes on, which would clamp before anyone can look.
    scaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    decoded = vae.decode(scaled, return_dict=False)[0]
    finite = _finite_rows(latents) & _finite_rows(decoded)
    pixels = _round_to_uint8(pipeline.image_processor.postprocess(decoded, output_type="pt"))
    pipeline.maybe_free_model_hooks()
    return Launched(pixels, finite)


def _finite_rows(values: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(values).flatten(1).all(dim=1)


def _round_to_uint8(decoded: torch.Tensor) -> torch.Tensor:
    """Rounds (rows, 3, height, width) in [0, 1] to uint8 (rows, height, width, 3), as z_image does on the CPU."""
    pixels = decoded.permute(0, 2, 3, 1).float().nan_to_num(nan=0.0)
    return (pixels * 255).round().to(torch.uint8).contiguous()


def _to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies without waiting, which takes memory that the device can read by itself."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True) if values.device.type == "cpu" else values


def _to_host(values: torch.Tensor) -> torch.Tensor:
    if values.device.type != "cuda":
        return values
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
