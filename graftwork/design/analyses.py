"""Analyses: statistics of several encoders over one corpus, compared, for people to look at."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from graftwork.core.errors import DesignError, explain, require_known
from graftwork.core.labels import slugify
from graftwork.core.parameters import GivenText, Instruct, Strict, Text
from graftwork.core.yaml_files import read_yaml
from graftwork.design.analysis_design import (
    AnalysisDesign,
    AnalysisEntry,
    ComparedSide,
    Comparison,
    MassiveActivations,
)
from graftwork.design.cells import ModelRecord
from graftwork.design.corpora import Corpora, CorpusInputs, check_class, check_corpus_for
from graftwork.design.encoding import check_prompting, fill_in_formats
from graftwork.design.statistics_of_cells import add_model, check_layer, not_neutral
from graftwork.models.catalog import Model, ModelCatalog
from graftwork.models.prompts import InputOptions
from graftwork.transforms.reference_choice import TokenClass

ANALYSIS_FOLDER = "config/statistics"


class AnalysisOptions(Strict):
    """How an encoder is shown the corpus, as in experiments."""

    prompt_format: Literal["natural", "chat", "raw"] | Instruct = Field(
        "natural", description="As `prompt_format` in experiments."
    )
    system_prompt: Text | None = Field(None, description="As `system_prompt` in experiments.")
    think_block: Literal["template", "empty"] | GivenText = Field(
        "template", description="As `think_block` in experiments."
    )
    rope_theta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="As `rope_theta` in experiments."
    )
    positions: Literal["checkpoint", "sequential"] = Field(
        "checkpoint", description="As `positions` in experiments."
    )


class AnalysisEncoder(Strict):
    """An encoder of an analysis."""

    encoder: str = Field(description="A name in config/models.yaml.")
    hidden_layers: Annotated[list[int], Field(min_length=1)] = Field(
        description="Layers, as in experiments: -2 is the last but one."
    )
    name: str | None = Field(
        None,
        description="What tables and comparisons call it; the encoder's name where missing. Needed where an encoder occurs "
        "twice.",
    )
    options: AnalysisOptions = Field(
        default_factory=AnalysisOptions, description="How it is shown the corpus; see below."
    )


class SideEntry(Strict):
    """One side of a comparison."""

    encoder: str = Field(description="Name of one of the `encoders`.")
    hidden_layer: int = Field(description="One of its `hidden_layers`.")
    tokens: TokenClass = Field("all", description="Token class.")


class ComparisonEntry(Strict):
    """Two sides that are compared; ratios are those of `a` to `b`."""

    a: SideEntry = Field(description="{encoder, hidden_layer, tokens}.")
    b: SideEntry = Field(description="{encoder, hidden_layer, tokens}, the one that is compared with.")


class AnalysisChanges(Strict):
    """What an analysis does otherwise with a family of models."""

    corpus: str | None = Field(None, description="In place of `corpus`, where it is given.")
    massive_magnitude: float | None = Field(None, description="In place of `massive_magnitude`.")
    massive_factor: float | None = Field(None, description="In place of `massive_factor`.")


class Analysis(Strict):
    """A file in config/statistics/: statistics of encoders over a corpus, and comparisons of them."""

    title: str = Field(
        "", description="Heading of the summary and of plots; the file's name where it is empty."
    )
    question: str = Field("", description="What the analysis asks, shown under the title.")
    corpus: str = Field(description="Name of a file in config/corpora/.")
    encoders: Annotated[list[AnalysisEncoder], Field(min_length=1)] = Field(
        description="Encoders that read the corpus; see below."
    )
    token_classes: Annotated[list[TokenClass], Field(min_length=1)] = Field(
        default_factory=lambda: ["all", "non_sink", "image", "prompt", "template"],
        description="Token classes that get a table; those that an encoder cannot have are left out for it.",
    )
    comparisons: list[ComparisonEntry] = Field(
        default_factory=list, description="Pairs of sides, {a, b}, each {encoder, hidden_layer, tokens}."
    )
    massive_magnitude: Annotated[float, Field(ge=0)] = Field(
        100.0,
        description="A massive activation is above this, as Sun et al. (2024) have it, and"
        " at least `massive_factor` times the median magnitude.",
    )
    massive_factor: Annotated[float, Field(ge=1)] = Field(1000.0, description="See `massive_magnitude`.")
    families: dict[str, AnalysisChanges] = Field(
        default_factory=dict,
        description="What changes with a family of models: name of the family, as in config/models.yaml, to changes.",
    )


class AnalysisReader:
    """Reads analyses against one set of models and corpora."""

    def __init__(
        self,
        root: Path,
        models: ModelCatalog,
        corpora: Corpora,
        of_family: Callable[[Any, str], Any] = lambda raw, file: raw,
    ):
        """Takes what analyses are read against.

        Args:
            root: folder of the project.
            models: models by name.
            corpora: corpora by name.
            of_family: (content of a file, path of it) to the content as it is for the chosen family of models.
        """
        self._of_family = of_family
        self._root = root
        self._models = models
        self._corpora = corpora

    def names(self) -> list[str]:
        """Returns the names of all analysis files."""
        return sorted(file.stem for file in (self._root / ANALYSIS_FOLDER).glob("*.yaml"))

    def read(self, name: str) -> AnalysisDesign:
        """Returns an analysis.

        Raises:
            DesignError: for anything that cannot be measured, before any model is loaded.
        """
        file = f"{ANALYSIS_FOLDER}/{name}.yaml"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise DesignError(
                f"{file}: an analysis cannot be called {name!r}; allowed: letters, digits, _ and -"
            )
        analysis = self._validate(file)
        corpus = self._corpora.get(analysis.corpus, f"{file}: corpus")
        models: dict[str, Model] = {}
        records: dict[str, ModelRecord] = {}
        entries: list[AnalysisEntry] = []
        for index, encoder in enumerate(analysis.encoders):
            where = f"{file}: encoders.{index}"
            shown = encoder.name or encoder.encoder
            if slugify(shown) in {slugify(other) for other in models}:
                raise DesignError(
                    f"{where}: name {shown!r} occurs more than once; give each encoder a name of its own"
                )
            model = models[shown] = self._models.get("encoder", encoder.encoder, f"{where}.encoder")
            add_model(model, records)
            entries.append(_entry(encoder, analysis.token_classes, model, corpus, where))
        comparisons: dict[str, Comparison] = {}
        for index, pair in enumerate(analysis.comparisons):
            where = f"{file}: comparisons.{index}"
            comparison = _comparison(pair, entries, models, corpus, where)
            if comparison.name in comparisons:
                raise DesignError(f"{where}: the same pair of sides occurs twice; remove one")
            comparisons[comparison.name] = comparison
        return AnalysisDesign(
            name,
            analysis.title or name,
            analysis.question,
            corpus.digest,
            {corpus.digest: corpus.record},
            tuple(entries),
            tuple(comparisons.values()),
            MassiveActivations(analysis.massive_magnitude, analysis.massive_factor),
            records,
            {reference.sha256: reference.path for reference in corpus.references},
        )

    def _validate(self, file: str) -> Analysis:
        raw = read_yaml(self._root / file, file)
        if not isinstance(raw, dict):
            raise DesignError(f"{file} must be a mapping with the key `corpus`; it is {type(raw).__name__}")
        try:
            return Analysis.model_validate(self._of_family(raw, file))
        except ValidationError as error:
            raise explain(error, file, Analysis) from error


def _entry(
    encoder: AnalysisEncoder, classes: list[str], model: Model, corpus: CorpusInputs, where: str
) -> AnalysisEntry:
    """Returns an encoder of an analysis, resolved and checked."""
    for layer in encoder.hidden_layers:
        check_layer(layer, model, f"{where}.hidden_layers:")
    check_corpus_for(corpus, model)
    options = fill_in_formats(encoder.options.model_dump(), model, model)
    check_prompting(options, model, "", f"{where}.options")
    return AnalysisEntry(
        encoder.name or encoder.encoder,
        model.identity,
        tuple(dict.fromkeys(encoder.hidden_layers)),
        InputOptions(**not_neutral(options)),
        tuple(tokens for tokens in classes if _possible(corpus, model, tokens)),
    )


def _comparison(
    pair: ComparisonEntry,
    entries: list[AnalysisEntry],
    models: Mapping[str, Model],
    corpus: CorpusInputs,
    where: str,
) -> Comparison:
    """Returns a comparison, resolved and checked."""
    layers = {entry.name: entry.hidden_layers for entry in entries}
    sides = []
    for key, side in (("a", pair.a), ("b", pair.b)):
        require_known(side.encoder, models, "encoder", f"{where}.{key}.encoder")
        if side.hidden_layer not in layers[side.encoder]:
            raise DesignError(
                f"{where}.{key}.hidden_layer: {side.hidden_layer} is none of the hidden_layers of {side.encoder!r}; "
                f"allowed: {', '.join(map(str, layers[side.encoder]))}"
            )
        check_class(corpus, models[side.encoder], side.tokens, f"{where}.{key}.tokens")
        sides.append(ComparedSide(side.encoder, side.hidden_layer, side.tokens))
    widths = {models[side.entry].facts.hidden_size for side in sides}
    if len(widths) > 1:
        raise DesignError(
            f"{where}: the sides have hidden states of widths {' and '.join(map(str, sorted(widths)))}; compare "
            "encoders of one width"
        )
    return Comparison.of(*sides)


def _possible(corpus: CorpusInputs, model: Model, tokens: str) -> bool:
    return tokens != "image" or bool(model.facts.accepts_images and corpus.references)
