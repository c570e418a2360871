"""Fitted maps: files in config/maps/, resolved and checked, and what cells say of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, create_model

from graftwork.core.errors import DesignError, explain, require_known
from graftwork.core.parameters import Strict
from graftwork.core.records import record_digest
from graftwork.core.yaml_files import read_yaml
from graftwork.design.analyses import AnalysisOptions
from graftwork.design.cells import CorpusRecord, MapRecord, ModelRecord
from graftwork.design.corpora import Corpora, CorpusInputs, check_corpus_for
from graftwork.design.encoding import check_prompting, fill_in_formats
from graftwork.design.fit import CellModels
from graftwork.design.layers import layers_of, replacements
from graftwork.design.statistics_of_cells import add_model, check_layer, not_neutral
from graftwork.maps.pairs import NORMALIZATIONS
from graftwork.maps.registry import Method, method, methods
from graftwork.models.catalog import Model, ModelCatalog
from graftwork.models.description import locate_model, resolve_layer
from graftwork.models.families import generator_family
from graftwork.models.prompts import (
    NEUTRAL_OPTIONS,
    InputOptions,
    count_prompt_tokens,
    has_tokenizer,
    prompt_token_ids,
)
from graftwork.transforms.context import FITTED_MAP
from graftwork.transforms.registry import choice_of

MAP_FOLDER = "config/maps"
# Encoders with fewer tokens in common than this share have another vocabulary.
_LEAST_SHARED = 0.5
_MOST_NAMED = 3


def _choices() -> Any:
    """Returns the type of a method with its parameters, told apart by `method`."""
    models = [
        create_model(
            f"{name.title().replace('_', '')}Choice",
            __base__=one.parameters,
            __doc__=one.summary,
            method=(Literal[name], Field(description=one.summary)),
        )
        for name, one in methods().items()
    ]
    return Annotated[reduce(or_, models), Field(discriminator="method")]


MethodChoice = _choices()
_METHOD_CHOICE: TypeAdapter[Any] = TypeAdapter(MethodChoice)


class MapStudy(Strict):
    """Measurements of a file's maps."""

    held_out: str = Field(
        description="Name of a file in config/corpora/: prompts that the maps are judged on, none of which they were fitted on."
    )
    sigmas: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0.95, 0.7, 0.4],
        description="Noise levels at which the velocity of the transformer is compared.",
    )
    velocity_prompts: Annotated[int, Field(ge=0)] = Field(
        32, description="How many held-out prompts it is compared on, the first ones; 0 leaves it out."
    )
    sizes: list[Annotated[int, Field(ge=2)]] = Field(
        default_factory=list,
        description="Numbers of prompts, the first of the corpus, on which `method` is fitted again: how its fit grows.",
    )
    ranks: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="Ranks of `low_rank` that are fitted: how many dimensions the difference has.",
    )
    experiment: str | None = Field(
        None,
        description="Experiment whose images are shown before and after, with its scores; a name in config/experiments/.",
    )
    allow_shared_prompts: bool = Field(
        False, description="Allow held-out prompts that the maps were fitted on. The report then says so."
    )


class Maps(Strict):
    """A file in config/maps/: maps from an encoder to a generator's own text encoder, fitted on a corpus."""

    title: str = Field("", description="Heading of the report; the file's name where it is empty.")
    question: str = Field("", description="What the maps are to show, under the title.")
    encoder: str = Field(
        description="Encoder that is mapped: a name in config/models.yaml, or a role of the family."
    )
    hidden_layer: int = Field(
        -2, description="Its layer, as in experiments. Methods over layers name their own."
    )
    options: AnalysisOptions = Field(
        default_factory=AnalysisOptions, description="How it is shown the corpus, as in analyses."
    )
    generator: str | None = Field(
        None, description="Generator whose own text encoder is mapped to; `null` for that of `defaults`."
    )
    text_hidden_layer: int = Field(-2, description="Layer of the generator's own text encoder.")
    text_options: AnalysisOptions = Field(
        default_factory=AnalysisOptions, description="How that is shown the corpus."
    )
    normalization: Literal[tuple(NORMALIZATIONS)] = Field(  # type: ignore[valid-type]
        "rms",
        description="; ".join(f"`{name}`: {text}" for name, text in NORMALIZATIONS.items()) + ".",
    )
    corpus: str = Field(description="Name of a file in config/corpora/; its references are not read.")
    methods: Annotated[dict[str, MethodChoice], Field(min_length=1)] = Field(
        description="Name -> {method, parameters}, see the table of methods."
    )
    method: str = Field(description="The one of `methods` that `mapping: {map: NAME}` stands for.")
    study: MapStudy | None = Field(
        None, description="Measurements for the report of the target `maps`; see below."
    )
    families: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Keys that a family of models has otherwise: name of the family -> keys of this file.",
    )


@dataclass(frozen=True)
class StudyRecord:
    """Measurements of maps.

    Attributes:
        held_out: digest of the corpus that they are judged on.
        sigmas: noise levels.
        velocity_prompts: held-out prompts on which velocities are compared.
        height: of the images, in pixels.
        width: likewise.
        sizes: number of prompts -> map.
        ranks: rank -> map.
        experiment: whose images are shown; None for none.
        shared: prompts that are in both corpora.
    """

    held_out: str
    sigmas: tuple[float, ...]
    velocity_prompts: int
    height: int
    width: int
    sizes: Mapping[str, str]
    ranks: Mapping[str, str]
    experiment: str | None
    shared: tuple[str, ...]


@dataclass(frozen=True)
class MapsDesign:
    """A file of maps, resolved.

    Attributes:
        name: name of the file.
        title: heading.
        question: question that they are to answer.
        method: name of the map that stands for the file.
        named: name of a map -> its digest.
        maps: digest -> map, those of the study included.
        corpora: digest -> corpus.
        models: identity -> model.
        study: what is measured; None where the file asks for nothing.
    """

    name: str
    title: str
    question: str
    method: str
    named: Mapping[str, str]
    maps: Mapping[str, MapRecord]
    corpora: Mapping[str, CorpusRecord]
    models: Mapping[str, ModelRecord] = field(default_factory=dict)
    study: StudyRecord | None = None

    @cached_property
    def digest(self) -> str:
        """Stands for everything in it."""
        return record_digest(self)


@dataclass(frozen=True)
class _Pairing:
    """The models of a file, resolved."""

    encoder: Model
    generator: Model
    text: Model
    corpus: CorpusInputs
    options: Mapping[str, Any]
    text_options: Mapping[str, Any]


class MapsReader:
    """Reads maps against one set of models and corpora."""

    def __init__(
        self,
        root: Path,
        models: ModelCatalog,
        corpora: Corpora,
        defaults: Mapping[str, Any],
        family: str | None,
        roles: Mapping[str, str],
    ):
        """Says what names stand for.

        Args:
            root: working directory.
            models: models by name.
            corpora: corpora by name.
            defaults: `defaults` of the settings and of the family: generator, height and width.
            family: name of the family of models, or None.
            roles: role -> name of an encoder.
        """
        self._root, self._models, self._corpora = root, models, corpora
        self._defaults, self._family, self._roles = defaults, family, roles
        self.read = cache(self._read)

    def names(self) -> list[str]:
        """Returns the names of all files of maps."""
        return sorted(file.stem for file in (self._root / MAP_FOLDER).glob("*.yaml"))

    def require(self, name: str, where: str) -> None:
        """Raises DesignError unless there is a file of this name; `where` is the file and key that ask for it."""
        require_known(name, self.names(), f"file in {MAP_FOLDER}/", where)

    def _read(self, name: str) -> MapsDesign:
        """Returns a file of maps.

        Raises:
            DesignError: for anything that cannot be fitted, before any model is loaded.
        """
        file = f"{MAP_FOLDER}/{name}.yaml"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise DesignError(f"{file}: maps cannot be called {name!r}; allowed: letters, digits, _ and -")
        maps = self._validate(file)
        pairing = self._pairing(maps, file)
        require_known(maps.method, maps.methods, "method", f"{file}: method")
        records: dict[str, MapRecord] = {}
        named = {}
        for key, choice in maps.methods.items():
            where = f"{file}: methods.{key}"
            named[key] = _add(records, self._record(maps, choice, pairing, where))
        study = None if maps.study is None else self._study(maps, pairing, records, file)
        design = MapsDesign(
            name,
            maps.title or name,
            maps.question,
            maps.method,
            named,
            records,
            {pairing.corpus.digest: _without_references(pairing.corpus)},
            study=study and study[0],
        )
        if study:
            design.corpora[study[0].held_out] = study[1]
        for model in (pairing.generator, pairing.text, pairing.encoder):
            add_model(model, design.models)
        return design

    def _validate(self, file: str) -> Maps:
        raw = read_yaml(self._root / file, file)
        if not isinstance(raw, dict):
            raise DesignError(f"{file} must be a mapping with the key `encoder`; it is {type(raw).__name__}")
        try:
            maps = Maps.model_validate(raw)
            changes = maps.families.get(self._family or "", {})
            if not changes:
                return maps
            return Maps.model_validate(
                {**raw, **{key: _changed(raw.get(key), changes[key]) for key in changes}}
            )
        except ValidationError as error:
            raise explain(error, file, Maps) from error

    def _pairing(self, maps: Maps, file: str) -> _Pairing:
        name = maps.generator or self._defaults.get("generator")
        if name is None:
            raise DesignError(
                f"{file}: generator is missing; allowed: {', '.join(self._models.names('generator'))} (or set "
                "defaults.generator in config/config.yaml)"
            )
        generator = self._models.get("generator", name, f"{file}: generator")
        text = self._models.get("encoder", generator.entry["text_encoder"], f"{file}: generator")
        encoder = self._models.get("encoder", self._roles.get(maps.encoder, maps.encoder), f"{file}: encoder")
        corpus = self._corpora.get(maps.corpus, f"{file}: corpus")
        shown = {}
        for key, model in (("options", encoder), ("text_options", text)):
            shown[key] = fill_in_formats(getattr(maps, key).model_dump(), model, model)
            check_prompting(shown[key], model, "", f"{file}: {key}")
        check_layer(maps.text_hidden_layer, text, f"{file}: text_hidden_layer")
        check_layer(maps.hidden_layer, encoder, f"{file}: hidden_layer")
        if encoder.facts.hidden_size != text.facts.hidden_size:
            raise DesignError(
                f"{file}: encoder {encoder.name!r} has hidden states of width {encoder.facts.hidden_size}, but {text.name!r}, "
                f"which it is mapped to, of {text.facts.hidden_size}; choose an encoder of that width"
            )
        for model in (encoder, text):
            check_corpus_for(_TextsAlone(corpus), model)
        _check_vocabulary(encoder, text, corpus, file)
        return _Pairing(
            encoder,
            generator,
            text,
            corpus,
            not_neutral(shown["options"]),
            not_neutral(shown["text_options"]),
        )

    def _record(
        self, maps: Maps, choice: Any, pairing: _Pairing, where: str, prompts: int | None = None
    ) -> MapRecord:
        chosen = method(choice.method)
        layers = tuple(choice.hidden_layers) if chosen.takes_layers else (maps.hidden_layer,)
        for layer in layers:
            check_layer(layer, pairing.encoder, f"{where}.hidden_layers:")
        problem = chosen.problem_with(choice, pairing.encoder.facts.hidden_size)
        if problem:
            raise DesignError(f"{where}: {problem}")
        _check_metric(chosen, choice, pairing.generator, where)
        _check_pairs(chosen, choice, pairing, prompts, where)
        if prompts is not None and prompts > len(pairing.corpus.prompts):
            raise DesignError(
                f"{where}: {prompts} prompts are wanted, but corpus {pairing.corpus.name!r} has "
                f"{len(pairing.corpus.prompts)}; allowed: 2 to {len(pairing.corpus.prompts)}"
            )
        return MapRecord(
            corpus=pairing.corpus.digest,
            prompts=None if prompts == len(pairing.corpus.prompts) else prompts,
            encoder=pairing.encoder.identity,
            hidden_layers=layers,
            options=pairing.options,
            text_encoder=pairing.text.identity,
            text_hidden_layer=maps.text_hidden_layer,
            text_options=pairing.text_options,
            generator=pairing.generator.identity,
            normalization=maps.normalization,
            method=chosen.name,
            parameters=choice.model_dump(exclude={"method"}),
        )

    def _study(
        self, maps: Maps, pairing: _Pairing, records: dict[str, MapRecord], file: str
    ) -> tuple[StudyRecord, CorpusRecord]:
        study, where = maps.study, f"{file}: study"
        held_out = self._corpora.get(study.held_out, f"{where}.held_out")
        for model in (pairing.encoder, pairing.text):
            check_corpus_for(_TextsAlone(held_out), model)
        shared = _shared(pairing.corpus.record.prompts, held_out.record.prompts)
        if shared and not study.allow_shared_prompts:
            raise DesignError(
                f"{where}.held_out: corpus {held_out.name!r} has prompts of corpus {pairing.corpus.name!r}, which the maps are "
                f"fitted on ({_named(shared)}): a map that has seen a prompt is not judged by it. Remove them from one of the "
                "two, or set study.allow_shared_prompts: true, and the report says so"
            )
        base = maps.methods[maps.method]
        sizes = {
            str(size): _add(records, self._record(maps, base, pairing, f"{where}.sizes", size))
            for size in sorted(set(study.sizes))
        }
        ranks = {
            str(rank): _add(records, self._record(maps, choice, pairing, f"{where}.ranks"))
            for rank, choice in _of_ranks(maps, sorted(set(study.ranks))).items()
        }
        sides = {side: self._defaults.get(side) or 1024 for side in ("height", "width")}
        record = StudyRecord(
            held_out.digest,
            tuple(study.sigmas),
            study.velocity_prompts,
            sides["height"],
            sides["width"],
            sizes,
            ranks,
            study.experiment,
            tuple(shared),
        )
        return record, _without_references(held_out)


class MapsOfCells:
    """Resolves what cells say of maps: names become content, and what does not fit the map is refused."""

    def __init__(self, reader: MapsReader | None):
        self._reader = reader

    def resolve(
        self, values: Mapping[str, Any], models: CellModels, design: Any, file: str
    ) -> dict[str, Any]:
        """Returns `mapping` of a cell with the digest of the map in place of its name, layer by layer where there are several.

        The maps, their corpora and their models become parts of the design.

        Args:
            values: Parameters of a cell, with formats filled in; a baseline has no mapping.
            models: Models of the cell.
            design: Design of the experiment.
            file: Path of the experiment, for messages.

        Raises:
            DesignError: where the map was fitted on something else than the cell has, naming both.
        """
        if "mapping" not in values or FITTED_MAP not in choice_of("mapping", values).needs:
            return {}
        chosen, where = values["mapping"], f"{file}: mapping"
        if self._reader is None or models.encoder is None:
            raise DesignError(f"{where}: there is no encoder to map; set base.encoder, or mapping: none")
        replaced, keys = replacements(values), {}
        for layer, name in _by_layer(chosen["map"], values, models.generator, where).items():
            own = {**values, "text_hidden_layer": layer, "hidden_layer": replaced[layer]}
            keys[str(layer)] = self._use(name, own, models, design, where)
        takes_several = isinstance(values["text_hidden_layer"], list)
        return {
            "mapping": {
                "map": keys if takes_several else next(iter(keys.values())),
                "tokens": chosen["tokens"],
            }
        }

    def _use(self, name: str, values: Mapping[str, Any], models: CellModels, design: Any, where: str) -> str:
        """Returns the digest of a map for one layer of a generator, after the checks of `resolve`."""
        chosen = values["mapping"]
        self._reader.require(name, f"{where}.map")
        maps = self._reader.read(name)
        method_name = chosen["method"] or maps.method
        require_known(method_name, maps.named, "method", f"{where}.method")
        key = maps.named[method_name]
        record = maps.maps[key]
        _check_use(record, values, models, maps, f"{where} {name!r}")
        corpus = maps.corpora[record.corpus]
        prompt = values["prompt"].text
        if prompt in corpus.prompts and not chosen["allow_shared_prompts"]:
            raise DesignError(
                f"{where}: corpus {corpus.name!r}, which map {name!r} is fitted on, has the prompt {prompt!r} of this "
                "experiment: what it shows for it is no prediction. Take other prompts, or set allow_shared_prompts: true in "
                "mapping, and the reports say so"
            )
        design.maps.setdefault(key, record)
        design.corpora.setdefault(record.corpus, corpus)
        for identity, model in maps.models.items():
            design.models.setdefault(identity, model)
        return key

    @staticmethod
    def notes(design: Any) -> list[str]:
        """Returns a line for every map that was fitted on prompts of the experiment, which was allowed."""
        found: dict[str, dict[str, None]] = {}
        for cell in design.cells:
            chosen = cell.parameters.get("mapping")
            named = chosen["map"] if isinstance(chosen, Mapping) else {}
            for key in named.values() if isinstance(named, Mapping) else [named]:
                corpus = design.corpora[design.maps[key].corpus]
                if cell.parameters["prompt"] in corpus.prompts:
                    found.setdefault(corpus.name, {})[cell.parameters["prompt"]] = None
        return [
            f"corpus {name!r}, which a map is fitted on, has prompts of the experiment ({_named(list(prompts))}): what the map "
            "shows for them is no prediction"
            for name, prompts in found.items()
        ]


def _add(records: dict[str, MapRecord], record: MapRecord) -> str:
    key = record_digest(record)
    records[key] = record
    return key


def _of_ranks(maps: Maps, ranks: list[int]) -> dict[int, Any]:
    """Returns rank -> the method of the rank curve with that rank, otherwise as the file first has it."""
    (ranked,) = (one.name for one in methods().values() if one.draws_ranks)
    own = next(
        (one.model_dump() for one in maps.methods.values() if one.method == ranked), {"method": ranked}
    )
    return {rank: _METHOD_CHOICE.validate_python({**own, "rank": rank}) for rank in ranks}


def _changed(value: Any, change: Any) -> Any:
    """Returns what a family has in place of a value; of mappings, key by key, and null takes a key away."""
    if not isinstance(value, dict) or not isinstance(change, dict):
        return change
    return {key: item for key, item in {**value, **change}.items() if item is not None}


class _TextsAlone:
    """A corpus without its references, for checks."""

    def __init__(self, corpus: CorpusInputs):
        self.file, self.prompts = corpus.file, corpus.prompts
        self.references: list[Any] = []
        self.allow_control_tokens = corpus.allow_control_tokens


def _without_references(corpus: CorpusInputs) -> CorpusRecord:
    return CorpusRecord(corpus.name, corpus.record.prompts, ())


def _shared(prompts: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    known = set(prompts)
    return [prompt for prompt in others if prompt in known]


def _named(prompts: list[str]) -> str:
    more = f" and {len(prompts) - _MOST_NAMED} more" if len(prompts) > _MOST_NAMED else ""
    return ", ".join(map(repr, prompts[:_MOST_NAMED])) + more


def _check_metric(chosen: Method, choice: Any, generator: Model, where: str) -> None:
    family = generator_family(generator.facts.family)
    if chosen.takes_metric(choice) and family.captions.projection is None:
        raise DesignError(
            f"{where}: metric: generator {generator.name!r} of family {family.name} has no linear layer after a norm of captions "
            "that is known; set metric: standardized"
        )


def _check_vocabulary(encoder: Model, text: Model, corpus: CorpusInputs, file: str) -> None:
    """Refuses encoders whose tokenizers give a corpus other tokens; where one is not here, the job finds out."""
    folders = [locate_model(model.name, model.entry) for model in (encoder, text)]
    if None in folders or encoder.identity == text.identity:
        return
    for model, folder in zip((encoder, text), folders, strict=True):
        if not has_tokenizer(model.entry, folder):
            raise DesignError(
                f"{file}: encoder {model.name!r} has no tokenizer.json in {folder}, which maps need to pair tokens; copy that of "
                "the model that the states are from into the folder"
            )
    prompts = [prompt.text for prompt in corpus.prompts]
    ids = [
        prompt_token_ids(model.entry, folder, prompts)
        for model, folder in zip((encoder, text), folders, strict=True)
    ]
    total = sum(map(len, ids[1]))
    same = sum(one == other for a, b in zip(*ids, strict=True) for one, other in zip(a, b, strict=False))
    if same < _LEAST_SHARED * total:
        raise DesignError(
            f"{file}: encoder {encoder.name!r} and {text.name!r}, which it is mapped to, have no vocabulary in common: of {total} "
            f"tokens of corpus {corpus.name!r}, {same} are the same. Pairs are tokens that both have; choose encoders with one "
            "tokenizer"
        )


def _check_pairs(chosen: Method, choice: Any, pairing: _Pairing, prompts: int | None, where: str) -> None:
    """Refuses a method that needs more pairs than the corpus has tokens; how many are different, the job finds out."""
    folder = locate_model(pairing.text.name, pairing.text.entry)
    needed = chosen.pairs_needed(choice)
    texts = [prompt.text for prompt in pairing.corpus.prompts[:prompts]]
    if folder is None or needed <= len(texts):
        return
    options = InputOptions(**{**vars(NEUTRAL_OPTIONS), **pairing.text_options})
    total = sum(count_prompt_tokens(pairing.text.entry, folder, texts, options))
    if total < needed:
        raise DesignError(
            f"{where}: method {chosen.name!r} needs {needed} pairs of tokens, but {len(texts)} prompts of corpus "
            f"{pairing.corpus.name!r} have {total} tokens; give a larger corpus, or a lower rank"
        )


def _by_layer(
    named: str | Mapping[int, str], values: Mapping[str, Any], generator: Model, where: str
) -> dict[int, str]:
    """Returns layer of the generator -> name of the map that brings to it what takes its place."""
    replaced = list(replacements(values))
    if not isinstance(values["text_hidden_layer"], list):
        if isinstance(named, Mapping):
            raise DesignError(
                f"{where}.map names a map for each of layers {list(named)}, but generator {generator.name!r} is conditioned on one "
                "layer; give the name of one map"
            )
        return {replaced[0]: named}
    if not isinstance(named, Mapping):
        example = ", ".join(f"{layer}: NAME" for layer in replaced)
        raise DesignError(
            f"{where}.map: {named!r} is fitted to one layer, but generator {generator.name!r} is conditioned on the layers "
            f"{values['text_hidden_layer']}; give a map for each that is replaced, map: {{{example}}}, or set mapping: none"
        )
    if sorted(named) != sorted(replaced):
        raise DesignError(
            f"{where}.map has maps for layers {list(named)} of generator {generator.name!r}, but hidden_layer replaces {replaced}; "
            "give a map for each layer that is replaced, and for no other"
        )
    return {layer: named[layer] for layer in replaced}


def _check_use(
    record: MapRecord, values: Mapping[str, Any], models: CellModels, maps: MapsDesign, where: str
) -> None:
    """Refuses a map in a cell with another encoder, layer, format or generator than it was fitted on."""
    names = {identity: model.name for identity, model in maps.models.items()}
    if models.encoder.identity != record.encoder:
        raise DesignError(
            f"{where} is fitted on encoder {names[record.encoder]!r}, but the cell's is {models.encoder.name!r}; set encoder: "
            f"{names[record.encoder]}, or fit a map of {models.encoder.name!r} in {MAP_FOLDER}/"
        )
    if models.text.identity != record.text_encoder:
        raise DesignError(
            f"{where} is fitted to text encoder {names[record.text_encoder]!r}, but that of generator {models.generator.name!r} is "
            f"{models.text.name!r}; choose another generator, or fit a map to {models.text.name!r}"
        )
    for key, has, fitted, model in (
        ("hidden_layer", layers_of(values["hidden_layer"]), record.hidden_layers, models.encoder),
        ("text_hidden_layer", (values["text_hidden_layer"],), (record.text_hidden_layer,), models.text),
    ):
        depth = model.facts.num_hidden_layers
        if [resolve_layer(layer, depth) for layer in has] != [
            resolve_layer(layer, depth) for layer in fitted
        ]:
            shown = list(fitted) if len(fitted) > 1 else fitted[0]
            raise DesignError(
                f"{where} is fitted on {key} {shown}, but the cell's is {values[key]}; set {key}: {shown}, or fit another map"
            )
    for prefix, fitted in (("", record.options), ("text_", record.text_options)):
        wanted = {**vars(NEUTRAL_OPTIONS), **fitted}
        for name, value in wanted.items():
            has = values.get(prefix + name, vars(NEUTRAL_OPTIONS)[name])
            if has != value:
                raise DesignError(
                    f"{where} is fitted with {prefix}{name} {value!r}, but the cell has {has!r}; set {prefix}{name}: {value}, or fit "
                    "another map"
                )
    _check_tokens(record, values, where)


def _check_tokens(record: MapRecord, values: Mapping[str, Any], where: str) -> None:
    """Refuses tokens that the source does not have, or that a map over layers would leave without a layer."""
    tokens = values["mapping"]["tokens"]
    if tokens == "image" and values["reference"] is None:
        raise DesignError(
            f"{where}: tokens 'image', but there is no reference; give base.references, or set tokens: all"
        )
    if tokens != "all" and len(record.hidden_layers) > 1:
        raise DesignError(
            f"{where}: tokens {tokens!r}, but the map makes one state of the layers {list(record.hidden_layers)}, so that the other "
            "tokens would have no layer; set tokens: all"
        )
