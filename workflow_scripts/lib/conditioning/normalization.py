"""Normalization: the source's hidden states brought to another scale.

Each function takes the selected source tokens, float32 (tokens, dim), and by keyword `text`, the hidden states of
the same prompt from the generator's own text encoder, float32 (text_tokens, dim), and `text_roles`, uint8
(text_tokens,). It returns float32 (tokens, dim).
"""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from workflow_scripts.lib.conditioning.registry import TransformParameters, register
from workflow_scripts.lib.models.tokens import ROLE_CODES

if TYPE_CHECKING:
    import torch


class GlobalParameters(TransformParameters):
    """Parameters of `normalize_globally`."""

    target_std: Annotated[float, Field(gt=0)] | Literal["prompt"] = Field(
        "prompt",
        description="Standard deviation after normalization: a number above 0, or `prompt`, the one measured on the "
        "same prompt's own text embeddings without the attention-sink token.",
    )


@register("normalization", "none", formula="x", source="identity")
def normalize_none(source: "torch.Tensor", *, text: "torch.Tensor", text_roles: np.ndarray) -> "torch.Tensor":
    """Returns the source as it is."""
    return source


def std_without_sink(states: "torch.Tensor", roles: np.ndarray) -> float:
    """Returns the standard deviation (ddof 1) of all values but those of the attention-sink token.

    That token alone can make most of the variance of a whole sequence, so a standard deviation with it says how
    long the sequence is and little else.
    """
    return float(states[roles != ROLE_CODES["sink"]].std())


@register(
    "normalization",
    "global",
    formula="x * target_std / std(x)",
    source="global scaling of the seed documents; std over all values, ddof 1",
    parameters=GlobalParameters,
    relies_on=[std_without_sink],
)
def normalize_globally(
    source: "torch.Tensor", *, text: "torch.Tensor", text_roles: np.ndarray, target_std: float | str
) -> "torch.Tensor":
    """Scales all values by one factor, so that their standard deviation becomes `target_std`; no shift.

    A source without a standard deviation (one value, or all equal) is returned as it is, with a warning.
    """
    # Rounding gives equal values a standard deviation of 1e-9 or so, and dividing by that would blow them up.
    std = float(source.std()) if bool(source.min() < source.max()) else 0.0
    target = std_without_sink(text, text_roles) if target_std == "prompt" else float(target_std)
    if std == 0.0:
        warnings.warn("normalization global: the source has no variation; left unchanged", stacklevel=2)
        return source
    return source * (target / std)
