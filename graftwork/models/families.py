"""Families of models: everything about a kind of encoder or generator that is not in a checkpoint's own files.

A family is one module or package in `graftwork.models.encoders` or `graftwork.models.generators` that defines `FAMILY`,
under the name of the module. Families are found by walking these packages, and nothing else names one. Registrations are
read while the workflow is parsed: the module of `FAMILY` imports neither torch nor a model library at the top, and the
class that runs a model is imported when one is loaded.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.core.code_digest import outside_digests

if TYPE_CHECKING:
    import torch

ENCODERS = "graftwork.models.encoders"
GENERATORS = "graftwork.models.generators"
# Entry points of the code digests of what looks at a reference, and of what starts from an image.
READING_REFERENCES = "graftwork.models.images:open_reference"
READING_IMAGES = "graftwork.models.images:load_reference_image"
WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True)
class ModelFolder:
    """Files of a model in one of its folders.

    Attributes:
        folder: Relative to the model's folder; "" for the model's folder itself.
        patterns: Names and patterns of the files that decide the model's output. What else lies there does not count.
        required: Names of files without which the model is incomplete.
        has_weights: Whether the folder must hold weights in safetensors files, all shards of an index.
    """

    folder: str
    patterns: tuple[str, ...]
    required: tuple[str, ...]
    has_weights: bool = False


@dataclass(frozen=True)
class EncoderFacts:
    """What validation and planning need to know about an encoder.

    Attributes:
        family: Name of its family.
        num_hidden_layers: Blocks of its language model; `hidden_states` has one entry more.
        hidden_size: Width of a hidden state.
        accepts_images: Whether it takes an image.
        rope_theta: Base of the rotary embedding.
        special_tokens: Every added token of the tokenizer.
        has_chat_template: Whether there is one.
        image_token: Text of the token that stands for image features; None for an encoder of text.
        patch_size: Side of an image patch in pixels; None for an encoder of text.
        spatial_merge_size: Patches on a side of an image token; None for an encoder of text.
        deepstack_layers: First blocks to whose output visual features are added; None for an encoder of text.
        min_pixels: Fewest pixels that the image processor makes of an image; None for an encoder of text.
        max_pixels: Most pixels.
    """

    family: str
    num_hidden_layers: int
    hidden_size: int
    accepts_images: bool
    rope_theta: float
    special_tokens: list[str]
    has_chat_template: bool
    image_token: str | None = None
    patch_size: int | None = None
    spatial_merge_size: int | None = None
    deepstack_layers: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class GeneratorFacts:
    """What validation and planning need to know about a generator.

    Attributes:
        family: Name of its family.
        caption_channels: Width of a caption token.
        max_caption_tokens: Longest caption.
        size_multiple: Height and width of an image are multiples of this, the side of an image token in pixels.
        latent_channels: Channels of the latents.
        scheduler_config: Settings of the scheduler, without the keys that only say which library wrote them.
        max_height: Largest height of an image in pixels; None for none that is known.
        max_width: Largest width.
        max_steps: Most steps of sampling; None for none that is known.
    """

    family: str
    caption_channels: int
    max_caption_tokens: int
    size_multiple: int
    latent_channels: int
    scheduler_config: Mapping[str, Any]
    max_height: int | None
    max_width: int | None
    max_steps: int | None


Facts = EncoderFacts | GeneratorFacts


@dataclass(frozen=True, kw_only=True)
class EncoderFamily:
    """A kind of encoder.

    Attributes:
        name: Name of its module, and the value of `family` in config/models.yaml.
        encoder: `module:Class` that loads and runs it, a subclass of `encoder.Encoder`; the code digest of hidden states
            begins there.
        model_type: `model_type` in the config.json of its checkpoints.
        accepts_images: Whether it takes an image beside a text.
        prompt_formats: Values of `prompt_format` that it takes: "chat", "raw", "instruct".
        natural_format: What `prompt_format: natural` stands for where a model's entry does not say it.
        processor_files: Names of files of an image processor beside those of the tokenizer.
        required_processor_files: Those of them that a complete model has.
        read_facts: (folder of weights and config, folder of the tokenizer) -> facts.
        weight_shapes: Folder of weights and config -> names and shapes of weights that its config.json asks for, one mapping
            for each part whose names have a prefix of their own in the files.
        image_problem: (facts, width, height) -> why an image of this size cannot be taken, or None.
        image_tokens: (facts, width, height) -> how many tokens an image of this size becomes; 0 where that is not known.
    """

    name: str
    encoder: str
    model_type: str
    accepts_images: bool
    prompt_formats: tuple[str, ...]
    natural_format: str
    processor_files: tuple[str, ...]
    required_processor_files: tuple[str, ...]
    read_facts: Callable[[Path, Path], EncoderFacts]
    weight_shapes: Callable[[Path], Sequence[Mapping[str, tuple[int, ...]]]]
    image_problem: Callable[[Mapping[str, Any], int, int], str | None]
    image_tokens: Callable[[Mapping[str, Any], int, int], int]

    @property
    def code(self) -> tuple[str, ...]:
        """Entry points of the code digest of hidden states, reading of images included where it takes them."""
        return (self.encoder, READING_REFERENCES) if self.accepts_images else (self.encoder,)


@dataclass(frozen=True)
class CaptionNormWeight:
    """Where the weight of a generator's first caption layer is, if that is an RMSNorm.

    Attributes:
        folder: Folder of the weights in the model's folder.
        weight: Name of the weight.
        eps: Key of epsilon in the config.json of that folder.
        default_eps: Epsilon where config.json does not have the key.
    """

    folder: str
    weight: str
    eps: str
    default_eps: float


@dataclass(frozen=True, kw_only=True)
class CaptionFormat:
    """What a generator is conditioned on, and what it sees of that.

    Attributes:
        padded_length: Tokens of a caption -> tokens once it is padded.
        norm: The norm that hides the scale of each token; None where the scale is visible.
    """

    padded_length: Callable[[int], int]
    norm: CaptionNormWeight | None


@dataclass(frozen=True, kw_only=True)
class GeneratorFamily:
    """A kind of generator.

    Attributes:
        name: Name of its module, and the value of `family` in config/models.yaml.
        generator: `module:Class` that loads and runs it, a subclass of `generator.Generator`; the code digest of images
            begins there.
        transformer_class: `_class_name` in the config.json of its transformer.
        folders: Its files.
        read_facts: Folder -> facts.
        weight_shapes: One of its folders with weights -> names and shapes of weights that its config.json asks for.
        captions: What it is conditioned on.
        scheduler_sigmas: (scheduler config, num_inference_steps, image tokens, first step) -> float32
            (num_inference_steps - first step + 1,), the sigmas that its scheduler goes through, the last 0. Digest of its
            own: it decides conditioning that follows sigma.
        attention_backends: Names of `acceleration.ATTENTION_BACKENDS` that it can use.
        acceleration: Names of `acceleration.NEUTRAL` that it can have at another value.
    """

    name: str
    generator: str
    transformer_class: str
    folders: tuple[ModelFolder, ...]
    read_facts: Callable[[Path], GeneratorFacts]
    captions: CaptionFormat
    scheduler_sigmas: "Callable[[Mapping[str, Any], int, int, int], torch.Tensor]"
    attention_backends: tuple[str, ...]
    acceleration: tuple[str, ...]
    weight_shapes: Callable[[Path], Sequence[Mapping[str, tuple[int, ...]]]]

    def code(self, from_image: bool) -> tuple[str, ...]:
        """Returns the entry points of the code digest of images.

        Args:
            from_image: Whether they start from an image, which has to be read.
        """
        own = (self.generator, "graftwork.models.generator:assemble_batch")
        return (*own, READING_IMAGES) if from_image else own


@outside_digests("looks up what has a digest of its own")
def encoder_family(name: str) -> EncoderFamily:
    """Returns a family of encoders.

    Raises:
        ValueError: where there is none of this name.
    """
    return _named("encoder", name, encoder_families())


@outside_digests("looks up what has a digest of its own")
def generator_family(name: str) -> GeneratorFamily:
    """Returns a family of generators.

    Raises:
        ValueError: where there is none of this name.
    """
    return _named("generator", name, generator_families())


@outside_digests("looks up what has a digest of its own")
def family_of(kind: str, entry: Mapping[str, Any], name: str = "NAME") -> Any:
    """Returns the family of an entry in config/models.yaml.

    Args:
        kind: "encoder" or "generator".
        entry: Mapping with `family`.
        name: Name of the model, for the message.

    Raises:
        ValueError: for another kind, and for a family that does not exist.
    """
    if kind not in ("encoder", "generator"):
        raise ValueError(f"kind {kind!r} of a model is not one of encoder, generator")
    return _named(
        kind, entry.get("family"), encoder_families() if kind == "encoder" else generator_families(), name
    )


def _named(kind: str, family: Any, families: Mapping[str, Any], name: str = "NAME") -> Any:
    if family not in families:
        raise ValueError(
            f"family {family!r} of {kind} {name!r} is not one of {', '.join(families)}; set config/models.yaml: "
            f"{kind}s.{name}.family"
        )
    return families[family]


@outside_digests("names families in messages")
def families_with_images() -> str:
    """Returns the names of the families of encoders that take images, for messages."""
    return " or ".join(name for name, family in encoder_families().items() if family.accepts_images)


@cache
def encoder_families() -> dict[str, EncoderFamily]:
    """Returns every family of encoders by name, sorted."""
    return _registered(ENCODERS, EncoderFamily)


@cache
def generator_families() -> dict[str, GeneratorFamily]:
    """Returns every family of generators by name, sorted."""
    return _registered(GENERATORS, GeneratorFamily)


def _registered(package: str, kind: type) -> dict[str, Any]:
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        path = f"{package}.{module.name}"
        family = getattr(importlib.import_module(path), "FAMILY", None)
        if not isinstance(family, kind) or family.name != module.name:
            raise TypeError(
                f"{path} must define FAMILY, a {kind.__name__} with the name {module.name!r}, not {family!r}"
            )
        found[module.name] = family
    return dict(sorted(found.items()))


def first_step(num_inference_steps: int, strength: float) -> int:
    """Returns the first step that an image-to-image run takes, counted from 0.

    The same for every family; `get_timesteps` of the image-to-image pipelines in diffusers.

    Args:
        num_inference_steps: Steps of the whole schedule.
        strength: From 0 to 1; at 0 the result is `num_inference_steps`, and nothing would be run.
    """
    return int(max(num_inference_steps - min(num_inference_steps * strength, num_inference_steps), 0))


def load_class(path: str) -> Any:
    """Imports what a registration names as `module:Class`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
