"""A blend as somebody might add it: one module. Imported by a process of test_new_blend.py and by nothing else."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch


class ThrowawayParameters(TransformParameters):
    """The blend's own parameter."""

    throwaway_sharpness: Annotated[float, Field(ge=0, le=9)] = Field(
        1.0, description="How sharply `throwaway` mixes."
    )


@register(
    "blend",
    "throwaway",
    formula="alpha^throwaway_sharpness * v + (1 - alpha^throwaway_sharpness) * t",
    source="nobody",
    parameters=ThrowawayParameters,
    problem_with=lambda cell: (
        "throwaway_sharpness 7.0 is unlucky; allowed: any other"
        if cell["throwaway_sharpness"] == 7.0
        else None
    ),
)
def blend_throwaway(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    *,
    own_length: bool,
    throwaway_sharpness: float,
) -> "torch.Tensor":
    """Mixes row by row with a power of alpha."""
    weight = alpha**throwaway_sharpness
    return weight * source + (1.0 - weight) * text
