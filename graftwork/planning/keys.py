"""Keys of what the store holds: hidden states, statistics, conditioning recipes and images.

A key is the digest of a record of `store.records`, which has everything that decides the bytes of an artefact and nothing
else. `Keys` is the one place that says what those things are for a cell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from graftwork.core.cells import OncePerSetting, Parameters
from graftwork.core.records import record_digest
from graftwork.design.cells import CorpusRecord, MapRecord, ModelRecord
from graftwork.design.controls import join_words, noise_of, reference_scale_of, references_of, words_of
from graftwork.design.parameters import NEUTRAL
from graftwork.design.sampling import starting_step
from graftwork.design.settings import Hardware, ModelHardware
from graftwork.maps.registry import method
from graftwork.models.acceleration import changed_settings
from graftwork.models.description import resolve_layer
from graftwork.models.families import encoder_family, generator_family
from graftwork.models.prompts import CELL_OPTIONS, NEUTRAL_OPTIONS, InputOptions
from graftwork.planning.code import (
    captioning_code,
    conditioning_code,
    extraction_code,
    map_code,
    sampling_code,
    sigmas_code,
    statistics_code,
)
from graftwork.store.records import (
    Arithmetic,
    CaptionParts,
    CorpusStatistics,
    EncoderInput,
    FileStatistics,
    ImageParts,
    InputLayer,
    LayerRecipe,
    MapParts,
    Recipe,
    SigmaSchedule,
    StageChoice,
    StatisticsParts,
    VectorName,
)
from graftwork.transforms.context import COVARIANCE, FIT_STATISTICS, FITTED_MAP, NEUTRAL_SOURCE, VECTOR
from graftwork.transforms.dimension_fixes import host_class
from graftwork.transforms.registry import STAGES, choice_of, transform
from graftwork.transforms.schedules import AlphaSchedule, alphas_of_steps, scheduled_alphas

# Of the sampling; without guidance a cell has them at their neutral value.
_GUIDANCE_OPTIONS = ("cfg_normalization", "cfg_truncation")
# Parameters of a cell that an encoder takes as they are; where they have no part or say what the checkpoint says, they
# are neutral, so that one extraction serves all.
_SOURCE_OPTIONS = CELL_OPTIONS
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


@dataclass(frozen=True)
class NeededMap:
    """A fitted map.

    Attributes:
        key: name of its file in the store.
        parts: what the key is the digest of.
        inputs: inputs of the corpus, of both encoders.
        record: the map as designs have it.
    """

    key: str
    parts: MapParts
    inputs: Sequence[NeededInput]
    record: MapRecord


class UnknownWords(LookupError):
    """The words of a control are not known, for an encoder has not written them yet."""


def no_captions(key: str) -> str | None:
    """Stands for a store without captions."""
    return None


@dataclass
class _Alike:
    """What is computed once for cells that differ in prompt, reference and seed alone.

    Attributes:
        stages: stage -> transform with its parameters.
        image: number of what decides an image beside conditioning and seed, and the work that one is.
    """

    stages: Mapping[str, StageChoice] | None = None
    image: tuple[int, int] | None = None


class Keys:
    """Computes keys for the cells of one design under given hardware settings."""

    def __init__(
        self,
        models: Mapping[str, ModelRecord],
        hardware: Hardware,
        corpora: Mapping[str, CorpusRecord] | None = None,
        read_caption: Callable[[str], str | None] = no_captions,
        maps: Mapping[str, MapRecord] | None = None,
    ):
        """Takes what cells name.

        Args:
            models: identity -> model.
            hardware: section `hardware` of config.yaml.
            corpora: digest -> corpus.
            read_caption: given the key of a caption, returns it, or None where it is not written yet.
            maps: digest -> fitted map.
        """
        self._read_caption = cache(read_caption)
        self._models = models
        self._map_records = maps or {}
        self.map = cache(self._map)
        self._corpora = corpora or {}
        self._extraction = _arithmetic(hardware.extraction)
        self._rows = hardware.extraction.batch_shape
        self._generation = hardware.generation.model_dump()
        self._generation_arithmetic = _arithmetic(hardware.generation)
        self._inputs: dict[str, tuple[str, EncoderInput]] = {}
        self._statistics: dict[str, NeededStatistics] = {}
        self._alike = OncePerSetting(lambda cell: _Alike())
        self._recipes: dict[tuple[int, str, str], str] = {}
        self._images: dict[str, int] = {}

    def captions(self, cell: Parameters) -> list[list[CaptionParts]]:
        """Returns what is asked about the references of a control of the kind `words`, for each question; else nothing."""
        words = words_of(cell)
        if words is None:
            return []
        family = self._models[cell["encoder"]].facts.family
        return [
            [
                CaptionParts(
                    **vars(self._extraction),
                    encoder=cell["encoder"],
                    reference=reference,
                    question=question,
                    max_new_tokens=words.max_new_tokens,
                    code=captioning_code(family),
                )
                for reference in _listed(cell["reference"])
            ]
            for question in words.questions
        ]

    def unknown_captions(self, cell: Parameters) -> list[str]:
        """Returns the keys of captions that a cell needs and that are not written yet."""
        asked = [parts.key for about in self.captions(cell) for parts in about]
        return [key for key in asked if self._read_caption(key) is None]

    def prompt(self, cell: Parameters) -> str:
        """Returns what the generator's own text encoder is shown: the prompt, of a control with the words for its reference.

        Raises:
            UnknownWords: where they are not written yet.
        """
        asked = self.captions(cell)
        if not asked:
            return cell["prompt"]
        if unknown := self.unknown_captions(cell):
            raise UnknownWords(f"caption {unknown[0]} is not written yet")
        # Of several references the answers stand side by side.
        answers = [", ".join(str(self._read_caption(parts.key)) for parts in about) for about in asked]
        return join_words(words_of(cell).join, cell["prompt"], answers)

    def input_of(
        self, encoder: str, prompt: str, reference: str | None, layer: int, options: InputOptions
    ) -> NeededInput:
        """Returns an input that no cell stands behind.

        Args:
            encoder: identity of the encoder.
            prompt: text as written by the user.
            reference: SHA-256 of the image; None without one.
            layer: layer as people say it.
            options: what the encoder is shown besides, and how.
        """
        return self._needed(encoder, prompt, reference, layer, self._fitting(options, encoder, reference))

    def text_states(self, cell: Parameters) -> NeededInput:
        """Returns the input of the generator's own text encoder; `cell` is of one layer, as for the three below."""
        return self._text_states(cell, self.prompt(cell))

    def _text_states(self, cell: Parameters, prompt: str) -> NeededInput:
        padding = self._models[cell["generator"]].facts.caption_padding
        options = replace(_options(cell, _TEXT_OPTIONS, "text_"), padded_to=padding)
        return self._needed(cell["text_encoder"], prompt, None, cell["text_hidden_layer"], options)

    def negative_states(self, cell: Parameters) -> NeededInput | None:
        """Returns the input of the generator's own text encoder for the negative prompt; None without guidance."""
        if cell["guidance_scale"] == 0.0:
            return None
        return self._text_states(cell, cell["negative_prompt"])

    def source_states(self, cell: Parameters) -> tuple[NeededInput, ...]:
        """Returns the inputs of the encoder whose states are blended in: for each reference, each layer.

        There is one, but for a set of references or a list of layers, and none where alpha is 0 or a vector is the source.
        """
        if not any(self._alphas(cell)) or _takes_vector(cell):
            return ()
        return self._states_beside(cell, _listed(cell["reference"]))

    def neutral_states(self, cell: Parameters) -> tuple[NeededInput, ...]:
        """Returns the inputs that those of `source_states` are compared with; none where the blend compares nothing."""
        if not any(self._alphas(cell)) or NEUTRAL_SOURCE not in transform("blend", cell["blend"]).needs:
            return ()
        return self._states_beside(cell, _listed(cell["neutral_reference"]))

    def all_states(self, cell: Parameters) -> list[NeededInput]:
        """Returns every input whose hidden states a cell needs, for all layers that its generator is conditioned on."""
        return [
            needed
            for layer in layer_cells(cell)
            for needed in (
                self.text_states(layer),
                *filter(None, [self.negative_states(layer)]),
                *self.source_states(layer),
                *self.neutral_states(layer),
            )
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

        The part is `statistics`, or `donor` and `host` of a dimension fix, or `towards` and `away_from` of a vector. A file
        of statistics is none of these.
        """
        chosen = transform(stage, cell[stage])
        if VECTOR in chosen.needs:
            return {} if "file" in cell["vector"] else self._statistics_of_vector(cell)
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

    def _statistics_of_vector(self, cell: Parameters) -> dict[str, NeededStatistics]:
        """Returns the statistics of both sets of prompts, of the cell's encoder or else the generator's own."""
        encoder, layer, options = cell["encoder"], cell["hidden_layer"], _options(cell, _SOURCE_OPTIONS)
        if encoder is None:
            encoder, layer = cell["text_encoder"], cell["text_hidden_layer"]
            options = _options(cell, _TEXT_OPTIONS, "text_")
        return {
            side: self.statistics(cell["vector"][side], encoder, layer, options)
            for side in ("towards", "away_from")
        }

    def vector(self, cell: Parameters) -> VectorName | None:
        """Returns the vector that takes the place of a source; None where there is none."""
        if not any(self._alphas(cell)) or not _takes_vector(cell):
            return None
        chosen = cell["vector"]
        if "file" in chosen:
            return VectorName(**chosen)
        found = self._statistics_of_vector(cell)
        return VectorName(
            **{side: CorpusStatistics(one.key, chosen["tokens"]) for side, one in found.items()}
        )

    def _map(self, record: str) -> NeededMap:
        """Returns a fitted map, by the digest of its record."""
        one = self._map_records[record]
        source, target = (
            self.pair_inputs(one.corpus, one.prompts, encoder, layers, options)
            for encoder, layers, options in (
                (one.encoder, one.hidden_layers, one.options),
                (one.text_encoder, (one.text_hidden_layer,), one.text_options),
            )
        )
        chosen = method(one.method)
        parts = MapParts(
            source=tuple(needs[0].key for needs in source),
            layers=tuple(need.layer for need in source[0]),
            target=tuple(needs[0].key for needs in target),
            target_layer=target[0][0].layer,
            normalization=one.normalization,
            method=one.method,
            parameters=one.parameters,
            code=map_code(one.method),
            metric=one.generator
            if chosen.takes_metric(chosen.parameters.model_construct(**one.parameters))
            else None,
        )
        return NeededMap(
            record_digest(parts), parts, [need for needs in (*source, *target) for need in needs], one
        )

    def pair_inputs(
        self,
        corpus: str,
        prompts: int | None,
        encoder: str,
        layers: Sequence[int],
        options: Mapping[str, Any],
    ) -> list[list[NeededInput]]:
        """Returns the inputs of an encoder over the texts of a corpus: for each prompt, each layer.

        Args:
            corpus: digest of the corpus.
            prompts: how many of its prompts, the first ones; None for all.
            encoder: identity of the encoder.
            layers: layers as people say them.
            options: what the encoder is shown besides, and how.
        """
        shown = self._fitting(InputOptions(**options), encoder, None)
        return [
            [self._needed(encoder, prompt, None, layer, shown) for layer in layers]
            for prompt in self._corpora[corpus].prompts[:prompts]
        ]

    def text_input(self, prompt: str, record: MapRecord) -> NeededInput:
        """Returns the input of the text encoder that a map is fitted to, for any prompt."""
        options = self._fitting(InputOptions(**record.text_options), record.text_encoder, None)
        return self._needed(record.text_encoder, prompt, None, record.text_hidden_layer, options)

    def cell_map(self, cell: Parameters) -> NeededMap | None:
        """Returns the fitted map that a cell takes, or None; `cell` is of one layer, as for `text_states`."""
        if FITTED_MAP not in choice_of("mapping", cell).needs:
            return None
        named = cell["mapping"]["map"]
        return self.map(named[str(cell["text_hidden_layer"])] if isinstance(named, Mapping) else named)

    def recipe(self, cell: Parameters) -> Recipe:
        """Returns what makes a cell's conditioning.

        Only what takes part is in it: alpha 0 is the text alone, and a transform's parameters count where the
        transform is chosen.
        """
        layers = layer_cells(cell)
        first, *further = [self._layer_recipe(layer) for layer in layers]
        negative = self.negative_states(layers[0])
        captions = generator_family(self._models[cell["generator"]].facts.family).captions
        alone = Recipe(
            **vars(first),
            dtype=self._generation["dtype"],
            caption_norm=cell["generator"],
            code=self._conditioning_code,
            negative=negative and negative.key,
            further_layers=tuple(further),
            layout=captions.layout,
            dropped_prefix=captions.dropped_prefix,
        )
        if not any(layer.sources for layer in (first, *further)):
            return alone
        return replace(
            alone,
            alphas=self._alphas(cell),
            alpha_over_sigma=self._alpha_over_sigma(cell) if _follows_sigma(cell) else None,
            noise=noise_of(cell),
        )

    def _layer_recipe(self, cell: Parameters) -> LayerRecipe:
        """Returns what makes one layer of the conditioning; `cell` is of that layer."""
        text, vector = self.text_states(cell).name, self.vector(cell)
        sources = (
            tuple(source.name for source in self.source_states(cell))
            if vector is None
            else (vector.as_source,)
        )
        if not sources:
            return LayerRecipe(text)
        return LayerRecipe(
            text,
            sources,
            tuple(source.name for source in self.neutral_states(cell)),
            self._stages_of(cell),
        )

    def recipe_key(self, cell: Parameters) -> str:
        """Returns the key of a cell's recipe, computed once for cells that differ in seed alone."""
        at = (id(self._alike.get(cell)), cell["prompt"], repr(cell.get("reference")))
        if at not in self._recipes:
            self._recipes[at] = self.recipe(cell).key
        return self._recipes[at]

    def image_apart(self, cell: Parameters) -> tuple[int, int]:
        """Returns what is equal for cells whose images differ at most by conditioning and seed, and the work that one is."""
        alike = self._alike.get(cell)
        if alike.image is None:
            parts = self.image({**cell, "seed": 0}, "")
            alike.image = self._images.setdefault(parts.key, len(self._images)), parts.work
        return alike.image

    def _stages_of(self, cell: Parameters) -> Mapping[str, StageChoice]:
        alike = self._alike.get(cell)
        if alike.stages is None:
            alike.stages = {stage: self._stage(cell, stage) for stage in STAGES}
        return alike.stages

    def image(self, cell: Parameters, conditioning: str) -> ImageParts:
        """Returns what makes an image.

        Args:
            cell: parameters of the cell.
            conditioning: hash of the conditioning tensors as the generator gets them.
        """
        first, references = starting_step(cell), references_of(cell)
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
            code=sampling_code(
                self._models[cell["generator"]].facts.family,
                from_image=first > 0,
                with_references=bool(references),
            ),
            **{name: _option(cell, name) for name in _GUIDANCE_OPTIONS},
            # An image to start from counts where it takes part, and of the strength only the step that it leads to.
            init_image=cell["init_image"] if first else None,
            first_step=first,
            acceleration={name: value for name, value in changed.items() if name not in _OLD_ACCELERATION},
            references=references,
            reference_scale=reference_scale_of(cell),
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
                batch_shape=self._batch_shape(facts.family, source, options),
                **vars(options),
            )
            self._inputs[at] = record_digest(made), made
        key, made = self._inputs[at]
        return NeededInput(key, resolve_layer(layer, facts.num_hidden_layers), made)

    def _batch_shape(self, family: str, source: str, options: InputOptions) -> int:
        without_prompt, batches = source == "vision_tower", encoder_family(family).batches_prompts
        alone = without_prompt or bool(options.padded_to) or not batches
        return 1 if alone else self._rows

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
            # It is the source of the recipe.
            "vector": VECTOR in chosen.needs,
        }
        parameters = {
            name: value for name, value in chosen.values_of(cell).items() if not replaced.get(name, False)
        }
        corpus = {
            part: CorpusStatistics(needed.key, _tokens_of(cell, part)) for part, needed in found.items()
        }
        fitted = self.cell_map(cell) if FITTED_MAP in chosen.needs else None
        if fitted is not None:
            parameters = {name: value for name, value in parameters.items() if name != "map"}
        return StageChoice(chosen.name, parameters, chosen.digest, corpus, in_file, fitted and fitted.key)

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


def layer_cells(cell: Parameters) -> list[Parameters]:
    """Returns a cell once for each layer that its generator is conditioned on, with what concerns that layer.

    A layer that nothing takes the place of has alpha 0, the text alone.

    Args:
        cell: resolved parameters. Where `text_hidden_layer` is a list, `hidden_layer` says for each of these layers, as
            text, what takes its place.
    """
    layers = cell["text_hidden_layer"]
    if not isinstance(layers, list | tuple):
        return [cell]
    return [_of_layer(cell, layer) for layer in layers]


def _of_layer(cell: Parameters, layer: int) -> Parameters:
    single = {**cell, "text_hidden_layer": layer}
    if "hidden_layer" not in cell:  # A baseline.
        return single
    replaced_by = cell["hidden_layer"].get(str(layer))
    if replaced_by is None:
        return {**single, "alpha": 0.0}
    single["hidden_layer"] = replaced_by
    wanted = cell.get("statistics")
    if isinstance(wanted, Mapping) and "corpus" in wanted and wanted["hidden_layer"] is None:
        own = layer if wanted["encoder"] == cell["text_encoder"] else replaced_by
        single["statistics"] = {**wanted, "hidden_layer": own}
    return single


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
    if part in ("towards", "away_from"):
        return cell["vector"]["tokens"]
    if part == "statistics":
        return cell["statistics"]["tokens"]
    return host_class(cell["fix_tokens"]) if part == "host" else cell["fix_tokens"]


def _takes_vector(cell: Parameters) -> bool:
    return VECTOR in transform("blend", cell["blend"]).needs


def _follows_sigma(cell: Parameters) -> bool:
    schedule = _option(cell, "alpha_schedule")
    return schedule is not None and schedule["over"] == "sigma" and schedule["kind"] != "constant"


def _options(cell: Parameters, names: Iterable[str], prefix: str = "") -> InputOptions:
    """Returns what an encoder is shown besides prompt and image, and how, by a cell's parameters of these names."""
    return InputOptions(**{name: _option(cell, prefix + name) for name in names})


def _arithmetic(hardware: ModelHardware) -> Arithmetic:
    """Returns the hardware settings that change low bits of a result.

    `offload` is not among them: parts of a model wait in main memory, but run on the same device, with the same
    kernels. `gpus` only says how work is cut.
    """
    threads = hardware.cpu_threads if hardware.device == "cpu" else None
    return Arithmetic(hardware.dtype, hardware.device, threads)
