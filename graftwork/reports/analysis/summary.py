"""The summary of an analysis as Markdown: the numbers that matter first, naive measures beside robust ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graftwork.statistics.analysis import PairedTokens, SinkReport
from graftwork.statistics.compare import STD_MEASURES, TOKEN_MEASURES, Measurement
from graftwork.statistics.dimensions import DimensionComparison, WorstDimension


@dataclass(frozen=True)
class ComparedPair:
    """What is said of a comparison.

    Attributes:
        name: Of its files.
        a: Side A in words.
        b: Side B in words.
        measurements: By name, as `compare_statistics` returns them.
        token_measurements: As `compare_tokens` returns them, or None.
        paired: The tokens that these are of, or None.
        dimensions: Classes of dimensions, without the sink where there was one.
        worst: The dimensions that differ most, without the sink where there was one.
        has_sink: Whether a side has the sink among its tokens.
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
    """What a summary is made of.

    Attributes:
        analysis: As in the plan.
        sinks: (encoder, layer) -> what the sink does.
        compared: In the order of the analysis.
        massive: (encoder, layer) -> how many places have massive activations.
        problems: What could not be measured, one line each.
        plots: Caption -> file, in order.
    """

    analysis: Mapping[str, Any]
    sinks: dict[tuple[str, int], SinkReport] = field(default_factory=dict)
    compared: list[ComparedPair] = field(default_factory=list)
    massive: dict[tuple[str, int], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)


def write_summary(findings: Findings) -> str:
    """Returns the summary."""
    analysis, corpus = findings.analysis, findings.analysis["corpus"]
    shown = f"{corpus['prompts']} prompts" + (
        f" and {corpus['references']} references (every prompt with every reference, for encoders that take images)"
        if corpus["references"]
        else ""
    )
    lines = [f"# {analysis['title']}", ""]
    if analysis["question"]:
        lines += [analysis["question"], ""]
    lines += [*(f"* {line}" for line in headlines(findings)), ""]
    lines += [
        f"Measured on the corpus `{corpus['name']}`: {shown}. A layer is counted as in experiments.",
        "",
    ]
    if findings.problems:
        lines += ["## What could not be measured", "", *(f"* {line}" for line in findings.problems), ""]
    for pair in findings.compared:
        lines += _comparison(pair)
    lines += _sinks(findings)
    if findings.plots:
        lines += ["## Plots", ""]
        for caption, file in findings.plots.items():
            lines += [f"{caption}:", "", f"![{caption}]({file})", ""]
    lines += [
        "## Files",
        "",
        "| where | what |",
        "| --- | --- |",
        "| `statistics/` | per encoder, layer and token class: one row per dimension |",
        "| `comparisons/` | per pair: every measure with what it can mislead about, the dimensions that differ most, and the "
        "class of each dimension on both sides |",
        "| `massive_activations/` | per encoder: values far above the others of their layer, and in how many inputs |",
        "| `std_against_length/` | per encoder and layer: standard deviation of each input, with the sink token and without |",
        "| `plots/` | the plots above |",
        "",
    ]
    return "\n".join(lines)


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
        left_out = [*(["the sink token"] if pair.has_sink else [])]
        if robust.without_dims:
            left_out.append(f"dimensions {', '.join(map(str, robust.without_dims))}")
        lines.append(
            f"**{pair.a}** against **{pair.b}**: the standard deviations per dimension correlate with Pearson's r = "
            f"**{_number(plain)}** as it is usually quoted"
            + (f", and **{_number(robust.value)}** without {' and '.join(left_out)}." if left_out else ".")
        )
        typical = pair.measurements[f"median_log_ratio{sink}"].value
        outliers = len(pair.dimensions.outlier.only_a) + len(pair.dimensions.outlier.only_b)
        lines.append(
            f"There the typical dimension differs by a factor of **{_number(math.exp(typical))}**"
            + (" without the sink token" if pair.has_sink else "")
            + f", and {outliers} of {len(pair.dimensions.ratio)} dimensions by more than 3."
        )
    if findings.sinks:
        (name, layer), sink_report = max(findings.sinks.items(), key=lambda item: item[1].sink_share)
        lines.append(
            f"In **{name}, layer {layer}**, the attention sink, {sink_report.sink_tokens} of {sink_report.tokens} tokens, "
            f"has **{100 * sink_report.sink_share:.1f} %** of the variance: the standard deviation of all values is "
            f"{_number(sink_report.std)} with it and {_number(sink_report.std_without_sink)} without."
        )
    return lines


def _comparison(pair: ComparedPair) -> list[str]:
    lines = [f"## {pair.a} against {pair.b}", ""]
    suffixes = [""]
    dims = next(iter(found.without_dims for found in pair.measurements.values() if found.without_dims), ())
    top = next((name for name in pair.measurements if name.startswith("pearson_std_without_top")), None)
    if top is not None:
        suffixes.append(top.removeprefix("pearson_std"))
    if pair.has_sink:
        suffixes += [f"_without_sink{suffix}" for suffix in suffixes]
    headings = {
        "": "naive: all tokens, all dimensions" if pair.has_sink else "naive: all dimensions",
        "_without_sink": "without the sink",
    }
    for suffix in suffixes:
        if "_top" in suffix:
            count = len(dims)
            headings[suffix] = f"without the {count} largest dimensions" + (
                ", nor the sink" if "_sink" in suffix else ""
            )
    rows = [
        [STD_MEASURES[name].description, *(_number(pair.measurements[name + s].value) for s in suffixes)]
        for name in STD_MEASURES
    ]
    lines += _table(["measure", *(headings[suffix] for suffix in suffixes)], rows)
    if pair.token_measurements is not None and pair.paired is not None:
        variants = {"naive: all tokens" if pair.has_sink else "value": ""}
        if pair.has_sink:
            variants["without the sink"] = "_without_sink"
        rows = [
            [
                TOKEN_MEASURES[name].description,
                *(_number(pair.token_measurements[name + suffix].value) for suffix in variants.values()),
            ]
            for name in TOKEN_MEASURES
        ]
        count = f"{len(pair.paired.roles)} tokens of {pair.paired.inputs} inputs"
        lines += [
            f"The same tokens, row by row ({count}{'' if pair.paired.is_all else ', the first of them'}; those of images left "
            "out, and of several references the first):",
            "",
            *_table(["measure", *variants], rows),
        ]
    else:
        lines += [
            "The two sides do not have the same tokens row by row: no cosine of tokens and no kernel alignment.",
            "",
        ]
    found = pair.dimensions
    kinds = {"dead": found.dead, "hyperactive": found.hyperactive}
    rows = [
        [kind, str(len(sides.only_a)), str(len(sides.only_b)), str(len(sides.common))]
        for kind, sides in kinds.items()
    ]
    rows.append(
        [
            "outlier (ratio above 3), larger there",
            str(len(found.outlier.only_a)),
            str(len(found.outlier.only_b)),
            "",
        ]
    )
    without = " without the sink" if pair.has_sink else ""
    lines += [
        f"Classes of the {len(found.ratio)} dimensions{without}:",
        "",
        *_table(["class", "in the first alone", "in the second alone", "in both"], rows),
    ]
    if pair.worst:
        rows = [
            [
                str(one.dim),
                _number(one.std_a),
                _number(one.std_b),
                _number(one.factor),
                {"a": "first", "b": "second", "equal": "equal"}[one.larger],
            ]
            for one in pair.worst[:5]
        ]
        lines += [
            f"The dimensions that differ most{without}:",
            "",
            *_table(["dimension", "std, first", "std, second", "factor", "larger"], rows),
        ]
    return lines


def _sinks(findings: Findings) -> list[str]:
    rows = [
        [
            name,
            str(layer),
            _number(one.std),
            _number(one.std_without_sink),
            f"{100 * one.sink_share:.1f} %",
            f"{100 * one.top_share:.1f} % ({', '.join(map(str, one.top_dims))})",
            str(findings.massive.get((name, layer), 0)),
        ]
        for (name, layer), one in findings.sinks.items()
    ]
    if not rows:
        return []
    massive = findings.analysis["massive"]
    return [
        "## Scale, and the attention sink",
        "",
        *_table(
            [
                "encoder",
                "layer",
                "std of all values",
                "without the sink",
                "share of the variance that goes with the sink",
                "share of the 3 largest dimensions in the rest",
                "places with massive activations",
            ],
            rows,
        ),
        f"Massive: a magnitude above {_number(massive['magnitude'])} and at least {_number(massive['factor'])} times the "
        "median of the layer.",
        "",
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return [*("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines), ""]


def _number(value: float) -> str:
    """Returns three significant digits, more only where a whole number has them; - where it is not defined."""
    if math.isnan(value):
        return "-"
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    # Nearly 1 is not 1: the difference is what a correlation is looked at for.
    return f"{value:.6f}".rstrip("0") if text in ("1", "-1") and abs(value) < 1 else text
