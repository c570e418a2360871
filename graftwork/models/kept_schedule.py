"""A scheduler of diffusers whose schedules are copied to the device once."""

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler


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
