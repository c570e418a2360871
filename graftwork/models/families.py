"""Families of models: everything about a kind of encoder, generator or scorer that is not in a checkpoint's own files.

A family is one module or package in `graftwork.models.encoders`, `.generators` or `.scorers` that defines `FAMILY`,
under the name of the module. Families are found by walking these packages, and nothing else names one. Registrations are
read while the workflow is parsed: the module of `FAMILY` imports neither torch nor a model library at the top, and the
class that runs a model is imported when one is loaded.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from graftwork.core.code_digest import outside_digests
from graftwork.core.collector import importing

if TYPE_CHECKING:
    import torch

    from graftwork.models.prompts import AskedInput

ENCODERS = "graftwork.models.encoders"
GENERATORS = "graftwork.models.generators"
SCORERS = "graftwork.models.scorers"
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


# Folders of a pipeline as diffusers saves it, without its text encoder and tokenizer, which are an encoder of their own here.
PIPELINE_FOLDERS = (
    ModelFolder("", ("model_index.json",), ("model_index.json",)),
    ModelFolder("transformer", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
    ModelFolder("vae", ("*.json", "*.safetensors"), ("config.json",), has_weights=True),
    ModelFolder("scheduler", ("*.json", "*.safetensors"), ("scheduler_config.json",)),
)


@dataclass(frozen=True)
class EncoderFacts:
    """Facts about an encoder that validation and planning need.

    Attributes:
        family: Name of its family.
        num_hidden_layers: Blocks of its language model; `hidden_states` has one entry more.
        hidden_size: Width of a hidden state.
        accepts_images: Whether it takes an image.
        rope_theta: Base of the rotary embedding; None where it is not known.
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
    rope_theta: float | None
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
    """Facts about a generator that validation and planning need.

    Attributes:
        family: Name of its family.
        conditioning_layers: Layers of its text encoder that it was trained on, in its order.
        caption_channels: Width of a hidden state of one of these layers.
        caption_padding: Tokens that its text encoder pads a text to on the right, where the generator sees the states of
            pads; 0 where there are none or they are masked.
        max_caption_tokens: Longest caption, in tokens that the generator is given.
        size_multiple: Height and width of an image are multiples of this, the side of an image token in pixels.
        latent_channels: Channels of the latents.
        scheduler_config: Settings of the scheduler, without the keys that only say which library wrote them.
        max_height: Largest height of an image in pixels; None for none that is known.
        max_width: Largest width.
        max_steps: Most steps of sampling; None for none that is known.
        is_distilled: Whether it was distilled to do without guidance; None where that is not known.
    """

    family: str
    conditioning_layers: tuple[int, ...]
    caption_channels: int
    caption_padding: int
    max_caption_tokens: int
    size_multiple: int
    latent_channels: int
    scheduler_config: Mapping[str, Any]
    max_height: int | None
    max_width: int | None
    max_steps: int | None
    is_distilled: bool | None


@dataclass(frozen=True)
class ScorerFacts:
    """What validation needs to know about a scorer.

    Attributes:
        family: Name of its family.
        width: Width of what it compares.
        max_text_tokens: Tokens that it reads of a text; None for no limit, and for a scorer that reads none.
    """

    family: str
    width: int
    max_text_tokens: int | None


Facts = EncoderFacts | GeneratorFacts | ScorerFacts


@dataclass(frozen=True, kw_only=True)
class EncoderFamily:
    """A kind of encoder.

    Attributes:
        name: Name of its module, and the value of `family` in config/models.yaml.
        encoder: `module:Class` that loads and runs it, a subclass of `encoder.Encoder`; the code digest of hidden states
            begins there.
        model_type: `model_type` in the config.json of its checkpoints; None where it has no such file.
        accepts_images: Whether it takes an image beside a text.
        prompt_formats: Values of `prompt_format` that it takes: "chat", "raw", "instruct".
        natural_format: What `prompt_format: natural` stands for where a model's entry does not say it.
        pads_texts: Whether it gives the states of pads after a text, which some generators see.
        batches_prompts: Whether it encodes several prompts at once, texts alone or with one image that all have, so that
            `hardware.extraction.batch_shape` says how many.
        folders: Entry in config/models.yaml -> its files.
        read_facts: (folder of weights and config, folder of the tokenizer) -> facts.
        weight_shapes: Folder of weights and config -> names and shapes of weights that its config.json asks for, one mapping
            for each part whose names have a prefix of their own in the files.
        image_problem: (facts, width, height) -> why an image of this size cannot be taken, or None.
        image_tokens: (facts, width, height) -> how many tokens an image of this size becomes; 0 where that is not known.
        captioner: `module:Class` that writes about an image, a subclass of `encoder.Captioner`; None where it writes nothing.
        lacks: Folder -> (input, entry of `hidden_states`) -> why there are no such states, as a sentence, or None; None for
            families that compute the states of any input.
    """

    name: str
    encoder: str
    model_type: str | None
    accepts_images: bool
    prompt_formats: tuple[str, ...]
    natural_format: str
    pads_texts: bool
    batches_prompts: bool
    folders: Callable[[Mapping[str, Any]], tuple[ModelFolder, ...]]
    read_facts: Callable[[Path, Path], EncoderFacts]
    weight_shapes: Callable[[Path], Sequence[Mapping[str, tuple[int, ...]]]]
    image_problem: Callable[[Mapping[str, Any], int, int], str | None]
    image_tokens: Callable[[Mapping[str, Any], int, int], int]
    captioner: str | None
    lacks: "Callable[[Path], Callable[[AskedInput, int], str | None]] | None"

    @property
    def captioning_code(self) -> tuple[str, ...]:
        """Entry points of the code digest of what it writes about an image."""
        return (str(self.captioner), READING_REFERENCES)

    @property
    def code(self) -> tuple[str, ...]:
        """Entry points of the code digest of hidden states, reading of images included where it takes them."""
        return (self.encoder, READING_REFERENCES) if self.accepts_images else (self.encoder,)


@dataclass(frozen=True)
class CaptionNormWeight:
    """Where the weight of a generator's first caption layer is, if that is an RMSNorm. It hides the scale of each token.

    Attributes:
        folder: Folder of the weights in the model's folder.
        weight: Name of the weight, (width of a caption token,).
        eps: Key of epsilon in the config.json of that folder.
        default_eps: Epsilon where config.json does not have the key.
    """

    folder: str
    weight: str
    eps: str
    default_eps: float


@dataclass(frozen=True)
class CaptionLinearWeight:
    """Where the weight of a generator's first caption layer is, if that is a linear one. Scale is visible.

    Attributes:
        folder: Folder of the weights in the model's folder.
        weight: Name of the weight, (outputs, width of a caption token).
    """

    folder: str
    weight: str


Layout = Literal["single", "channels", "stack"]
Padding = Literal["visible", "learned", "masked"]


@dataclass(frozen=True, kw_only=True)
class CaptionFormat:
    """Conditioning of a generator, and the part of it that it sees.

    Attributes:
        layout: How a caption token is made of the states of its layers: `single` for the one that there is, `channels` for
            one after the other, (tokens, layers * width), `stack` for a dimension of their own, (tokens, layers, width).
        think_block: value that `text_think_block: natural` stands for, see `prompts.InputOptions`.
        system_prompt: Text of a system turn that it was trained with, or None.
        dropped_prefix: First tokens of the text encoder's states that the generator is not given.
        padding: `visible` where its text encoder pads texts and the generator sees the states of pads, `learned` where it
            pads by itself and sees its own token, `masked` where it does not see them.
        padded_length: Tokens of a caption -> tokens once it is padded; captions of one padded length can share a batch.
        first_layer: The first layer that captions go through, which decides what is seen of them; None where nothing is
            hidden.
        order_is_visible: Whether another order of the tokens changes the image.
        changes_between_steps: Whether each step of the sampling may have a caption of its own.
        projection: Name of the weight (width, width of a caption token) of the linear layer after a norm that is the first,
            in the same folder; None where there is none that is known.
    """

    layout: Layout
    think_block: str
    system_prompt: str | None
    dropped_prefix: int
    padding: Padding
    padded_length: Callable[[int], int]
    first_layer: CaptionNormWeight | CaptionLinearWeight | None
    order_is_visible: bool
    changes_between_steps: bool
    projection: str | None

    def __post_init__(self) -> None:
        for name, allowed in (("layout", Layout), ("padding", Padding)):
            if (value := getattr(self, name)) not in get_args(allowed):
                raise ValueError(f"{name} {value!r} is not known; allowed: {', '.join(get_args(allowed))}")


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Options of the sampling of a generator.

    Attributes:
        guidance_problem: Facts -> why it cannot be guided, as the end of a sentence; None where it can.
        guidance_options: Parameters of cells that change its guidance.
        starts_from_images: Whether it can start from an image.
        noise_dtype: Type that the noise is drawn in: `float32`, or `caption` for that of the captions.
    """

    guidance_problem: "Callable[[GeneratorFacts], str | None]"
    guidance_options: tuple[str, ...]
    starts_from_images: bool
    noise_dtype: Literal["float32", "caption"]


@dataclass(frozen=True, kw_only=True)
class ReferenceInput:
    """Reference images that a generator takes beside a caption, as it was trained to: a control that grafts are held against.

    Attributes:
        control: Name of the control, see `design.controls`.
        generator: `module:Class` that loads and runs it, a subclass of `reference_generator.ReferenceGenerator`; the code
            digest of images with references begins there.
        image_problem: (width, height) of a reference in pixels -> why it cannot be taken, or None.
    """

    control: str
    generator: str
    image_problem: Callable[[int, int], str | None]

    @property
    def code(self) -> tuple[str, ...]:
        """Entry points of the code digest of images with references, which have to be read."""
        return (
            self.generator,
            "graftwork.models.generator:assemble_batch",
            "graftwork.models.reference_generator:with_references",
            READING_IMAGES,
        )


@dataclass(frozen=True, kw_only=True)
class GeneratorFamily:
    """A kind of generator.

    Attributes:
        name: Name of its module, and the value of `family` in config/models.yaml.
        generator: `module:Class` that loads and runs it, a subclass of `generator.Generator`; the code digest of images
            begins there.
        transformer_class: `_class_name` in the config.json of its transformer.
        transformer_folder: Folder of its transformer, or of what it has in place of one.
        folders: Its files.
        read_facts: (folder, entry in config/models.yaml) -> facts.
        weight_shapes: One of its folders with weights -> names and shapes of weights that its config.json asks for.
        captions: its conditioning.
        sampling: options of its sampling.
        scheduler_sigmas: (scheduler config, num_inference_steps, image tokens, first step) -> float32
            (num_inference_steps - first step + 1,), the sigmas that its scheduler goes through, the last 0. Digest of its
            own: it decides conditioning that follows sigma.
        attention_backends: Names of `acceleration.ATTENTION_BACKENDS` that it can use.
        acceleration: Names of `acceleration.NEUTRAL` that it can have at another value.
        batch_bytes: (hardware, rows, pixels of a row) -> bytes that a batch takes on the device besides the weights, by
            measurement; None where it was not measured.
        velocity: `module:function` that gives the velocity of its transformer: (generator, caption (tokens, channels), latents
            (channels, height, width), sigma) -> float32 like the latents; None where there is no such function.
        references: Reference images that it takes; None where it takes none.
    """

    name: str
    generator: str
    transformer_class: str
    transformer_folder: str
    folders: tuple[ModelFolder, ...]
    read_facts: Callable[[Path, Mapping[str, Any]], GeneratorFacts]
    captions: CaptionFormat
    sampling: SamplingOptions
    scheduler_sigmas: "Callable[[Mapping[str, Any], int, int, int], torch.Tensor]"
    attention_backends: tuple[str, ...]
    acceleration: tuple[str, ...]
    weight_shapes: Callable[[Path], Sequence[Mapping[str, tuple[int, ...]]]]
    batch_bytes: Callable[[Mapping[str, Any], int, int], int] | None
    velocity: str | None
    references: ReferenceInput | None

    def code(self, from_image: bool) -> tuple[str, ...]:
        """Returns the entry points of the code digest of images.

        Args:
            from_image: Whether they start from an image, which has to be read.
        """
        own = (self.generator, "graftwork.models.generator:assemble_batch")
        return (*own, READING_IMAGES) if from_image else own


@dataclass(frozen=True, kw_only=True)
class ScorerFamily:
    """A kind of model that says how an image compares with a text or another image.

    Attributes:
        name: Name of its module, and the value of `family` in config/models.yaml.
        scorer: `module:Class` that loads and runs it, a subclass of `scorer.Scorer`; the code digest of its values begins
            there.
        model_type: `model_type` in the config.json of its checkpoints.
        quantities: names of the numbers that it gives, see `scorer`.
        files: Names of its files besides weights and config.json.
        required: Those of them that a complete model has.
        read_facts: Folder -> facts.
        weight_shapes: Folder -> names and shapes of weights that its config.json asks for.
    """

    name: str
    scorer: str
    model_type: str
    quantities: tuple[str, ...]
    files: tuple[str, ...]
    required: tuple[str, ...]
    read_facts: Callable[[Path], ScorerFacts]
    weight_shapes: Callable[[Path], Sequence[Mapping[str, tuple[int, ...]]]]

    @property
    def code(self) -> tuple[str, ...]:
        """Entry points of the code digest of its values, reading of images included."""
        return (self.scorer, READING_IMAGES)


@outside_digests("looks up what has a digest of its own")
def scorer_family(name: str) -> ScorerFamily:
    """Returns a family of scorers.

    Raises:
        ValueError: where there is none of this name.
    """
    return _named("scorer", name, scorer_families())


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
        kind: "encoder", "generator" or "scorer".
        entry: Mapping with `family`.
        name: Name of the model, for the message.

    Raises:
        ValueError: for another kind, and for a family that does not exist.
    """
    families = {"encoder": encoder_families, "generator": generator_families, "scorer": scorer_families}
    if kind not in families:
        raise ValueError(f"kind {kind!r} of a model is not one of {', '.join(families)}")
    return _named(kind, entry.get("family"), families[kind](), name)


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


@cache
def scorer_families() -> dict[str, ScorerFamily]:
    """Returns every family of scorers by name, sorted."""
    return _registered(SCORERS, ScorerFamily)


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
    if module not in sys.modules:
        with importing():
            importlib.import_module(module)
    return getattr(sys.modules[module], name)
