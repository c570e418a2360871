"""Plots of attributes.csv: the shares that follow the prompt and the reference, against alpha."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graftwork.core.cells import Axis as ParameterAxis
from graftwork.core.charts import MOST_SIDE_BY_SIDE, Axis, Chart, Level, Panel, Series, dot_plot
from graftwork.core.labels import format_value
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.scene_attributes.following import AGREES, DIFFERS, NO_REFERENCE, OPEN, STANDS
from graftwork.scores.scene_attributes.summary import ALL_ATTRIBUTES, MEASURES, PROMPT_SAYS, breakdowns

_LABELS = {"prompt": "follow the prompt", "reference": "follow the reference"}
_PROMPT_SAYS_TITLES = {
    DIFFERS: "prompt and reference differ",
    AGREES: "prompt and reference agree",
    OPEN: "the prompt leaves it open",
    NO_REFERENCE: "there is no reference",
}
_X_LABEL = "alpha (0: the text alone, 1: the other encoder alone)"
_SHORT_X_LABEL = "alpha"
_CONFIDENCE = "mean confidence of a reading"
_METHOD = (
    "An attribute follows the prompt if the image is read as what the prompt states. It follows the reference if it is "
    "read as the reference's value where the prompt states another or none. Bars: 95 % intervals by bootstrap over "
    "prompts, which keep all their images with them. Chance: images of random scenes. Confidence: 1 for a perfect scene, near 0 for an image that shows "
    "none, which is read as the nearest scene all the same."
)


def attribute_plots(axes: Sequence[ParameterAxis], names: Sequence[str]) -> dict[str, str]:
    """Returns plot name -> breakdown: empty for all cells, else one panel per attribute or per value of an axis.

    Args:
        axes: axes of the experiment.
        names: names of the experiment's scores.
    """
    # A panel per reference would be too many to look at; the table has them, and what does not vary.
    varying = {PROMPT_SAYS, *(axis.name for axis in axes if axis.varies)}
    shown = [by for by in breakdowns(axes) if by in varying and by != "reference"]
    return {"following": "", "following_by_attribute": "attribute"} | {
        f"following_by_{by}": by for by in shown
    }


def attribute_chart(by: str, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    """Returns one plot.

    Args:
        by: breakdown, as `attribute_plots` returns it.
        title: title of the experiment.
        rows: rows of attributes.csv.
    """
    total = [row for row in rows if not row["by"] and row["attribute"] == ALL_ATTRIBUTES]
    chosen = _panels(by, rows)
    heading = "Do the images follow the prompt, or the reference?"
    if by:
        heading += f" By {_name(by)}"
    counted = _counted_cells(total)
    what = "each attribute by itself"
    if by != "attribute":
        what = f"{len(ATTRIBUTES)} attributes together: {', '.join(ATTRIBUTES)}"
    ticks = tuple(float(row["alpha"]) for row in total)
    x = Axis(_X_LABEL if len(chosen) == 1 else _SHORT_X_LABEL, ticks=ticks)
    y = Axis("share of cells" if by == "attribute" else "share of attributes", "percent", (0.0, 1.0))
    if len(chosen) > MOST_SIDE_BY_SIDE:
        panels = [_dot_plot(by, chosen, y)]
    else:
        panels = [_panel(by, name, found, x, y) for name, found in chosen.items()]
    if not by:
        panels.append(_confidence_panel(x, total))
    return Chart(
        title=heading,
        subtitle=[title, f"{counted}; {what}"],
        panels=panels,
        columns=None if by and len(panels) > 1 else 1,
        footer=[_METHOD],
    )


def _counted_cells(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns how many cells were read; the text alone, which stands in at alpha 0, is counted apart."""
    stand_ins = sum(int(row["stand_ins"]) for row in rows) // len(ATTRIBUTES)
    own = [row for row in rows if not int(row["stand_ins"])]
    readings, unscored = (
        sum(int(row[key]) for row in own) // len(ATTRIBUTES) for key in ("readings", "unscored")
    )
    counted = f"{readings} cells with an image" + (f", {unscored} without" if unscored else "")
    return counted + (f", at alpha 0 the text alone in place of {stand_ins} cells" if stand_ins else "")


def _dot_plot(by: str, chosen: Mapping[str, Sequence[Mapping[str, str]]], y: Axis) -> Panel:
    """Returns one row for each value of a breakdown and each alpha above 0; at alpha 0 there is the text alone."""
    rows = [row for found in chosen.values() for row in found if float(row["alpha"])]
    repeated = Counter(row["value"] for row in rows)
    names = tuple(
        row["value"] + (f", alpha {format_value(float(row['alpha']))}" if repeated[row["value"]] > 1 else "")
        for row in rows
    )
    places = [{**row, "alpha": str(place)} for place, row in enumerate(rows)]
    shares = [
        sum(float(row[f"{measure}_chance"]) for row in counted) / len(counted)
        for measure in MEASURES
        if (counted := _counted(measure, rows))
    ]
    levels = [Level("chance", [(0.0, sum(shares) / len(shares))])] if shares else []
    x = Axis(_name(by), "category", names=names)
    return dot_plot(Panel(x, y, [replace(_series(m, places), style="points") for m in MEASURES], levels))


def _confidence_panel(x: Axis, rows: Sequence[Mapping[str, str]]) -> Panel:
    points = [_point(row, "confidence") for row in rows if row["confidence"]]
    y = Axis("confidence", limits=(0.0, 1.0), ticks=(0.0, 0.5, 1.0))
    remark = "" if points else "no image was read"
    return Panel(x, y, [Series(_CONFIDENCE, points)], remark=remark, height=0.4)


def _panels(by: str, rows: Sequence[Mapping[str, str]]) -> dict[str, list[Mapping[str, str]]]:
    """Returns what each panel is of -> its rows, one per alpha."""
    if by in ("", "attribute"):
        names = [ALL_ATTRIBUTES] if not by else ATTRIBUTES
        return {name: [row for row in rows if not row["by"] and row["attribute"] == name] for name in names}
    found: dict[str, list[Mapping[str, str]]] = {}
    if by == PROMPT_SAYS:
        found = {stand: [] for stand in STANDS if stand != NO_REFERENCE}
    for row in rows:
        if row["by"] == by and row["attribute"] == ALL_ATTRIBUTES:
            found.setdefault(row["value"], []).append(row)
    return found


def _panel(by: str, name: str, rows: Sequence[Mapping[str, str]], x: Axis, y: Axis) -> Panel:
    titles = {"": "", "attribute": name, PROMPT_SAYS: _PROMPT_SAYS_TITLES.get(name, name)}
    # An alpha without images is not n = 0, and said in words.
    read = [row for row in rows if int(row["readings"])]
    counts = {measure: [int(row[f"{measure}_n"]) for row in read] for measure in MEASURES}
    counted = ", ".join(f"{measure} {_range(numbers)}" for measure, numbers in counts.items() if any(numbers))
    # The plot of all cells has a panel of confidence.
    means = [f"{float(row['confidence']):.2f}" for row in read]
    confidence = [f"mean confidence {_range(means)}"] if by and means else []
    return Panel(
        x,
        y,
        title=titles.get(by, f"{_name(by)} {name}"),
        note=[f"n per alpha: {counted}", *confidence] if counted else [],
        series=[_series(measure, rows) for measure in MEASURES],
        levels=_levels(rows),
        remark=_remark(by, name, rows),
    )


def _counted(measure: str, rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return [row for row in rows if int(row[f"{measure}_n"])]


def _series(measure: str, rows: Sequence[Mapping[str, str]]) -> Series:
    counted = _counted(measure, rows)
    return Series(
        _LABELS[measure],
        [_point(row, f"follows_{measure}") for row in counted],
        [(float(row[f"follows_{measure}_low"]), float(row[f"follows_{measure}_high"])) for row in counted],
    )


def _levels(rows: Sequence[Mapping[str, str]]) -> list[Level]:
    """Returns one level of chance where those of all measures agree to a percent, else one for each."""
    levels = {
        measure: [_point(row, f"{measure}_chance") for row in _counted(measure, rows)] for measure in MEASURES
    }
    shares = [share for points in levels.values() for _, share in points]
    if not shares:
        return []
    if max(shares) - min(shares) < 0.01:
        return [Level("chance", [(0.0, sum(shares) / len(shares))])]
    return [
        Level(f"chance, {measure}", points, _LABELS[measure]) for measure, points in levels.items() if points
    ]


def _point(row: Mapping[str, str], column: str) -> tuple[float, float]:
    return float(row["alpha"]), float(row[column])


def _remark(by: str, name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Returns why a panel has no lines, one of two, or lines that stop."""
    counts = {measure: sum(int(row[f"{measure}_n"]) for row in rows) for measure in MEASURES}
    unread = [row for row in rows if not int(row["readings"])]
    if not rows:
        return "no cells: no prompt and reference of the experiment are like this"
    if len(unread) == len(rows):
        return "no cells with an image: all have failed or are missing"
    if unread:
        alphas = ", ".join(format_value(float(row["alpha"])) for row in unread)
        return f"no image at alpha {alphas}: the cells have failed or are missing"
    if all(counts.values()):
        return ""
    if by == PROMPT_SAYS and name == AGREES:
        return "the reference is not counted: nobody can say which of the two an image followed"
    if not any(counts.values()):
        return "nothing to count: the prompts state nothing, and there is no reference"
    if counts["prompt"]:
        return "the reference is not counted: there is none, or it never differs from the prompt"
    return "the prompt is not counted: it states nothing here"


def _range(items: Sequence[int] | Sequence[str]) -> str:
    return str(items[0]) if len(set(items)) == 1 else f"{min(items)} to {max(items)}"


def _name(by: str) -> str:
    return {PROMPT_SAYS: "what the prompt says"}.get(by, by.replace("_", " "))
