"""What cells take statistics of: names become content, and what cannot be measured is refused.

`statistics` and `fix_corpus` in a resolved cell name a corpus by its digest, an encoder by its identity and a file by
its SHA-256, so that a cell's name follows what the statistics are of.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.core.identity import NEUTRAL
from graftwork.design.cells import ModelRecord
from graftwork.design.corpora import Corpora, CorpusInputs, check_class, check_corpus_for
from graftwork.design.encoding import PROMPTING, check_prompting, fill_in_formats
from graftwork.models.catalog import Model, ModelCatalog
from graftwork.models.description import resolve_layer
from graftwork.models.prompts import NEUTRAL_OPTIONS
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.statistics import read_statistics_file
from graftwork.transforms.registry import STAGES, transform

# Options of the encoder that is blended in; those of the generator's own begin with `text_`.
_SOURCE_OPTIONS = tuple(vars(NEUTRAL_OPTIONS))
# Of an encoder that is none of the cell's.
NATURAL_OPTIONS = replace(NEUTRAL_OPTIONS, prompt_format="natural")
# What a normalization needs of the statistics besides mean and standard deviation.
_NEEDS = {"rms": "median_token_rms", "whiten": "covariance"}
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
        self,
        values: Mapping[str, Any],
        generator: Model,
        text: Model,
        encoder: Model | None,
        design: Any,
        file: str,
    ) -> dict[str, Any]:
        """Returns `statistics` and `fix_corpus` of a cell with content in place of names.

        Corpora, their references, encoders and files become parts of the design.

        Args:
            values: Parameters of a cell, with formats filled in; a baseline has neither of the two.
            generator: Generator of the cell.
            text: Its text encoder.
            encoder: Encoder of the source, or None.
            design: Design of the experiment.
            file: Path of the experiment, for messages.

        Raises:
            DesignError: naming the value, what is allowed, and the key.
        """
        resolved: dict[str, Any] = {}
        chosen = values.get("statistics")
        width = generator.facts["caption_channels"]
        users = [
            stage
            for stage in STAGES
            if stage in values and "statistics" in transform(stage, values[stage]).defaults
        ]
        if isinstance(chosen, Mapping) and "npz" in chosen:
            needs = _NEEDS.get(values["normalization"]) if users else None
            resolved["statistics"] = self._from_file(chosen, width, needs, design, file)
        elif isinstance(chosen, Mapping):
            resolved["statistics"] = self._from_corpus(chosen, values, width, text, encoder, design, file)
        if values.get("fix_corpus") is not None:
            corpus = self.corpora.get(values["fix_corpus"], f"{file}: fix_corpus")
            self._add(corpus, design)
            resolved["fix_corpus"] = corpus.digest
            if values["dimension_fix"] != "none" and encoder is not None:
                if isinstance(values["hidden_layer"], list):
                    raise DesignError(
                        f"{file}: dimension_fix {values['dimension_fix']!r} is fitted on one layer, but hidden_layer is "
                        f"{values['hidden_layer']}; give one layer, or set dimension_fix: none"
                    )
                check_class(corpus, encoder, values["fix_tokens"], f"{file}: fix_tokens")
                for model in (text, encoder):
                    check_corpus_for(corpus, model)
        return resolved

    def _from_corpus(
        self,
        chosen: Mapping[str, Any],
        values: Mapping[str, Any],
        width: int,
        text: Model,
        encoder: Model | None,
        design: Any,
        file: str,
    ) -> dict[str, Any]:
        where = f"{file}: statistics"
        corpus = self.corpora.get(chosen["corpus"], f"{where}.corpus")
        name, layer = chosen["encoder"], chosen["hidden_layer"]
        model = text if name is None else self._models.get("encoder", name, f"{where}.encoder")
        if model.identity == text.identity:
            options = {option: values[f"text_{option}"] for option in PROMPTING}
            layer = values["text_hidden_layer"] if layer is None else layer
        elif encoder is not None and model.identity == encoder.identity:
            options = {option: values[option] for option in _SOURCE_OPTIONS}
            layer = values["hidden_layer"] if layer is None else layer
        else:
            options = fill_in_formats(vars(NATURAL_OPTIONS), model, model)
            check_prompting(options, model, "", f"{where}.encoder")
            if layer is None:
                raise DesignError(
                    f"{where}.hidden_layer is missing: encoder {model.name!r} is neither the generator's own text encoder "
                    f"nor the cell's encoder, so that the cell has no layer for it; allowed: {_layers(model)}"
                )
        if isinstance(layer, list):
            raise DesignError(
                f"{where}.hidden_layer is missing: the cell has the layers {layer} of encoder {model.name!r}, and statistics "
                f"are of one; allowed: {_layers(model)}"
            )
        if model.facts["hidden_size"] != width:
            raise DesignError(
                f"{where}.encoder {model.name!r} has hidden states of width {model.facts['hidden_size']}, but the "
                f"generator takes {width}; choose an encoder of that width in {self._models.file}"
            )
        check_layer(layer, model, f"{where}.hidden_layer")
        check_class(corpus, model, chosen["tokens"], f"{where}.tokens")
        check_corpus_for(corpus, model)
        self._add(corpus, design)
        add_model(model, design.models)
        resolved = {
            "corpus": corpus.digest,
            "encoder": model.identity,
            "hidden_layer": layer,
            "tokens": chosen["tokens"],
        }
        changed = not_neutral(options)
        return {**resolved, "options": changed} if changed else resolved

    def _add(self, corpus: CorpusInputs, design: Any) -> None:
        design.corpora.setdefault(corpus.digest, corpus.record)
        for reference in corpus.references:
            design.references.setdefault(reference.sha256, reference.path)

    def _from_file(
        self, chosen: Mapping[str, Any], width: int, needs: str | None, design: Any, file: str
    ) -> dict[str, Any]:
        where = f"{file}: statistics.npz"
        found = self._file(chosen["npz"], chosen["tokens"], where)
        if isinstance(found, str):
            raise DesignError(f"{where}: {found}")
        sha256, statistics = found
        if statistics.channels != width:
            raise DesignError(
                f"{where}: {chosen['npz']} is of hidden states of width {statistics.channels}, but the generator takes "
                f"{width}; choose statistics of an encoder of that width"
            )
        if needs is not None and getattr(statistics, needs) is None:
            name = next(name for name, what in _NEEDS.items() if what == needs)
            raise DesignError(
                f"{where}: {chosen['npz']} has no {needs}, which normalization {name!r} needs; measure the statistics on a "
                "corpus ({corpus: ...}), or choose another normalization"
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
            if cell.parameters.get("dimension_fix", "none") != "none":
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


def check_layer(layer: int, model: Model, where: str) -> None:
    """Refuses a layer that an encoder does not have.

    Raises:
        DesignError: naming the layer and those that there are.
    """
    try:
        resolve_layer(layer, model.facts["num_hidden_layers"])
    except ValueError:
        raise DesignError(
            f"{where} {layer} does not exist in {model.name!r}, which has {model.facts['num_hidden_layers']} layers; "
            f"allowed: {_layers(model)}"
        ) from None


def _layers(model: Model) -> str:
    layers = model.facts["num_hidden_layers"]
    return f"{-layers - 1} to {layers}"


def add_model(model: Model, models: dict[str, ModelRecord]) -> None:
    """Makes a model one of those of a design."""
    models.setdefault(model.identity, ModelRecord.of(model))
