"""Sources made of several: of references, of layers, or of what a reference adds to a neutral image.

Each source is float32 and has gone through masking, normalization and length matching, like one that stands alone.
A combination takes a list of them, float32 (k, dim) each, and its parameters, and returns one, float32 (k, dim).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from graftwork.core.parameters import parameter
from graftwork.transforms.context import NEUTRAL_SOURCE, WHOLE_SOURCE, Context
from graftwork.transforms.registry import TransformParameters, choice_of, names_of, register

if TYPE_CHECKING:
    import torch


def _not_cancelling(weights: list[float]) -> list[float]:
    if abs(sum(weights)) <= 1e-6 * sum(map(abs, weights)):
        raise PydanticCustomError("weights", "numbers that do not add up to 0")
    return weights


Weights = Annotated[
    list[Annotated[float, Field(ge=-16, le=16)]], Field(min_length=1), AfterValidator(_not_cancelling)
]


_SOURCE = "weighted sums of hidden states"
# Parameter of cells that may have several values -> the fact that says how many a cell has.
COUNTED = {"reference": "references", "hidden_layer": "layers"}


def _several(parameters: Mapping[str, Any]) -> str | None:
    for key, counted in COUNTED.items():
        count = parameters.get(counted, 1)
        if count > 1:
            allowed = " or ".join(
                names_of("combination", lambda entry, key=key: entry.combines == key)  # type: ignore[misc]
            )
            return f"{key} is a set of {count}, but combination is 'none'; set combination: {allowed}, or give one at a time"
    return None


@register(
    "combination",
    "none",
    formula="the one source that there is",
    source="identity",
    problem_with=_several,
    is_default=True,
    is_neutral=True,
)
def take_source(sources: "Sequence[torch.Tensor]", parameters: TransformParameters) -> "torch.Tensor":
    """Returns the one source."""
    (source,) = sources
    return source


class MultiReferenceParameters(TransformParameters):
    """Parameters of `combine_references`."""

    reference_weights: Weights | None = parameter(
        None,
        neutral=None,
        description="Weight of each reference of a set in `multi_reference`, in their order, as they are; `null` for "
        "equal weights that add up to 1.",
    )


class LayerMixParameters(TransformParameters):
    """Parameters of `mix_layers`."""

    layer_weights: Weights | None = parameter(
        None,
        neutral=None,
        description="Weight of each layer of a list in `layer_mix`, in their order, divided by their sum; `null` for "
        "equal weights.",
    )


def _check_count(key: str, weights: str) -> Callable[[Mapping[str, Any]], str | None]:
    (other,) = set(COUNTED) - {key}

    def problem(parameters: Mapping[str, Any]) -> str | None:
        count, given = parameters.get(COUNTED[key], 1), parameters.get(weights)
        others = parameters.get(COUNTED[other], 1)
        if others > 1:
            return (
                f"{other} is a set of {others}, which combination {parameters['combination']!r} does not combine; allowed: "
                f"one value of {other}, or several of {key}"
            )
        if given is not None and len(given) != count:
            return (
                f"{weights} has {len(given)} numbers, but there are {count} {COUNTED[key]} in {key}; give one for each, or "
                "null for equal weights"
            )
        blend = choice_of("blend", parameters)
        if key == "reference" and count > 1 and WHOLE_SOURCE in blend.needs:
            return (
                f"blend {blend.name!r} takes tokens as they are before length matching, where references cannot be added "
                "to each other; choose another blend, or one reference"
            )
        return None

    return problem


@register(
    "combination",
    "multi_reference",
    formula="sum over the references of reference: w_r v_r, each after length matching",
    source=_SOURCE,
    parameters=MultiReferenceParameters,
    problem_with=_check_count("reference", "reference_weights"),
    combines="reference",
    examples={"multi_reference": {"reference_weights": [0.5], "alpha": 0.5}},
)
def combine_references(
    sources: "Sequence[torch.Tensor]", parameters: MultiReferenceParameters
) -> "torch.Tensor":
    """Adds up the states of several references.

    Args:
        sources: float32 (k, dim) each, after length matching, all of one length.
        parameters: Weights, one for each, not adding up to 0; None for equal ones that add up to 1.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    weights = parameters.reference_weights or [1.0 / len(sources)] * len(sources)
    return weighted_sum(sources, weights, "references")


def weighted_sum(sources: "Sequence[torch.Tensor]", weights: Sequence[float], what: str) -> "torch.Tensor":
    """Returns the sum of float32 (k, dim) with weights; `what` names them in errors."""
    _check_parts(sources, weights, what)
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
    problem_with=_check_count("hidden_layer", "layer_weights"),
    combines="hidden_layer",
    examples={"layer_mix": {"hidden_layer": [-2, -4, -6], "layer_weights": [2.0, 1.0, 1.0]}},
)
def mix_layers(sources: "Sequence[torch.Tensor]", parameters: LayerMixParameters) -> "torch.Tensor":
    """Averages several layers of one extraction.

    Args:
        sources: float32 (tokens, dim) each.
        parameters: Weights, one for each, not adding up to 0; they are divided by their sum.

    Raises:
        ValueError: where their numbers or lengths differ.
    """
    weights = parameters.layer_weights or [1.0] * len(sources)
    total = sum(weights)
    return weighted_sum(sources, [weight / total for weight in weights], "layers")


def _check_parts(parts: "Sequence[torch.Tensor]", weights: Sequence[float], what: str) -> None:
    if len(parts) != len(weights):
        raise ValueError(f"there are {len(weights)} weights for {len(parts)} {what}; give one for each")
    lengths = [part.shape[0] for part in parts]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the {what} have {', '.join(map(str, lengths))} tokens and cannot be added; choose a length_matching that "
            "makes them equal"
        )


class StyleDeltaParameters(TransformParameters):
    """Parameters of `blend_style_delta`."""

    delta_normalize: bool = parameter(
        False,
        neutral=False,
        description="Give every token of the difference in `style_delta` the same length, the median of theirs.",
    )
    delta_scale_to_text: bool = parameter(
        False,
        neutral=False,
        description="Scale the difference in `style_delta` as a whole, so that its median token is as long as the text's.",
    )


def _problem_with_style_delta(parameters: Mapping[str, Any]) -> str | None:
    if parameters.get("alpha") == 0.0:
        return None
    if "reference" in parameters and parameters["reference"] is None:
        return "blend 'style_delta' needs a reference to take the style from; give base.references"
    if "neutral_reference" in parameters and parameters["neutral_reference"] is None:
        return (
            "blend 'style_delta' needs a neutral image to compare the reference with, but neutral_reference is null; "
            "allowed: grey, or a reference"
        )
    matching = choice_of("length_matching", parameters)
    if matching.keeps_length:
        allowed = names_of("length_matching", lambda entry: not entry.keeps_length)
        return (
            f"blend 'style_delta' adds tokens to the text's, but length_matching is {matching.name!r}; allowed: "
            f"{', '.join(allowed)}"
        )
    return None


@register(
    "blend",
    "style_delta",
    formula="t + alpha * (v - v_neutral); v_neutral is of the same text beside neutral_reference, after the same transforms",
    source="style delta arithmetic of llm-dit-experiments; neutral is solid grey (128)",
    parameters=StyleDeltaParameters,
    problem_with=_problem_with_style_delta,
    needs=(NEUTRAL_SOURCE,),
    examples={"style_delta": {"delta_normalize": True}},
)
def blend_style_delta(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: StyleDeltaParameters,
    context: Context,
) -> "torch.Tensor":
    """Adds to the text what a reference adds to a neutral image.

    Args:
        text: float32 (n, dim).
        source: float32 (k, dim), after length matching.
        alpha: In (0, 1].
        parameters: parameters of the transform of the difference.
        context: `neutral`, float32 (k, dim), is of the neutral image, after the same transforms.

    Raises:
        ValueError: where source and neutral have different lengths.
    """
    import torch

    neutral = context.neutral
    _check_parts([source, neutral], [1.0, -1.0], "source and its neutral image")
    rows = min(text.shape[0], source.shape[0])
    delta = source[:rows] - neutral[:rows]
    if parameters.delta_normalize:
        lengths = torch.linalg.vector_norm(delta, dim=1)
        delta *= torch.where(lengths > 0.0, lengths.median() / lengths, 0.0)[:, None]
    if parameters.delta_scale_to_text:
        # The median, for one attention-sink token would outweigh all others in a mean.
        typical = torch.linalg.vector_norm(delta, dim=1).median()
        if bool(typical > 0.0):
            delta *= torch.linalg.vector_norm(text, dim=1).median() / typical
    moved = torch.add(text[:rows], delta, alpha=alpha)
    return moved if rows == text.shape[0] else torch.cat([moved, text[rows:]])
