"""Keys of what the store holds: hidden states, statistics, conditioning recipes and images.

A key is the digest of a record of `store.records`, which has everything that decides the bytes of an artefact and nothing
else. `Keys` is the one place that says what those things are for a cell.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from graftwork.core.cells import Parameters
from graftwork.core.records import record_digest
from graftwork.design.cells import CorpusRecord, ModelRecord
from graftwork.design.parameters import NEUTRAL
from graftwork.design.sampling import starting_step
from graftwork.design.settings import ExtractionHardware, Hardware
from graftwork.models.acceleration import changed_settings
from graftwork.models.description import resolve_layer
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from graftwork.planning.code import (
    conditioning_code,
    extraction_code,
    sampling_code,
    sigmas_code,
    statistics_code,
)
from graftwork.store.records import (
    Arithmetic,
    CorpusStatistics,
    EncoderInput,
    FileStatistics,
    ImageParts,
    InputLayer,
    Recipe,
    SigmaSchedule,
    StageChoice,
    StatisticsParts,
)
from graftwork.transforms.context import COVARIANCE, FIT_STATISTICS, NEUTRAL_SOURCE
from graftwork.transforms.dimension_fixes import host_class
from graftwork.transforms.registry import STAGES, transform
from graftwork.transforms.schedules import AlphaSchedule, alphas_of_steps, scheduled_alphas

# Of the sampling; without guidance a cell has them at their neutral value.
_GUIDANCE_OPTIONS = ("cfg_normalization", "cfg_truncation")
# Parameters of a cell that an encoder takes as they are; where they have no part or say what the checkpoint says, they
# are neutral, so that one extraction serves all.
_SOURCE_OPTIONS = tuple(option.name for option in fields(InputOptions))
_TEXT_OPTIONS = ("prompt_format", "system_prompt", "think_block")
# These two were in an image's key before there was a choice; later settings are in it where they change something.
_OLD_ACCELERATION = ("attention_backend", "compile")


@dataclass(frozen=True)
class NeededInput:
    """One layer of an encoder input whose hidden states a cell needs.

    Attributes:
        key: name of the input's hidden states.
        layer: entry of `hidden_states`.
        input: what the key is the digest of.
    """

    key: str
    layer: int
    input: EncoderInput

    @property
    def name(self) -> InputLayer:
        """As recipes name it."""
        return InputLayer(self.key, self.layer)


@dataclass(frozen=True)
class NeededStatistics:
    """Statistics of one layer of an encoder over a corpus.

    Attributes:
        key: name of their file in the store.
        parts: what the key is the digest of.
        inputs: inputs of the corpus, in its order.
        corpus: digest of the corpus.
        encoder: identity of the encoder.
        options: what the encoder is shown besides, and how.
    """

    key: str
    parts: StatisticsParts
    inputs: Sequence[NeededInput]
    corpus: str
    encoder: str
    options: InputOptions


class Keys:
    """Computes keys for the cells of one design under given hardware settings."""

    def __init__(
        self,
        models: Mapping[str, ModelRecord],
        hardware: Hardware,
        corpora: Mapping[str, CorpusRecord] | None = None,
    ):
        """Takes what cells name.

        Args:
            models: identity -> model.
            hardware: section `hardware` of config.yaml.
            corpora: digest -> corpus.
        """
        self._models = models
        self._corpora = corpora or {}
        self._extraction = _arithmetic(hardware.extraction)
        self._generation = hardware.generation.model_dump()
        self._generation_arithmetic = _arithmetic(hardware.generation)
        self._inputs: dict[str, tuple[str, EncoderInput]] = {}
        self._statistics: dict[str, NeededStatistics] = {}

    def text_states(self, cell: Parameters) -> NeededInput:
        """Returns the input of the generator's own text encoder."""
        options = _options(cell, _TEXT_OPTIONS, "text_")
        return self._needed(cell["text_encoder"], cell["prompt"], None, cell["text_hidden_layer"], options)

    def negative_states(self, cell: Parameters) -> NeededInput | None:
        """Returns the input of the generator's own text encoder for the negative prompt; None without guidance."""
        if cell["guidance_scale"] == 0.0:
            return None
        return self.text_states({**cell, "prompt": cell["negative_prompt"]})

    def source_states(self, cell: Parameters) -> tuple[NeededInput, ...]:
        """Returns the inputs of the encoder whose states are blended in: for each reference, each layer.

        There is one, but for a set of references or a list of layers, and none where alpha is 0.
        """
        if not any(self._alphas(cell)):
            return ()
        return self._states_beside(cell, _listed(cell["reference"]))

    def neutral_states(self, cell: Parameters) -> tuple[NeededInput, ...]:
        """Returns the inputs that those of `source_states` are compared with; none where the blend compares nothing."""
        if not any(self._alphas(cell)) or NEUTRAL_SOURCE not in transform("blend", cell["blend"]).needs:
            return ()
        return self._states_beside(cell, _listed(cell["neutral_reference"]))

    def all_states(self, cell: Parameters) -> list[NeededInput]:
        """Returns every input whose hidden states a cell needs."""
        negative = self.negative_states(cell)
        return [
            self.text_states(cell),
            *([negative] if negative else []),
            *self.source_states(cell),
            *self.neutral_states(cell),
        ]

    def statistics(
        self,
        corpus: str,
        encoder: str,
        layer: int,
        options: InputOptions,
        covariance_of: str | None = None,
    ) -> NeededStatistics:
        """Returns the statistics of a layer of an encoder over a corpus.

        Args:
            corpus: digest of the corpus.
            encoder: identity of the encoder.
            layer: layer as people say it.
            options: what the encoder is shown besides, and how.
            covariance_of: the token class whose covariance is wanted, if any.
        """
        at = repr((corpus, encoder, layer, options, covariance_of))
        if at not in self._statistics:
            accepts_images = self._models[encoder].facts.accepts_images
            needs = tuple(
                self._needed(encoder, prompt, reference, layer, self._fitting(options, encoder, reference))
                for prompt, reference in corpus_inputs(self._corpora[corpus], accepts_images)
            )
            # The inputs' keys stand for corpus, encoder and options.
            keys = tuple(need.key for need in needs)
            parts = StatisticsParts(keys, needs[0].layer, statistics_code(), covariance_of)
            self._statistics[at] = NeededStatistics(
                record_digest(parts), parts, needs, corpus, encoder, options
            )
        return self._statistics[at]

    def stage_statistics(self, cell: Parameters, stage: str) -> dict[str, NeededStatistics]:
        """Returns the statistics over a corpus that the transform chosen for a stage takes: part it has -> statistics.

        The part is `statistics`, or `donor` and `host` of a dimension fix. A file of statistics is none of these.
        """
        chosen = transform(stage, cell[stage])
        wanted = cell.get("statistics")
        if chosen.needs_statistics and isinstance(wanted, Mapping) and "corpus" in wanted:
            found = self.statistics(
                wanted["corpus"],
                wanted["encoder"],
                wanted["hidden_layer"],
                InputOptions(**wanted.get("options", {})),
                wanted["tokens"] if COVARIANCE in chosen.needs else None,
            )
            return {"statistics": found}
        if FIT_STATISTICS not in chosen.needs:
            return {}
        corpus = cell["fix_corpus"]
        source, text = _options(cell, _SOURCE_OPTIONS), _options(cell, _TEXT_OPTIONS, "text_")
        return {
            "donor": self.statistics(corpus, cell["encoder"], cell["hidden_layer"], source),
            "host": self.statistics(corpus, cell["text_encoder"], cell["text_hidden_layer"], text),
        }

    def recipe(self, cell: Parameters) -> Recipe:
        """Returns what makes a cell's conditioning.

        Only what takes part is in it: alpha 0 is the text alone, and a transform's parameters count where the
        transform is chosen.
        """
        negative, sources = self.negative_states(cell), self.source_states(cell)
        alone = Recipe(
            text=self.text_states(cell).name,
            dtype=self._generation["dtype"],
            caption_norm=cell["generator"],
            code=self._conditioning_code,
            negative=negative and negative.key,
        )
        if not sources:
            return alone
        return Recipe(
            **vars(alone)
            | {
                "sources": tuple(source.name for source in sources),
                "neutral_sources": tuple(source.name for source in self.neutral_states(cell)),
                "alphas": self._alphas(cell),
                "alpha_over_sigma": self._alpha_over_sigma(cell) if _follows_sigma(cell) else None,
                "stages": {stage: self._stage(cell, stage) for stage in STAGES},
            }
        )

    def image(self, cell: Parameters, conditioning: str) -> ImageParts:
        """Returns what makes an image.

        Args:
            cell: parameters of the cell.
            conditioning: hash of the conditioning tensors as the generator gets them.
        """
        first = starting_step(cell)
        changed = changed_settings(self._generation)
        return ImageParts(
            **vars(self._generation_arithmetic),
            conditioning=conditioning,
            **{
                name: cell[name]
                for name in ("generator", "seed", "height", "width", "num_inference_steps", "guidance_scale")
            },
            batch_shape=self._generation["batch_shape"],
            **{name: self._generation[name] for name in _OLD_ACCELERATION},
            code=sampling_code(self._models[cell["generator"]].facts.family, from_image=first > 0),
            **{name: _option(cell, name) for name in _GUIDANCE_OPTIONS},
            # An image to start from counts where it takes part, and of the strength only the step that it leads to.
            init_image=cell["init_image"] if first else None,
            first_step=first,
            acceleration={name: value for name, value in changed.items() if name not in _OLD_ACCELERATION},
        )

    def _states_beside(self, cell: Parameters, references: tuple[str | None, ...]) -> tuple[NeededInput, ...]:
        return tuple(
            self._source(cell, reference, layer)
            for reference in references
            for layer in _listed(cell["hidden_layer"])
        )

    def _source(self, cell: Parameters, reference: str | None, layer: int) -> NeededInput:
        encoder = cell["encoder"]
        if _option(cell, "source") == "vision_tower":
            # No text and no layer takes part: one extraction for every prompt, which holds one entry.
            return self._needed(encoder, None, reference, 0, NEUTRAL_OPTIONS, "vision_tower")
        shown = _option(cell, "source_text")
        prompt = {"prompt": cell["prompt"], "none": ""}[shown] if isinstance(shown, str) else shown["text"]
        options = self._fitting(_options(cell, _SOURCE_OPTIONS), encoder, reference)
        return self._needed(encoder, prompt, reference, layer, options)

    def _fitting(self, options: InputOptions, encoder: str, reference: str | None) -> InputOptions:
        """Returns the options with those neutral that do not change what an encoder does with an input."""
        if options.rope_theta == self._models[encoder].facts.rope_theta:
            options = replace(options, rope_theta=None)
        if reference is None:  # M-RoPE places text alone at 0, 1, 2 and so on.
            options = replace(options, positions=NEUTRAL_OPTIONS.positions)
        return options

    def _needed(
        self,
        encoder: str,
        prompt: str | None,
        reference: str | None,
        layer: int,
        options: InputOptions,
        source: str = "hidden_states",
    ) -> NeededInput:
        facts = self._models[encoder].facts
        at = repr((encoder, prompt, reference, options, source))
        if at not in self._inputs:
            made = EncoderInput(
                **vars(self._extraction),
                encoder=encoder,
                prompt=prompt,
                reference=reference,
                code=extraction_code(facts.family),
                source=source,
                **vars(options),
            )
            self._inputs[at] = record_digest(made), made
        key, made = self._inputs[at]
        return NeededInput(key, resolve_layer(layer, facts.num_hidden_layers), made)

    def _stage(self, cell: Parameters, stage: str) -> StageChoice:
        """Returns a stage's transform with its parameters, and what statistics are made from in place of their names."""
        chosen = transform(stage, cell[stage])
        found = self.stage_statistics(cell, stage)
        in_file = None
        if chosen.needs_statistics and not found and isinstance(cell["statistics"], Mapping):
            in_file = FileStatistics(**cell["statistics"])
        replaced = {
            "statistics": "statistics" in found or in_file is not None,
            "fix_corpus": FIT_STATISTICS in chosen.needs,
        }
        parameters = {
            name: value for name, value in chosen.values_of(cell).items() if not replaced.get(name, False)
        }
        corpus = {
            part: CorpusStatistics(needed.key, _tokens_of(cell, part)) for part, needed in found.items()
        }
        return StageChoice(chosen.name, parameters, chosen.digest, corpus, in_file)

    def _alphas(self, cell: Parameters) -> tuple[float, ...]:
        """Returns the alpha of each step that is run, or the one that all have.

        Where alpha follows sigma, which is not known yet, it is that of the cell.
        """
        schedule = _option(cell, "alpha_schedule")
        if schedule is None or cell["alpha"] == 0.0 or _follows_sigma(cell):
            return (cell["alpha"],)
        steps = cell["num_inference_steps"] - starting_step(cell)
        followed = AlphaSchedule.model_validate({**schedule, "over": "step"})
        alphas = tuple(scheduled_alphas(cell["alpha"], alphas_of_steps(followed, steps)))
        return alphas[:1] if len(set(alphas)) == 1 else alphas

    def _alpha_over_sigma(self, cell: Parameters) -> SigmaSchedule:
        facts = self._models[cell["generator"]].facts
        pixels, token = cell["height"] * cell["width"], facts.size_multiple**2
        scheduler = facts.scheduler_config
        return SigmaSchedule(
            schedule={name: value for name, value in cell["alpha_schedule"].items() if name != "over"},
            num_inference_steps=cell["num_inference_steps"],
            first_step=starting_step(cell),
            scheduler=dict(scheduler),
            family=facts.family,
            code=sigmas_code(facts.family),
            image_tokens=pixels // token if scheduler.get("use_dynamic_shifting") else 0,
        )

    @cached_property
    def _conditioning_code(self) -> str:
        return conditioning_code()


def corpus_inputs(corpus: CorpusRecord, accepts_images: bool) -> list[tuple[str, str | None]]:
    """Returns (text, SHA-256 of the reference or None) of every input, in the order of the corpus.

    Args:
        corpus: prompts and references.
        accepts_images: whether the encoder is shown the references.
    """
    references: Sequence[str | None] = (corpus.references if accepts_images else ()) or (None,)
    return [(prompt, reference) for prompt in corpus.prompts for reference in references]


def _listed(value: Any) -> tuple[Any, ...]:
    """Returns references or layers of a cell as a tuple: in YAML and in cells a single one stands alone."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _option(cell: Parameters, name: str) -> Any:
    return cell.get(name, NEUTRAL[name])


def _tokens_of(cell: Parameters, part: str) -> str:
    """Returns the class of tokens that statistics over a corpus are taken over.

    Args:
        cell: parameters of the cell.
        part: as in `Keys.stage_statistics`.
    """
    if part == "statistics":
        return cell["statistics"]["tokens"]
    return host_class(cell["fix_tokens"]) if part == "host" else cell["fix_tokens"]


def _follows_sigma(cell: Parameters) -> bool:
    schedule = _option(cell, "alpha_schedule")
    return schedule is not None and schedule["over"] == "sigma" and schedule["kind"] != "constant"


def _options(cell: Parameters, names: Iterable[str], prefix: str = "") -> InputOptions:
    """Returns what an encoder is shown besides prompt and image, and how, by a cell's parameters of these names."""
    return InputOptions(**{name: _option(cell, prefix + name) for name in names})


def _arithmetic(hardware: ExtractionHardware) -> Arithmetic:
    """Returns the hardware settings that change low bits of a result.

    `offload` is not among them: parts of a model wait in main memory, but run on the same device, with the same
    kernels. `gpus` only says how work is cut.
    """
    threads = hardware.cpu_threads if hardware.device == "cpu" else None
    return Arithmetic(hardware.dtype, hardware.device, threads)
