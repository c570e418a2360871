"""Records whose digests are names in the store: encoder inputs, statistics, recipes and images; and rows of recipes.

A key hashes the JSON of a record (`record_digest`): every field counts, but for those at their neutral value, which is the
default here. tests/unit/planning/test_keys.py takes each field away in turn.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from graftwork.core.records import from_json, record_digest, to_json
from graftwork.models.prompts import AskedInput, InputOptions

# How keys begin that name a vector in the place of hidden states.
_VECTOR = "vector "


@dataclass(frozen=True)
class Arithmetic:
    """Hardware settings that change low bits of a result.

    Attributes:
        dtype: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        cpu_threads: threads on the CPU; None on a GPU.
    """

    dtype: str
    device: str
    cpu_threads: int | None


@dataclass(frozen=True, kw_only=True)
class EncoderInput(InputOptions, Arithmetic):
    """One input of an encoder: what a file of hidden states is the digest of.

    Nothing is said of the layer, which is the name of a dataset in the file.

    Attributes:
        encoder: identity of the encoder.
        prompt: text as written by the user; None where no text takes part.
        reference: SHA-256 of the image; None without one.
        code: digest of the code that computes hidden states.
        source: "hidden_states", or "vision_tower" for the vision tower's output, which no text takes part in.
        batch_shape: rows of the batch that it is encoded in, beside others with the same image or with none.
    """

    encoder: str
    prompt: str | None
    reference: str | None
    code: str
    source: str = "hidden_states"
    batch_shape: int = 1

    @property
    def options(self) -> InputOptions:
        """Options of how the encoder is shown prompt and image."""
        return InputOptions(**{option.name: getattr(self, option.name) for option in fields(InputOptions)})

    @property
    def asked(self) -> AskedInput:
        """What the encoder is asked for."""
        return AskedInput(self.prompt, self.reference, self.source, self.options)


@dataclass(frozen=True, kw_only=True)
class CaptionParts(Arithmetic):
    """What an answer about an image is the digest of.

    Attributes:
        encoder: identity of the encoder that answers.
        reference: SHA-256 of the image.
        question: text of the user.
        max_new_tokens: most tokens of the answer.
        code: digest of the code that answers.
    """

    encoder: str
    reference: str
    question: str
    max_new_tokens: int
    code: str

    @property
    def key(self) -> str:
        """Name of the answer in the store."""
        return record_digest(self)


@dataclass(frozen=True)
class Caption:
    """An answer about an image, as the store has it.

    Attributes:
        parts: what its name is the digest of.
        text: the answer, in one line.
    """

    parts: CaptionParts
    text: str


@dataclass(frozen=True)
class StatisticsParts:
    """Record whose digest names a file of statistics.

    Attributes:
        inputs: keys of hidden states, in the order of the corpus.
        layer: entry of `hidden_states`.
        code: digest of the code that measures.
        covariance_of: the token class whose covariance the file has, and which it is of alone; None for all classes
            without covariance.
    """

    inputs: tuple[str, ...]
    layer: int
    code: str
    covariance_of: str | None = None


@dataclass(frozen=True)
class MapParts:
    """What a fitted map is the digest of.

    Attributes:
        source: keys of hidden states of the encoder that is mapped, one for each prompt, in the order of the corpus.
        layers: entries of `hidden_states` that it takes.
        target: keys of those of the generator's own text encoder, for the same prompts.
        target_layer: entry of `hidden_states`.
        normalization: what is done to states first.
        method: what fits the map.
        parameters: of the method.
        code: digest of the code that reads pairs and fits.
        metric: identity of the generator whose metric the method takes; None where it takes none.
    """

    source: tuple[str, ...]
    layers: tuple[int, ...]
    target: tuple[str, ...]
    target_layer: int
    normalization: str
    method: str
    parameters: Mapping[str, Any]
    code: str
    metric: str | None = None


@dataclass(frozen=True)
class InputLayer:
    """One layer of one encoder input.

    Attributes:
        key: name of the input's hidden states.
        layer: entry of `hidden_states`.
    """

    key: str
    layer: int


@dataclass(frozen=True)
class CorpusStatistics:
    """Statistics over a corpus.

    Attributes:
        key: name of their file in the store.
        tokens: class of tokens.
    """

    key: str
    tokens: str


@dataclass(frozen=True)
class FileStatistics:
    """Statistics in a file of the user.

    Attributes:
        npz: SHA-256 of the file.
        tokens: how many tokens they are of; None where the file says it.
    """

    npz: str
    tokens: int | None


@dataclass(frozen=True)
class VectorName:
    """Name of a vector that is added to hidden states.

    Recipes name sources by keys of hidden states. A vector takes the place of one, under a key of its own form that says what it
    is made of, and is read like any source.

    Attributes:
        file: SHA-256 of a file; None for the difference of two means.
        tensor: Its tensor.
        towards: Statistics with the one mean.
        away_from: Those with the mean that is taken from it.
    """

    file: str | None = None
    tensor: str | None = None
    towards: CorpusStatistics | None = None
    away_from: CorpusStatistics | None = None

    @property
    def as_source(self) -> InputLayer:
        """As recipes name it."""
        return InputLayer(_VECTOR + json.dumps(to_json(self), sort_keys=True), 0)

    @classmethod
    def of_key(cls, key: str) -> "VectorName | None":
        """Returns the vector that a recipe names in the place of hidden states, or None for hidden states."""
        return from_json(cls, json.loads(key.removeprefix(_VECTOR))) if key.startswith(_VECTOR) else None


@dataclass(frozen=True)
class StageChoice:
    """The transform that a recipe chose for a stage.

    Attributes:
        name: of the transform.
        parameters: its keyword arguments, whose names are the transform's. Statistics of a corpus or a file are not among
            them.
        code: digest of the transform.
        corpus_statistics: statistics over a corpus, by the name that the transform's context has for them: `statistics`, or
            `donor` and `host`.
        file_statistics: `statistics` of a file; None for others.
        map: key of a fitted map; None for others.
    """

    name: str
    parameters: Mapping[str, Any]
    code: str
    corpus_statistics: Mapping[str, CorpusStatistics] = field(default_factory=dict)
    file_statistics: FileStatistics | None = None
    map: str | None = None


@dataclass(frozen=True)
class SigmaSchedule:
    """Parameters of a schedule that follows sigma; its alphas are known when the conditioning is built.

    Attributes:
        schedule: fields of `AlphaSchedule` but `over`.
        num_inference_steps: steps of the whole schedule.
        first_step: the first one that is run.
        scheduler: the generator's scheduler config.
        family: family of the generator.
        code: digest of the code that computes the sigmas.
        image_tokens: tokens of the image, where the scheduler shifts by them; 0 where it does not.
    """

    schedule: Mapping[str, Any]
    num_inference_steps: int
    first_step: int
    scheduler: Mapping[str, Any]
    family: str
    code: str
    image_tokens: int


@dataclass(frozen=True)
class LayerRecipe:
    """What makes one layer of a conditioning that has several; each attribute is as in `Recipe`.

    Attributes:
        text: input of the generator's own text encoder.
        sources: inputs of the encoder that is blended in; empty where the layer stays the text.
        neutral_sources: what each of them is compared with.
        stages: stage -> transform.
    """

    text: InputLayer
    sources: tuple[InputLayer, ...] = ()
    neutral_sources: tuple[InputLayer, ...] = ()
    stages: Mapping[str, StageChoice] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Recipe of a conditioning. Only parts that take effect are in it: at alpha 0 that is the text alone.

    Attributes:
        text: input of the generator's own text encoder.
        dtype: type that the generator gets.
        caption_norm: identity of the generator. It changes no byte of the conditioning, but what its row in the table says.
        code: digest of the code that builds conditioning, transforms aside.
        negative: key of the negative prompt's hidden states, of the same layer as the text; None without guidance.
        sources: inputs of the encoder that is blended in: for each reference, each layer.
        neutral_sources: what each of them is compared with, where the blend compares.
        alphas: alpha of each step that is run, or the one that all have; the highest where they follow sigma; empty where
            there are no sources.
        alpha_over_sigma: the schedule of alphas that follows sigma.
        stages: stage -> transform.
        further_layers: where the generator is conditioned on several layers, those after the first, which the attributes
            above describe.
        layout: how a caption token is made of its layers, see `models.families.CaptionFormat`.
        dropped_prefix: first tokens of the text that the generator is not given.
        noise: of a control: seed of the random direction that takes the place of each token's change.
    """

    text: InputLayer
    dtype: str
    caption_norm: str
    code: str
    negative: str | None = None
    sources: tuple[InputLayer, ...] = ()
    neutral_sources: tuple[InputLayer, ...] = ()
    alphas: tuple[float, ...] = ()
    alpha_over_sigma: SigmaSchedule | None = None
    stages: Mapping[str, StageChoice] = field(default_factory=dict)
    further_layers: tuple[LayerRecipe, ...] = ()
    layout: str = "single"
    dropped_prefix: int = 0
    noise: int | None = None

    @property
    def layers(self) -> "tuple[Recipe, ...]":
        """The recipes of single layers that it consists of, in the order of the generator."""
        own = replace(self, further_layers=())
        return (own, *(replace(own, **vars(layer)) for layer in self.further_layers))

    @property
    def key(self) -> str:
        """Name of the recipe in the table."""
        return record_digest(self)


@dataclass(frozen=True, kw_only=True)
class ImageParts(Arithmetic):
    """Record whose digest names an image: all that the generator sees.

    Attributes:
        conditioning: hash of the conditioning tensors.
        generator: identity, which covers weights, VAE and scheduler settings.
        seed: of the noise.
        height: in pixels.
        width: in pixels.
        num_inference_steps: steps of the schedule.
        guidance_scale: 0 for no guidance.
        batch_shape: rows of the batch.
        attention_backend: in the names of diffusers.
        compile: mode of `torch.compile`, or False.
        code: digest of the sampling code.
        cfg_normalization: with guidance.
        cfg_truncation: with guidance.
        init_image: SHA-256 of the image to start from; None for noise alone.
        first_step: the first step that is run. Of the strength only this counts.
        acceleration: settings that were added later, where they change something.
        references: SHA-256 of images that the generator is shown beside the caption.
        reference_scale: strength of these, where it can be set.
    """

    conditioning: str
    generator: str
    seed: int
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    batch_shape: int
    attention_backend: str
    compile: str | bool
    code: str
    cfg_normalization: float = 0.0
    cfg_truncation: float = 1.0
    init_image: str | None = None
    first_step: int = 0
    acceleration: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    reference_scale: float | None = None

    @property
    def key(self) -> str:
        """Name of the image in the store."""
        return record_digest(self)

    @property
    def work(self) -> int:
        """Pixels x steps that are run, twice where there is guidance: what the time of an image goes with."""
        steps = self.num_inference_steps - self.first_step
        return self.height * self.width * steps * (2 if self.guidance_scale else 1)


@dataclass(frozen=True)
class Sketch:
    """A few numbers that stand for what the generator sees of a conditioning, see `graftwork.conditioning.sketches`.

    Attributes:
        tokens: name of each tensor -> its tokens.
        values: the numbers, little-endian float32 in base64.
    """

    tokens: Mapping[str, int]
    values: str


@dataclass(frozen=True)
class ConditioningReport:
    """Row of a recipe: which bytes it gave, and what tables say of them.

    Attributes:
        conditioning: hash of the tensors.
        tokens: length of the conditioning.
        source_tokens: tokens of the source that were taken.
        source_tokens_used: share of them that has a weight; None where the blend takes the source as it is.
        warnings: what transforms warned of.
        negative_tokens: length of the negative prompt's conditioning; None without guidance.
        masked_dimensions: which dimensions were masked, in words.
        fixed_dimensions: which dimensions were fixed, in words.
        alphas: alpha of each step, where steps differ.
        visible_change: how much the generator sees of it, see `CaptionNorm.relative_change`; None where that is not known.
        sketch: what the generator sees; None where that is not known.
    """

    conditioning: str
    tokens: int
    source_tokens: int
    source_tokens_used: float | None = None
    warnings: tuple[str, ...] = ()
    negative_tokens: int | None = None
    masked_dimensions: tuple[str, ...] = ()
    fixed_dimensions: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    visible_change: float | None = None
    sketch: Sketch | None = None
