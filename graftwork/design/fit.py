"""Which models, layers, sizes and transforms go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from graftwork.core.errors import DesignError, expected
from graftwork.core.inputs import Reference
from graftwork.design.inputs import parts_of
from graftwork.design.layers import layers_of, replacements
from graftwork.models.catalog import Model, image_problem, image_tokens
from graftwork.models.description import resolve_layer
from graftwork.models.families import encoder_family, families_with_images, generator_family
from graftwork.models.tokens import ROLE_CODES
from graftwork.transforms.context import FITTED_MAP, IMAGE_TOKENS, VECTOR
from graftwork.transforms.registry import STAGES, Transform, choice_of, transform


@dataclass(frozen=True)
class CellModels:
    """The models of a cell.

    Attributes:
        generator: model that makes the image.
        text: Its text encoder.
        encoder: model whose hidden states are blended in, or None.
        file: Path of the models file, for messages.
    """

    generator: Model
    text: Model
    encoder: Model | None
    file: str


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
    _check_template(values, models, file)
    if models.encoder is not None:
        for chosen in replacements(values).values():
            _check_layers(chosen, "hidden_layer", models.encoder, models, file)
    _check_size(values, models.generator, file)
    _check_steps(values, models.generator, file)
    if "reference" in values:
        _check_images(values, models.encoder, file)
        _check_source(values, models.encoder, file)
        _check_transforms({**values, **facts_of(values, models.generator)}, values, file)
        _check_own_length(values, models, file)


def facts_of(values: Mapping[str, Any], generator: Model) -> dict[str, Any]:
    """Returns what a transform may want to know of a cell beside its parameters, by name.

    Args:
        values: Parameters of the cell.
        generator: model that makes the image.

    Returns:
        `width` of hidden states; `most_tokens` of the generator; how many `references` and `layers` the source is made of.
    """
    # A map over layers makes one source of them.
    takes_map = FITTED_MAP in choice_of("mapping", values).needs
    return {
        "width": generator.facts.caption_channels,
        "most_tokens": generator.facts.max_caption_tokens,
        "references": len(parts_of(values["reference"])) or 1,
        "layers": 1 if takes_map else max(len(layers_of(chosen)) for chosen in replacements(values).values()),
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


def _check_template(values: Mapping[str, Any], models: CellModels, file: str) -> None:
    """Refuses a text encoder without the states of pads that a generator sees, and another prefix than it leaves out."""
    captions = generator_family(models.generator.facts.family).captions
    if captions.dropped_prefix and values["text_system_prompt"] != captions.system_prompt:
        raise DesignError(
            f"{file}: text_system_prompt cannot be set for generator {models.generator.name!r}, which leaves out the first "
            f"{captions.dropped_prefix} tokens of its own system turn; set text_system_prompt: null"
        )
    family = encoder_family(models.text.facts.family)
    if models.generator.facts.caption_padding and not family.pads_texts:
        raise DesignError(
            f"{file}: generator {models.generator.name!r} sees the states of pads, which encoders of family {family.name} "
            f"do not give; set another text_encoder in {models.file}: generators.{models.generator.name}"
        )


def _check_size(values: Mapping[str, Any], generator: Model, file: str) -> None:
    multiple = generator.facts.size_multiple
    for side in ("height", "width"):
        if values[side] % multiple:
            raise DesignError(
                f"{file}: {side} {values[side]} is not a multiple of {multiple}, which {generator.name!r} needs"
            )
        most = getattr(generator.facts, f"max_{side}")
        if most is not None and values[side] > most:
            raise DesignError(
                f"{file}: {side} {values[side]} is more than {generator.name!r} has positions for; allowed: {multiple} to "
                f"{most} pixels"
            )


def _check_steps(values: Mapping[str, Any], generator: Model, file: str) -> None:
    steps, most = values["num_inference_steps"], generator.facts.max_steps
    if most is not None and steps > most:
        raise DesignError(
            f"{file}: num_inference_steps {steps} is more than the schedule of {generator.name!r} has levels of noise; "
            f"allowed: 1 to {most}"
        )


def _check_images(values: Mapping[str, Any], encoder: Model | None, file: str) -> None:
    """Refuses references that the encoder's image processor would refuse once it is loaded."""
    if encoder is None or values["alpha"] == 0.0:
        return
    for reference in parts_of(values["reference"]):
        problem = image_problem(encoder, reference.width, reference.height)
        if problem is not None:
            raise DesignError(
                f"{file}: reference {reference.name!r} ({reference.path}, {reference.width} x {reference.height} pixels) "
                f"cannot be shown to encoder {encoder.name!r}: {problem}, or choose another in base.references"
            )


def _check_own_length(values: Mapping[str, Any], models: CellModels, file: str) -> None:
    """Refuses a source that keeps its length and is too long for the generator by the tokens of its image alone."""
    blend = transform("blend", values["blend"])
    matching = transform("length_matching", values["length_matching"])
    reference = values["reference"]
    if models.encoder is None or values["alpha"] == 0.0 or not isinstance(reference, Reference):
        return
    if not matching.keeps_length or blend.takes_own_length != "at alpha 1":
        return
    roles = np.full(
        image_tokens(models.encoder, reference.width, reference.height), ROLE_CODES["image"], dtype=np.uint8
    )
    mode = transform("token_mode", values["token_mode"])
    taken = (
        int(mode.function(roles, mode.parameters.model_validate(mode.values_of(values))).sum())
        if roles.size
        else 0
    )
    most = models.generator.facts.max_caption_tokens
    if taken > most:
        raise DesignError(
            f"{file}: reference {reference.name!r} ({reference.width} x {reference.height} pixels) becomes {taken} tokens, but "
            f"generator {models.generator.name!r} takes {most}; set another length_matching than {matching.name!r}, or take "
            "a smaller image"
        )


def _check_source(values: Mapping[str, Any], encoder: Model | None, file: str) -> None:
    reference, mode = values["reference"], transform("token_mode", values["token_mode"])
    if encoder is None:
        # A vector is of the text encoder where there is no other.
        if values["alpha"] != 0.0 and VECTOR not in transform("blend", values["blend"]).needs:
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
