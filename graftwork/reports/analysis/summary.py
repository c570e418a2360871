"""The summary of an analysis as Markdown: the numbers that matter first, naive measures beside robust ones."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graftwork.core.tables import format_number
from graftwork.planning.analyses import AnalysisTask
from graftwork.reports.index import Card
from graftwork.reports.templates import render
from graftwork.statistics.analysis import PairedTokens, SinkReport
from graftwork.statistics.compare import STD_MEASURES, TOKEN_MEASURES, Measurement
from graftwork.statistics.dimensions import DimensionComparison, WorstDimension
from graftwork.statistics.sink import SINK_IN_WORDS, FurtherSinks, SinkPlace

TEMPLATE = "analysis.md.j2"
# Dimensions in the table of those that differ most.
MOST_WORST = 5
# Places of sinks in the table of those beyond position 0.
MOST_PLACES = 6


@dataclass(frozen=True)
class ComparedPair:
    """Results of a comparison.

    Attributes:
        name: name of its files.
        a: first side in words.
        b: second side in words.
        measurements: name -> measurement, as `compare_statistics` returns them.
        token_measurements: name -> measurement, as `compare_tokens` returns them, or None.
        paired: tokens that these were taken on, or None.
        dimensions: classes of dimensions, without the sink where there was one.
        worst: dimensions that differ most, without the sink where there was one.
        has_sink: whether a side has the sink among its tokens.
    """

    name: str
    a: str
    b: str
    measurements: Mapping[str, Measurement]
    token_measurements: Mapping[str, Measurement] | None
    paired: PairedTokens | None
    dimensions: DimensionComparison
    worst: Sequence[WorstDimension]
    has_sink: bool


@dataclass
class Findings:
    """Contents of a summary.

    Attributes:
        analysis: the analysis.
        sinks: (encoder, layer) -> share of the attention sinks.
        further_sinks: (encoder, layer) -> sinks beyond position 0.
        words: encoder -> token id -> what it stands for, of sinks beyond position 0.
        compared: comparisons in the order of the analysis.
        massive: (encoder, layer) -> number of places with massive activations.
        problems: what could not be measured, one line each.
        plots: caption -> file, in order.
    """

    analysis: AnalysisTask
    sinks: dict[tuple[str, int], SinkReport] = field(default_factory=dict)
    further_sinks: dict[tuple[str, int], FurtherSinks] = field(default_factory=dict)
    words: dict[str, dict[int, str]] = field(default_factory=dict)
    compared: list[ComparedPair] = field(default_factory=list)
    massive: dict[tuple[str, int], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)


def write_summary(findings: Findings) -> str:
    """Returns the summary."""
    analysis = findings.analysis
    return render(
        TEMPLATE,
        title=analysis.title,
        question=analysis.question,
        headlines=headlines(findings),
        corpus=analysis.corpus,
        problems=findings.problems,
        pairs=[_pair(pair) for pair in findings.compared],
        sinks=_sinks(findings),
        further_sinks=_further_sinks(findings),
        what_is_a_sink=SINK_IN_WORDS,
        massive=analysis.massive,
        plots=findings.plots,
    )


def card_of(findings: Findings) -> Card:
    """Returns what the index of all results says of the analysis."""
    analysis = findings.analysis
    lines = tuple(line.replace("**", "") for line in headlines(findings))
    return Card(analysis.name, analysis.title, analysis.question, lines, failed=len(findings.problems))


def headlines(findings: Findings) -> list[str]:
    """Returns the two or three numbers that matter: of the first comparison, and of the largest sink."""
    lines = []
    if findings.compared:
        pair = findings.compared[0]
        sink = "_without_sink" if pair.has_sink else ""
        plain = pair.measurements["pearson_std"].value
        robust_name = next(
            name for name in reversed(list(pair.measurements)) if name.startswith("pearson_std")
        )
        robust = pair.measurements[robust_name]
        left_out = [*(["the sinks"] if pair.has_sink else [])]
        if robust.without_dims:
            left_out.append(f"dimensions {', '.join(map(str, robust.without_dims))}")
        lines.append(
            f"**{pair.a}** against **{pair.b}**: the standard deviations per dimension correlate with Pearson's r = "
            f"**{format_number(plain)}** as it is usually quoted"
            + (
                f", and **{format_number(robust.value)}** without {' and '.join(left_out)}."
                if left_out
                else "."
            )
        )
        typical = pair.measurements[f"median_log_ratio{sink}"].value
        outliers = len(pair.dimensions.outlier.only_a) + len(pair.dimensions.outlier.only_b)
        lines.append(
            f"There the typical dimension differs by a factor of **{format_number(math.exp(typical))}**"
            + (" without the sinks" if pair.has_sink else "")
            + f", and {outliers} of {len(pair.dimensions.ratio)} dimensions by more than 3."
        )
    if findings.sinks:
        (name, layer), sink_report = max(findings.sinks.items(), key=lambda item: item[1].sink_share)
        lines.append(
            f"In **{name}, layer {layer}**, attention sinks, {sink_report.sink_tokens} of {sink_report.tokens} tokens, "
            f"have **{100 * sink_report.sink_share:.1f} %** of the variance: the standard deviation of all values is "
            f"{format_number(sink_report.std)} with them and {format_number(sink_report.std_without_sink)} without."
        )
    some = {at: found for at, found in findings.further_sinks.items() if found.are_worth_a_warning}
    if some:
        (name, layer), most = max(some.items(), key=lambda item: (item[1].inputs_with, item[1].untypical))
        lines.append(
            f"In **{name}, layer {layer}**, **{most.described()}**. Such sinks are left out, like position 0, wherever it "
            f"says 'without the sinks'. {len(some)} of the {len(findings.further_sinks)} layers read have such inputs, see below."
        )
    return lines


@dataclass(frozen=True)
class _Table:
    """A table of a comparison.

    Attributes:
        columns: headings.
        rows: one value per column.
        counted: tokens that it was taken on, in words.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    counted: str = ""


@dataclass(frozen=True)
class _Pair:
    """Texts of the template for one comparison.

    Attributes:
        title: both sides in words.
        measures: naive and robust values of each measure.
        tokens: measures over the same tokens of both sides; None where they do not have the same.
        dimensions: how many there are.
        without: what is left out of the tables of dimensions, in words.
        classes: rows of the table of classes.
        worst: rows of the table of the dimensions that differ most.
    """

    title: str
    measures: _Table
    tokens: _Table | None
    dimensions: int
    without: str
    classes: Sequence[tuple[Any, ...]]
    worst: Sequence[tuple[Any, ...]]


def _pair(pair: ComparedPair) -> _Pair:
    return _Pair(
        title=f"{pair.a} against {pair.b}",
        measures=_measures(pair),
        tokens=_token_measures(pair),
        dimensions=len(pair.dimensions.ratio),
        without=" without the sinks" if pair.has_sink else "",
        classes=_classes(pair.dimensions),
        worst=[
            (
                one.dim,
                format_number(one.std_a),
                format_number(one.std_b),
                format_number(one.factor),
                {"a": "first", "b": "second", "equal": "equal"}[one.larger],
            )
            for one in pair.worst[:MOST_WORST]
        ],
    )


def _measures(pair: ComparedPair) -> _Table:
    """Returns naive and robust values of each measure, side by side."""
    headings = {"": "naive: all tokens, all dimensions" if pair.has_sink else "naive: all dimensions"}
    top = next((name for name in pair.measurements if name.startswith("pearson_std_without_top")), None)
    if top is not None:
        dims = next(found.without_dims for found in pair.measurements.values() if found.without_dims)
        headings[top.removeprefix("pearson_std")] = f"without the {len(dims)} largest dimensions"
    if pair.has_sink:
        headings |= {
            f"_without_sink{suffix}": f"{heading}, nor sinks" if suffix else "without the sinks"
            for suffix, heading in headings.items()
        }
    return _Table(
        ["measure", *headings.values()],
        [
            [
                STD_MEASURES[name].description,
                *(format_number(pair.measurements[name + suffix].value) for suffix in headings),
            ]
            for name in STD_MEASURES
        ],
    )


def _token_measures(pair: ComparedPair) -> _Table | None:
    """Returns the measures over the same tokens of both sides, or None where the sides do not have the same tokens."""
    if pair.token_measurements is None or pair.paired is None:
        return None
    headings = (
        {"": "naive: all tokens", "_without_sink": "without the sinks"} if pair.has_sink else {"": "value"}
    )
    counted = f"{len(pair.paired.roles)} tokens of {pair.paired.inputs} inputs"
    return _Table(
        ["measure", *headings.values()],
        [
            [
                TOKEN_MEASURES[name].description,
                *(format_number(pair.token_measurements[name + suffix].value) for suffix in headings),
            ]
            for name in TOKEN_MEASURES
        ],
        counted + ("" if pair.paired.is_all else ", the first of them"),
    )


def _classes(found: DimensionComparison) -> list[tuple[Any, ...]]:
    outlier = found.outlier
    return [
        *(
            (kind, len(sides.only_a), len(sides.only_b), len(sides.common))
            for kind, sides in {"dead": found.dead, "hyperactive": found.hyperactive}.items()
        ),
        ("outlier (ratio above 3), larger there", len(outlier.only_a), len(outlier.only_b), None),
    ]


def _sinks(findings: Findings) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            layer,
            format_number(one.std),
            format_number(one.std_without_sink),
            f"{100 * one.sink_share:.1f} %",
            f"{100 * one.top_share:.1f} % ({', '.join(map(str, one.top_dims))})",
            findings.massive.get((name, layer), 0),
        )
        for (name, layer), one in findings.sinks.items()
    ]


def _further_sinks(findings: Findings) -> list[tuple[Any, ...]]:
    """Returns encoder, layer, inputs with a sink beyond position 0, and where; nothing where no input has one."""
    if not any(found.are_worth_a_warning for found in findings.further_sinks.values()):
        return []
    return [
        (
            name,
            layer,
            f"{found.inputs_with} of {found.inputs}",
            _places(found.places, findings.words.get(name, {})) or "none",
            f"{found.untypical} of {found.inputs}",
        )
        for (name, layer), found in findings.further_sinks.items()
    ]


def _places(places: Sequence[SinkPlace], words: Mapping[int, str]) -> str:
    parts = []
    for place in sorted(places, key=lambda one: (-one.inputs, one.position))[:MOST_PLACES]:
        word = json.dumps(words[place.token_id], ensure_ascii=False) if place.token_id in words else "token"
        parts.append(f"{place.position}: {word} (id {place.token_id}) in {place.inputs}")
    more = [f"{len(places) - MOST_PLACES} more places"] if len(places) > MOST_PLACES else []
    return "; ".join(parts + more)
