"""score_means.csv: the mean of every number that scores measure, by every axis, with intervals; and its plots and text.

A mean is taken over images. Cells of one prompt with the same image count once, or once for each reference where the
image is compared with the reference. Intervals resample prompts, which keep all their seeds and settings with them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graftwork.core.cells import Axis as ParameterAxis
from graftwork.core.cells import Expansion
from graftwork.core.charts import MOST_SIDE_BY_SIDE, Axis, Chart, Level, Panel, Series, dot_plot
from graftwork.core.identity import canonical_json
from graftwork.core.tables import Row, format_number
from graftwork.scores.intervals import bootstrap_interval
from graftwork.scores.registry import UNSCORED, Column, Section, Summary, scores

TABLE = "score_means"
# Values of `by` besides the axes: all cells, and the role that a cell has, of which the baseline is listed.
ALL, ROLE = "", "role"
FEW_PROMPTS = 10
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


@dataclass(frozen=True)
class ScoredCell:
    """A row of scores.csv, and where its cell stands in the experiment.

    Attributes:
        role: cell or baseline.
        prompt: text of the prompt.
        reference: stands for the cell's reference images; empty without a reference.
        image: path, or empty.
        places: (axis, label of a value) of each axis; a cell may be at several values of an axis.
        values: row of scores.csv.
    """

    role: str
    prompt: str
    reference: str
    image: str
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
        For each column of numbers: a row of all cells, one of the baselines (`by` "role"), and one for each value of each
        axis that varies. `n` images of so many `prompts` were counted; `unscored` cells could not be measured.
    """
    cells = scored_cells(expansion, rows)
    groups: dict[tuple[str, str], list[ScoredCell]] = {(ALL, ""): [c for c in cells if c.role == "cell"]}
    groups[ROLE, "baseline"] = [c for c in cells if c.role == "baseline"]
    for axis in expansion.axes:
        for label in axis.labels if axis.varies else ():
            groups[axis.name, label] = [c for c in groups[ALL, ""] if (axis.name, label) in c.places]
    measured = rows[0].keys() if rows else ()
    return [
        {
            "score": score.name,
            "column": column.name,
            "unit": column.unit,
            "better": column.better,
            "by": by,
            "value": value,
            **_mean(column, members),
        }
        for score in scores().values()
        for column in score.columns
        if column.is_number and column.name in measured
        for (by, value), members in groups.items()
        if members
    ]


def _mean(column: Column, cells: Iterable[ScoredCell]) -> Row:
    found, unscored = {}, 0
    for cell in cells:
        if not cell.values[column.name]:
            # Without a reason the value is not missing: the question does not arise for the cell.
            unscored += bool(cell.values[UNSCORED])
            continue
        compared = cell.reference if column.against == "reference" else ""
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
    """Returns a plot for each column of numbers that is no detail.

    Args:
        axes: axes of the experiment.
        names: names of the experiment's scores.
    """
    return {column.name: column.name for name in names for column in _shown_columns(name)}


def _shown_columns(name: str) -> list[Column]:
    return [column for column in scores()[name].columns if column.is_number and not column.is_detail]


def chart_of_means(name: str, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    """Returns the plot of one column: its mean against each axis.

    Args:
        name: name of the column.
        title: title of the experiment.
        rows: rows of score_means.csv.
    """
    score, column = next((s, c) for s in scores().values() for c in s.columns if c.name == name)
    own = [row for row in rows if row["column"] == name]
    total = next(row for row in own if row["by"] == ALL)
    by_axis: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in own:
        if row["by"] not in (ALL, ROLE):
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
    is_quantity = axis not in _NAMES and all(map(_is_number, labels))
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
        Level(_TEXT_ALONE, [(0.0, float(row["mean"]))]) for row in rows if row["by"] == ROLE and row["mean"]
    ]
    return levels + ([Level("chance", [(0.0, column.chance)])] if column.chance is not None else [])


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
            )
            for row in own
            if sizes[row["by"]] <= _MOST_LISTED and row["by"] not in _UNLISTED
        ]
    few = any(0 < int(row["prompts"]) < FEW_PROMPTS for row in rows if row["by"] == ALL)
    text = (
        "Means over images; equal images of one prompt count once. Intervals of 95 % by bootstrap over prompts, which keep "
        f"their seeds and settings with them. Every number by every axis: [{TABLE}.csv]({TABLE}.csv)."
    )
    if few:
        text += f" With fewer than {FEW_PROMPTS} prompts the intervals are too narrow."
    if not listed:
        return Section(text)
    columns = ("measure", "unit", "better", "cells", "images", "prompts", "mean", "95 % interval")
    return Section(text, columns, listed)


def _group(row: Mapping[str, str]) -> str:
    return {ALL: "all", ROLE: _TEXT_ALONE}.get(row["by"], f"{row['by']} = {row['value']}")


def _number(text: str) -> str:
    return format_number(float(text)) if text else ""


MEANS = Summary(TABLE, summarize_means, plots_of_means, chart_of_means, describe_means)
