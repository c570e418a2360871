"""Where the code of each kind of artefact begins; `code_digest` finds what belongs to it."""

from collections.abc import Mapping
from typing import Any

from graftwork.core.code_digest import code_digest
from graftwork.models.acceleration import is_accelerated

_SETTING_UP_TORCH = "graftwork.models.hardware:configure_torch"
ENCODERS = {
    "qwen3": "graftwork.models.encoders.qwen3:Qwen3Encoder",
    "qwen3_vl": "graftwork.models.encoders.qwen3_vl:Qwen3VLEncoder",
}
GENERATORS = {"z_image": "graftwork.models.generators.z_image.generator:ZImageGenerator"}
FAST_GENERATORS = {"z_image": "graftwork.models.generators.z_image.fast:FastZImageGenerator"}


def extraction_code(family: str) -> str:
    """Returns the digest of the code that decides hidden states of an encoder."""
    return code_digest(ENCODERS[family], _SETTING_UP_TORCH)


def statistics_code() -> str:
    """Returns the digest of the code that decides statistics of a corpus."""
    return code_digest("graftwork.statistics.corpus:measure_corpus")


def conditioning_code() -> str:
    """Returns the digest of the code that decides conditioning, but for the transforms, which have digests of their own."""
    return code_digest(
        "graftwork.conditioning.build:build_conditioning",
        "graftwork.conditioning.build:HARDWARE",
        _SETTING_UP_TORCH,
    )


def sampling_code(family: str, generation: Mapping[str, Any]) -> str:
    """Returns the digest of the code that decides an image.

    Args:
        family: Of the generator.
        generation: `hardware.generation` of config.yaml.
    """
    generator = (FAST_GENERATORS if is_accelerated(generation) else GENERATORS)[family]
    return code_digest(generator, _SETTING_UP_TORCH, "graftwork.jobs.generation:_start")
