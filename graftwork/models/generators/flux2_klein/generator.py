"""Images from captions with FLUX.2 [klein], through the pipeline of diffusers."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import Flux2KleinPipeline

from graftwork.models.generator import Batch
from graftwork.models.pipeline_generator import PipelineGenerator


class Flux2KleinGenerator(PipelineGenerator):
    """FLUX.2 [klein] without its text encoder."""

    pipeline_class = Flux2KleinPipeline

    @property
    def caption_shape(self) -> tuple[int, ...]:
        """Width of the concatenated layers."""
        return (self.pipeline.transformer.config.joint_attention_dim,)

    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns ones: a valid caption that nobody looks at.

        Returns:
            (tokens, channels), the transformer's dtype, on the CPU.
        """
        return torch.ones(tokens, *self.caption_shape, dtype=self.pipeline.transformer.dtype)

    def captions(self, rows: Sequence[torch.Tensor], length: int) -> torch.Tensor:
        """Returns captions of a batch, (rows, length, channels); they are of one length, with their pads."""
        return torch.stack(list(rows))

    def arguments(self, batch: Batch, length: int) -> dict[str, Any]:
        """Returns what the pipeline is told about guidance: negative + (1 + scale) * (positive - negative)."""
        return {
            "guidance_scale": 1.0 + batch.guidance_scale,
            "negative_prompt_embeds": self.negative_captions(batch, length),
        }

    def decode(self, latents: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Returns what the VAE makes of latents that the pipeline has scaled and unpacked."""
        return self.pipeline.vae.decode(latents, return_dict=False)[0]
