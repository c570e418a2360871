"""Bytes of weights: what a generator loads, and what of it is on the device at one time."""

from collections.abc import Mapping
from typing import Any


def component_bytes(pipeline: Any) -> dict[str, int]:
    """Returns component -> bytes of its parameters and buffers, for the models among a pipeline's components.

    Args:
        pipeline: `DiffusionPipeline` in diffusers, on any device; the meta device costs nothing.
    """
    found = {}
    for name, component in pipeline.components.items():
        if hasattr(component, "parameters"):
            tensors = [*component.parameters(), *component.buffers()]
            found[name] = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return found


def bytes_on_device(components: Mapping[str, int], offload: str) -> int:
    """Returns the most bytes of weights that are on the device at one time.

    Args:
        components: Component -> bytes.
        offload: "none", all of them; "model", one at a time, as `enable_model_cpu_offload` in diffusers moves them.

    Raises:
        ValueError: for any other name.
    """
    if offload not in ("none", "model"):
        raise ValueError(
            f"offload {offload!r} is not one of none, model; set config/config.yaml: hardware.generation.offload"
        )
    return sum(components.values()) if offload == "none" else max(components.values(), default=0)
