"""Images from caption embeddings with Z-Image, through the pipeline of diffusers.

The computation is that of `ZImagePipeline.__call__`, bit for bit where no setting of `acceleration` asks for something
else. What differs is where the host waits for the device: nowhere before `Launched.result`, so that the next batch can
be prepared meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging

from graftwork.core.code_digest import outside_digests
from graftwork.models.acceleration import resolve_acceleration
from graftwork.models.generator import (
    Batch,
    Generator,
    Launched,
    convert_rows,
    embeds_at,
    finite_rows,
    initial_noise,
    round_to_uint8,
    to_device,
)
from graftwork.models.generators.z_image import (
    CAPTION_MULTIPLE,
    max_caption_tokens,
    padded_length,
    remaining_sigmas,
    scheduler_sigmas,
)
from graftwork.models.generators.z_image.blocks import compile_blocks, compile_decoder, fuse_blocks
from graftwork.models.hardware import parse_dtype
from graftwork.models.kept_schedule import KeptSchedule

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()


class ZImageGenerator(Generator):
    """Z-Image without its text encoder, with the settings of `acceleration`.

    Attributes:
        pipeline: `ZImagePipeline` in diffusers; its text encoder and tokenizer are None, its scheduler is a
            `KeptSchedule`, and the settings have changed the rest.
        is_compiled: Whether anything is compiled when a shape occurs first.
    """

    def __init__(self, pipeline: ZImagePipeline, hardware: Mapping[str, Any]) -> None:
        """Applies the settings to a loaded pipeline, which can be done once.

        Raises:
            RuntimeError: where the attention backend is not installed.
        """
        self.pipeline = pipeline
        self.is_compiled = accelerate(pipeline, hardware)
        self._warm: set[tuple[int, ...]] = set()

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "ZImageGenerator":
        """Loads transformer, VAE and scheduler; see `loading.load_generator`."""
        # As in `PipelineGenerator.load`. To share it would change the code that every stored image's key is made of, and make
        # all of them again, for the same bytes.
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
        return cls(pipeline, hardware)

    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns ones: a valid caption that nobody looks at.

        Returns:
            (padded_length(tokens), channels), the transformer's dtype, on the CPU.
        """
        transformer = self.pipeline.transformer
        return torch.ones(padded_length(tokens), transformer.config.cap_feat_dim, dtype=transformer.dtype)

    @torch.no_grad()
    def launch(self, batch: Batch) -> Launched:
        """Starts a batch of images with the pipeline's own loop.

        All conditioning of a schedule is on the device before the loop. Where the captions of a batch and their negatives have
        two padded lengths, the pipeline masks what is missing. It waits for the device where `cfg_normalization` is not 0,
        at each step, and where `cfg_truncation` is below 1, once.

        Raises:
            ValueError: where the batch has what this generator does not take, before anything is computed.
        """
        pipeline = self.pipeline
        check_batch(pipeline, batch)
        vae, device, dtype = pipeline.vae, pipeline._execution_device, pipeline.transformer.dtype
        rows = convert_rows(batch.prompt_embeds, lambda embeds: to_device(embeds.to(dtype), device))

        def after_step(_pipeline: Any, step: int, _timestep: Any, _values: dict[str, Any]) -> dict[str, Any]:
            return {"prompt_embeds": embeds_at(rows, step + 1)} if step + 1 < batch.steps else {}

        latents = pipeline(
            prompt_embeds=embeds_at(rows, 0),
            latents=initial_latents(pipeline, batch),
            height=batch.height,
            width=batch.width,
            num_inference_steps=batch.num_inference_steps,
            sigmas=remaining_sigmas(batch.num_inference_steps, batch.first_step),
            **guidance_arguments(batch, lambda embeds: to_device(embeds.to(dtype), device)),
            output_type="latent",
            callback_on_step_end=after_step,
        ).images
        # From here on as `ZImagePipeline.__call__` in diffusers goes on, which would clamp before anyone can look.
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        decoded = vae.decode(scaled, return_dict=False)[0]
        finite = finite_rows(latents) & finite_rows(decoded)
        pixels = round_to_uint8(pipeline.image_processor.postprocess(decoded, output_type="pt"))
        pipeline.maybe_free_model_hooks()
        return Launched(pixels, finite)

    @outside_digests("makes nothing that is kept")
    def warm_up(self, batch: Batch) -> None:
        """Compiles what a batch of this shape runs, once; does nothing where nothing is compiled."""
        if not self.is_compiled:
            return
        captions = [self.padding_row(len(embeds)) for embeds in embeds_at(batch.prompt_embeds, 0)]
        negative = [self.padding_row(len(embeds)) for embeds in batch.negative_prompt_embeds or ()]
        shape = (batch.height, batch.width, len(captions), len(captions[0]), *map(len, negative[:1]))
        if shape not in self._warm:
            self._warm.add(shape)
            first = replace(batch, num_inference_steps=1, first_step=0, init_images=None)
            self.generate(replace(first, prompt_embeds=captions, negative_prompt_embeds=negative or None))


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


def guidance_arguments(batch: Batch, copy: Any) -> dict[str, Any]:
    """Returns what the pipeline is told about guidance: prediction = pos + guidance_scale * (pos - neg).

    Args:
        batch: rows that are sampled.
        copy: Brings a caption to the device.
    """
    if batch.guidance_scale == 0:
        return {"guidance_scale": batch.guidance_scale}
    return {
        "guidance_scale": batch.guidance_scale,
        "negative_prompt_embeds": [copy(embeds) for embeds in batch.negative_prompt_embeds or ()],
        "cfg_normalization": batch.cfg_normalization,
        # 1 leaves no step out, and for any number the pipeline would wait for the device to look at the time.
        "cfg_truncation": batch.cfg_truncation if batch.cfg_truncation < 1 else None,
    }


def initial_latents(pipeline: ZImagePipeline, batch: Batch) -> torch.Tensor:
    """Returns the latents that sampling starts from: noise, or sigma * noise + (1 - sigma) * latents of an image.

    As `ZImageImg2ImgPipeline` in diffusers, but for the mode of the VAE's posterior in place of a sample of it: the
    noise is then the seed's first and only draw, the same as without an image, and at sigma 1 nothing else is left.
    Each image is encoded alone, so that a row does not depend on its neighbours; one that occurs more than once is
    encoded once.

    Returns:
        float32 (rows, channels, height, width) of the latents, on the device.
    """
    vae, device, scale = pipeline.vae, pipeline._execution_device, pipeline.vae_scale_factor
    height, width = batch.height // scale, batch.width // scale
    noise = to_device(initial_noise(batch.seeds, pipeline.transformer.in_channels, height, width), device)
    if batch.init_images is None:
        return noise
    encoded: dict[int, torch.Tensor] = {}
    for image in batch.init_images:
        if id(image) not in encoded:
            pixels = pipeline.image_processor.preprocess(image, height=batch.height, width=batch.width)
            pixels = to_device(pixels.to(vae.dtype), device)
            encoded[id(image)] = vae.encode(pixels).latent_dist.mode().float()
    latents = torch.cat([encoded[id(image)] for image in batch.init_images])
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    sigmas = scheduler_sigmas(
        pipeline.scheduler.config, batch.num_inference_steps, (height // 2) * (width // 2), batch.first_step
    )
    sigma = to_device(sigmas[:1].reshape(1, 1, 1, 1), device)
    return sigma * noise + (1.0 - sigma) * latents


@outside_digests("raises errors, computes nothing")
def check_batch(pipeline: ZImagePipeline, batch: Batch) -> None:
    """Refuses sizes and captions that Z-Image does not take.

    Raises:
        ValueError: naming the value, what is allowed, and the key.
    """
    multiple = pipeline.vae_scale_factor * 2
    for name, pixels in (("height", batch.height), ("width", batch.width)):
        if pixels < multiple or pixels % multiple:
            raise ValueError(
                f"{name} {pixels} is not a positive multiple of {multiple} pixels; set it in "
                "config/experiments/*.yaml: base"
            )
    rows = [[row] if isinstance(row, torch.Tensor) else row for row in batch.prompt_embeds]
    _check_captions(pipeline, "caption", [embeds for row in rows for embeds in row])
    _check_captions(pipeline, "negative caption", batch.negative_prompt_embeds or ())


@outside_digests("raises errors, computes nothing")
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
