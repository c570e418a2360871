"""Where the code of each kind of artefact begins; `code_digest` finds what belongs to it."""

from graftwork.core.code_digest import code_digest
from graftwork.maps.registry import method
from graftwork.models.families import encoder_family, generator_family

_SETTING_UP_TORCH = "graftwork.models.hardware:configure_torch"


def extraction_code(family: str) -> str:
    """Returns the digest of the code that decides hidden states of an encoder."""
    return code_digest(*encoder_family(family).code, _SETTING_UP_TORCH)


def captioning_code(family: str) -> str:
    """Returns the digest of the code that decides what an encoder writes about an image."""
    return code_digest(*encoder_family(family).captioning_code, _SETTING_UP_TORCH)


def statistics_code() -> str:
    """Returns the digest of the code that decides statistics of a corpus."""
    return code_digest("graftwork.statistics.corpus:measure_corpus")


def map_code(name: str) -> str:
    """Returns the digest of the code that reads pairs and fits a map by a method."""
    return code_digest(method(name).function, "graftwork.maps.corpus:fit_map", _SETTING_UP_TORCH)


def conditioning_code() -> str:
    """Returns the digest of the code that decides conditioning, but for the transforms, which have digests of their own."""
    return code_digest(
        "graftwork.conditioning.build:build_conditioning",
        "graftwork.conditioning.build:HARDWARE",
        _SETTING_UP_TORCH,
    )


def sigmas_code(family: str) -> str:
    """Returns the digest of the code that decides the sigmas of a generator, which conditioning may follow."""
    return code_digest(generator_family(family).scheduler_sigmas)


def sampling_code(family: str, from_image: bool, with_references: bool = False) -> str:
    """Returns the digest of the code that decides an image: the same for every device and setting.

    Args:
        family: Family of the generator.
        from_image: Whether the image starts from another one, which has to be read.
        with_references: Whether the generator is shown references; its family has `references`.
    """
    if with_references:
        return code_digest(*generator_family(family).references.code, _SETTING_UP_TORCH)
    return code_digest(*generator_family(family).code(from_image), _SETTING_UP_TORCH)
