"""Hardware settings: checked, and applied to torch."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from graftwork.core.code_digest import outside_digests
from graftwork.models.acceleration import find_conflict

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

DEVICES = ("cpu", "cuda")
OFFLOADS = ("none", "model")
DEFAULT_CPU_THREADS = 2


def configure_torch(hardware: Mapping[str, Any]) -> None:
    """Sets what decides the bits of a result on one machine, once per process and before a model is loaded.

    Args:
        hardware: `device` (cpu, cuda), `dtype` (float32, bfloat16), `offload` (none, model; generators only:
            parts wait in main memory until they run) and `cpu_threads`, which changes low bits and so is set
            here and not taken from the machine.

    Raises:
        ValueError: where a value is not allowed.
        RuntimeError: where the device is cuda and this build of torch, or this machine, has none.
    """
    check_hardware(hardware)
    torch.set_num_threads(int(hardware.get("cpu_threads", DEFAULT_CPU_THREADS)))
    # No TF32, no autotuned kernels: both make a result depend on the device's mood or the library's defaults.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # Read by cuBLAS when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@outside_digests("raises errors, computes nothing")
def check_hardware(hardware: Mapping[str, Any]) -> None:
    """Checks the hardware settings; see `configure_torch` for what is raised."""
    device, offload = hardware.get("device"), hardware.get("offload", "none")
    if device not in DEVICES:
        raise ValueError(
            f"device {device!r} is not one of {', '.join(DEVICES)}; set config/config.yaml: hardware.extraction.device or hardware.generation.device"
        )
    if offload not in OFFLOADS:
        raise ValueError(
            f"offload {offload!r} is not one of {', '.join(OFFLOADS)}; set config/config.yaml: "
            "hardware.generation.offload"
        )
    threads = hardware.get("cpu_threads", DEFAULT_CPU_THREADS)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(
            f"cpu_threads {threads!r} is not a whole number above 0; set config/config.yaml: "
            "hardware.extraction.cpu_threads or hardware.generation.cpu_threads"
        )
    parse_dtype(hardware.get("dtype", ""))
    conflict = find_conflict(hardware)
    if conflict is not None:
        raise ValueError(f"config/config.yaml: {conflict}")
    if device == "cuda" and not torch.cuda.is_available():
        build = "has CUDA but finds no device" if torch.version.cuda else "is a CPU build"
        raise RuntimeError(
            f"device 'cuda' was asked for, but this torch ({torch.__version__}) {build}: install "
            "requirements/cuda.txt on a machine with a GPU, or set config/config.yaml: hardware.extraction.device and "
            "hardware.generation.device to cpu"
        )


def parse_dtype(dtype: str) -> torch.dtype:
    """Returns the torch dtype of a name in the configuration.

    Raises:
        ValueError: for any other name; float16 with the reason.
    """
    if dtype == "float16":
        raise ValueError(
            "dtype 'float16' is refused: activations of Z-Image and of its text encoder exceed 65504, so "
            "images turn black; set config/config.yaml: hardware.extraction.dtype and hardware.generation.dtype to "
            "bfloat16 or float32"
        )
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype {dtype!r} is not one of {', '.join(DTYPES)}; set config/config.yaml: hardware.extraction.dtype or hardware.generation.dtype"
        )
    return DTYPES[dtype]
