"""Sources made of several: of references, of layers, or of what a reference adds to a neutral image.

Each source is float32 and has gone through masking, normalization and length matching, like one that stands alone.
A combination takes a list of them, float32 (k, dim) each, and returns one, float32 (k, dim).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch


def _not_cancelling(weights: list[float]) -> list[float]:
    if abs(sum(weights)) <= 1e-6 * sum(map(abs, weights)):
        raise PydanticCustomError("weights", "numbers that do not add up to 0")
    return weights


Weights = Annotated[
    list[Annotated[float, Field(ge=-16, le=16)]], Field(min_length=1), AfterValidator(_not_cancelling)
]


_SOURCE = "weighted sums of hidden states, as in llm-dit-experiments"


def _several(parameters: dict[str, Any]) -> str | None:
    for counted, key, name in (
        ("references", "reference", "multi_reference"),
        ("layers", "hidden_layer", "layer_mix"),
    ):
        count = parameters.get(counted, 1)
        if count > 1:
            return f"{key} is a set of {count}, but combination is 'none'; set combination: {name}, or give one at a time"
    return None


@register(
    "combination", "none", formula="the one source that there is", source="identity", problem_with=_several
)
def take_source(sources: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """Returns the one source."""
    (source,) = sources
    return source


class MultiReferenceParameters(TransformParameters):
    """Parameters of `combine_references`."""

    reference_weights: Weights | None = Field(
        None,
        description="Weight of each reference of a set in `multi_reference`, in their order, as they are; `null` for "
        "equal weights that add up to 1.",
    )


class LayerMixParameters(TransformParameters):
    """Parameters of `mix_layers`."""

    layer_weights: Weights | None = Field(
        None,
        description="Weight of each layer of a list in `layer_mix`, in their order, divided by their sum; `null` for "
        "equal weights.",
    )


def _check_count(counted: str, weights: str) -> Callable[[dict[str, Any]], str | None]:
    other = {"references": "layers", "layers": "references"}[counted]
    key = {"references": "reference", "layers": "hidden_layer"}

    def problem(parameters: dict[str, Any]) -> str | None:
        count, given = parameters.get(counted, 1), parameters.get(weights)
        if parameters.get(other, 1) > 1:
            return (
                f"{key[other]} is a set of {parameters[other]}, which combination {parameters['combination']!r} does not "
                f"combine; allowed: one value of {key[other]}, or several of {key[counted]}"
            )
        if given is not None and len(given) != count:
            return (
                f"{weights} has {len(given)} numbers, but there are {count} {counted} in {key[counted]}; give one for "
                "each, or null for equal weights"
            )
        if counted == "references" and count > 1 and parameters.get("takes_whole_source"):
            return (
                f"blend {parameters['blend']!r} takes tokens as they are before length matching, where references "
                "cannot be added to each other; choose another blend, or one reference"
            )
        return None

    return problem


@register(
    "combination",
    "multi_reference",
    formula="sum over the references of reference: w_r v_r, each after length matching",
    source=_SOURCE,
    parameters=MultiReferenceParameters,
    problem_with=_check_count("references", "reference_weights"),
)
def combine_references(
    sources: "Sequence[torch.Tensor]", *, reference_weights: Sequence[float] | None
) -> "torch.Tensor":
    """Adds up the states of several references.

    Args:
        sources: float32 (k, dim) each, after length matching, all of one length.
        reference_weights: One for each, not adding up to 0; None for equal ones that add up to 1.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    weights = reference_weights or [1.0 / len(sources)] * len(sources)
    _check_parts(sources, weights, "references")
    # From left to right: another order gives other low bits.
    total = sources[0] * weights[0]
    for source, weight in zip(sources[1:], weights[1:], strict=True):
        total.add_(source, alpha=weight)
    return total


@register(
    "combination",
    "layer_mix",
    formula="sum over the layers of hidden_layer: w_l v_l / sum of w, each after length matching",
    source=_SOURCE,
    parameters=LayerMixParameters,
    problem_with=_check_count("layers", "layer_weights"),
)
def mix_layers(sources: "Sequence[torch.Tensor]", *, layer_weights: Sequence[float] | None) -> "torch.Tensor":
    """Averages several layers of one extraction.

    Args:
        sources: float32 (tokens, dim) each.
        layer_weights: One for each, not adding up to 0; they are divided by their sum.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    weights = layer_weights or [1.0] * len(sources)
    total = sum(weights)
    return combine_references(sources, reference_weights=[weight / total for weight in weights])


def _check_parts(parts: "Sequence[torch.Tensor]", weights: Sequence[float], what: str) -> None:
    if len(parts) != len(weights):
        raise ValueError(f"there are {len(weights)} weights for {len(parts)} {what}; give one for each")
    lengths = [part.shape[0] for part in parts]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the {what} have {', '.join(map(str, lengths))} tokens and cannot be added; choose a length_matching that "
            "makes them equal: pad, linear, area or attention_pool"
        )


class StyleDeltaParameters(TransformParameters):
    """Parameters of `blend_style_delta`."""

    delta_normalize: bool = Field(
        False,
        description="Give every token of the difference in `style_delta` the same length, the median of theirs.",
    )
    delta_scale_to_text: bool = Field(
        False,
        description="Scale the difference in `style_delta` as a whole, so that its median token is as long as the text's.",
    )


def _problem_with_style_delta(parameters: dict[str, Any]) -> str | None:
    if parameters.get("alpha") == 0.0:
        return None
    if "reference" in parameters and parameters["reference"] is None:
        return "blend 'style_delta' needs a reference to take the style from; give base.references"
    if "neutral_reference" in parameters and parameters["neutral_reference"] is None:
        return (
            "blend 'style_delta' needs a neutral image to compare the reference with, but neutral_reference is null; "
            "allowed: grey, or a reference"
        )
    if parameters.get("length_matching") == "none":
        return (
            "blend 'style_delta' adds tokens to the text's, but length_matching is 'none'; allowed: truncate, pad, linear, "
            "area or attention_pool"
        )
    return None


@register(
    "blend",
    "style_delta",
    formula="t + alpha * (v - v_neutral); v_neutral is of the same text beside neutral_reference, after the same transforms",
    source="style delta arithmetic of llm-dit-experiments; neutral is solid grey (128)",
    parameters=StyleDeltaParameters,
    problem_with=_problem_with_style_delta,
    inputs=("neutral",),
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
    """Adds to the text what a reference adds to a neutral image.

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
    if delta_normalize:
        lengths = torch.linalg.vector_norm(delta, dim=1)
        delta *= torch.where(lengths > 0.0, lengths.median() / lengths, 0.0)[:, None]
    if delta_scale_to_text:
        # The median, for one attention-sink token would outweigh all others in a mean.
        typical = torch.linalg.vector_norm(delta, dim=1).median()
        if bool(typical > 0.0):
            delta *= torch.linalg.vector_norm(text, dim=1).median() / typical
    moved = torch.add(text[:rows], delta, alpha=alpha)
    return moved if rows == text.shape[0] else torch.cat([moved, text[rows:]])
