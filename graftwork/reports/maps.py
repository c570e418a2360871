"""The report of a file of maps: what was measured, beside controls, as Markdown, and its plots."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftwork.core.charts import Axis, Chart, Level, Panel, Scale, Series
from graftwork.core.tables import format_number, read_table
from graftwork.maps.evaluation import MEASURES
from graftwork.maps.pairs import NORMALIZATIONS
from graftwork.planning.maps import MapStudyTask
from graftwork.reports.index import Card
from graftwork.reports.templates import render
from graftwork.scores.means import ROLE
from graftwork.scores.registry import scores

_VELOCITY = "velocity_error"
_ON_TOKENS = [name for name in MEASURES if name != _VELOCITY]
_METHOD = "Bars: 95 % intervals, by bootstrap over held-out prompts, which keep their tokens with them."
# Axes of an experiment whose values are not compared here.
_INPUTS = ("", ROLE, "prompt", "reference", "seed")
# A rank or size has reached this share of what the largest one gains.
_MOST_OF_IT = 0.95
# A difference of R2 that is as good as none.
_SMALL = 0.01
# What an image is compared with where a score says what it follows.
_FOLLOWED = ("prompt", "reference")


@dataclass(frozen=True)
class Point:
    """A measured value.

    Attributes:
        value: estimate.
        low: lower end of its interval; NaN where there is none.
        high: upper end.
        prompts: number of prompts.
        tokens: number of tokens; 0 where none are counted.
    """

    value: float
    low: float
    high: float
    prompts: int
    tokens: int

    @property
    def text(self) -> str:
        """Value and interval in words."""
        if math.isnan(self.low):
            return format_number(self.value)
        return f"{format_number(self.value)} ({format_number(self.low)} to {format_number(self.high)})"


@dataclass
class Findings:
    """What a report is made of.

    Attributes:
        task: maps and prompts.
        controls: names of maps that are there to be compared with.
        pairs: name of a map -> number of pairs that it was fitted on.
        parameters: name of a map -> number of fitted values.
        measured: measure -> name of a map -> point.
        velocities: sigma -> name of a map -> point.
        curves: curve -> measure -> (size in pairs or rank, point).
        sizes: number of pairs -> number of prompts, of the curve of sizes.
        means: rows of the means of scores, of the experiment whose images are shown.
        text_alone: column -> row of the mean over its baselines.
        grids: paths of its grids, relative to the report.
        problems: what could not be measured, one line each.
    """

    task: MapStudyTask
    controls: list[str] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    measured: dict[str, dict[str, Point]] = field(default_factory=dict)
    velocities: dict[float, dict[str, Point]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[tuple[int, Point]]]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    means: list[dict[str, str]] = field(default_factory=list)
    text_alone: dict[str, dict[str, str]] = field(default_factory=dict)
    grids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def maps(self) -> list[str]:
        """Names of all maps, those without a file first."""
        named = {name: None for found in self.velocities.values() for name in found}
        return list(named | {one.name: None for one in self.task.maps if not one.curve})


def read_findings(task: MapStudyTask, folder: Path, means: Sequence[str], grids: Sequence[str]) -> Findings:
    """Reads what was measured.

    Args:
        task: maps and prompts.
        folder: where the tables are and the report will be.
        means: path of the means of scores, or none.
        grids: paths of the grids of images.
    """
    findings = Findings(task, grids=[os.path.relpath(path, folder) for path in grids])
    for row in read_table(folder / "metrics.csv"):
        name, point = row["map"], _point(row)
        if row["is_control"] == "True" and name not in findings.controls:
            findings.controls.append(name)
        findings.pairs[name], findings.parameters[name] = int(row["pairs"]), int(row["parameters"])
        if row["measure"] == _VELOCITY:
            findings.velocities.setdefault(float(row["sigma"]), {})[name] = point
        else:
            findings.measured.setdefault(row["measure"], {})[name] = point
    for row in read_table(folder / "curves.csv"):
        at = int(row["pairs"] if row["curve"] == "size" else row["at"])
        findings.sizes[int(row["pairs"])] = int(row["prompts_fitted"])
        curve = findings.curves.setdefault(row["curve"], {}).setdefault(row["measure"], [])
        curve.append((at, _point(row)))
        curve.sort(key=lambda one: one[0])
    for path in means:
        rows = read_table(path)
        findings.means += [row for row in rows if row["by"] not in _INPUTS]
        findings.text_alone |= {
            row["column"]: row for row in rows if (row["by"], row["value"]) == (ROLE, "baseline")
        }
    findings.problems = (folder / "problems.txt").read_text(encoding="utf-8").splitlines()
    return findings


def _point(row: Mapping[str, str]) -> Point:
    low, high = (float(row[side]) if row[side] else math.nan for side in ("low", "high"))
    return Point(float(row["value"] or "nan"), low, high, int(row["prompts"]), int(row["tokens"] or 0))


def headlines(findings: Findings) -> list[str]:
    """Returns what came out, in sentences with their numbers, each after its question."""
    task, lines = findings.task, []
    if task.method in findings.measured.get("r2", {}):
        lines.append(_gap_headline(findings))
    for sigma, found in sorted(findings.velocities.items(), reverse=True)[:1]:
        if task.method in found:
            beside = ", ".join(f"{name} {found[name].text}" for name in findings.controls if name in found)
            lines.append(
                f"Does the transformer see the difference? At sigma {sigma:g} the velocity error of {task.method} is {found[task.method].text}, where 1 "
                f"is as far from the text encoder's own as no prompt; the controls: {beside}."
            )
    for curve, asked, what in (
        ("rank", "How many dimensions does the gap have?", "rank {}"),
        ("size", "How large has the corpus to be?", "{} pairs of tokens"),
    ):
        points = findings.curves.get(curve, {}).get("r2", [])
        reached = _reached(points)
        if reached is None:
            continue
        ends = f"{points[0][1].text} at {points[0][0]}, {points[-1][1].text} at {points[-1][0]}"
        if max(point.value for _, point in points) - points[0][1].value < _SMALL:
            lines.append(f"{asked} R2 hardly changes along the curve: {ends}.")
        else:
            lines.append(
                f"{asked} {100 * _MOST_OF_IT:.0f} % of what R2 gains along the curve is reached with {what.format(reached)}: {ends}."
            )
    return lines + _image_headlines(findings)


def _gap_headline(findings: Findings) -> str:
    """Returns how much of the error that the best control leaves is removed by the map that stands for the file."""
    fit, method = findings.measured["r2"], findings.task.method
    own = fit[method]
    controls = sorted(
        (name for name in findings.controls if name in fit and name != method),
        key=lambda name: -fit[name].value,
    )
    asked = "How much of the gap is linear?"
    said = f"On held-out tokens, {method} has R2 = {own.text}, where 1 is the text encoder's own states and 0 is their mean"
    if not controls:
        return f"{asked} {said}."
    best, *others = controls
    left = 1 - fit[best].value
    gained = (
        f"{100 * (own.value - fit[best].value) / left:.0f} % of the error that {best} leaves is gone"
        if left > 0
        else ""
    )
    small = f" There is hardly a gap: {best} alone has it." if left < _SMALL else ""
    beside = ", ".join(f"{name} {fit[name].text}" for name in (best, *others))
    return (
        f"{asked} {gained}. {said}; the controls: {beside}.{small}"
        if gained
        else f"{asked} {said}; the controls: {beside}."
    )


def _image_headlines(findings: Findings) -> list[str]:
    """Returns a line for each quantity that says what images follow, from the highest value to the lowest."""
    columns = {column.name: column for score in scores().values() for column in score.columns}
    axis = next((row["by"] for row in findings.means), None)
    lines = []
    for name in dict.fromkeys(row["column"] for row in findings.means):
        rows = [row for row in findings.means if (row["by"], row["column"]) == (axis, name) and row["mean"]]
        column = columns[name]
        if not rows or column.is_detail or column.better != "higher" or column.against not in _FOLLOWED:
            continue
        ranked = sorted(rows, key=lambda row: -float(row["mean"]))
        # Intervals are in the table.
        shown = "; ".join(f"{row['value']} {float(row['mean']):.2f}" for row in ranked)
        alone = findings.text_alone.get(name)
        beside = f" The text encoder's own: {float(alone['mean']):.2f}." if alone and alone["mean"] else ""
        lines.append(f"And the images ({column.label})? {shown}.{beside}")
    return lines


def _reached(points: Sequence[tuple[int, Point]]) -> int | None:
    """Returns where a curve has gained nearly all that it gains from its first point to its best; None for fewer than two."""
    if len(points) < 2:
        return None
    first, best = points[0][1].value, max(point.value for _, point in points)
    wanted = first + _MOST_OF_IT * (best - first)
    return next(at for at, point in points if point.value >= wanted)


def chart_fit(findings: Findings) -> Chart:
    """Returns the plot of all measures on held-out tokens, map by map."""
    panels = [
        _dots(findings, measured, MEASURES[name].label)
        for name in _ON_TOKENS
        if (measured := findings.measured.get(name))
    ]
    return Chart(f"{findings.task.title}", [_counted(findings)], panels or [_empty()], 2, [_METHOD])


def chart_velocity(findings: Findings) -> Chart:
    """Returns the plot of velocity errors, map by map, at each noise level."""
    panels = [
        _dots(findings, found, f"velocity error at sigma {sigma:g}", _scale_of(found))
        for sigma, found in sorted(findings.velocities.items(), reverse=True)
    ]
    return Chart(
        "How far the transformer is led from where the text encoder leads it",
        ["0 is the text encoder's own velocity, 1 as far from it as an empty prompt"],
        panels or [_empty()],
        1,
        [_METHOD],
    )


def _scale_of(found: Mapping[str, Point]) -> Scale:
    """Returns the scale for values that may be thousands of times apart."""
    return "log" if all(min(point.value, _interval(point)[0]) > 0 for point in found.values()) else "linear"


def _dots(findings: Findings, found: Mapping[str, Point], label: str, scale: Scale = "linear") -> Panel:
    names = [name for name in findings.maps if name in found]
    series = [
        Series(
            kind,
            [(found[name].value, names.index(name)) for name in chosen],
            [_interval(found[name]) for name in chosen],
            "points",
        )
        for kind, chosen in (
            ("map", [name for name in names if name not in findings.controls]),
            ("control", [name for name in names if name in findings.controls]),
        )
        if chosen
    ]
    return Panel(
        Axis(label, scale), Axis("", "category", names=tuple(names)), series, height=0.2 + 0.06 * len(names)
    )


def chart_size(findings: Findings) -> Chart:
    """Returns the plot of how the fit grows with the corpus."""
    return _curve(
        findings,
        "size",
        "How the fit grows with the corpus",
        f"pairs of tokens that {findings.task.method} is fitted on",
    )


def chart_rank(findings: Findings) -> Chart:
    """Returns the plot of how the fit grows with the rank."""
    return _curve(findings, "rank", "How many dimensions the difference has", "rank")


def _curve(findings: Findings, name: str, title: str, label: str) -> Chart:
    curves = findings.curves.get(name, {})
    shown = [measure for measure in _ON_TOKENS if measure in curves]
    series = [
        Series(
            MEASURES[measure].label,
            [(at, point.value) for at, point in curves[measure]],
            [_interval(point) for _, point in curves[measure]],
        )
        for measure in shown
    ]
    fit = findings.measured.get("r2", {})
    levels = [
        Level(f"R2 of {one}", [(0, fit[one].value)], MEASURES["r2"].label)
        for one in (findings.task.method,)
        if one in fit and name == "rank"
    ]
    panel = Panel(Axis(label, "log"), Axis("on held-out tokens"), series, levels)
    return Chart(title, [_counted(findings)], [panel if series else _empty()], 1, [_METHOD])


def _interval(point: Point) -> tuple[float, float]:
    return (point.value, point.value) if math.isnan(point.low) else (point.low, point.high)


def _empty() -> Panel:
    return Panel(Axis(""), Axis(""), remark="the file asks for none of this")


def _counted(findings: Findings) -> str:
    point = next((p for found in findings.measured.values() for p in found.values()), None)
    if point is None:
        return "nothing was measured"
    return f"{point.tokens} held-out tokens of {point.prompts} prompts"


PLOTS: dict[str, Callable[[Findings], Chart]] = {
    "fit": chart_fit,
    "velocity": chart_velocity,
    "size": chart_size,
    "rank": chart_rank,
}
_CAPTIONS = {
    "fit": "Fit on held-out tokens",
    "velocity": "Velocity error",
    "size": "Fit against the size of the corpus",
    "rank": "Fit against rank",
}


@dataclass(frozen=True)
class _Table:
    """A table.

    Attributes:
        title: heading.
        columns: headings of the columns.
        rows: one text per column.
        note: sentence below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


def _tables(findings: Findings) -> list[_Table]:
    kinds = {name: "control" if name in findings.controls else "map" for name in findings.maps}
    measures = [name for name in _ON_TOKENS if name in findings.measured]
    tables = [
        _Table(
            "Held-out tokens",
            ["map", "", "fitted values", "pairs", *(MEASURES[name].label for name in measures)],
            [
                [
                    name,
                    kinds[name],
                    findings.parameters.get(name, 0),
                    findings.pairs.get(name, 0),
                    *(_text(findings.measured[measure].get(name)) for measure in measures),
                ]
                for name in findings.maps
                if any(name in findings.measured[measure] for measure in measures)
            ],
            f"{_counted(findings)}. "
            + " ".join(f"{MEASURES[name].label}: {MEASURES[name].meaning}." for name in measures),
        )
    ]
    if findings.velocities:
        sigmas = sorted(findings.velocities, reverse=True)
        prompts = max(point.prompts for point in findings.velocities[sigmas[0]].values())
        tables.append(
            _Table(
                "Velocity error",
                ["map", "", *(f"sigma {sigma:g}" for sigma in sigmas)],
                [
                    [name, kinds[name], *(_text(findings.velocities[sigma].get(name)) for sigma in sigmas)]
                    for name in findings.maps
                    if name in findings.velocities[sigmas[0]]
                ],
                f"{prompts} held-out prompts, one noise each. {MEASURES[_VELOCITY].meaning}. `unmapped` is the encoder without a "
                "map, position 0 included, which maps replace by the text encoder's own.",
            )
        )
    tables += [_curve_table(findings, name, curve) for name, curve in findings.curves.items()]
    return tables + _score_tables(findings)


def _curve_table(findings: Findings, name: str, curve: Mapping[str, Sequence[tuple[int, Point]]]) -> _Table:
    measures = [measure for measure in _ON_TOKENS if measure in curve]
    first = curve[measures[0]]
    is_size = name == "size"
    return _Table(
        _CAPTIONS[name],
        [*(["prompts", "pairs"] if is_size else ["rank"]), *(MEASURES[one].label for one in measures)],
        [
            [*([findings.sizes[at]] if is_size else []), at, *(curve[one][row][1].text for one in measures)]
            for row, (at, _) in enumerate(first)
        ],
    )


def _score_tables(findings: Findings) -> list[_Table]:
    """Returns the means of scores of the images, one table for each axis."""
    columns = {column.name: column for score in scores().values() for column in score.columns}
    tables = []
    for axis in dict.fromkeys(row["by"] for row in findings.means):
        rows = [row for row in findings.means if row["by"] == axis and not columns[row["column"]].is_detail]
        # A measure of no image, such as likeness to a reference where there is none, would be a column of dashes.
        names = list(dict.fromkeys(row["column"] for row in rows if row["mean"]))
        if not names:
            continue
        values = list(dict.fromkeys(row["value"] for row in rows))
        found = {(row["value"], row["column"]): row for row in rows}
        tables.append(
            _Table(
                f"Images: {axis}",
                [axis, "images", "prompts", *(columns[name].label for name in names)],
                [
                    [
                        value,
                        found[value, names[0]]["n"],
                        found[value, names[0]]["prompts"],
                        *(_mean_text(found.get((value, name))) for name in names),
                    ]
                    for value in values
                ],
                "Means over images with 95 % intervals, by bootstrap over prompts.",
            )
        )
    return tables


def _mean_text(row: Mapping[str, str] | None) -> str:
    if row is None or not row["mean"]:
        return "-"
    low, high = (float(row[side]) if row[side] else math.nan for side in ("low", "high"))
    return Point(float(row["mean"]), low, high, 0, 0).text


def _text(point: Point | None) -> str:
    return "-" if point is None else point.text


def card_of(findings: Findings) -> Card:
    """Returns what the index of all results says of the maps."""
    task = findings.task
    return Card(
        task.name, task.title, task.question, tuple(headlines(findings)), failed=len(findings.problems)
    )


def write_report(findings: Findings) -> str:
    """Returns the report as Markdown."""
    task = findings.task
    values = {
        "task": task,
        "normalization": NORMALIZATIONS[task.normalization],
        "headlines": headlines(findings),
        "tables": _tables(findings),
        "plots": {_CAPTIONS[name]: f"plots/{name}.png" for name in PLOTS},
        "grids": findings.grids,
        "problems": findings.problems,
        "shared": len(task.shared),
        "prompts": {"fitted": len(task.fitted), "held_out": len(task.held_out)},
        "targets": [
            f"results/maps/{task.name}/report.md",
            *([f"results/{task.experiment}/summary.md"] if task.experiment else []),
        ],
    }
    return render("maps.md.j2", **values)
