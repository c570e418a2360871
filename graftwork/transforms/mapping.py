"""Use of fitted maps: hidden states of an encoder as the generator's own text encoder would have them.

The registered functions take the selected tokens of the layers that the source is made of, float32 (layers, tokens, dim),
their parameters and the context, and return float32 (tokens, dim).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from graftwork.core.parameters import NumberedKeys, Text
from graftwork.maps.fitted import map_sequence
from graftwork.models.tokens import ROLE_CODES
from graftwork.transforms.context import FITTED_MAP, Context
from graftwork.transforms.registry import TransformParameters, choice_of, register

if TYPE_CHECKING:
    import torch

_OF_IMAGES = [ROLE_CODES["image"], ROLE_CODES["vision_marker"]]
_SINK = ROLE_CODES["sink"]


class MappingParameters(TransformParameters):
    """Keys of `mapping`."""

    map: Text | Annotated[dict[int, Text], Field(min_length=1), NumberedKeys] = Field(
        description="Name of a file in config/maps/. For a generator of several layers, one for each that is replaced: {9: a, 18: b}."
    )
    method: Text | None = Field(None, description="One of its `methods`; `null` for the file's own `method`.")
    tokens: Literal["all", "text", "image"] = Field(
        "all",
        description="Tokens that are mapped: `all`, those of `text`, or those of an `image` with their markers. The others stay.",
    )
    allow_shared_prompts: bool = Field(
        False,
        description="Allow prompts of the experiment that the map was fitted on. Its reports then say so.",
    )


def _problem_with_mapping(parameters: Mapping[str, Any]) -> str | None:
    chosen = f"mapping {parameters['mapping']['map']!r}"
    for stage in ("masking", "dimension_fix", "normalization"):
        other = choice_of(stage, parameters)
        if not other.is_neutral:
            return (
                f"{chosen} was fitted on states without {stage} {other.name!r}; a map normalizes by itself, as its file says: set "
                f"{stage}: none"
            )
    if parameters.get("source") == "vision_tower":
        return (
            f"{chosen} was fitted on layers of the language model, which source 'vision_tower' has no part in; set source: "
            "hidden_states, or mapping: none"
        )
    return None


@register("mapping", "none", formula="x", source="identity", is_default=True, is_neutral=True)
def map_nothing(layers: "torch.Tensor", parameters: TransformParameters, context: Context) -> "torch.Tensor":
    """Returns the states as they are."""
    (source,) = layers
    return source


@register(
    "mapping",
    "map",
    formula="y = x * scale + x W + (x D) U + b, as fitted, see [Maps](maps.md)",
    source="[fitted maps](maps.md)",
    parameters=MappingParameters,
    is_mapping=True,
    needs=(FITTED_MAP,),
    problem_with=_problem_with_mapping,
    examples={"mapped": {"mapping": {"map": "vl"}}},
)
def map_tokens(layers: "torch.Tensor", parameters: MappingParameters, context: Context) -> "torch.Tensor":
    """Maps the chosen tokens; a first token that both encoders begin with becomes the text encoder's own."""
    import torch

    roles = context.source_roles
    mapped = map_sequence(context.map, layers, torch.from_numpy(roles == _SINK))
    if parameters.tokens == "all":
        return mapped
    (source,) = layers
    of_images = np.isin(roles, _OF_IMAGES)
    chosen = torch.from_numpy(of_images if parameters.tokens == "image" else ~of_images)
    return torch.where(chosen[:, None], mapped, source)
