"""score_means.csv: the mean of every number that scores measure, by every axis, with intervals; and its plots and text.

A mean is taken over images. Cells of one prompt with the same image count once, or once for each reference where the
image is compared with the reference. Intervals resample prompts, which keep all their seeds and settings with them.

A difference is that of an image to its baseline: the text alone of the same prompt and seed. Only differences compare
prompts of different difficulty.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graftwork.core.cells import CONTROL, Expansion
from graftwork.core.cells import Axis as ParameterAxis
from graftwork.core.charts import MOST_SIDE_BY_SIDE, Axis, Chart, HeatMap, Level, Panel, Series, dot_plot
from graftwork.core.identity import canonical_json
from graftwork.core.tables import Row, format_number
from graftwork.scores.intervals import adjust_by_holm, bootstrap_interval, sign_flip_p
from graftwork.scores.registry import UNSCORED, Column, Score, Section, Summary, scores

TABLE = "score_means"
# Values of `by` besides the axes: all cells, and the role that a cell has, of which the baseline is listed.
ALL, ROLE = "", "role"
FEW_PROMPTS = 10
TOO_NARROW = f"With fewer than {FEW_PROMPTS} prompts the intervals are too narrow."
# `by` of a row with one value of each of two axes, whose names and values are joined.
JOINED = " x "
# Axes whose values are names, even where they are numbers.
_NAMES = ("prompt", "reference", "seed", "setting")
# With more values an axis is not listed in the summary.
_MOST_LISTED = 8
# Axes that are never listed there.
_UNLISTED = ("prompt", "seed")
_TEXT_ALONE = "the text alone"
_METHOD = (
    "Mean over images; equal images of one prompt count once. Bars: 95 % intervals, by bootstrap over prompts, which keep "
    "their seeds and settings with them; none with fewer than two prompts."
)
# Digits of a model's value that do not depend on the machine.
_READ_DIGITS = 4
# Measures that are named at once.
_MOST_NAMED = 2
_MAP = "_map"
_MAP_METHOD = (
    "Mean over images; equal images of one prompt count once. Rows and columns are the axes with numbers as values, or else "
    "those with most values. Intervals are in the table."
)


@dataclass(frozen=True)
class ScoredCell:
    """A row of scores.csv, and where its cell stands in the experiment.

    Attributes:
        role: cell or baseline.
        prompt: text of the prompt.
        reference: stands for the cell's reference images; empty without a reference.
        image: path, or empty.
        baseline: row of scores.csv of its baseline; None for a baseline, and where the experiment has none.
        places: (axis, label of a value) of each axis; a cell may be at several values of an axis.
        values: row of scores.csv.
    """

    role: str
    prompt: str
    reference: str
    image: str
    baseline: Mapping[str, str] | None
    places: frozenset[tuple[str, str]]
    values: Mapping[str, str]


def scored_cells(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[ScoredCell]:
    """Returns the cells of an experiment with what was measured of them.

    Args:
        expansion: the experiment.
        rows: rows of scores.csv.
    """
    places = defaultdict(set)
    for indices, cell in expansion.positions:
        for axis, index in zip(expansion.axes, indices, strict=True):
            places[cell].add((axis.name, axis.labels[index]))
    row_of = {row["cell"]: row for row in rows}
    return [
        ScoredCell(
            role=cell.role,
            prompt=cell.parameters["prompt"],
            reference=canonical_json(cell.parameters.get("reference") or ""),
            image=row_of[cell.cell]["image"],
            baseline=row_of.get(expansion.baselines.get(cell.cell, "")),
            places=frozenset(places[cell.cell]),
            values=row_of[cell.cell],
        )
        for cell in expansion.cells
    ]


def summarize_means(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """Returns the rows of score_means.csv.

    Args:
        expansion: the experiment.
        rows: rows of scores.csv.

    Returns:
        For each column of numbers: a row of all cells, one of each other role (`by` "role"), one for each value of each
        axis that varies, and one for each pair of values of the two axes of the map. `n` images of so many `prompts`
        were counted; `unscored` cells could not be measured. `difference` is the mean difference of `pairs` images to
        their baselines, with its interval; `p` is that of a test that flips signs of whole prompts, `p_adjusted` by Holm
        over the rows of the column but those of pairs of values.
    """
    cells = scored_cells(expansion, rows)
    groups: dict[tuple[str, str], list[ScoredCell]] = {(ALL, ""): [c for c in cells if c.role == "cell"]}
    for role in dict.fromkeys(cell.role for cell in cells):
        if role != "cell":
            groups[ROLE, role] = [c for c in cells if c.role == role]
    for axis in expansion.axes:
        for label in axis.labels if axis.varies else ():
            # The other values of the axis of controls are no cells of the role `cell`.
            members = cells if axis.name == CONTROL else groups[ALL, ""]
            groups[axis.name, label] = [c for c in members if (axis.name, label) in c.places]
    for one, other in itertools.pairwise(map_axes(expansion.axes)):
        for pair in itertools.product(one.labels, other.labels):
            members = [c for c in groups[one.name, pair[0]] if (other.name, pair[1]) in c.places]
            groups[one.name + JOINED + other.name, JOINED.join(pair)] = members
    measured = rows[0].keys() if rows else ()
    return [
        row
        for score in scores().values()
        for column in score.columns
        if column.is_number and column.name in measured
        for row in _rows_of_column(score.name, column, groups)
    ]


def map_axes(axes: Sequence[ParameterAxis]) -> list[ParameterAxis]:
    """Returns the two axes that a map is drawn over, or none: axes of numbers first, then those of most values.

    Args:
        axes: axes of the experiment; prompts and seeds, which means are taken over, are none of them.
    """
    varying = [axis for axis in axes if axis.varies and axis.name not in (*_UNLISTED, CONTROL)]
    varying.sort(key=lambda axis: (not _is_quantity(axis.name, axis.labels), -len(axis.labels)))
    return varying[:2] if len(varying) > 1 else []


def _rows_of_column(
    score: str, column: Column, groups: Mapping[tuple[str, str], Sequence[ScoredCell]]
) -> list[Row]:
    rows = [
        {
            "score": score,
            "column": column.name,
            "unit": column.unit,
            "better": column.better,
            "by": by,
            "value": value,
            **_mean(column, members),
            **_difference(column, members),
        }
        for (by, value), members in groups.items()
        if members
    ]
    tested = [row for row in rows if JOINED not in row["by"]]
    adjusted = adjust_by_holm([row["p"] for row in tested])
    adjusted_of = {
        (row["by"], row["value"]): None if p is None else round(p, 6)
        for row, p in zip(tested, adjusted, strict=True)
    }
    return [{**row, "p_adjusted": adjusted_of.get((row["by"], row["value"]))} for row in rows]


def _difference(column: Column, cells: Iterable[ScoredCell]) -> Row:
    """Returns the paired difference of cells to their baselines; empty for what is compared with the baseline anyway."""
    found: dict[tuple[str, str, str, str], float] = {}
    for cell in cells:
        own, beside = cell.values[column.name], cell.baseline and cell.baseline[column.name]
        if column.text_alone:
            beside = cell.values[column.text_alone]
        if column.against != "baseline" and own and beside and cell.baseline is not None:
            compared = cell.reference if column.against == "reference" else ""
            found[cell.prompt, cell.image, cell.baseline["image"], compared] = float(own) - float(beside)
    values, prompts = list(found.values()), [prompt for prompt, *_ in found]
    low, high = bootstrap_interval(values, prompts) or (None, None)
    p = sign_flip_p(values, prompts)
    numbers = {
        "difference": sum(values) / len(values) if values else None,
        "difference_low": low,
        "difference_high": high,
        "p": p,
    }
    return {
        "pairs": len(values),
        **{name: None if number is None else round(number, 6) for name, number in numbers.items()},
    }


def _mean(column: Column, cells: Iterable[ScoredCell]) -> Row:
    found, unscored = {}, 0
    for cell in cells:
        if not cell.values[column.name]:
            # Without a reason the value is not missing: the question does not arise for the cell.
            unscored += bool(cell.values[UNSCORED])
            continue
        compared = cell.reference if column.against == "reference" else ""
        if column.against == "baseline" and cell.baseline is not None:
            compared = cell.baseline["image"]
        found[cell.prompt, cell.image, compared] = float(cell.values[column.name])
    values, prompts = list(found.values()), [prompt for prompt, _, _ in found]
    low, high = bootstrap_interval(values, prompts) or (None, None)
    numbers = {
        "mean": sum(values) / len(values) if values else None,
        "low": low,
        "high": high,
        "min": min(values, default=None),
        "max": max(values, default=None),
    }
    # Six digits: the low bits of a sum depend on its order.
    rounded = {name: None if number is None else round(number, 6) for name, number in numbers.items()}
    return {"n": len(values), "prompts": len(set(prompts)), "unscored": unscored, **rounded}


def plots_of_means(axes: Sequence[ParameterAxis], names: Sequence[str]) -> dict[str, str]:
    """Returns a plot for each column of numbers that is no detail, and a map of it where two axes vary.

    Args:
        axes: axes of the experiment.
        names: names of the experiment's scores.
    """
    columns = [column.name for name in names for column in _shown_columns(name)]
    maps = [f"{column}{_MAP}" for column in columns] if map_axes(axes) else []
    return {plot: plot for plot in (*columns, *maps)}


def _shown_columns(name: str) -> list[Column]:
    return [column for column in scores()[name].columns if column.is_number and not column.is_detail]


def chart_of_means(name: str, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    """Returns the plot of one column: its mean against each axis, or over two of them.

    Args:
        name: name of the column, with an ending for the map.
        title: title of the experiment.
        rows: rows of score_means.csv.
    """
    known = {c.name: (s, c) for s in scores().values() for c in s.columns}
    if name not in known:
        return _map_chart(*known[name.removesuffix(_MAP)], title, rows)
    score, column = known[name]
    own = [row for row in rows if row["column"] == name]
    total = next(row for row in own if row["by"] == ALL)
    by_axis: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in own:
        if row["by"] not in (ALL, ROLE) and JOINED not in row["by"]:
            by_axis[row["by"]].append(row)
    # Without an axis that varies there is one mean.
    panels = by_axis or {ALL: [total]}
    unscored = f", {total['unscored']} cells not measured" if int(total["unscored"]) else ""
    levels = _levels(column, own)
    y = _y_axis(column, [row for found in panels.values() for row in found], levels)
    few = 0 < int(total["prompts"]) < FEW_PROMPTS
    drawn = [_panel(y, axis, found, levels) for axis, found in panels.items()]
    return Chart(
        title=f"{column.label[0].upper()}{column.label[1:]}, by axis",
        subtitle=[
            title,
            f"score {score.name}: {total['n']} images of {total['prompts']} prompts{unscored}{_direction(column)}",
        ],
        panels=drawn,
        # A dot plot has long names and needs the width.
        columns=1 if any(panel.y.scale == "category" for panel in drawn) else None,
        footer=[
            _METHOD,
            *([f"Fewer than {FEW_PROMPTS} prompts: the intervals are too narrow."] if few else []),
        ],
    )


def _map_chart(score: Score, column: Column, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    own = [row for row in rows if row["column"] == column.name and JOINED in row["by"]]
    names = own[0]["by"].split(JOINED)
    found = {tuple(row["value"].split(JOINED)): row["mean"] for row in own}
    columns, lines = (list(dict.fromkeys(pair[side] for pair in found)) for side in (0, 1))
    x, y = (
        Axis(name.replace("_", " "), "category", names=tuple(labels))
        for name, labels in zip(names, (columns, lines), strict=True)
    )
    subtitle = [title, f"score {score.name}{_direction(column)}"]
    heading = f"{column.label[0].upper()}{column.label[1:]}, by {x.label} and {y.label}"
    values = [[found.get((across, line)) for across in columns] for line in lines]
    if not all(mean for line in values for mean in line):
        remark = "not every pair of values was measured: cells have failed or are missing"
        return Chart(heading, subtitle, [Panel(x, y, remark=remark)], footer=[_MAP_METHOD])
    label = column.label + (f" ({column.unit})" if column.unit else "")
    shown = HeatMap(np.array(values, dtype=np.float64), label)
    return Chart(heading, subtitle, [Panel(x, y, map=shown)], footer=[_MAP_METHOD])


def _direction(column: Column) -> str:
    return "" if column.better == "neither" else f"; {column.better} is better"


def _y_axis(column: Column, rows: Sequence[Mapping[str, str]], levels: Sequence[Level]) -> Axis:
    """Returns the vertical axis of all panels, so that they can be compared: the whole range of a share, else the data's."""
    if column.unit == "share":
        return Axis(column.label, "percent", (0.0, 1.0))
    values = [float(row[end]) for row in rows for end in ("mean", "low", "high") if row[end]]
    values += [y for level in levels for _, y in level.points]
    limits = (min(values), max(values)) if values and min(values) < max(values) else None
    return Axis(column.label + (f" ({column.unit})" if column.unit else ""), limits=limits)


def _panel(y: Axis, axis: str, rows: Sequence[Mapping[str, str]], levels: Sequence[Level]) -> Panel:
    name = axis.replace("_", " ")
    labels = [row["value"] for row in rows]
    is_quantity = _is_quantity(axis, labels)
    if is_quantity:
        rows = sorted(rows, key=lambda row: float(row["value"]))
    places = [float(row["value"]) if is_quantity else float(place) for place, row in enumerate(rows)]
    counted = [(place, row) for place, row in zip(places, rows, strict=True) if row["mean"]]
    counts = sorted({int(row["n"]) for row in rows})
    panel = Panel(
        Axis(name, ticks=tuple(places)) if is_quantity else Axis(name, "category", names=tuple(labels)),
        y,
        [
            Series(
                "mean",
                [(place, float(row["mean"])) for place, row in counted],
                [(float(row["low"] or row["mean"]), float(row["high"] or row["mean"])) for _, row in counted],
                style="line" if is_quantity else "points",
            )
        ],
        levels,
        note=[f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"],
        remark="" if counted else "nothing was measured: cells have failed or are missing",
    )
    return panel if is_quantity or len(rows) <= MOST_SIDE_BY_SIDE else dot_plot(panel)


def _levels(column: Column, rows: Sequence[Mapping[str, str]]) -> list[Level]:
    levels = [
        Level(_role(row["value"]), [(0.0, float(row["mean"]))])
        for row in rows
        if row["by"] == ROLE and row["mean"]
    ]
    return levels + ([Level("chance", [(0.0, column.chance)])] if column.chance is not None else [])


def _is_quantity(axis: str, labels: Sequence[str]) -> bool:
    return axis not in _NAMES and all(map(_is_number, labels))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def describe_means(rows: Sequence[Mapping[str, str]]) -> Section:
    """Returns what summary.md says of the columns that are no detail: means over all cells and by axes of few values.

    Args:
        rows: rows of score_means.csv.
    """
    names = dict.fromkeys(row["score"] for row in rows)
    shown = {column.name: column for name in names for column in _shown_columns(name)}
    listed = []
    for column in shown.values():
        own = [row for row in rows if row["column"] == column.name]
        sizes = defaultdict(int)
        for row in own:
            sizes[row["by"]] += 1
        listed += [
            (
                column.label,
                column.unit,
                "" if column.better == "neither" else column.better,
                _group(row),
                row["n"],
                row["prompts"],
                _number(row["mean"]),
                f"{_number(row['low'])} to {_number(row['high'])}" if row["low"] else "",
                _difference_in_words(row),
                _number(row["p_adjusted"]),
            )
            for row in own
            if (row["mean"] or row["by"] != ROLE)
            and JOINED not in row["by"]
            and sizes[row["by"]] <= _MOST_LISTED
            and row["by"] not in _UNLISTED
        ]
    few = any(0 < int(row["prompts"]) < FEW_PROMPTS for row in rows if row["by"] == ALL)
    text = (
        "Means over images; equal images of one prompt count once. Intervals of 95 % by bootstrap over prompts, which keep "
        "their seeds and settings with them. The difference is that to the text alone of the same prompt and seed; p is "
        "that of flipping the signs of whole prompts, adjusted by Holm for the number of differences of the measure. Every "
        f"number by every axis: [{TABLE}.csv]({TABLE}.csv)."
    )
    if few:
        text += f" {TOO_NARROW}"
    if not listed:
        return Section(text)
    columns = (
        "measure",
        "unit",
        "better",
        "cells",
        "images",
        "prompts",
        "mean",
        "95 % interval",
        "difference",
        "p",
    )
    findings, details = describe_changes(list(shown.values()), rows)
    if details:
        lines = "\n".join(f"* {detail}" for detail in details)
        text = f"Measure by measure, by 95 % intervals of the difference:\n\n{lines}\n\n{text}"
    return Section(text, columns, listed, " ".join(findings))


def _difference_in_words(row: Mapping[str, str]) -> str:
    if not row["difference"]:
        return ""
    ends = f" ({_number(row['difference_low'])} to {_number(row['difference_high'])})"
    return f"{float(row['difference']):+.3g}" + (ends if row["difference_low"] else "")


@dataclass(frozen=True)
class _Change:
    """Where a measure first differs from the text alone as a quantity grows.

    Attributes:
        column: the measure.
        down: row of the first value at which it is below.
        up: row of the first value at which it is above.
        rows: rows of all values, ascending.
    """

    column: Column
    down: Mapping[str, str] | None
    up: Mapping[str, str] | None
    rows: Sequence[Mapping[str, str]]

    @property
    def gain(self) -> float | None:
        """First value at which it is better than in the text alone."""
        row = self.up if self.column.better == "higher" else self.down
        return None if row is None else float(row["value"])

    @property
    def loss(self) -> float | None:
        """First value at which it is worse."""
        row = self.down if self.column.better == "higher" else self.up
        return None if row is None else float(row["value"])


def describe_changes(
    columns: Sequence[Column], rows: Sequence[Mapping[str, str]]
) -> tuple[list[str], list[str]]:
    """Returns from which value of each quantity on measures differ from the text alone: what comes first, and each measure.

    Where it is not known which measures are of the prompt and which of the reference, each measure is all there is to say.

    Nothing is said of measures that have no direction, nor where no axis like `alpha` varies, which grows from 0.

    Args:
        columns: columns that are shown.
        rows: rows of score_means.csv.
    """
    axes: dict[str, list[_Change]] = defaultdict(list)
    for column in columns if rows else ():
        by_axis: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        for row in rows:
            if row["column"] == column.name and row["by"] not in (ALL, ROLE) and JOINED not in row["by"]:
                by_axis[row["by"]].append(row)
        for axis, found in by_axis.items():
            is_quantity = axis not in _UNLISTED and _is_quantity(axis, [row["value"] for row in found])
            # A layer, which counts from the end, does not grow from nothing.
            if column.better == "neither" or not is_quantity or min(float(r["value"]) for r in found) < 0:
                continue
            if any(row["difference_low"] for row in found):
                axes[axis].append(_change(column, found))
    findings, details = [], []
    for axis, found in axes.items():
        first, each = _first_in_words(axis, found), _each_in_words(axis, found)
        findings += first or each
        details += each if first else []
    return findings, details


def _change(column: Column, rows: Sequence[Mapping[str, str]]) -> _Change:
    ordered = sorted((row for row in rows if row["difference_low"]), key=lambda row: float(row["value"]))
    return _Change(
        column,
        next((row for row in ordered if _clears(row["difference_high"], -1)), None),
        next((row for row in ordered if _clears(row["difference_low"], 1)), None),
        ordered,
    )


def _clears(end: str, sign: int) -> bool:
    """Whether the end of an interval lies on one side of 0, by more than low bits: a judge that is sure differs in the sixth digit."""
    return sign * round(float(end), _READ_DIGITS) > 0


def _first_in_words(axis: str, changes: Sequence[_Change]) -> list[str]:
    name = axis.replace("_", " ")
    of_prompt = [one for one in changes if one.column.against == "prompt"]
    of_reference = [one for one in changes if one.column.against == "reference"]
    lost, losing = _earliest(of_prompt, [one.loss for one in of_prompt])
    gained, gaining = _earliest(of_reference, [one.gain for one in of_reference])
    # One of several may differ by chance, and the earliest is named.
    several = len(of_prompt) > 1 or len(of_reference) > 1
    chosen = (
        f" These are the earliest of the measures: {len(of_reference)} of likeness and {len(of_prompt)} of the prompt."
        if several
        else ""
    )
    sentences = []
    if lost is not None and gained is not None:
        order = "before" if gained < lost else "after" if gained > lost else "at the same value as"
        sentences.append(
            f"Likeness to the reference rises {order} the prompt begins to be lost: from {name} {_number(str(gained))} "
            f"({gaining}) and from {name} {_number(str(lost))} on ({losing}), by 95 % intervals of the difference to the text "
            f"alone.{chosen}"
        )
    elif lost is not None:
        sentences.append(
            f"The prompt begins to be lost at {name} {_number(str(lost))} ({losing}), and no likeness to the reference is seen "
            "to rise."
        )
    elif gained is not None:
        sentences.append(
            f"Likeness to the reference rises from {name} {_number(str(gained))} on ({gaining}), and the prompt is not seen to "
            "be lost."
        )
    return sentences


def _each_in_words(axis: str, changes: Sequence[_Change]) -> list[str]:
    name = axis.replace("_", " ")
    sentences = [_change_in_words(name, one) for one in changes if one.down or one.up]
    flat = [one.column.label for one in changes if not one.down and not one.up]
    if flat:
        sentences.append(f"No difference to the text alone is seen at any {name}: {', '.join(flat)}.")
    return sentences


def _earliest(changes: Sequence[_Change], values: Sequence[float | None]) -> tuple[float | None, str]:
    """Returns the smallest value, None where there is none, and the measures that have it."""
    first = min((value for value in values if value is not None), default=None)
    known = zip(changes, values, strict=True)
    names = [one.column.label for one, value in known if value is not None and value == first]
    more = len(names) - _MOST_NAMED
    return first, "; ".join(names[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _change_in_words(name: str, change: _Change) -> str:
    """Returns the first value at which the interval of the difference excludes 0, below and above."""
    label = change.column.label
    found = []
    for verb, first, end, sign in (
        ("falls below", change.down, "difference_high", -1),
        ("rises above", change.up, "difference_low", 1),
    ):
        if first is not None:
            later = change.rows[change.rows.index(first) :]
            stays = all(_clears(row[end], sign) for row in later)
            found.append(
                f"{verb} the text alone {'from' if stays else 'at'} {name} {_number(first['value'])}"
                f"{' on' if stays else ''}: by {_difference_in_words(first)}, {first['pairs']} images of "
                f"{first['prompts']} prompts"
            )
    return f"{label[0].upper()}{label[1:]} {'; it '.join(found)}."


def _group(row: Mapping[str, str]) -> str:
    if row["by"] == ROLE:
        return _role(row["value"])
    return "all" if row["by"] == ALL else f"{row['by']} = {row['value']}"


def _role(role: str) -> str:
    """Returns what people call cells that are not asked for: the baseline is the text alone."""
    return _TEXT_ALONE if role == "baseline" else role


def _number(text: str) -> str:
    return format_number(float(text)) if text else ""


MEANS = Summary(TABLE, summarize_means, plots_of_means, chart_of_means, describe_means)
