"""Keys of configuration files: one definition, with a description for every field.

The JSON schemas in config/schema/ and docs/reference.md are generated from these models
(`python -m workflow_scripts.describe_config --fix`).
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model
from pydantic_core import PydanticCustomError

from graftwork.core.parameters import (
    ALWAYS,
    GivenText,
    Instruct,
    NumberedKeys,
    Seed,
    Share,
    Strict,
    Text,
    declarations,
    parameter,
)
from graftwork.design.settings import MOST_IMAGES, IpAdapterControl, ReferenceControl, Words
from graftwork.scores.registry import scores
from graftwork.transforms.context import NEUTRAL_SOURCE
from graftwork.transforms.registry import STAGES, Transform, names_of, parameter_fields, transforms
from graftwork.transforms.schedules import AlphaSchedule, format_schedules


def _named(stage: str, wanted: Callable[[Transform], bool]) -> str:
    return " or ".join(f"`{name}`" for name in names_of(stage, wanted))


# config/experiments/*.yaml


class SamplingParameters(Strict):
    """How an image is sampled from its conditioning."""

    height: Annotated[int, Field(ge=16)] = parameter(
        1024, neutral=ALWAYS, in_baseline=True, unit="pixels", description="Pixels."
    )
    width: Annotated[int, Field(ge=16)] = parameter(
        1024, neutral=ALWAYS, in_baseline=True, unit="pixels", description="Pixels."
    )
    num_inference_steps: Annotated[int, Field(ge=1)] = parameter(
        8, neutral=ALWAYS, in_baseline=True, description="Denoising steps; 8 for the Turbo model."
    )
    guidance_scale: Annotated[float, Field(ge=0)] = parameter(
        0.0,
        neutral=ALWAYS,
        in_baseline=True,
        description="Classifier-free guidance as in diffusers: pos + guidance_scale * (pos - neg); 0 is none, which Turbo "
        "models were distilled for. Each step then runs the transformer on twice as many rows.",
    )
    negative_prompt: str | None = parameter(
        None,
        neutral=None,
        in_baseline=True,
        acts_with="guidance_scale",
        description="With guidance: what to lead away from, shown to the generator's own text encoder as the prompt is. "
        '`null` is "".',
    )
    cfg_normalization: Annotated[float, Field(ge=0)] = parameter(
        0.0,
        neutral=0.0,
        in_baseline=True,
        acts_with="guidance_scale",
        description="With guidance: the most that its prediction's norm may be, as a multiple of the norm without it; 0 "
        "for no such limit.",
    )
    cfg_truncation: Share = parameter(
        1.0,
        neutral=1.0,
        in_baseline=True,
        acts_with="guidance_scale",
        description="With guidance: steps at which 1 - sigma is above this go without.",
    )
    init_image: Text | None = parameter(
        None,
        neutral=None,
        in_baseline=True,
        description="Image to start from in place of pure noise, stretched to height x width: `reference` for the cell's "
        "own, or a name or path as in `references`.",
    )
    strength: Share = parameter(
        0.6,
        neutral=0.6,
        in_baseline=True,
        acts_with="init_image",
        description="With `init_image`: how much of the schedule is run. 1 starts from pure noise, near 0 the image hardly "
        "changes.",
    )


def _different(layers: list[int]) -> list[int]:
    if len(set(layers)) < len(layers):
        raise PydanticCustomError("layers", "a list in which no layer occurs twice")
    return layers


Layers = Annotated[list[int], Field(min_length=2), AfterValidator(_different)]


# Layer of the generator -> what takes its place.
LayerMapping = Annotated[dict[int, int | Layers], Field(min_length=1), NumberedKeys]


class SourceParameters(Strict):
    """Which hidden states are taken, and how far they replace the text's."""

    encoder: str | None = parameter(
        None,
        neutral=ALWAYS,
        description="Encoder whose hidden states are blended in; a name in config/models.yaml.",
    )
    source: Literal["hidden_states", "vision_tower"] = parameter(
        "hidden_states",
        neutral="hidden_states",
        description="What is taken of the encoder: hidden states of its language model, or the output of its vision tower, "
        "which no text and no layer has a part in.",
    )
    hidden_layer: int | Literal["same"] | Layers | LayerMapping | None = parameter(
        None,
        neutral=ALWAYS,
        description="Layer of the encoder: -1 is the last, with the final norm; 0 the embeddings. A list of layers for "
        f"combination {_named('combination', lambda entry: entry.combines == 'hidden_layer')}. Where the generator has "
        "several layers, it takes the place of each; `same` puts the layers of `text_hidden_layer` in place of themselves, "
        "{9: -2, 27: -10} one layer in place of another, and those that are not named stay the text. `null` for the layers "
        "that the generator was trained on.",
    )
    text_hidden_layer: int | Layers | None = parameter(
        None,
        neutral=-2,
        in_baseline=True,
        description="Layer of the generator's own text encoder, or a list of as many layers as the generator takes; `null` "
        "for what it was trained on.",
    )
    neutral_reference: str | None = parameter(
        "grey",
        neutral="grey",
        needed_as=NEUTRAL_SOURCE,
        description=f"What blend {_named('blend', lambda entry: NEUTRAL_SOURCE in entry.needs)} compares the reference with: `grey`, solid grey (128) of the reference's size, "
        "or an image, given as references are.",
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = parameter(
        1.0, neutral=ALWAYS, description="Weight of the encoder's hidden states; 0 is the text alone."
    )
    alpha_schedule: AlphaSchedule | None = parameter(
        None,
        neutral=None,
        format=format_schedules,
        description="What alpha is multiplied with at each step of the sampling, see [Schedules](#schedules); `null` for 1 "
        "at all of them.",
    )


_FORMAT = (
    "`chat` is the chat template, `raw` the text alone, {instruct: task} `Instruct: task`, a line break and `Query: ` "
    "before it; `natural` the `natural_format` of the encoder in config/models.yaml."
)
_THINK = (
    "`template` is what the chat template does by itself, `empty` an empty think block, {text: thought} one with that "
    "thought inside."
)
_SYSTEM = "Text of a system turn before the prompt; `null` for none of ours."


class EncodingParameters(Strict):
    """Inputs of the encoders, and their format."""

    source_text: Literal["prompt", "none"] | GivenText = parameter(
        "prompt",
        neutral="prompt",
        description="What the encoder is shown beside the reference: the prompt, no text, or {text: another text}.",
    )
    prompt_format: Literal["natural", "chat", "raw"] | Instruct = parameter(
        "natural", neutral="chat", description=f"How the encoder is shown its text: {_FORMAT}"
    )
    system_prompt: Text | None = parameter(None, neutral=None, description=f"For the encoder. {_SYSTEM}")
    think_block: Literal["template", "empty"] | GivenText = parameter(
        "template", neutral="template", description=f"What the encoder's assistant has thought: {_THINK}"
    )
    rope_theta: Annotated[float, Field(gt=0)] | None = parameter(
        None,
        neutral=None,
        description="Base of the encoder's rotary embedding; `null` for the checkpoint's own.",
    )
    positions: Literal["checkpoint", "sequential"] = parameter(
        "checkpoint",
        neutral="checkpoint",
        description="Where the encoder places tokens: `checkpoint` as it was trained, `sequential` at 0, 1, 2 and so on, "
        "also those of an image, in place of M-RoPE's time, height and width.",
    )
    text_prompt_format: Literal["natural", "chat", "raw"] | Instruct = parameter(
        "natural",
        neutral="chat",
        in_baseline=True,
        description="Like `prompt_format`, for the generator's own text encoder.",
    )
    text_system_prompt: Text | None = parameter(
        None,
        neutral=None,
        in_baseline=True,
        description="Like `system_prompt`, for the generator's own text encoder; `null` for what the generator was trained "
        "with.",
    )
    text_think_block: Literal["natural", "template", "empty"] | GivenText = parameter(
        "natural",
        neutral="template",
        in_baseline=True,
        description="Like `think_block`, for the generator's own text encoder; `natural` is what the generator was trained "
        "with.",
    )


def _transform_fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for stage in STAGES.values():
        choice = parameter(
            stage.default, neutral=stage.neutral, description=stage.description, format=stage.format
        )
        entries = transforms(stage.name)
        kinds: Any = Literal[tuple(name for name, entry in entries.items() if not entry.is_mapping)]  # type: ignore[valid-type]
        for entry in entries.values():
            kinds = kinds | entry.parameters if entry.is_mapping else kinds
        fields[stage.name] = (kinds, choice)
    fields |= parameter_fields()
    return fields


TransformChoices = create_model("TransformChoices", __base__=Strict, **_transform_fields())


class CellParameters(SourceParameters, EncodingParameters, TransformChoices, SamplingParameters):  # type: ignore[valid-type, misc]
    """Every parameter of a cell that an experiment may set or vary, but for prompt, reference and seed."""

    generator: str | None = parameter(
        None,
        neutral=ALWAYS,
        in_baseline=True,
        description="What makes the image; a name in config/models.yaml. Needed, here or in `defaults`.",
    )


class ControlParameters(Strict):
    """The parameter of a control cell, which `controls` of an experiment gives and nothing else sets."""

    control: dict[str, Any] | None = parameter(
        None,
        neutral=None,
        description="What stands in the place of the source: {noise: seed}, {words: how the reference was put into words}, "
        "or {edit: {}} and {ip_adapter: {scale: strength}} for the reference itself, shown to a generator that was trained to "
        "take one.",
    )


# Every parameter that an experiment may set has decided how it takes part in the names of cells.
DECLARATIONS = declarations(
    {**CellParameters.model_fields, **ControlParameters.model_fields}, "parameters of cells"
)


class NamedPrompt(Strict):
    """A prompt with a short name for labels and file names."""

    name: str
    text: str


class Base(CellParameters):
    """Constants of an experiment, and its prompts, references and seeds."""

    prompts: str | list[str | NamedPrompt] = Field(
        description="Name of a file in config/prompts/, or a list of prompts, each a text or {name, text}."
    )
    references: list[str | Annotated[list[str], Field(min_length=2)] | None] = Field(
        default_factory=list,
        description="Reference images: names of files in config/references/ or resources/references/ without "
        "their ending, or paths. `null` stands for no reference, a list for several that are combined.",
    )
    seeds: list[Seed] = Field(default_factory=lambda: [42], description="Seeds of the initial noise.")


class Range(Strict):
    """Evenly spaced values, both ends included."""

    range: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(description="[first, last]")
    count: Annotated[int, Field(ge=2)] = Field(description="How many values.")


class Grid(Strict):
    """A labelled grid; there is one page per combination of the axes that are not on it, and more for long axes."""

    x: str = Field(description="Axis of the columns.")
    y: str | None = Field(None, description="Axis of the rows.")
    pages: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        1,
        description="How many pages to draw, the first ones, or `all`. Every other page can be asked for by its name.",
    )


ControlName = Literal["noise", "words", "edit", "ip_adapter"]
ScoreName = Literal[tuple(scores())]  # type: ignore[valid-type]


class FamilyChanges(Strict):
    """Changes of an experiment for a family of models."""

    base: dict[str, Any] = Field(
        default_factory=dict, description="Values that take the place of those in `base`."
    )
    axes: dict[str, list[Any] | Range | None] = Field(
        default_factory=dict,
        description="Axes that take the place of those in `axes`; `null` takes one away.",
    )
    settings: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Settings to add, or parameters of those in `settings`; `null` takes a setting away.",
    )
    grids: list[Grid] = Field(default_factory=list, description="In place of `grids`, where it is given.")
    scores: list[ScoreName] = Field(
        default_factory=list, description="In place of `scores`, where it is given."
    )
    controls: list[ControlName] = Field(
        default_factory=list, description="In place of `controls`, where it is given."
    )
    words: Words | None = Field(None, description="In place of `words`, where it is given.")
    edit: ReferenceControl | None = Field(None, description="In place of `edit`, where it is given.")
    ip_adapter: IpAdapterControl | None = Field(
        None, description="In place of `ip_adapter`, where it is given."
    )


class Experiment(Strict):
    """A file in config/experiments/: one sweep."""

    title: str = Field("", description="Heading of grids and tables; the file's name where it is empty.")
    question: str = Field("", description="What the experiment asks, shown under the title.")
    look_for: str = Field("", description="Which images answer the question, for somebody who looks at them.")
    base: Base = Field(description="Prompts, references, seeds and constant parameters.")
    axes: dict[str, list[Any] | Range] = Field(
        default_factory=dict, description="Parameters that vary: name to list of values, or {range, count}."
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Combinations of parameters that are compared as they are: name to parameters. They make one further "
        "axis, `setting`.",
    )
    grids: list[Grid] = Field(default_factory=list, description="Grids to draw.")
    scores: list[ScoreName] = Field(
        default_factory=list, description="What to measure of the images; see the table of scores."
    )
    controls: list[ControlName] = Field(
        default_factory=list,
        description="What every cell is compared with, as cells of role `control`: `noise` changes each token as much, in a "
        "random direction; `words` shows the generator the prompt with the reference put into words, and no source; `edit` shows a generator "
        "that was trained to edit images the prompt and the reference itself, `ip_adapter` one with an adapter for references.",
    )
    noise_seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        default_factory=lambda: [0],
        description="Seeds of the control `noise`; each makes a control of its own.",
    )
    words: Words | None = Field(
        None,
        description="For the control `words`; `null` for what the family in config/models.yaml says, else a caption of one "
        "sentence that is appended to the prompt.",
    )
    edit: ReferenceControl | None = Field(
        None,
        description="For the control `edit`: the generator that is shown the reference, and how it is sampled.",
    )
    ip_adapter: IpAdapterControl | None = Field(
        None,
        description="For the control `ip_adapter`: the generator that is shown the reference, how it is sampled, and how strong "
        "the reference is.",
    )
    scorers: dict[str, str] = Field(
        default_factory=dict,
        description="Which scorer is asked for a role: role to a name under `scorers` in config/models.yaml. The chosen "
        "family of models has defaults.",
    )
    reference_captions: dict[str, str] = Field(
        default_factory=dict,
        description="What references show, in words, for scores that ask for it: name to text.",
    )
    families: dict[str, FamilyChanges] = Field(
        default_factory=dict,
        description="What changes with a family of models: name of the family, as in config/models.yaml, to changes.",
    )
    baseline: bool = Field(
        True, description="Add for each prompt and seed the image of the text alone (role `baseline`)."
    )
    max_images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] | None = Field(
        None, description="Replaces `limits.max_images` of config/config.yaml for this experiment."
    )
    allow_control_tokens: bool = Field(
        False, description="Allow prompts that contain control tokens such as <|im_end|>."
    )
