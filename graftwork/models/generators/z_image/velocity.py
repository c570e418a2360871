"""The velocity that the transformer predicts, without sampling."""

import torch

from graftwork.models.generators.z_image.generator import ZImageGenerator


@torch.no_grad()
def velocity(
    generator: ZImageGenerator, caption: torch.Tensor, latents: torch.Tensor, sigma: float
) -> torch.Tensor:
    """Returns d latents / d sigma as `ZImagePipeline` in diffusers has it, without guidance.

    Args:
        generator: generator.
        caption: (tokens, channels), any dtype.
        latents: float32 (channels, height, width): sigma * noise + (1 - sigma) * image.
        sigma: noise level, above 0 to 1.

    Returns:
        float32 (channels, height, width), on the CPU.
    """
    pipeline = generator.pipeline
    transformer, device = pipeline.transformer, pipeline._execution_device
    time = torch.tensor([1.0 - sigma], device=device, dtype=torch.float32)
    rows = [latents.to(device=device, dtype=transformer.dtype)[:, None]]
    captions = [caption.to(device=device, dtype=transformer.dtype)]
    made = transformer(rows, time, captions, return_dict=False)[0]
    return -made[0].float().squeeze(1).cpu()
