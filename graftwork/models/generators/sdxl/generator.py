"""Images from texts with SDXL, through the pipeline of diffusers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging

from graftwork.core.code_digest import outside_digests
from graftwork.models.generator import (
    Batch,
    Generator,
    Launched,
    check_size_and_options,
    finite_rows,
    round_to_uint8,
    to_device,
)
from graftwork.models.generators.sdxl import CAPTION_TOKENS
from graftwork.models.hardware import parse_dtype

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()

# Numbers that the U-Net is told beside the pooled text: original size, crop and wanted size.
_TIME_IDS = 6


class SdxlGenerator(Generator):
    """SDXL without its text encoders.

    Attributes:
        pipeline: The pipeline.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        """Takes a loaded pipeline."""
        self.pipeline = pipeline

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads U-Net, VAE and scheduler; see `loading.load_generator`."""
        absent = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            folder,
            **dict.fromkeys(absent),
            dtype=parse_dtype(hardware["dtype"]),
            use_safetensors=True,
            local_files_only=True,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        cls.complete(pipeline, folder)
        if hardware["device"] != "cpu" and hardware.get("offload", "none") == "model":
            pipeline.enable_model_cpu_offload(device=hardware["device"])
        else:
            pipeline.to(hardware["device"])
        return cls(pipeline)

    @classmethod
    def complete(cls, pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
        """Loads what a subclass needs besides, before the pipeline is put on its device."""

    @property
    def width(self) -> int:
        """Width of a row of a caption."""
        return self.pipeline.unet.config.cross_attention_dim

    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns ones: a valid caption that nobody looks at, (tokens, width), the U-Net's dtype, on the CPU."""
        return torch.ones(tokens, self.width, dtype=self.pipeline.unet.dtype)

    @torch.no_grad()
    def launch(self, batch: Batch) -> Launched:
        """Starts a batch of images with the pipeline's own loop.

        Raises:
            ValueError: where the batch has what this generator does not take, before anything is computed.
        """
        self.check(batch)
        pipeline = self.pipeline
        latents = pipeline(
            **self._captions(batch.prompt_embeds, ""),
            **(self._captions(batch.negative_prompt_embeds, "negative_") if batch.guidance_scale else {}),
            # Positive + scale * (positive - negative); the pipeline counts from the negative.
            guidance_scale=1.0 + batch.guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds],
            height=batch.height,
            width=batch.width,
            num_inference_steps=batch.num_inference_steps,
            output_type="latent",
            **self.arguments(batch),
        ).images
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
        finite = finite_rows(latents) & finite_rows(decoded)
        pixels = round_to_uint8(pipeline.image_processor.postprocess(decoded, output_type="pt"))
        pipeline.maybe_free_model_hooks()
        return Launched(pixels, finite)

    def arguments(self, batch: Batch) -> dict[str, Any]:
        """Returns further arguments of the pipeline."""
        return {}

    def _captions(self, rows: Sequence[Any], prefix: str) -> dict[str, torch.Tensor]:
        """Returns states and pooled texts as the pipeline takes them."""
        unet = self.pipeline.unet
        device = self.pipeline._execution_device
        states = torch.stack([to_device(row.to(unet.dtype), device) for row in rows])
        pooled = (
            unet.config.projection_class_embeddings_input_dim
            - _TIME_IDS * unet.config.addition_time_embed_dim
        )
        return {
            f"{prefix}prompt_embeds": states[:, :-1],
            f"{prefix}pooled_prompt_embeds": states[:, -1, :pooled],
        }

    @outside_digests("makes nothing that is kept")
    def warm_up(self, batch: Batch) -> None:
        """Does nothing: nothing is compiled."""

    @outside_digests("raises errors, computes nothing")
    def check(self, batch: Batch) -> None:
        """Refuses sizes, captions and options that the pipeline does not take.

        Raises:
            ValueError: naming the value, what is allowed, and the key.
        """
        check_size_and_options(batch, self.pipeline.vae_scale_factor, type(self).__name__)
        for row in (*batch.prompt_embeds, *(batch.negative_prompt_embeds or ())):
            shape = tuple(row.shape) if isinstance(row, torch.Tensor) else "a schedule"
            if shape != (CAPTION_TOKENS, self.width):
                raise ValueError(
                    f"a caption has shape {shape}; SDXL takes ({CAPTION_TOKENS}, {self.width}), the states of its own text "
                    "encoders; it is made by the control ip_adapter"
                )
