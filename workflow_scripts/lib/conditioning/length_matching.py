"""Length matching: a source of m tokens brought to the n tokens of the text.

Each function takes float32 (m, dim) and n and returns float32 (k, dim). k is n, or fewer where the source has too
little to say about the last tokens of the text, which a blend then leaves unchanged. The text is never shortened.
"""

from typing import TYPE_CHECKING, Any

from workflow_scripts.lib.conditioning.registry import register

if TYPE_CHECKING:
    import torch


@register("length_matching", "truncate", formula="x[:n]", source="first tokens, as in the seed documents")
def truncate(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Keeps the first `tokens` rows; a shorter source stays as short as it is."""
    return source[:tokens]


@register(
    "length_matching",
    "linear",
    formula="linear interpolation over token positions, pixel centres aligned, no antialiasing",
    source="torch.nn.functional.interpolate(mode='linear', align_corners=False)",
)
def interpolate_linearly(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Interpolates between neighbouring tokens. Going down, tokens that no sample falls near are not used."""
    import torch

    resized = torch.nn.functional.interpolate(source.T[None], size=tokens, mode="linear", align_corners=False)
    return resized[0].T.contiguous()


@register(
    "length_matching",
    "area",
    formula="mean over the m/n tokens that fall on a position",
    source="torch.nn.functional.adaptive_avg_pool1d",
)
def pool_by_area(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Averages adjacent tokens; every token of the source is used."""
    import torch

    return torch.nn.functional.adaptive_avg_pool1d(source.T[None], tokens)[0].T.contiguous()


def _problem_with_none(parameters: dict[str, Any]) -> str | None:
    if parameters["alpha"] in (0.0, 1.0):
        return None
    return (
        f"length_matching 'none' keeps the source's own length, which cannot be mixed with the text at alpha "
        f"{parameters['alpha']}; allowed: alpha 1 (the source alone), or another length_matching"
    )


@register(
    "length_matching", "none", formula="x", source="identity; alpha 1 only", problem_with=_problem_with_none
)
def keep_length(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Returns the source at its own length."""
    return source
