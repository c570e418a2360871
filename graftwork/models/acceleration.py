"""Settings that make the generator faster, each of which can be switched by itself.

This module does not import torch: planning asks it what belongs into an image's key.
"""

import os
from collections.abc import Mapping
from typing import Any

# The value of each setting that changes nothing. Append-only: a setting that was added later is part of an image's key only
# where it has another value.
NEUTRAL: dict[str, Any] = {
    "attention_backend": "native",
    "compile": False,
    "compile_vae": False,
    "fuse_blocks": False,
    "vae_channels_last": False,
    "vae_slicing": False,
}
# Names of `AttentionBackendName` in diffusers. Left out on purpose: kernels fetched from the hub (code that nobody here
# has read), and SageAttention (8-bit: not the same computation).
ATTENTION_BACKENDS = (
    "native",
    "_native_cudnn",
    "_native_flash",
    "_native_efficient",
    "_native_math",
    "flash",
    "_flash_3",
)
# Names of modes of `torch.compile`. Left out on purpose: max-autotune, which picks kernels by timing them, so that two
# runs may differ in low bits.
COMPILE_MODES = (False, "default", "reduce-overhead")
BACKEND_VARIABLE = "DIFFUSERS_ATTN_BACKEND"

# Kernels that cannot leave tokens out, which guidance asks for where a negative caption has another padded length.
TAKE_NO_MASK = ("_native_flash", "flash", "_flash_3")

_NEED_CUDA = ("_native_cudnn", "_native_efficient", "flash", "_flash_3")
_NEED_BFLOAT16 = ("_native_cudnn", "_native_flash", "flash", "_flash_3")


def resolve_acceleration(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Returns every setting of `NEUTRAL`, at its neutral value where `hardware` does not have it."""
    return {name: hardware.get(name, neutral) for name, neutral in NEUTRAL.items()}


def changed_settings(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of `NEUTRAL` that `hardware` has at another value."""
    return {name: value for name, value in resolve_acceleration(hardware).items() if value != NEUTRAL[name]}


def find_conflict(hardware: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a combination of settings under `hardware.generation`, or None.

    Single values are checked by `design.schema`, and here once more for callers that do not come from a configuration.
    """
    settings = resolve_acceleration(hardware)
    backend, mode = settings["attention_backend"], settings["compile"]
    section = "hardware.generation"
    if backend not in ATTENTION_BACKENDS:
        return f"{section}.attention_backend: {backend!r} is not one of {', '.join(ATTENTION_BACKENDS)}"
    if mode not in COMPILE_MODES:
        return (
            f"{section}.compile: {mode!r} is not one of false, default, reduce-overhead "
            "(max-autotune picks kernels by timing them, so that two runs may differ)"
        )
    if backend in _NEED_CUDA and hardware["device"] != "cuda":
        return f"{section}.attention_backend: {backend} needs device cuda, not {hardware['device']}"
    if backend in _NEED_BFLOAT16 and hardware["device"] == "cuda" and hardware["dtype"] != "bfloat16":
        return f"{section}.attention_backend: {backend} needs dtype bfloat16, not {hardware['dtype']}"
    if mode == "reduce-overhead" and hardware.get("offload", "none") != "none":
        return (
            f"{section}.compile: reduce-overhead records where the weights are, and offload {hardware['offload']} "
            "moves them; allowed with it: false, default"
        )
    variable = os.environ.get(BACKEND_VARIABLE, "native")
    if variable.lower() != "native":
        return (
            f"{section}.attention_backend: the environment variable {BACKEND_VARIABLE} is {variable!r}, which no "
            "image's key would know of; unset it and set the backend here"
        )
    return None
