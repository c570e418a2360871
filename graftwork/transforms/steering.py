"""Steering: the same vector added to every token of the text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from graftwork.core.parameters import parameter
from graftwork.models.tokens import ROLE_CODES
from graftwork.transforms.context import VECTOR, WHOLE_SOURCE, Context
from graftwork.transforms.registry import STAGES, TransformParameters, choice_of, register
from graftwork.transforms.vector_choice import VectorChoice, vector_parameter

if TYPE_CHECKING:
    import torch

# A vector is no sequence of tokens: what these stages do to one has no meaning for it.
_WITHOUT = ("masking", "dimension_fix", "mapping", "normalization", "combination")


class SteerParameters(TransformParameters):
    """Parameters of `steer`."""

    vector: VectorChoice | None = vector_parameter()
    vector_scale: Annotated[float, Field(ge=-1000, le=1000)] = parameter(
        1.0,
        neutral=1.0,
        label="scale of the vector",
        unit="times the vector",
        description="What the vector is multiplied with beside alpha; below 0 it points the other way.",
    )


def _problem(parameters: Mapping[str, Any]) -> str | None:
    if parameters["alpha"] == 0.0:
        return None
    if parameters.get("vector") is None:
        return "blend 'steer' needs a vector; set vector: {file: path}, or vector: {towards: prompts, away_from: prompts}"
    for stage in _WITHOUT:
        other = choice_of(stage, parameters)
        if other.name != STAGES[stage].default:
            return f"blend 'steer' adds a vector as it is, but {stage} is {other.name!r}; set {stage}: {STAGES[stage].default}"
    mode = choice_of("token_mode", parameters)
    words = np.array([ROLE_CODES["prompt"]], dtype=np.uint8)
    if not mode.function(words, mode.parameters_of(mode.values_of(parameters))).all():
        return f"blend 'steer' takes no tokens of an image, but token_mode is {mode.name!r}; leave token_mode out"
    return None


@register(
    "blend",
    "steer",
    formula="t_i + alpha * vector_scale * vector, for every token of the text; source, token mode and length matching have no "
    "part in it",
    source="activation addition, Turner et al., arXiv 2308.10248; mean differences as in Rimsky et al., arXiv 2312.06681",
    parameters=SteerParameters,
    problem_with=_problem,
    needs=(WHOLE_SOURCE, VECTOR),
    examples={
        "steer": {
            "token_mode": "full",
            "vector": {"towards": ["a striped blue background"], "away_from": ["a plain blue background"]},
        }
    },
)
def steer(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, parameters: SteerParameters, context: Context
) -> "torch.Tensor":
    """Adds a vector to every token of the text.

    Args:
        text: float32 (n, dim).
        source: The vector, float32 (1, dim); of two sets of prompts (2, dim), the mean of each.
        alpha: In (0, 1].
        parameters: `vector_scale` counts here.
        context: Has no part in it.

    Raises:
        ValueError: where the vector has another width than the text.
    """
    import torch

    if source.shape[1] != text.shape[1]:
        raise ValueError(
            f"the vector has width {source.shape[1]}, the text {text.shape[1]}; choose a vector of the text's width"
        )
    vector = source[0] if len(source) == 1 else source[0] - source[1]
    return torch.add(text, vector, alpha=alpha * parameters.vector_scale)
