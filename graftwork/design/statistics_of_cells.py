"""Statistics that cells use: names become content, and statistics that cannot be measured are refused.

`statistics` and `fix_corpus` in a resolved cell name a corpus by its digest, an encoder by its identity and a file by
its SHA-256, so that a cell's name follows what the statistics are of.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.design.cells import ModelRecord
from graftwork.design.corpora import Corpora, CorpusInputs, check_class, check_corpus_for
from graftwork.design.encoding import PROMPTING, check_prompting, fill_in_formats
from graftwork.design.fit import CellModels
from graftwork.design.layers import replacements
from graftwork.design.parameters import NEUTRAL
from graftwork.models.catalog import Model, ModelCatalog
from graftwork.models.description import resolve_layer
from graftwork.models.prompts import CELL_OPTIONS, NEUTRAL_OPTIONS
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.statistics import read_statistics_file
from graftwork.transforms.context import FIT_STATISTICS, STATISTICS_WITH
from graftwork.transforms.registry import STAGES, Transform, transform

# Options of the encoder that is blended in; those of the generator's own begin with `text_`.
_SOURCE_OPTIONS = CELL_OPTIONS
# Of an encoder that is none of the cell's.
NATURAL_OPTIONS = {name: getattr(NEUTRAL_OPTIONS, name) for name in CELL_OPTIONS} | {
    "prompt_format": "natural"
}
_MOST_NAMED = 3


def without_nulls(value: Any) -> Any:
    """Returns a value with what is left open in it left out, for labels."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


def not_neutral(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of an encoder that change what it does."""
    return {name: value for name, value in options.items() if value != NEUTRAL[name]}


class StatisticsOfCells:
    """Resolves what cells say of statistics, against one set of models, corpora and files."""

    def __init__(self, root: Path, models: ModelCatalog, references: FactCache):
        self._root = root
        self._models = models
        self.corpora = Corpora(root, references)
        self._file = cache(self._read_file)

    def resolve(
        self, values: Mapping[str, Any], models: CellModels, design: Any, file: str
    ) -> dict[str, Any]:
        """Returns `statistics` and `fix_corpus` of a cell with content in place of names.

        Corpora, their references, encoders and files become parts of the design.

        Args:
            values: Parameters of a cell, with formats filled in; a baseline has neither of the two.
            models: Models of the cell.
            design: Design of the experiment.
            file: Path of the experiment, for messages.

        Raises:
            DesignError: naming the value, what is allowed, and the key.
        """
        resolved: dict[str, Any] = {}
        chosen = values.get("statistics")
        if isinstance(chosen, Mapping) and "npz" in chosen:
            resolved["statistics"] = self._from_file(values, models, design, file)
        elif isinstance(chosen, Mapping):
            resolved["statistics"] = self._from_corpus(values, models, design, file)
        if values.get("fix_corpus") is not None:
            resolved["fix_corpus"] = self._fitted_on(values, models, design, file)
        return resolved

    def _fitted_on(self, values: Mapping[str, Any], models: CellModels, design: Any, file: str) -> str:
        corpus = self.corpora.get(values["fix_corpus"], f"{file}: fix_corpus")
        self._add(corpus, design)
        for fitted in _choices(values):
            if FIT_STATISTICS not in fitted.needs or models.encoder is None:
                continue
            if any(isinstance(chosen, list) for chosen in replacements(values).values()):
                raise DesignError(
                    f"{file}: {fitted.stage} {fitted.name!r} is fitted on one layer, but hidden_layer is "
                    f"{values['hidden_layer']}; give one layer, or set {fitted.stage}: {STAGES[fitted.stage].default}"
                )
            check_class(corpus, models.encoder, values["fix_tokens"], f"{file}: fix_tokens")
            for model in (models.text, models.encoder):
                check_corpus_for(corpus, model)
        return corpus.digest

    def _from_corpus(
        self, values: Mapping[str, Any], models: CellModels, design: Any, file: str
    ) -> dict[str, Any]:
        where, chosen = f"{file}: statistics", values["statistics"]
        corpus = self.corpora.get(chosen["corpus"], f"{where}.corpus")
        model, layer, options = self._measured(values, models, where)
        width = models.generator.facts.caption_channels
        # None of a generator with several layers: each of them has statistics of its own.
        measured = list(layer) if isinstance(layer, tuple) else [layer]
        if any(isinstance(one, list) for one in measured):
            raise DesignError(
                f"{where}.hidden_layer is missing: the cell has the layers {layer} of encoder {model.name!r}, and statistics "
                f"are of one; allowed: {_layers(model)}"
            )
        if model.facts.hidden_size != width:
            raise DesignError(
                f"{where}.encoder {model.name!r} has hidden states of width {model.facts.hidden_size}, but the "
                f"generator takes {width}; choose an encoder of that width in {self._models.file}"
            )
        for one in measured:
            check_layer(one, model, f"{where}.hidden_layer")
        check_class(corpus, model, chosen["tokens"], f"{where}.tokens")
        check_corpus_for(corpus, model)
        self._add(corpus, design)
        add_model(model, design.models)
        resolved = {
            "corpus": corpus.digest,
            "encoder": model.identity,
            "hidden_layer": None if isinstance(layer, tuple) else layer,
            "tokens": chosen["tokens"],
        }
        changed = not_neutral(options)
        return {**resolved, "options": changed} if changed else resolved

    def _measured(
        self, values: Mapping[str, Any], models: CellModels, where: str
    ) -> tuple[Model, Any, Mapping[str, Any]]:
        """Returns the encoder whose statistics a cell names, the layer, and what the encoder is shown besides, and how."""
        chosen = values["statistics"]
        name, layer = chosen["encoder"], chosen["hidden_layer"]
        model = models.text if name is None else self._models.get("encoder", name, f"{where}.encoder")
        if model.identity == models.text.identity:
            options = {option: values[f"text_{option}"] for option in PROMPTING}
            return model, _one_or_all(replacements(values)) if layer is None else layer, options
        if models.encoder is not None and model.identity == models.encoder.identity:
            options = {option: values[option] for option in _SOURCE_OPTIONS}
            chosen_layers = list(replacements(values).values())
            return model, _one_or_all(chosen_layers) if layer is None else layer, options
        options = fill_in_formats(NATURAL_OPTIONS, model, model)
        check_prompting(options, model, "", f"{where}.encoder")
        if layer is None:
            raise DesignError(
                f"{where}.hidden_layer is missing: encoder {model.name!r} is neither the generator's own text encoder "
                f"nor the cell's encoder, so that the cell has no layer for it; allowed: {_layers(model)}"
            )
        return model, layer, options

    def _add(self, corpus: CorpusInputs, design: Any) -> None:
        design.corpora.setdefault(corpus.digest, corpus.record)
        for reference in corpus.references:
            design.references.setdefault(reference.sha256, reference.path)

    def _from_file(
        self, values: Mapping[str, Any], models: CellModels, design: Any, file: str
    ) -> dict[str, Any]:
        where, chosen = f"{file}: statistics.npz", values["statistics"]
        found = self._file(chosen["npz"], chosen["tokens"], where)
        if isinstance(found, str):
            raise DesignError(f"{where}: {found}")
        sha256, statistics = found
        width = models.generator.facts.caption_channels
        if statistics.channels != width:
            raise DesignError(
                f"{where}: {chosen['npz']} is of hidden states of width {statistics.channels}, but the generator takes "
                f"{width}; choose statistics of an encoder of that width"
            )
        for user in _choices(values):
            for needed in (STATISTICS_WITH[need] for need in user.needs if need in STATISTICS_WITH):
                if getattr(statistics, needed) is None:
                    raise DesignError(
                        f"{where}: {chosen['npz']} has no {needed}, which {user.stage} {user.name!r} needs; measure the "
                        f"statistics on a corpus ({{corpus: ...}}), or choose another {user.stage}"
                    )
        design.statistics_files.setdefault(sha256, chosen["npz"])
        return {"npz": sha256, "tokens": chosen["tokens"]}

    def _read_file(
        self, path: str, tokens: int | None, where: str
    ) -> "tuple[str, ReferenceStatistics] | str":
        """Returns SHA-256 and content of a file of statistics, or what is wrong with it."""
        try:
            data = (self._root / path).read_bytes()
            return hashlib.sha256(data).hexdigest(), read_statistics_file(data, tokens, path)
        except OSError:
            return f"{path!r} does not exist or cannot be read; allowed: the path of an .npz file, from the repository's root"
        except ValueError as error:
            return str(error)

    def notes(self, design: Any) -> list[str]:
        """Returns a line for every corpus on which a fix of the experiment is fitted and which has prompts of it."""
        texts: dict[str, dict[str, None]] = {}
        for cell in design.cells:
            if any(FIT_STATISTICS in chosen.needs for chosen in _choices(cell.parameters)):
                corpus = cell.parameters["fix_corpus"]
                if cell.parameters["prompt"] in design.corpora[corpus].prompts:
                    shown = cell.shown["prompt_name"] or cell.shown["prompt"]
                    texts.setdefault(corpus, {})[shown] = None
        lines = []
        for corpus, shown in texts.items():
            named = ", ".join(repr(name) for name in list(shown)[:_MOST_NAMED])
            more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
            lines.append(
                f"fix_corpus {design.corpora[corpus].name!r} has prompts of the experiment ({named}{more}): the fix is "
                "fitted and judged on the same texts"
            )
        return lines


def _one_or_all(layers: Iterable[Any]) -> Any:
    """Returns the layer of a cell, or those of a generator with several as a tuple."""
    found = tuple(layers)
    return found if len(found) > 1 else found[0]


def _choices(values: Mapping[str, Any]) -> list[Transform]:
    """Returns the transforms that a cell chooses; a baseline chooses none."""
    return [transform(stage, values[stage]) for stage in STAGES if stage in values]


def check_layer(layer: int, model: Model, where: str) -> None:
    """Refuses a layer that an encoder does not have.

    Raises:
        DesignError: naming the layer and those that there are.
    """
    try:
        resolve_layer(layer, model.facts.num_hidden_layers)
    except ValueError:
        raise DesignError(
            f"{where} {layer} does not exist in {model.name!r}, which has {model.facts.num_hidden_layers} layers; "
            f"allowed: {_layers(model)}"
        ) from None


def _layers(model: Model) -> str:
    layers = model.facts.num_hidden_layers
    return f"{-layers - 1} to {layers}"


def add_model(model: Model, models: dict[str, ModelRecord]) -> None:
    """Makes a model one of those of a design."""
    models.setdefault(model.identity, ModelRecord.of(model))
