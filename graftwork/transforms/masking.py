"""Outlier masking: dimensions whose spread is far from the reference's are silenced or brought back.

Each function takes the selected source tokens, float32 (tokens, dim), and their roles, uint8 (tokens,). It returns
float32 (tokens, dim) and what it masked, one text per dimension. What is an outlier is said in `outliers`; a list of
dimensions stands in for that.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from graftwork.transforms.outliers import Outliers, find_outliers, with_ratio
from graftwork.transforms.reference_choice import STATISTICS_DESCRIPTION, StatisticsChoice
from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch

    from graftwork.statistics.reference import ReferenceStatistics

_SOURCE = "outlier masking of llm-dit-experiments; the ratio turned, so that both sides are found"


def _once_and_in_order(dimensions: list[int]) -> list[int]:
    if len(set(dimensions)) < len(dimensions):
        raise PydanticCustomError("dimensions", "a list in which no dimension occurs twice")
    return sorted(dimensions)


Dimensions = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_once_and_in_order)
]


class MaskingParameters(TransformParameters):
    """Parameters of every masking but `none`."""

    masking_tokens: Literal["all", "non_sink", "image", "prompt", "template"] = Field(
        "image", description="Tokens of the source that are looked at and changed, by class."
    )
    masking_direction: Literal["above", "below", "both"] = Field(
        "both",
        description="Which dimensions are outliers: those whose ratio to the reference is above `masking_threshold`, "
        "below its inverse, or both.",
    )
    masking_threshold: Annotated[float, Field(ge=1)] = Field(
        10.0, description="How far from the reference's a standard deviation may be, as a ratio."
    )
    masking_dimensions: Dimensions | None = Field(
        None,
        description="Dimensions to mask, counted from 0, whatever their ratio is; `null` for those that are outliers.",
    )
    statistics: StatisticsChoice = Field("prompt", description=STATISTICS_DESCRIPTION)


class ClipParameters(MaskingParameters):
    """Parameters of `mask_by_clipping`."""

    masking_sigma: Annotated[float, Field(gt=0)] = Field(
        3.0,
        description="How many of the reference's standard deviations `clip` leaves on both sides of its mean.",
    )


def change_outliers(
    source: "torch.Tensor",
    outliers: Outliers | None,
    change: "Callable[[torch.Tensor, Outliers], torch.Tensor]",
) -> "tuple[torch.Tensor, list[str]]":
    """Replaces what is masked, float32 (tokens of the class, masked), by what `change` makes of it."""
    if outliers is None or len(outliers.dimensions) == 0:
        return source, []
    import torch

    result, dimensions = source.clone(), torch.from_numpy(outliers.dimensions)
    if isinstance(outliers.rows, slice):
        # A view, so that only the masked columns are touched.
        members = result[outliers.rows]
        changed = change(members.index_select(1, dimensions), outliers)
        members.index_copy_(1, dimensions, changed)
    else:
        at = outliers.rows, dimensions
        result[at] = change(result[at], outliers)
    return result, outliers.described()


def _problem_with_dimensions(parameters: dict[str, Any]) -> str | None:
    listed, width = parameters.get("masking_dimensions"), parameters.get("width")
    if listed is None or width is None or listed[-1] < width:
        return None
    return (
        f"masking_dimensions: dimension {listed[-1]} does not exist in hidden states of width {width}; allowed: 0 to "
        f"{width - 1}"
    )


@register("masking", "none", formula="x", source="identity")
def mask_none(source: "torch.Tensor", roles: np.ndarray) -> "tuple[torch.Tensor, list[str]]":
    """Returns the source as it is."""
    return source, []


@register(
    "masking",
    "zero",
    formula="x_d = 0",
    source=_SOURCE,
    parameters=MaskingParameters,
    problem_with=_problem_with_dimensions,
)
def mask_with_zero(
    source: "torch.Tensor",
    roles: np.ndarray,
    *,
    statistics: "ReferenceStatistics",
    masking_tokens: str,
    masking_direction: str,
    masking_threshold: float,
    masking_dimensions: list[int] | None,
) -> "tuple[torch.Tensor, list[str]]":
    """Silences outlier dimensions."""
    found = find_outliers(
        source, roles, statistics, masking_tokens, masking_direction, masking_threshold, masking_dimensions
    )
    return change_outliers(source, found, lambda x, outliers: x.zero_())


@register(
    "masking",
    "mean",
    formula="x_d = r_mean_d",
    source=_SOURCE,
    parameters=MaskingParameters,
    problem_with=_problem_with_dimensions,
)
def mask_with_mean(
    source: "torch.Tensor",
    roles: np.ndarray,
    *,
    statistics: "ReferenceStatistics",
    masking_tokens: str,
    masking_direction: str,
    masking_threshold: float,
    masking_dimensions: list[int] | None,
) -> "tuple[torch.Tensor, list[str]]":
    """Gives outlier dimensions the mean of the reference, at every token."""
    import torch

    found = find_outliers(
        source, roles, statistics, masking_tokens, masking_direction, masking_threshold, masking_dimensions
    )
    return change_outliers(source, found, lambda x, outliers: x.copy_(torch.from_numpy(outliers.mean)))


@register(
    "masking",
    "clamp",
    formula="x_d * threshold / q_d where q_d is above, x_d / (threshold * q_d) where it is below",
    source=_SOURCE,
    parameters=MaskingParameters,
    problem_with=_problem_with_dimensions,
)
def mask_by_clamping(
    source: "torch.Tensor",
    roles: np.ndarray,
    *,
    statistics: "ReferenceStatistics",
    masking_tokens: str,
    masking_direction: str,
    masking_threshold: float,
    masking_dimensions: list[int] | None,
) -> "tuple[torch.Tensor, list[str]]":
    """Multiplies outlier dimensions so that their ratio becomes the threshold, or its inverse.

    Of listed dimensions those that are no outliers stay as they are.
    """
    import torch

    found = find_outliers(
        source, roles, statistics, masking_tokens, masking_direction, masking_threshold, masking_dimensions
    )
    least = 0.0 if masking_direction == "above" else 1.0 / masking_threshold
    most = np.inf if masking_direction == "below" else masking_threshold
    return change_outliers(
        source,
        with_ratio(found),
        lambda x, outliers: x * torch.from_numpy(outliers.ratio.clip(least, most) / outliers.ratio),
    )


@register(
    "masking",
    "scale",
    formula="x_d / q_d",
    source=_SOURCE,
    parameters=MaskingParameters,
    problem_with=_problem_with_dimensions,
)
def mask_by_scaling(
    source: "torch.Tensor",
    roles: np.ndarray,
    *,
    statistics: "ReferenceStatistics",
    masking_tokens: str,
    masking_direction: str,
    masking_threshold: float,
    masking_dimensions: list[int] | None,
) -> "tuple[torch.Tensor, list[str]]":
    """Multiplies outlier dimensions so that their ratio becomes 1."""
    import torch

    found = find_outliers(
        source, roles, statistics, masking_tokens, masking_direction, masking_threshold, masking_dimensions
    )
    return change_outliers(
        source, with_ratio(found), lambda x, outliers: x / torch.from_numpy(outliers.ratio)
    )


@register(
    "masking",
    "clip",
    formula="min(max(x_d, r_mean_d - k * r_std_d), r_mean_d + k * r_std_d)",
    source=_SOURCE,
    parameters=ClipParameters,
    problem_with=_problem_with_dimensions,
)
def mask_by_clipping(
    source: "torch.Tensor",
    roles: np.ndarray,
    *,
    statistics: "ReferenceStatistics",
    masking_tokens: str,
    masking_direction: str,
    masking_threshold: float,
    masking_dimensions: list[int] | None,
    masking_sigma: float,
) -> "tuple[torch.Tensor, list[str]]":
    """Keeps the values of outlier dimensions within `masking_sigma` standard deviations of the reference's mean."""
    import torch

    found = find_outliers(
        source, roles, statistics, masking_tokens, masking_direction, masking_threshold, masking_dimensions
    )
    return change_outliers(
        source,
        found,
        lambda x, outliers: x.clamp(
            torch.from_numpy(outliers.mean - masking_sigma * outliers.std),
            torch.from_numpy(outliers.mean + masking_sigma * outliers.std),
        ),
    )
