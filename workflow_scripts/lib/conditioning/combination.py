"""Sources made of several: of references, of layers, or of what a reference adds to a neutral image.

Not in the registry: a recipe has one source so far. Each source is float32 and has gone through masking,
normalization and length matching, like one that stands alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from workflow_scripts.lib.conditioning.registry import TransformParameters

if TYPE_CHECKING:
    import torch


def _not_cancelling(weights: list[float]) -> list[float]:
    if abs(sum(weights)) <= 1e-6 * sum(map(abs, weights)):
        raise PydanticCustomError("weights", "numbers that do not add up to 0")
    return weights


Weights = Annotated[
    list[Annotated[float, Field(ge=-16, le=16)]], Field(min_length=1), AfterValidator(_not_cancelling)
]


class MultiReferenceParameters(TransformParameters):
    """Parameters of `combine_references`."""

    reference_weights: Weights = Field(
        description="Weight of each reference, in their order; not normalized."
    )


class LayerMixParameters(TransformParameters):
    """Parameters of `mix_layers`."""

    layer_weights: Weights = Field(description="Weight of each layer, in their order; divided by their sum.")


class StyleDeltaParameters(TransformParameters):
    """Parameters of `blend_style_delta`."""

    delta_normalize: bool = Field(
        False, description="Give every token of the difference the same length, the median of theirs."
    )
    delta_scale_to_text: bool = Field(
        False,
        description="Scale the difference as a whole, so that its median token is as long as the text's.",
    )


def combine_references(sources: "Sequence[torch.Tensor]", weights: Sequence[float]) -> "torch.Tensor":
    """Returns the weighted sum of several references' states; weights are not normalized.

    Args:
        sources: float32 (k, dim) each, after length matching, all of one length.
        weights: One for each, not adding up to 0.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    _check_parts(sources, weights, "references")
    # From left to right: another order gives other low bits.
    total = sources[0] * weights[0]
    for source, weight in zip(sources[1:], weights[1:], strict=True):
        total.add_(source, alpha=weight)
    return total


def mix_layers(layers: "Sequence[torch.Tensor]", weights: Sequence[float]) -> "torch.Tensor":
    """Returns the weighted mean of several layers of one extraction.

    Args:
        layers: float32 (tokens, dim) each.
        weights: One for each, not adding up to 0; they are divided by their sum.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    total = sum(weights)
    return combine_references(layers, [weight / total for weight in weights])


def _check_parts(parts: "Sequence[torch.Tensor]", weights: Sequence[float], what: str) -> None:
    if len(parts) != len(weights):
        raise ValueError(f"there are {len(weights)} weights for {len(parts)} {what}; give one for each")
    lengths = [part.shape[0] for part in parts]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the {what} have {', '.join(map(str, lengths))} tokens and cannot be added; choose a length_matching that "
            "makes them equal: pad, linear, area or attention_pool"
        )


def blend_style_delta(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    *,
    own_length: bool,
    neutral: "torch.Tensor",
    delta_normalize: bool,
    delta_scale_to_text: bool,
) -> "torch.Tensor":
    """Adds to the text what a reference adds to a neutral image: t + alpha * (v - v_neutral).

    Source: style delta arithmetic of the seed documents; neutral is solid grey (128), with the same prompt.

    Args:
        text: float32 (n, dim).
        source: float32 (k, dim), after length matching.
        alpha: In (0, 1].
        own_length: False: rows are added to rows.
        neutral: float32 (k, dim), of the neutral image, after the same transforms.
        delta_normalize: Give every token of the difference the median length of them.
        delta_scale_to_text: Scale the difference, so that its median token is as long as the text's.

    Raises:
        ValueError: where source and neutral have different lengths.
    """
    import torch

    _check_parts([source, neutral], [1.0, -1.0], "source and its neutral image")
    rows = min(text.shape[0], source.shape[0])
    delta = source[:rows] - neutral[:rows]
    lengths = torch.linalg.vector_norm(delta, dim=1)
    if delta_normalize:
        delta *= torch.where(lengths > 0.0, lengths.median() / lengths, 0.0)[:, None]
        lengths = torch.linalg.vector_norm(delta, dim=1)
    typical = lengths.median()
    # The median, for one attention-sink token would outweigh all others in a mean.
    if delta_scale_to_text and bool(typical > 0.0):
        delta *= torch.linalg.vector_norm(text, dim=1).median() / typical
    result = text.clone()
    result[:rows] += alpha * delta
    return result
