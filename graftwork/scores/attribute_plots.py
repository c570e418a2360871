"""What is drawn of attributes.csv: the shares that follow the prompt and the reference, against alpha."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graftwork.core.labels import format_value
from graftwork.reports.chart_page import Chart, Panel, Series
from graftwork.reports.charts import draw_chart
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.attribute_summary import ALL_ATTRIBUTES, MEASURES, PROMPT_SAYS, breakdowns
from graftwork.scores.following import AGREES, DIFFERS, NO_REFERENCE, OPEN, STANDS

_LABELS = {"prompt": "follow the prompt", "reference": "follow the reference"}
_PROMPT_SAYS_TITLES = {
    DIFFERS: "prompt and reference differ",
    AGREES: "prompt and reference agree",
    OPEN: "the prompt leaves it open",
    NO_REFERENCE: "there is no reference",
}
_X_LABEL = "alpha (0: the text alone, 1: the other encoder alone)"
_SHORT_X_LABEL = "alpha"
_Y_LABEL = "share of attributes"
_STRIP = "mean confidence of the readings, 0 to 1"
_METHOD = (
    "An attribute follows the prompt if the image is read as what the prompt states; the reference, if it is read as the "
    "reference's value where the prompt states another or none. Bars: 95 % Wilson intervals, for which equal images count "
    "once. Chance: images of random scenes. Confidence: 1 for a perfect scene, near 0 for a picture of none, which is "
    "read as some scene all the same."
)


def attribute_plots(axes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns plot name -> {by}: all cells, one panel per attribute, and one per value of each breakdown.

    Args:
        axes: [{name, values, ...}].
    """
    # A panel per reference would be too many to look at; the table has them.
    shown = [by for by in breakdowns(axes) if by != "reference"]
    plots = {"following": {"by": ""}, "following_by_attribute": {"by": "attribute"}}
    return plots | {f"following_by_{by}": {"by": by} for by in shown}


def draw_attribute_plot(plot: Mapping[str, Any], title: str, rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Draws one plot: uint8 (height, width, 3).

    Args:
        plot: {by}, as `attribute_plots` returns it.
        title: Of the experiment.
        rows: Of attributes.csv.
    """
    return draw_chart(build_chart(plot["by"], title, rows))


def build_chart(by: str, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    """Returns what is on a plot; see `draw_attribute_plot`."""
    total = [row for row in rows if not row["by"] and row["attribute"] == ALL_ATTRIBUTES]
    chosen = _panels(by, rows)
    heading = "Do the images follow the prompt, or the reference?"
    if by:
        heading += f" By {_name(by)}"
    readings, unscored = (
        sum(int(row[key]) for row in total) // len(ATTRIBUTES) for key in ("readings", "unscored")
    )
    counted = f"{readings} cells with an image" + (f", {unscored} without" if unscored else "")
    what = "each attribute by itself"
    if by != "attribute":
        what = f"{len(ATTRIBUTES)} attributes together: {', '.join(ATTRIBUTES)}"
    return Chart(
        title=heading,
        subtitle=[title, f"{counted}; {what}"],
        x_label=_X_LABEL if len(chosen) == 1 else _SHORT_X_LABEL,
        y_label=_Y_LABEL if by != "attribute" else "share of cells",
        x_values=[float(row["alpha"]) for row in total],
        panels=[_panel(by, name, found) for name, found in chosen.items()],
        strip=None if by else (_STRIP, [_point(row, "confidence") for row in total if row["confidence"]]),
        footer=[_METHOD],
    )


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


def _panel(by: str, name: str, rows: Sequence[Mapping[str, str]]) -> Panel:
    titles = {"": "", "attribute": name, PROMPT_SAYS: _PROMPT_SAYS_TITLES.get(name, name)}
    title = titles.get(by, f"{_name(by)} {name}")
    # An alpha without images is not n = 0, and said in words.
    read = [row for row in rows if int(row["readings"])]
    counts = {measure: [int(row[f"{measure}_n"]) for row in read] for measure in MEASURES}
    counted = ", ".join(f"{measure} {_range(numbers)}" for measure, numbers in counts.items() if any(numbers))
    # On the plot of everything it has a strip of its own.
    means = [f"{float(row['confidence']):.2f}" for row in read]
    confidence = [f"mean confidence {_range(means)}"] if by and means else []
    return Panel(
        title=title,
        note=[f"n per alpha: {counted}", *confidence] if counted else [],
        series=[_series(measure, rows) for measure in MEASURES],
        remark=_remark(by, name, rows),
    )


def _series(measure: str, rows: Sequence[Mapping[str, str]]) -> Series:
    counted = [row for row in rows if int(row[f"{measure}_n"])]
    ends = [f"follows_{measure}", f"follows_{measure}_low", f"follows_{measure}_high"]
    return Series(
        _LABELS[measure],
        [(float(row["alpha"]), *(float(row[key]) for key in ends)) for row in counted],
        [_point(row, f"{measure}_chance") for row in counted],
        f"chance, {measure}",
    )


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
