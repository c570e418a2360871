"""Which models, layers, sizes and transforms go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, expected
from graftwork.design.inputs import parts_of
from graftwork.models.catalog import Model
from graftwork.models.description import resolve_layer
from graftwork.models.families import families_with_images
from graftwork.transforms.context import IMAGE_TOKENS
from graftwork.transforms.registry import STAGES, Transform, transform


@dataclass(frozen=True)
class CellModels:
    """The models of a cell.

    Attributes:
        generator: What makes the image.
        text: Its text encoder.
        encoder: What is blended in, or None.
        file: Path of the models file, for messages.
    """

    generator: Model
    text: Model
    encoder: Model | None
    file: str


def layers_of(hidden_layer: int | list[int]) -> tuple[int, ...]:
    """Returns the layers that a cell's source is made of."""
    return tuple(hidden_layer) if isinstance(hidden_layer, list) else (hidden_layer,)


def check_fit(values: Mapping[str, Any], models: CellModels, file: str) -> None:
    """Refuses combinations that cannot work, from facts alone.

    Args:
        values: Parameters of a cell; `reference` is missing for a baseline.
        models: Models of the cell.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    _check_layers(values["text_hidden_layer"], "text_hidden_layer", models.text, models, file)
    if models.encoder is not None:
        _check_layers(values["hidden_layer"], "hidden_layer", models.encoder, models, file)
    _check_size(values, models.generator, file)
    if "reference" in values:
        _check_source(values, models.encoder, file)
        _check_transforms({**values, **facts_of(values, models.generator)}, values, file)


def facts_of(values: Mapping[str, Any], generator: Model) -> dict[str, Any]:
    """Returns what a transform may want to know of a cell beside its parameters, by name.

    Args:
        values: Parameters of the cell.
        generator: What makes the image.

    Returns:
        `width` of hidden states; `most_tokens` of the generator; how many `references` and `layers` the source is made of.
    """
    return {
        "width": generator.facts.caption_channels,
        "most_tokens": generator.facts.max_caption_tokens,
        "references": len(parts_of(values["reference"])) or 1,
        "layers": len(layers_of(values["hidden_layer"])),
    }


def _check_layers(
    hidden_layer: int | list[int], key: str, model: Model, models: CellModels, file: str
) -> None:
    width = models.generator.facts.caption_channels
    if model.facts.hidden_size != width:
        raise DesignError(
            f"{file}: encoder {model.name!r} has hidden states of width {model.facts.hidden_size}, but generator "
            f"{models.generator.name!r} takes {width}; choose an encoder of that width in {models.file}"
        )
    layers = model.facts.num_hidden_layers
    resolved = []
    for layer in layers_of(hidden_layer):
        try:
            resolved.append(resolve_layer(layer, layers))
        except ValueError:
            raise DesignError(
                f"{file}: {key} {layer} does not exist in {model.name!r}, which has {layers} layers; allowed: "
                f"{-layers - 1} to {layers}"
            ) from None
    if len(set(resolved)) < len(resolved):
        raise DesignError(
            f"{file}: {key} {hidden_layer} has one layer twice, for {model.name!r} has {layers} layers; allowed: "
            "different layers"
        )


def _check_size(values: Mapping[str, Any], generator: Model, file: str) -> None:
    multiple = generator.facts.size_multiple
    for side in ("height", "width"):
        if values[side] % multiple:
            raise DesignError(
                f"{file}: {side} {values[side]} is not a multiple of {multiple}, which {generator.name!r} needs"
            )


def _check_source(values: Mapping[str, Any], encoder: Model | None, file: str) -> None:
    reference, mode = values["reference"], transform("token_mode", values["token_mode"])
    if encoder is None:
        if values["alpha"] != 0.0:
            raise DesignError(
                f"{file}: alpha {values['alpha']} needs an encoder to take hidden states from; set base.encoder, or "
                "alpha: 0 for the text alone"
            )
    elif reference is not None and not encoder.facts.accepts_images:
        raise DesignError(
            f"{file}: reference {reference.name!r} was given, but encoder {encoder.name!r} takes no images; remove the "
            f"references, or choose an encoder of family {families_with_images()}"
        )
    elif IMAGE_TOKENS in mode.needs and not encoder.facts.accepts_images:
        raise DesignError(
            f"{file}: token_mode {mode.name!r} selects image tokens, but encoder {encoder.name!r} takes no images; "
            f"choose another token_mode, or an encoder of family {families_with_images()}"
        )
    elif IMAGE_TOKENS in mode.needs and reference is None:
        raise DesignError(
            f"{file}: token_mode {mode.name!r} selects image tokens, but there is no reference; give "
            "base.references, or choose another token_mode"
        )


def _check_transforms(known: Mapping[str, Any], values: Mapping[str, Any], file: str) -> None:
    for stage in STAGES:
        chosen = transform(stage, values[stage])
        problem = _refused(chosen, values) or chosen.problem_with(known)
        if problem:
            raise DesignError(f"{file}: {problem}")


def _refused(chosen: Transform, values: Mapping[str, Any]) -> str | None:
    """Says which parameter has a value that other transforms of a stage may take, but not the chosen one."""
    try:
        chosen.parameters.model_validate(chosen.values_of(values))
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        problems = [problem for problem in error.errors() if problem["loc"][0] == name]
        return f"{name} {values[name]!r} does not go with {chosen.stage} {chosen.name!r}; allowed: {expected(problems)}"
    return None
