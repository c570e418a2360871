"""An analysis: tables, plots and a summary of statistics and hidden states that are in the store."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.labels import slugify
from graftwork.core.progress import Progress
from graftwork.design.analysis_design import ComparedSide
from graftwork.models.loading import ensure_model
from graftwork.models.prompts import token_texts
from graftwork.planning.analyses import AnalysisTask, AnalyzedEncoder, AnalyzedLayer
from graftwork.reports.analysis.registry import EncoderRead, LayerMeasured, PairCompared, plots_of
from graftwork.reports.analysis.summary import ComparedPair, Findings, card_of, write_summary
from graftwork.reports.analysis.tables import (
    comparison_table,
    dimensions_table,
    further_sinks_table,
    lengths_table,
    repeated_activations_table,
    statistics_table,
    worst_dimensions_table,
)
from graftwork.reports.charts import chart_png
from graftwork.reports.index import Card
from graftwork.statistics.accumulator import TooFewTokens, decode_states
from graftwork.statistics.analysis import (
    LayerReading,
    ReadInput,
    compare_paired,
    compare_sides,
    expected_stds,
    pair_inputs,
    report_sink,
)
from graftwork.statistics.dimensions import compare_dimensions, worst_dimensions
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import FurtherSinks
from graftwork.store.layout import Store
from graftwork.store.statistics import DamagedStatistics, read_statistics

_WORST = 20


def analyze(
    analysis: AnalysisTask,
    store: Store,
    folder: Path,
    log: logging.Logger,
    failures: Mapping[str, str],
) -> tuple[list[str], str, Card]:
    """Writes the tables and plots of an analysis.

    Encoders and sides that failed, or have too few tokens, are left out, and the summary says so.

    Args:
        analysis: what to do.
        store: Where hidden states and statistics are.
        folder: Where files are written.
        log: log of the job.
        failures: Key of hidden states or statistics -> why they could not be made.

    Returns:
        The files, relative to the folder, the text of the summary, and what the index of all results says.
    """
    writer = _Writer(analysis, store, folder, log, failures)
    writer.entries()
    writer.comparisons()
    return sorted(writer.files), write_summary(writer.findings), card_of(writer.findings)


class _Writer:
    """Reads what an analysis is of, and collects what is found."""

    def __init__(
        self,
        analysis: AnalysisTask,
        store: Store,
        folder: Path,
        log: logging.Logger,
        failures: Mapping[str, str],
    ):
        self._analysis = analysis
        self._store = store
        self._folder = folder
        self._log = log
        self._failures = failures
        self._entries = {entry.name: entry for entry in analysis.entries}
        self.findings = Findings(analysis)
        self.files: list[str] = []

    def entries(self) -> None:
        """Writes what is of one encoder alone."""
        progress = Progress("layers read", sum(len(entry.layers) for entry in self._entries.values()))
        for name, entry in self._entries.items():
            readings: dict[int, LayerReading] = {}
            for layer in entry.layers:
                self._statistics_tables(entry, layer)
                readings[layer.hidden_layer] = self._read_layer(entry, layer)
                progress.advance()
            activations = [one for reading in readings.values() for one in reading.activations()]
            table = repeated_activations_table(activations)
            self._write(f"massive_activations/{slugify(name)}.csv", table)
            self._further_sinks(entry, {layer: one.further_sinks() for layer, one in readings.items()})
            depth = {layer.hidden_layer: layer.index for layer in entry.layers}
            ordered = {layer: readings[layer] for layer in sorted(readings, key=depth.__getitem__)}
            self._plot(EncoderRead(name, ordered))

    def _further_sinks(self, entry: AnalyzedEncoder, found: Mapping[int, FurtherSinks]) -> None:
        ids = sorted({place.token_id for sinks in found.values() for place in sinks.places})
        words: dict[int, str] = {}
        if ids and entry.model is not None:
            folder = ensure_model(entry.model.name, entry.model.entry, "encoder")
            words = dict(zip(ids, token_texts(entry.model.entry, folder, ids), strict=True))
            self.findings.words[entry.name] = words
        self._write(f"sinks/{slugify(entry.name)}.csv", further_sinks_table(found, words))

    def _read_layer(self, entry: AnalyzedEncoder, layer: AnalyzedLayer) -> LayerReading:
        reading, massive, signed = LayerReading(), self._analysis.massive, layer.hidden_layer
        for one in self._read_inputs(entry, layer):
            reading.add(one, signed, massive.magnitude, massive.factor)
        name = entry.name
        self.findings.massive[name, signed] = len(reading.massive)
        if reading.lengths:
            self.findings.further_sinks[name, signed] = reading.further_sinks()
        every = self._statistics(entry, layer, "all")
        rest = self._statistics(entry, layer, "non_sink")
        if every is None or rest is None or not reading.lengths:
            return reading
        self.findings.sinks[name, signed] = report_sink(every, rest)
        file = f"std_against_length/{slugify(name)}_layer{signed}.csv"
        expected, expected_rest = expected_stds(reading.lengths, every, rest, reading.sinks)
        columns = {
            "sinks": reading.sinks,
            "std": reading.stds,
            "std_without_sink": reading.stds_without_sink,
            "expected_std": expected,
            "expected_std_without_sink": expected_rest,
        }
        self._write(file, lengths_table(reading.lengths, columns))
        self._plot(LayerMeasured(name, signed, reading, every, rest))
        return reading

    def _statistics_tables(self, entry: AnalyzedEncoder, layer: AnalyzedLayer) -> None:
        for tokens in entry.token_classes:
            found = self._statistics(entry, layer, tokens)
            if found is not None:
                name = f"{slugify(entry.name)}_layer{layer.hidden_layer}_{tokens}"
                self._write(f"statistics/{name}.csv", statistics_table(found))

    def comparisons(self) -> None:
        """Writes what is of two encoders."""
        for comparison in self._analysis.comparisons:
            name, sides = comparison.name, (comparison.a, comparison.b)
            found = [self._side(side, side.tokens) for side in sides]
            has_sink = any(side.tokens == "all" for side in sides)
            rest = [self._side(side, "non_sink" if side.tokens == "all" else side.tokens) for side in sides]
            if None in found or None in rest:
                self._problem(f"{_words(sides[0])} against {_words(sides[1])}: a side was not measured")
                continue
            measurements = compare_sides(*found, *(rest if has_sink else (None, None)))
            paired = pair_inputs(self._pairs(sides), (sides[0].tokens, sides[1].tokens))
            of_tokens = compare_paired(paired) if paired is not None else None
            self._write(f"comparisons/{name}.csv", comparison_table({**measurements, **(of_tokens or {})}))
            shown = (_words(sides[0]), _words(sides[1]))
            for suffix, (a, b) in (("", found), ("_without_sink", rest)):
                if suffix and not has_sink:
                    continue
                names = tuple(_words(side, without_sink=bool(suffix)) for side in sides)
                worst = worst_dimensions(a.std, b.std, _WORST)
                dimensions = compare_dimensions(a.std, b.std)
                self._write(f"comparisons/{name}_worst{suffix}.csv", worst_dimensions_table(worst))
                self._write(
                    f"comparisons/{name}_dimensions{suffix}.csv", dimensions_table(a.std, b.std, dimensions)
                )
                self._plot(PairCompared(name, f"{shown[0]} against {shown[1]}", names, a, b, bool(suffix)))
            self.findings.compared.append(
                ComparedPair(name, *shown, measurements, of_tokens, paired, dimensions, worst, has_sink)
            )

    def _side(self, side: ComparedSide, tokens: str) -> ReferenceStatistics | None:
        entry = self._entries[side.entry]
        return self._statistics(entry, entry.layer(side.hidden_layer), tokens)

    def _pairs(self, sides: tuple[ComparedSide, ComparedSide]) -> Iterator[tuple[ReadInput, ReadInput]]:
        """Yields the inputs that both sides have: the same prompt, with the first reference where there are some."""
        entries = [self._entries[side.entry] for side in sides]
        layers = [entry.layer(side.hidden_layer) for entry, side in zip(entries, sides, strict=True)]
        shown = []
        for entry in entries:
            first = entry.inputs[0].reference
            shown.append({one.prompt: one.key for one in entry.inputs if one.reference == first})
        for prompt, key in shown[0].items():
            keys = key, shown[1][prompt]
            if not any(key in self._failures for key in keys):
                yield tuple(self._read(key, layer.index) for key, layer in zip(keys, layers, strict=True))

    def _read_inputs(self, entry: AnalyzedEncoder, layer: AnalyzedLayer) -> Iterator[ReadInput]:
        for one in entry.inputs:
            if one.key not in self._failures:
                yield self._read(one.key, layer.index)
            elif layer is entry.layers[0]:
                self._problem(f"{entry.name}: prompt {one.prompt!r} was left out: {self._failures[one.key]}")

    def _read(self, key: str, index: int) -> ReadInput:
        from graftwork.store.hidden_states import read_layer

        stored = read_layer(self._store.hidden_states(key), index)
        return ReadInput(decode_states(stored.values, stored.dtype), stored.roles, stored.token_ids)

    def _statistics(
        self, entry: AnalyzedEncoder, layer: AnalyzedLayer, tokens: str
    ) -> ReferenceStatistics | None:
        key, where = layer.statistics, f"{entry.name}, layer {layer.hidden_layer}"
        if key in self._failures:
            self._problem(f"{where}: {self._failures[key]}")
            return None
        try:
            return read_statistics(self._store.statistics(key), tokens)
        except (TooFewTokens, DamagedStatistics) as error:
            self._problem(f"{where}: {error}")
            return None

    def _problem(self, line: str) -> None:
        if line not in self.findings.problems:
            self._log.warning(line)
            self.findings.problems.append(line)

    def _write(self, file: str, content: str | bytes) -> None:
        write_atomic(self._folder / file, content)
        self.files.append(file)

    def _plot(self, subject: EncoderRead | LayerMeasured | PairCompared) -> None:
        for plot in plots_of(subject):
            file = f"plots/{plot.name}.png"
            self._write(file, chart_png(plot.chart))
            self.findings.plots[plot.caption] = file


def _words(side: ComparedSide, without_sink: bool = False) -> str:
    tokens = "non_sink" if without_sink and side.tokens == "all" else side.tokens
    words = {"all": "all tokens", "non_sink": "all tokens but sinks"}.get(tokens, f"{tokens} tokens")
    return f"{side.entry}, layer {side.hidden_layer}, {words}"
