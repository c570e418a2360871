"""The steps of Z-Image: which of them an image-to-image run takes, and at which sigma each one starts.

Planning asks which step is the first, so torch and diffusers are imported where sigmas are computed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def first_step(num_inference_steps: int, strength: float) -> int:
    """Returns the first step that is run, counted from 0; `ZImageImg2ImgPipeline.get_timesteps` in diffusers.

    Args:
        num_inference_steps: Of the whole schedule.
        strength: From 0 to 1; at 0 it is `num_inference_steps`, and nothing would be run.
    """
    return int(max(num_inference_steps - min(num_inference_steps * strength, num_inference_steps), 0))


def remaining_sigmas(num_inference_steps: int, first: int) -> list[float]:
    """Returns what the pipeline gives its scheduler for the steps from `first` on, before any shift.

    A shift moves each sigma by itself, so what comes out for a part of a schedule is that part of the whole.
    """
    from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

    return get_default_z_image_sigmas(num_inference_steps)[first:]


def scheduler_sigmas(
    scheduler_config: Mapping[str, Any], num_inference_steps: int, image_tokens: int, first: int = 0
) -> "torch.Tensor":
    """Returns the sigmas that the pipeline's scheduler goes through, as `ZImagePipeline.__call__` sets them.

    Args:
        scheduler_config: Of `FlowMatchEulerDiscreteScheduler` in diffusers; what is missing has its default.
        num_inference_steps: Of the whole schedule.
        image_tokens: Of the transformer, which decide a dynamic shift.
        first: First step that is run.

    Returns:
        float32 (num_inference_steps - first + 1,) on the CPU; the last is 0.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(scheduler_config))
    config = scheduler.config
    mu = calculate_shift(
        image_tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    scheduler.set_timesteps(sigmas=remaining_sigmas(num_inference_steps, first), device="cpu", mu=mu)
    return scheduler.sigmas
