"""Keys of config/config.yaml and config/models.yaml; a part of the definition that `schema` describes."""

import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from graftwork.core.parameters import Instruct, Share, Strict, Text
from graftwork.models.acceleration import ATTENTION_BACKENDS, COMPILE_MODES
from graftwork.models.families import encoder_families, generator_families, scorer_families

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

    family: Literal[tuple(encoder_families())] = Field(  # type: ignore[valid-type]
        description="Which adapter loads it."
    )
    subfolder: str | None = Field(None, description="Folder of weights and config inside the model.")
    tokenizer_subfolder: str | None = Field(None, description="Folder of the tokenizer inside the model.")
    natural_format: Literal["chat", "raw"] | Instruct | None = Field(
        None,
        description="What `prompt_format: natural` stands for with this encoder; the chat template where missing.",
    )


class GeneratorEntry(ModelSource):
    """A generator, a complete diffusers pipeline folder."""

    family: Literal[tuple(generator_families())] = Field(  # type: ignore[valid-type]
        description="Which adapter loads it."
    )
    text_encoder: str = Field(description="The encoder it was trained on, a name under `encoders`.")
    text_hidden_layer: int | list[int] | None = Field(
        None,
        description="Layers of the text encoder that it was trained on, in its order; those of the checkpoint's files or of "
        "the family where missing.",
    )
    max_sequence_length: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Tokens that texts are padded or limited to; those of the family where missing. Not for families whose "
        "files say it.",
    )
    is_distilled: bool | None = Field(
        None,
        description="Whether it was distilled to do without guidance, for families whose files do not say it.",
    )


def _is_template(join: str) -> str:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(join) if name is not None]
    except ValueError:
        fields = []
    if fields.count("prompt") != 1 or not all(name == "prompt" or name.isdecimal() for name in fields):
        raise PydanticCustomError(
            "join", "a text with prompt in braces once, and 1, 2 and so on in braces for the answers"
        )
    return join


class Words(Strict):
    """How the control `words` puts a reference into words: what its encoder is asked, and how answers join the prompt."""

    questions: Annotated[list[Text], Field(min_length=1)] = Field(
        default_factory=lambda: ["Describe this image in one sentence."],
        description="What the encoder is asked about the reference, each apart. It answers greedily.",
    )
    join: Annotated[str, AfterValidator(_is_template)] = Field(
        "{prompt} {1}",
        description="The prompt with the answers: `{prompt}`, and `{1}` for the answer to the first question.",
    )
    max_new_tokens: Annotated[int, Field(ge=1)] = Field(
        128, description="Most tokens of an answer, a thought before it included."
    )

    @model_validator(mode="after")
    def _answers_are_asked_for(self) -> "Words":
        fields = {name for _, name, _, _ in string.Formatter().parse(self.join)} - {None, "prompt"}
        if fields != {str(number) for number in range(1, len(self.questions) + 1)}:
            raise PydanticCustomError(
                "join", "a join with the number of each question in braces, and no other"
            )
        return self


class ReferenceControl(Strict):
    """How a control is made by a generator that was trained to take references; what is left out is as in the cell."""

    generator: str | None = Field(
        None,
        description="What makes the image; a name in config/models.yaml. `null` for the cell's own generator.",
    )
    num_inference_steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Denoising steps of this generator."
    )
    guidance_scale: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Guidance of this generator, as `guidance_scale` in `base`."
    )


class IpAdapterControl(ReferenceControl):
    """How the control `ip_adapter` is made."""

    scales: Annotated[list[Share], Field(min_length=1)] = Field(
        default_factory=lambda: [0.6],
        description="Strengths of the reference; each makes a control of its own.",
    )


# Controls by generators that were trained to take references -> what is said of them.
REFERENCE_CONTROLS: dict[str, type[ReferenceControl]] = {
    "edit": ReferenceControl,
    "ip_adapter": IpAdapterControl,
}


class ScorerEntry(ModelSource):
    """A scorer: a model that says how an image compares with a text or another image."""

    family: Literal[tuple(scorer_families())] = Field(  # type: ignore[valid-type]
        description="Which adapter loads it."
    )


class Family(Strict):
    """Models that belong together, by role."""

    encoders: dict[str, str] = Field(
        description="Role to the name of an encoder. Experiments may give a role wherever they give an encoder."
    )
    scorers: dict[str, str] = Field(
        default_factory=dict,
        description="Role to the name of a scorer; `scorers` of an experiment comes first.",
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for `base` of every experiment; `defaults` in config/config.yaml comes first.",
    )
    words: Words | None = Field(
        None, description="For the control `words` of experiments that do not say it themselves."
    )


class Models(Strict):
    """config/models.yaml."""

    encoders: dict[str, EncoderEntry] = Field(description="Encoders by name.")
    generators: dict[str, GeneratorEntry] = Field(description="Generators by name.")
    scorers: dict[str, ScorerEntry] = Field(default_factory=dict, description="Scorers by name.")
    families: dict[str, Family] = Field(default_factory=dict, description="Families of models by name.")


# config/config.yaml

# Tables and plans are linear in the number of cells, but all of them are held in memory.
MOST_IMAGES = 1_000_000


class ModelHardware(Strict):
    """How models of any kind are run."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model runs.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of weights and stored hidden states; fp16 overflows."
    )
    cpu_threads: Annotated[int, Field(ge=1)] = Field(
        2, description="Threads on the CPU. Part of the identity there: their number changes low bits."
    )
    stall_limit: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Seconds after which a job ends that has finished no input or no batch meanwhile, such as one that hangs "
        "in a driver; `null` for no limit. Set it to a multiple of what a batch takes.",
    )


class ExtractionHardware(ModelHardware):
    """How encoders are run."""

    batch_shape: Annotated[int, Field(ge=1)] = Field(
        1,
        description="Rows of every batch of prompts, those without an image and those with the same image, whose lengths are "
        "rounded up to the same multiple of 16 tokens; unused rows are filled. Images without a prompt, texts whose pads a "
        "generator sees, and encoders that take one input at a time, are as with 1. Part of the identity above 1: shapes change "
        "low bits.",
    )


class GenerationHardware(ModelHardware):
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


# In place of a preset's name: the preset that fits the cards of this machine.
AUTO = "auto"


class ScoringHardware(ModelHardware):
    """How scorers are run. Part of the identity of what they say."""


class Hardware(Strict):
    """Hardware settings."""

    # Left out of what is dumped: the settings that it stands for are there.
    preset: str | None = Field(
        None,
        exclude=True,
        description="A file in `config/hardware/`, whose settings stand for those that are not given; `auto` for the one "
        "that fits the cards of this machine. `null` for the defaults below.",
    )
    extraction: ExtractionHardware = Field(default_factory=ExtractionHardware)
    generation: GenerationHardware = Field(default_factory=GenerationHardware)
    scoring: ScoringHardware = Field(default_factory=ScoringHardware)
    gpus: Annotated[int, Field(ge=1)] = Field(
        1, description="Shards of generation that may run side by side, one GPU each."
    )


class HardwarePreset(Strict):
    """A file in config/hardware/."""

    least_memory_gb: Annotated[float, Field(ge=0)] = Field(
        0,
        description="Least memory of a card that `preset: auto` chooses this file for, in 10^9 bytes; 0 for a machine "
        "without a card.",
    )
    extraction: ExtractionHardware = Field(default_factory=ExtractionHardware)
    generation: GenerationHardware = Field(default_factory=GenerationHardware)
    scoring: ScoringHardware = Field(default_factory=ScoringHardware)
    gpus: Annotated[int, Field(ge=1)] = Field(
        1, description="Jobs that run side by side, one GPU each; `preset: auto` counts the cards."
    )


class Limits(Strict):
    """Guards against sweeps that grew by accident."""

    max_images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] = Field(
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

    experiments: list[str] | Literal["all"] = Field(
        description="Experiments that the default target builds: names of files in config/experiments/, or `all` for all "
        "files there."
    )
    models: str = Field("config/models.yaml", description="File with the models.")
    family: str | None = Field(
        None,
        description="Family of models that experiments are run with, a name under `families` in the models file.",
    )
    statistics: list[str] = Field(
        default_factory=list,
        description="Analyses that the default target builds: names of files in config/statistics/.",
    )
    maps: list[str] = Field(
        default_factory=list,
        description="Files of maps that the target `maps` reports on: names of files in config/maps/.",
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
    gc: Literal["list", "delete"] = Field(
        "list",
        description="Whether the target `gc` removes the files of the store that nothing uses, or only lists them.",
    )
    keep_conditioning: bool = Field(
        False, description="Keep conditioning files whose images exist; they can always be made again."
    )
