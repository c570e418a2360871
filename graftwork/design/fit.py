"""Which models, layers, sizes and transforms go together."""

from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, expected
from graftwork.design.inputs import parts_of
from graftwork.models.catalog import Model
from graftwork.models.description import resolve_layer
from graftwork.models.families import families_with_images
from graftwork.transforms.registry import STAGES, transform

_IMAGE_MODES = ("image_only", "image_no_markers")


def layers_of(hidden_layer: int | list[int]) -> list[int]:
    """Returns the layers that a cell's source is made of."""
    return hidden_layer if isinstance(hidden_layer, list) else [hidden_layer]


def check_fit(
    values: dict[str, Any], generator: Model, text: Model, encoder: Model | None, models_file: str, file: str
) -> None:
    """Refuses combinations that cannot work, from facts alone.

    Args:
        values: Parameters of a cell; `reference` is missing for a baseline.
        generator: Generator of the cell.
        text: Its text encoder.
        encoder: Encoder of the source, or None.
        models_file: Path of the models file, for messages.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    width = generator.facts["caption_channels"]
    for model, key in ((text, "text_hidden_layer"), (encoder, "hidden_layer")):
        if model is None:
            continue
        if model.facts["hidden_size"] != width:
            raise DesignError(
                f"{file}: encoder {model.name!r} has hidden states of width {model.facts['hidden_size']}, but generator "
                f"{generator.name!r} takes {width}; choose an encoder of that width in {models_file}"
            )
        layers = model.facts["num_hidden_layers"]
        resolved = []
        for layer in layers_of(values[key]):
            try:
                resolved.append(resolve_layer(layer, layers))
            except ValueError:
                raise DesignError(
                    f"{file}: {key} {layer} does not exist in {model.name!r}, which has {layers} layers; allowed: "
                    f"{-layers - 1} to {layers}"
                ) from None
        if len(set(resolved)) < len(resolved):
            raise DesignError(
                f"{file}: {key} {values[key]} has one layer twice, for {model.name!r} has {layers} layers; allowed: "
                "different layers"
            )
    multiple = generator.facts["size_multiple"]
    for side in ("height", "width"):
        if values[side] % multiple:
            raise DesignError(
                f"{file}: {side} {values[side]} is not a multiple of {multiple}, which {generator.name!r} needs"
            )
    if "reference" not in values:
        return
    reference = values["reference"]
    if encoder is None:
        if values["alpha"] != 0.0:
            raise DesignError(
                f"{file}: alpha {values['alpha']} needs an encoder to take hidden states from; set base.encoder, or "
                "alpha: 0 for the text alone"
            )
    elif reference is not None and not encoder.facts["accepts_images"]:
        raise DesignError(
            f"{file}: reference {reference.name!r} was given, but encoder {encoder.name!r} takes no images; remove the "
            f"references, or choose an encoder of family {families_with_images()}"
        )
    elif values["token_mode"] in _IMAGE_MODES and not encoder.facts["accepts_images"]:
        raise DesignError(
            f"{file}: token_mode {values['token_mode']!r} selects image tokens, but encoder {encoder.name!r} takes no images; "
            f"choose another token_mode, or an encoder of family {families_with_images()}"
        )
    elif reference is None and values["token_mode"] in _IMAGE_MODES:
        raise DesignError(
            f"{file}: token_mode {values['token_mode']!r} selects image tokens, but there is no reference; give "
            "base.references, or choose another token_mode"
        )
    facts = {
        "width": width,
        "most_tokens": generator.facts["max_caption_tokens"],
        "references": len(parts_of(reference)) or 1,
        "layers": len(layers_of(values["hidden_layer"])),
        "takes_whole_source": transform("blend", values["blend"]).whole_source,
    }
    for stage in STAGES:
        chosen = transform(stage, values[stage])
        problem = _refused(stage, values) or chosen.problem_with({**values, **facts})
        if problem:
            raise DesignError(f"{file}: {problem}")


def _refused(stage: str, values: dict[str, Any]) -> str | None:
    """Says which parameter has a value that others of a stage may take, but not the chosen transform."""
    chosen = transform(stage, values[stage])
    if chosen.parameters is None:
        return None
    try:
        chosen.parameters.model_validate(chosen.keyword_arguments(values))
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        problems = [problem for problem in error.errors() if problem["loc"][0] == name]
        return (
            f"{name} {values[name]!r} does not go with {stage} {chosen.name!r}; allowed: {expected(problems)}"
        )
    return None
