"""Images from captions with Krea 2, through the pipeline of diffusers."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import Krea2Pipeline

from graftwork.models.generator import Batch, embeds_at
from graftwork.models.generators.krea2 import padded_length
from graftwork.models.pipeline_generator import PipelineGenerator


class Krea2Generator(PipelineGenerator):
    """Krea 2 without its text encoder."""

    pipeline_class = Krea2Pipeline

    @property
    def caption_shape(self) -> tuple[int, ...]:
        """Layers and their width."""
        config = self.pipeline.transformer.config
        return (config.num_text_layers, config.text_hidden_dim)

    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns ones: a valid caption that nobody looks at.

        Returns:
            (padded_length(tokens), layers, channels), the transformer's dtype, on the CPU.
        """
        return torch.ones(padded_length(tokens), *self.caption_shape, dtype=self.pipeline.transformer.dtype)

    def captions(self, rows: Sequence[torch.Tensor], length: int) -> torch.Tensor:
        """Returns captions of a batch, (rows, length, layers, channels), with zeros for masked pads."""
        return torch.stack([torch.nn.functional.pad(row, (0, 0, 0, 0, 0, length - len(row))) for row in rows])

    def arguments(self, batch: Batch, length: int) -> dict[str, Any]:
        """Returns masks, and what the pipeline is told about guidance: positive + scale * (positive - negative)."""
        device = self.pipeline._execution_device
        # There is a mask even where it hides nothing: without one, attention is another kernel.
        arguments = {
            "prompt_embeds_mask": _mask(embeds_at(batch.prompt_embeds, 0), length, device),
            "guidance_scale": batch.guidance_scale,
        }
        if batch.negative_prompt_embeds is not None:
            arguments |= {
                "negative_prompt_embeds": self.negative_captions(batch, length),
                "negative_prompt_embeds_mask": _mask(batch.negative_prompt_embeds, length, device),
            }
        return arguments

    def decode(self, latents: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Returns what the VAE makes of latents, unpacked and scaled as at the end of `Krea2Pipeline.__call__`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        unpacked = pipeline._unpack_latents(latents, batch.height, batch.width).to(vae.dtype)
        mean, scale = (
            torch.tensor(values, dtype=vae.dtype).view(1, -1, 1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        inverse = (1.0 / scale).to(unpacked.device)
        return vae.decode(unpacked / inverse + mean.to(unpacked.device), return_dict=False)[0][:, :, 0]


def _mask(captions: Sequence[torch.Tensor], length: int, device: torch.device) -> torch.Tensor:
    """Returns which tokens are captions and not pads: bool (rows, length)."""
    lengths = torch.tensor([len(embeds) for embeds in captions])
    return (torch.arange(length)[None] < lengths[:, None]).to(device)
