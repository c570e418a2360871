"""What config/config.yaml and config/models.yaml may say; a part of the definition that `schema` describes."""

from typing import Annotated, Any, Literal

from pydantic import Field

from graftwork.core.parameters import Instruct, Strict
from graftwork.models.acceleration import ATTENTION_BACKENDS, COMPILE_MODES
from graftwork.models.families import encoder_families, generator_families

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


class Family(Strict):
    """Models that belong together, by role."""

    encoders: dict[str, str] = Field(
        description="Role to the name of an encoder. Experiments may give a role wherever they give an encoder."
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for `base` of every experiment; `defaults` in config/config.yaml comes first.",
    )


class Models(Strict):
    """config/models.yaml."""

    encoders: dict[str, EncoderEntry] = Field(description="Encoders by name.")
    generators: dict[str, GeneratorEntry] = Field(description="Generators by name.")
    families: dict[str, Family] = Field(default_factory=dict, description="Families of models by name.")


# config/config.yaml

# Tables and plans are linear in the number of cells, but all of them are held in memory.
MOST_IMAGES = 1_000_000


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

    experiments: list[str] = Field(
        description="Experiments that the default target builds: names of files in config/experiments/."
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
