"""Blends: text and source made into one conditioning.

Each function takes text, float32 (n, dim), the source after length matching, float32 (k, dim), alpha in (0, 1], and
by keyword `own_length`, whether the source was left at its own length. It returns float32 (tokens, dim). Alpha 0
never gets here: it is the text, bit for bit.
"""

from typing import TYPE_CHECKING

from workflow_scripts.lib.conditioning.registry import register

if TYPE_CHECKING:
    import torch


@register(
    "blend",
    "linear",
    formula="alpha * v + (1 - alpha) * t; rows of t that v does not reach stay as they are",
    source="linear interpolation, as in the seed documents",
)
def blend_linearly(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, *, own_length: bool
) -> "torch.Tensor":
    """Mixes row by row. A source of its own length is possible at alpha 1 only, where it is the result."""
    if own_length:
        return source
    import torch

    rows = min(text.shape[0], source.shape[0])
    mixed = alpha * source[:rows] + (1.0 - alpha) * text[:rows]
    return torch.cat([mixed, text[rows:]])
