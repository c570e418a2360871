"""What configuration files may say: one definition, with a description for every field.

The JSON schemas in config/schema/ and the tables in config/README.md are generated from these models
(`python -m workflow_scripts.describe_config --fix`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from workflow_scripts.lib.conditioning.registry import STAGES, parameter_fields, transforms
from workflow_scripts.lib.models.acceleration import ATTENTION_BACKENDS, COMPILE_MODES
from workflow_scripts.lib.scoring.registry import scores

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(pattern=r"\S")]


class Strict(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class GivenText(Strict):
    """A text of the user's own, where the other values are words with a meaning."""

    text: Text


class Instruct(Strict):
    """A task that stands before a prompt."""

    instruct: Text


# config/models.yaml


class ModelSource(Strict):
    """Where a model comes from: a local folder, or a hub id with the commit that is meant."""

    path: str | None = Field(None, description="Local folder with the model in `save_pretrained` form.")
    repo: str | None = Field(None, description="Hub id, such as `Qwen/Qwen3-VL-4B-Instruct`.")
    revision: str | None = Field(
        None, description="Commit of the hub repository, 40 hexadecimal digits; branches move."
    )


class EncoderEntry(ModelSource):
    """An encoder."""

    family: Literal["qwen3", "qwen3_vl"] = Field(description="Which adapter loads it.")
    subfolder: str | None = Field(None, description="Folder of weights and config inside the model.")
    tokenizer_subfolder: str | None = Field(None, description="Folder of the tokenizer inside the model.")
    natural_format: Literal["chat", "raw"] | Instruct | None = Field(
        None,
        description="What `prompt_format: natural` stands for with this encoder; the chat template where missing.",
    )


class GeneratorEntry(ModelSource):
    """A generator, a complete diffusers pipeline folder."""

    family: Literal["z_image"] = Field(description="Which adapter loads it.")
    text_encoder: str = Field(description="The encoder it was trained on, a name under `encoders`.")


class Models(Strict):
    """config/models.yaml."""

    encoders: dict[str, EncoderEntry] = Field(description="Encoders by name.")
    generators: dict[str, GeneratorEntry] = Field(description="Generators by name.")


# config/config.yaml


class ExtractionHardware(Strict):
    """How encoders are run."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model runs.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of weights and stored hidden states; fp16 overflows."
    )
    cpu_threads: Annotated[int, Field(ge=1)] = Field(
        2, description="Threads on the CPU. Part of the identity there: their number changes low bits."
    )


class GenerationHardware(ExtractionHardware):
    """How generators are run."""

    offload: Literal["none", "model"] = Field(
        "none", description="`model` keeps the component that does not run in main memory."
    )
    attention_backend: Literal[ATTENTION_BACKENDS] = Field(  # type: ignore[valid-type]
        "native",
        description="Attention implementation, in the names of diffusers. `flash` and `_flash_3` need their packages.",
    )
    compile: Literal[COMPILE_MODES] = Field(  # type: ignore[valid-type]
        False,
        description="Mode of `torch.compile` for the transformer's blocks, one graph per shape; `reduce-overhead` "
        "records CUDA graphs.",
    )
    compile_vae: bool = Field(False, description="Whether the decoder of the VAE is compiled.")
    fuse_blocks: bool = Field(
        False,
        description="One projection for query, key and value, fused norms, rotary angles as real numbers.",
    )
    vae_channels_last: bool = Field(
        False, description="Weights of the VAE in the memory format channels_last."
    )
    vae_slicing: bool = Field(False, description="Decode one row at a time, which needs less memory.")
    batch_shape: Annotated[int, Field(ge=1)] = Field(
        4,
        description="Rows of every batch; unused ones are filled. Part of the identity: shapes change low bits.",
    )


class Hardware(Strict):
    """Hardware settings."""

    extraction: ExtractionHardware = Field(default_factory=ExtractionHardware)
    generation: GenerationHardware = Field(default_factory=GenerationHardware)
    gpus: Annotated[int, Field(ge=1)] = Field(
        1, description="Shards of generation that may run side by side, one GPU each."
    )


class Limits(Strict):
    """Guards against sweeps that grew by accident."""

    max_images: Annotated[int, Field(ge=1)] = Field(
        2000,
        description="Most cells of role `cell` in one experiment; baselines and controls are not counted.",
    )


class Sharding(Strict):
    """How work is cut into jobs."""

    min_images_per_shard: Annotated[int, Field(ge=1)] = Field(
        16, description="Fewest images that are worth loading a model for in another job."
    )
    min_recipes_per_shard: Annotated[int, Field(ge=1)] = Field(
        500, description="Fewest conditioning recipes that are worth another job."
    )


class Settings(Strict):
    """config/config.yaml."""

    experiments: list[str] = Field(
        description="Experiments that the default target builds: names of files in config/experiments/."
    )
    models: str = Field("config/models.yaml", description="File with the models.")
    statistics: list[str] = Field(
        default_factory=list,
        description="Analyses that the default target builds: names of files in config/statistics/.",
    )
    hardware: Hardware = Field(default_factory=Hardware)
    limits: Limits = Field(default_factory=Limits)
    sharding: Sharding = Field(default_factory=Sharding)
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Values for `base` of every experiment that does not set them."
    )
    accept_samples: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Images that the target `accept` renders before it adopts those of earlier sampling code.",
    )
    keep_conditioning: bool = Field(
        False, description="Keep conditioning files whose images exist; they can always be made again."
    )


# config/experiments/*.yaml


class SamplingParameters(Strict):
    """How an image is sampled from its conditioning."""

    height: Annotated[int, Field(ge=16)] = Field(1024, description="Pixels.")
    width: Annotated[int, Field(ge=16)] = Field(1024, description="Pixels.")
    num_inference_steps: Annotated[int, Field(ge=1)] = Field(
        8, description="Denoising steps; 8 for the Turbo model."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=0)] = Field(
        0.0, description="Classifier-free guidance; 0 is none, which Turbo models need."
    )


class SourceParameters(Strict):
    """Which hidden states are taken, and how far they replace the text's."""

    encoder: str | None = Field(
        None, description="Encoder whose hidden states are blended in; a name in config/models.yaml."
    )
    source: Literal["hidden_states", "vision_tower"] = Field(
        "hidden_states",
        description="What is taken of the encoder: hidden states of its language model, or the output of its vision tower, "
        "which no text and no layer has a part in.",
    )
    hidden_layer: int = Field(
        -2, description="Layer of the encoder: -1 is the last, with the final norm; 0 the embeddings."
    )
    text_hidden_layer: int = Field(
        -2, description="Layer of the generator's own text encoder; -2 is what Z-Image was trained on."
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Weight of the encoder's hidden states; 0 is the text alone."
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
    """What the encoders are shown, and how."""

    source_text: Literal["prompt", "none"] | GivenText = Field(
        "prompt",
        description="What the encoder is shown beside the reference: the prompt, no text, or {text: another text}.",
    )
    prompt_format: Literal["natural", "chat", "raw"] | Instruct = Field(
        "natural", description=f"How the encoder is shown its text: {_FORMAT}"
    )
    system_prompt: Text | None = Field(None, description=f"For the encoder. {_SYSTEM}")
    think_block: Literal["template", "empty"] | GivenText = Field(
        "template", description=f"What the encoder's assistant has thought: {_THINK}"
    )
    rope_theta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Base of the encoder's rotary embedding; `null` for the checkpoint's own."
    )
    positions: Literal["checkpoint", "sequential"] = Field(
        "checkpoint",
        description="Where the encoder places tokens: `checkpoint` as it was trained, `sequential` at 0, 1, 2 and so on, "
        "also those of an image, in place of M-RoPE's time, height and width.",
    )
    text_prompt_format: Literal["natural", "chat", "raw"] | Instruct = Field(
        "natural", description="Like `prompt_format`, for the generator's own text encoder."
    )
    text_system_prompt: Text | None = Field(
        None, description="Like `system_prompt`, for the generator's own text encoder."
    )
    text_think_block: Literal["template", "empty"] | GivenText = Field(
        "template", description="Like `think_block`, for the generator's own text encoder."
    )


DEFAULT_TRANSFORMS = {
    "token_mode": "full",
    "masking": "none",
    "dimension_fix": "none",
    "normalization": "none",
    "length_matching": "area",
    "blend": "linear",
}


def _transform_fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for stage in STAGES:
        names = tuple(transforms(stage))
        description = f"{stage.replace('_', ' ').capitalize()}; see the table of transforms."
        fields[stage] = (Literal[names], Field(DEFAULT_TRANSFORMS[stage], description=description))
    fields |= parameter_fields()
    return fields


TransformChoices = create_model("TransformChoices", __base__=Strict, **_transform_fields())


class CellParameters(SourceParameters, EncodingParameters, TransformChoices, SamplingParameters):  # type: ignore[valid-type, misc]
    """Every parameter of a cell that an experiment may set or vary, but for prompt, reference and seed."""

    generator: str | None = Field(
        None, description="What makes the image; a name in config/models.yaml. Needed, here or in `defaults`."
    )


class NamedPrompt(Strict):
    """A prompt with a short name for labels and file names."""

    name: str
    text: str


class Base(CellParameters):
    """What is constant in an experiment, and its prompts, references and seeds."""

    prompts: str | list[str | NamedPrompt] = Field(
        description="Name of a file in config/prompts/, or a list of prompts, each a text or {name, text}."
    )
    references: list[str | None] = Field(
        default_factory=list,
        description="Reference images: names of files in config/references/ or resources/references/ without "
        "their ending, or paths. `null` stands for no reference.",
    )
    seeds: list[Seed] = Field(default_factory=lambda: [42], description="Seeds of the initial noise.")


class Range(Strict):
    """Evenly spaced values, both ends included."""

    range: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(description="[first, last]")
    count: Annotated[int, Field(ge=2)] = Field(description="How many values.")


class Grid(Strict):
    """A labelled grid; there is one page per combination of the axes that are not on it."""

    x: str = Field(description="Axis of the columns.")
    y: str | None = Field(None, description="Axis of the rows.")


ScoreName = Literal[tuple(scores())]  # type: ignore[valid-type]


class Experiment(Strict):
    """A file in config/experiments/: one sweep."""

    title: str = Field("", description="Heading of grids and tables; the file's name where it is empty.")
    question: str = Field("", description="What the experiment asks, shown under the title.")
    base: Base = Field(description="Prompts, references, seeds and constant parameters.")
    axes: dict[str, list[Any] | Range] = Field(
        default_factory=dict, description="Parameters that vary: name to list of values, or {range, count}."
    )
    grids: list[Grid] = Field(default_factory=list, description="Grids to draw.")
    scores: list[ScoreName] = Field(
        default_factory=list, description="What to measure of the images; see the table of scores."
    )
    baseline: bool = Field(
        True, description="Add for each prompt and seed the image of the text alone (role `baseline`)."
    )
    max_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Replaces `limits.max_images` of config/config.yaml for this experiment."
    )
    allow_control_tokens: bool = Field(
        False, description="Allow prompts that contain control tokens such as <|im_end|>."
    )
