"""Outlier masking: dimensions whose spread is far from the reference's are silenced or brought back.

Each function takes the selected source tokens, float32 (tokens, dim), its parameters and the context, of which it uses
roles and statistics. It returns float32 (tokens, dim) and what it masked, one text per dimension. `outliers` decides what is
an outlier, unless dimensions are listed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from graftwork.core.code_digest import outside_digests
from graftwork.core.parameters import parameter
from graftwork.transforms.context import STATISTICS, Context
from graftwork.transforms.outliers import Outliers, find_outliers, with_ratio
from graftwork.transforms.reference_choice import StatisticsChoice, statistics_parameter
from graftwork.transforms.registry import DEFAULT, TransformParameters, register

if TYPE_CHECKING:
    import torch

_SOURCE = "outlier masking of llm-dit-experiments; the ratio turned, so that both sides are found"


def _once_and_in_order(dimensions: list[int]) -> list[int]:
    if len(set(dimensions)) < len(dimensions):
        raise PydanticCustomError("dimensions", "a list in which no dimension occurs twice")
    return sorted(dimensions)


Dimensions = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_once_and_in_order)
]


class MaskingParameters(TransformParameters):
    """Parameters of every masking of outliers."""

    masking_tokens: Literal["all", "non_sink", "image", "prompt", "template"] = parameter(
        "image",
        neutral="image",
        description="Tokens of the source that are looked at and changed, by class.",
    )
    masking_direction: Literal["above", "below", "both"] = parameter(
        "both",
        neutral="both",
        description="Which dimensions are outliers: those whose ratio to the reference is above `masking_threshold`, "
        "below its inverse, or both.",
    )
    masking_threshold: Annotated[float, Field(ge=1)] = parameter(
        10.0,
        neutral=10.0,
        description="How far from the reference's a standard deviation may be, as a ratio.",
    )
    masking_dimensions: Dimensions | None = parameter(
        None,
        neutral=None,
        description="Dimensions to mask, counted from 0, whatever their ratio is; `null` for those that are outliers.",
    )
    statistics: StatisticsChoice = statistics_parameter()


class ClipParameters(MaskingParameters):
    """Parameters of `mask_by_clipping`."""

    masking_sigma: Annotated[float, Field(gt=0)] = parameter(
        3.0,
        neutral=3.0,
        unit="standard deviations",
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


def _problem_with_dimensions(parameters: Mapping[str, Any]) -> str | None:
    listed, width = parameters.get("masking_dimensions"), parameters.get("width")
    if listed is None or width is None or listed[-1] < width:
        return None
    return (
        f"masking_dimensions: dimension {listed[-1]} does not exist in hidden states of width {width}; allowed: 0 to "
        f"{width - 1}"
    )


@outside_digests("registers a function, whose digest is in the recipe")
def register_mask(
    name: str, formula: str, **about: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a masking of outliers; see `register`."""
    common = {
        "parameters": MaskingParameters,
        "needs": (STATISTICS,),
        "problem_with": _problem_with_dimensions,
        "source": _SOURCE,
    }
    return register("masking", name, formula=formula, **{**common, **about})


@register("masking", "none", formula="x", source="identity", is_default=True, is_neutral=True)
def mask_none(
    source: "torch.Tensor", parameters: TransformParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Returns the source as it is."""
    return source, []


@register_mask(
    "zero",
    "x_d = 0",
    examples={
        "masking_zero": {"token_mode": DEFAULT},
        "masking_dimensions": {"masking_tokens": "all", "masking_dimensions": [0, 1, 2, 3]},
    },
)
def mask_with_zero(
    source: "torch.Tensor", parameters: MaskingParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Silences outlier dimensions."""
    found = find_outliers(source, parameters, context)
    return change_outliers(source, found, lambda x, outliers: x.zero_())


@register_mask(
    "mean",
    "x_d = r_mean_d",
    examples={"masking_mean": {"token_mode": DEFAULT, "masking_threshold": 3.0}},
)
def mask_with_mean(
    source: "torch.Tensor", parameters: MaskingParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Gives outlier dimensions the mean of the reference, at every token."""
    import torch

    found = find_outliers(source, parameters, context)
    return change_outliers(source, found, lambda x, outliers: x.copy_(torch.from_numpy(outliers.mean)))


@register_mask(
    "clamp",
    "x_d * threshold / q_d where q_d is above, x_d / (threshold * q_d) where it is below",
    examples={"masking_clamp": {"token_mode": DEFAULT, "masking_threshold": 3.0}},
)
def mask_by_clamping(
    source: "torch.Tensor", parameters: MaskingParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Multiplies outlier dimensions so that their ratio becomes the threshold, or its inverse.

    Listed dimensions that are no outliers stay as they are.
    """
    import torch

    found = find_outliers(source, parameters, context)
    least = 0.0 if parameters.masking_direction == "above" else 1.0 / parameters.masking_threshold
    most = np.inf if parameters.masking_direction == "below" else parameters.masking_threshold
    return change_outliers(
        source,
        with_ratio(found),
        lambda x, outliers: x * torch.from_numpy(outliers.ratio.clip(least, most) / outliers.ratio),
    )


@register_mask(
    "scale",
    "x_d / q_d",
    examples={"masking_scale": {"token_mode": DEFAULT, "masking_direction": "below"}},
)
def mask_by_scaling(
    source: "torch.Tensor", parameters: MaskingParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Multiplies outlier dimensions so that their ratio becomes 1."""
    import torch

    found = find_outliers(source, parameters, context)
    return change_outliers(
        source, with_ratio(found), lambda x, outliers: x / torch.from_numpy(outliers.ratio)
    )


@register_mask(
    "clip",
    "min(max(x_d, r_mean_d - k * r_std_d), r_mean_d + k * r_std_d)",
    parameters=ClipParameters,
    examples={"masking_clip": {"masking_tokens": "all", "masking_threshold": 2.0, "masking_sigma": 2.0}},
)
def mask_by_clipping(
    source: "torch.Tensor", parameters: ClipParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Keeps the values of outlier dimensions within `masking_sigma` standard deviations of the reference's mean."""
    import torch

    sigma = parameters.masking_sigma
    return change_outliers(
        source,
        find_outliers(source, parameters, context),
        lambda x, outliers: x.clamp(
            torch.from_numpy(outliers.mean - sigma * outliers.std),
            torch.from_numpy(outliers.mean + sigma * outliers.std),
        ),
    )
