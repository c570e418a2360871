"""Inputs of a cell's encoders and their format: filled in, and checked before a model is loaded."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.errors import DesignError
from graftwork.core.inputs import Prompt
from graftwork.design.inputs import check_control_tokens
from graftwork.design.layers import replacements
from graftwork.design.parameters import NEUTRAL
from graftwork.design.sampling import negative_prompts
from graftwork.models.catalog import Model
from graftwork.models.description import locate_model
from graftwork.models.families import encoder_family, families_with_images, generator_family
from graftwork.models.prompts import (
    NEUTRAL_OPTIONS,
    InputOptions,
    count_prompt_tokens,
    has_tokenizer,
    text_around_prompt,
)
from graftwork.models.tokens import ROLE_CODES, SOURCE_ROLES
from graftwork.transforms.context import TEXT_TOKENS
from graftwork.transforms.registry import transform, transforms

# Parameters that put a text before an encoder; those of the generator's own text encoder begin with `text_`.
PROMPTING = ("prompt_format", "system_prompt", "think_block")
_WRITTEN = ("source_text", *PROMPTING, *(f"text_{name}" for name in PROMPTING))


def fill_in_template(values: Mapping[str, Any], generator: Model) -> dict[str, Any]:
    """Returns a cell's parameters with what its generator's text encoder is shown around a prompt filled in."""
    captions = generator_family(generator.facts.family).captions
    filled = dict(values)
    if filled.get("text_think_block") == "natural":
        is_chat = filled.get("text_prompt_format") in (None, "chat", "natural")
        filled["text_think_block"] = captions.think_block if is_chat else NEUTRAL["text_think_block"]
    if "text_system_prompt" in filled and filled["text_system_prompt"] is None:
        filled["text_system_prompt"] = captions.system_prompt
    return filled


def fill_in_formats(values: Mapping[str, Any], text: Model, encoder: Model | None) -> dict[str, Any]:
    """Returns a cell's parameters with `natural` prompt formats as the models file has them."""
    filled = dict(values)
    for key, model in (("text_prompt_format", text), ("prompt_format", encoder)):
        if filled.get(key) == "natural":
            filled[key] = natural_format(model) if model else "chat"
    return filled


def natural_format(model: Model) -> str | Mapping[str, str]:
    """Returns what `natural` stands for: what the models file says of the encoder, else what its family has."""
    return model.entry.get("natural_format") or encoder_family(model.facts.family).natural_format


def prompting_options(values: Mapping[str, Any], prefix: str = "") -> InputOptions:
    """Returns how a cell's text is put before its encoder, or with `text_` before the generator's own."""
    return InputOptions(*(values[f"{prefix}{name}"] for name in PROMPTING))


def check_encoding(values: Mapping[str, Any], text: Model, encoder: Model | None, file: str) -> None:
    """Refuses what an encoder cannot be shown, and token modes that select nothing of what comes out.

    Args:
        values: Parameters of a cell, with formats filled in; `reference` is missing for a baseline.
        text: The generator's own text encoder.
        encoder: Encoder of the source, or None.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    check_prompting(values, text, "text_", file)
    if encoder is None or "reference" not in values:
        return
    check_prompting(values, encoder, "", file)
    if values["source"] == "vision_tower":
        _check_vision_tower(values, encoder, file)
    elif values["source_text"] == "none" and values["reference"] is None:
        raise DesignError(
            f"{file}: source_text 'none' leaves encoder {encoder.name!r} nothing to look at, for there is no reference; "
            "give base.references, or set source_text to prompt or {text: ...}"
        )
    _check_token_mode(values, file)


def _check_token_mode(values: Mapping[str, Any], file: str) -> None:
    """Refuses a token mode that selects none of the tokens that the source has."""
    mode = transform("token_mode", values["token_mode"])
    roles = possible_roles(
        values["source"] == "vision_tower", values["source_text"] != "none", values["reference"] is not None
    )
    problem = mode.problem_with({**values, "source_has_roles": roles})
    if problem:
        raise DesignError(f"{file}: {problem}")
    allowed = _modes_with_tokens(roles)
    if not mode.parameters.model_fields and mode.name not in allowed:
        because = (
            "source 'vision_tower' has tokens of an image alone"
            if values["source"] == "vision_tower"
            else f"with source_text {values['source_text']!r} and "
            f"{'no' if values['reference'] is None else 'a'} reference there are none of them"
        )
        raise DesignError(
            f"{file}: token_mode {mode.name!r} selects nothing: {because}; allowed: {', '.join(allowed)}"
        )


def check_prompting(values: Mapping[str, Any], model: Model, prefix: str, file: str) -> None:
    """Refuses a prompt format that an encoder does not have, and options that need another one.

    Args:
        values: Parameters of a cell, with formats filled in.
        model: The encoder.
        prefix: `text_` for the generator's own text encoder, else empty.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    key = f"{prefix}prompt_format"
    if values[key] == "chat":
        if not model.facts.has_chat_template:
            raise DesignError(
                f"{file}: {key} 'chat' needs a chat template, which encoder {model.name!r} does not have; set {key}: raw, "
                "or natural_format: raw in the encoder's entry in the models file"
            )
        return
    formats = encoder_family(model.facts.family).prompt_formats
    if (values[key] if isinstance(values[key], str) else next(iter(values[key]))) not in formats:
        raise DesignError(
            f"{file}: {key} {values[key]!r} is none that encoder {model.name!r} takes; allowed: {', '.join(formats)}"
        )
    for name in (f"{prefix}system_prompt", f"{prefix}think_block"):
        if values[name] != NEUTRAL[name]:
            raise DesignError(
                f"{file}: {name} {values[name]!r} needs {key} chat, but it is {values[key]!r} for encoder {model.name!r}; "
                f"set {key}: chat, or leave {name} out"
            )


def _check_vision_tower(values: Mapping[str, Any], encoder: Model, file: str) -> None:
    problem = None
    if not encoder.facts.accepts_images:
        problem = f"encoder {encoder.name!r} is a text encoder and has none; choose an encoder of family {families_with_images()}"
    elif values["reference"] is None:
        problem = "there is no reference to look at; give base.references"
    elif any(isinstance(layer, list) for layer in (values["hidden_layer"], *replacements(values).values())):
        problem = (
            f"it has no layers to choose from, but hidden_layer is {values['hidden_layer']}; give one layer"
        )
    elif TEXT_TOKENS in transform("blend", values["blend"]).needs:
        problem = f"blend {values['blend']!r} needs tokens of text, which it has not; choose another blend"
    if problem:
        raise DesignError(f"{file}: source 'vision_tower': {problem}, or set source: hidden_states")


def possible_roles(image_alone: bool, has_text: bool, has_image: bool) -> frozenset[str]:
    """Returns the roles that tokens of a source can have."""
    roles = {"image"} if image_alone else set(SOURCE_ROLES)
    if not has_text:
        roles -= {"prompt"}
    if not has_image:
        roles -= {"image", "vision_marker"}
    return frozenset(roles)


@cache
def _modes_with_tokens(roles: frozenset[str]) -> list[str]:
    """Returns the token modes without parameters that select something of tokens with these roles."""
    codes = np.array([ROLE_CODES[role] for role in sorted(roles)], dtype=np.uint8)
    modes = [entry for entry in transforms("token_mode").values() if not entry.parameters.model_fields]
    return [entry.name for entry in modes if entry.function(codes, entry.parameters()).any()]


def check_texts(
    axes: Mapping[str, Sequence[Any]],
    constant: Mapping[str, Any],
    hosts: Iterable[tuple[Model, Model]],
    encoders: Sequence[Model],
    allow_control_tokens: bool,
    file: str,
) -> None:
    """Refuses texts with control tokens, templates that cannot take them, and prompts that are too long.

    Args:
        axes: Values of every axis.
        constant: Values of what is no axis.
        hosts: Generators, each with its text encoder.
        encoders: Encoders of the sources.
        allow_control_tokens: Whether prompts may contain control tokens.
        file: Path of the experiment, for messages.
    """
    written = [
        (name, value if isinstance(value, str) else next(iter(value.values())))
        for name in _WRITTEN
        for value in axes.get(name, [constant[name]])
        if isinstance(value, Mapping) or (isinstance(value, str) and name.endswith("system_prompt"))
    ]
    negatives = [Prompt(content, content) for content in negative_prompts(axes, constant)]
    for generator, text in hosts:
        models = [text, *encoders]
        if not allow_control_tokens:
            tokens = list(dict.fromkeys(t for model in models for t in model.facts.special_tokens))
            check_control_tokens(axes["prompt"], tokens, f"{file}: prompts")
            for name, content in written:
                check_control_tokens([Prompt(content, content)], tokens, f"{file}: {name}", "text")
            check_control_tokens(negatives, tokens, f"{file}: negative_prompt", "text")
        for model, prefix in [(text, "text_"), *((encoder, "") for encoder in encoders)]:
            for options in _all_options(axes, constant, model, generator if prefix else None):
                _check_template(model, options, file)
                if prefix:
                    _check_length(axes["prompt"], generator, text, options, f"{file}: prompts")
                    _check_length(negatives, generator, text, options, f"{file}: negative_prompt")
                    _check_not_empty(negatives, text, options, f"{file}: negative_prompt")


def _all_options(
    axes: Mapping[str, Sequence[Any]], constant: Mapping[str, Any], model: Model, generator: Model | None
) -> list[InputOptions]:
    """Returns how an encoder is shown texts; `generator` is that of its own text encoder."""
    prefix = "text_" if generator else ""
    names = [f"{prefix}{name}" for name in PROMPTING]
    found = []
    for values in itertools.product(*(axes.get(name, [constant[name]]) for name in names)):
        filled = fill_in_formats(dict(zip(names, values, strict=True)), model, model)
        filled = fill_in_template(filled, generator) if generator else filled
        found.append(prompting_options(filled, prefix))
    return found


def _check_template(model: Model, options: InputOptions, file: str) -> None:
    folder = _folder_with_tokenizer(model)
    if options == NEUTRAL_OPTIONS or folder is None:
        return
    try:
        text_around_prompt(model.entry, folder, options)
    except ValueError as error:
        raise DesignError(f"{file}: encoder {model.name!r}: {error}") from error


def _folder_with_tokenizer(model: Model) -> Path | None:
    """Returns the folder of an encoder; None where it is not here, or has no tokenizer to ask."""
    folder = locate_model(model.name, model.entry)
    return folder if folder is not None and has_tokenizer(model.entry, folder) else None


def _check_length(
    prompts: Iterable[Prompt], generator: Model, text: Model, options: InputOptions, where: str
) -> None:
    dropped = generator_family(generator.facts.family).captions.dropped_prefix
    limit = generator.facts.max_caption_tokens + dropped
    # A byte-level tokenizer makes at most one token of a byte: short texts need no tokenizer.
    around = 64 + sum(len(str(value).encode()) for value in vars(options).values() if value is not None)
    doubtful = [prompt for prompt in prompts if len(prompt.text.encode()) + around > limit]
    folder = _folder_with_tokenizer(text)
    if not doubtful or folder is None:
        return
    counts = count_prompt_tokens(text.entry, folder, [prompt.text for prompt in doubtful], options)
    for prompt, tokens in zip(doubtful, counts, strict=True):
        if tokens > limit:
            raise DesignError(
                f"{where}: prompt {prompt.name[:60]!r} has {tokens} tokens with its template; {generator.name} takes at "
                f"most {limit}; shorten it"
            )


def _check_not_empty(negatives: Iterable[Prompt], text: Model, options: InputOptions, where: str) -> None:
    """Refuses a negative prompt of no tokens, which a generator cannot take; a template has always some."""
    folder = _folder_with_tokenizer(text)
    if options.prompt_format != "raw" or folder is None:
        return
    for prompt in negatives:
        if prompt.text == "" and not count_prompt_tokens(text.entry, folder, [""], options)[0]:
            raise DesignError(
                f"{where}: '' has no tokens with text_prompt_format 'raw'; write a text, or set another "
                "text_prompt_format"
            )
