"""Plots of attributes_by_setting.csv: how often an attribute is the reference's, by attribute and setting, against alpha."""

from collections.abc import Mapping, Sequence

from graftwork.core.cells import Axis as ParameterAxis
from graftwork.core.charts import Axis, Chart, Level, Panel, Series, dot_plot
from graftwork.core.labels import format_value
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.scene_attributes.by_setting import factors_of
from graftwork.scores.scene_attributes.finding import Finding, arrival_in_words, find_clearest
from graftwork.scores.scene_attributes.following import OPEN
from graftwork.scores.scene_attributes.summary import ALL_ATTRIBUTES, PROMPT_SAYS

_FINDING, _EVERYTHING = "finding", "reference_by_setting"
# More lines cannot be told apart in one panel.
_MOST_LINES = 6
# More panels are no finding.
_MOST_PANELS = 6
# More rows of a dot plot cannot be read.
_MOST_ROWS = 60
_METHOD = (
    "Share of images whose attribute is read as that of the reference. Bars: 95 % intervals by bootstrap over prompts; "
    "Wilson's where all prompts agree. Chance: images of random scenes. At alpha 0 there is the text alone, which never saw the reference."
)

Row = Mapping[str, str]


def setting_plots(axes: Sequence[ParameterAxis], names: Sequence[str]) -> dict[str, str]:
    """Returns the plots of this table: the finding, and all attributes in all settings.

    Args:
        axes: axes of the experiment.
        names: names of the experiment's scores.
    """
    return {_FINDING: _FINDING, _EVERYTHING: _EVERYTHING}


def setting_chart(shows: str, title: str, rows: Sequence[Row]) -> Chart:
    """Returns one plot.

    Args:
        shows: which one, as `setting_plots` returns it.
        title: title of the experiment.
        rows: rows of attributes_by_setting.csv.
    """
    found = find_clearest(rows)
    if found is None:
        y = Axis("share of images", "percent", (0.0, 1.0))
        panel = Panel(Axis("alpha"), y, remark="no image is compared with a reference")
        return Chart("Does the reference arrive?", [title], [panel], footer=[_METHOD])
    says = found.row[PROMPT_SAYS]
    chosen = [
        row
        for row in rows
        if row[PROMPT_SAYS] == says and row["attribute"] != ALL_ATTRIBUTES and int(row["reference_n"])
    ]
    attribute = found.row["attribute"]
    what = f"the {attribute}" if shows == _FINDING else "an attribute"
    where = "leaves it open" if says == OPEN else "states another"
    is_crowded = len({_setting(row) for row in chosen}) > _MOST_LINES
    if shows == _FINDING:
        is_crowded = len({row[found.factor] for row in chosen if found.factor}) > _MOST_LINES
        chosen = [row for row in chosen if row["attribute"] == attribute]
    if is_crowded:
        panels = _dots(chosen, found)
    else:
        panels = _finding_panels(chosen, found) if shows == _FINDING else _attribute_panels(chosen, found)
    return Chart(
        title=f"Is {what} the reference's where the prompt {where}?",
        subtitle=[title, arrival_in_words(found)],
        panels=panels,
        columns=1 if is_crowded else None,
        footer=[_METHOD],
    )


def _setting(row: Row, without: str = "") -> str:
    values = {name: value for name, value in factors_of(row).items() if name != without}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _attributes(rows: Sequence[Row], found: Finding) -> list[str]:
    """Returns the attributes that there are rows of, that of the finding first."""
    there = {row["attribute"] for row in rows}
    first = found.row["attribute"]
    return [first, *(name for name in ATTRIBUTES if name in there and name != first)]


def _finding_panels(rows: Sequence[Row], found: Finding) -> list[Panel]:
    """Returns the panel with the setting of the finding, and those with other values of the other factors.

    In each there is a line for each value of the factor that matters most.
    """
    first = _setting(found.row, found.factor)
    groups = dict.fromkeys([first, *(_setting(row, found.factor) for row in rows)])
    panels = []
    for group in list(groups)[:_MOST_PANELS]:
        own = [row for row in rows if _setting(row, found.factor) == group]
        lines: dict[str, list[Row]] = {}
        for row in own:
            name = f"{found.factor.replace('_', ' ')} {row[found.factor]}" if found.factor else "images"
            lines.setdefault(name, []).append(row)
        panels.append(_panel(group, own, lines))
    return panels


def _attribute_panels(rows: Sequence[Row], found: Finding) -> list[Panel]:
    """Returns a panel for each attribute, with a line for each setting."""
    panels = []
    for attribute in _attributes(rows, found):
        own = [row for row in rows if row["attribute"] == attribute]
        lines: dict[str, list[Row]] = {}
        for row in own:
            lines.setdefault(_setting(row) or "images", []).append(row)
        panels.append(_panel(attribute, own, lines))
    return panels


def _panel(title: str, rows: Sequence[Row], lines: Mapping[str, Sequence[Row]]) -> Panel:
    """Returns the shares of some rows against alpha, one series for each name of `lines`."""
    return Panel(
        Axis("alpha", ticks=tuple(sorted({float(row["alpha"]) for row in rows}))),
        Axis("share of images", "percent", (0.0, 1.0)),
        title=title,
        note=[_count(rows)],
        series=[
            Series(
                name,
                [(float(row["alpha"]), float(row["follows_reference"])) for row in line],
                _intervals(line),
            )
            for name, line in lines.items()
        ],
        levels=[_chance(rows)],
    )


def _count(rows: Sequence[Row]) -> str:
    counts = sorted({int(row["reference_n"]) for row in rows})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _chance(rows: Sequence[Row]) -> Level:
    return Level("chance", [(0.0, float(rows[0]["reference_chance"]))])


def _dots(rows: Sequence[Row], found: Finding) -> list[Panel]:
    """Returns a panel for the attribute of the finding, with a row for each setting at each alpha above 0."""
    attribute = found.row["attribute"]
    own = [row for row in rows if row["attribute"] == attribute and float(row["alpha"])]
    if len(own) > _MOST_ROWS:
        last = {_setting(row): row for row in own}
        own = list(last.values())
    if len(own) > _MOST_ROWS:
        own = sorted(own, key=lambda row: -float(row["follows_reference"]))[:_MOST_ROWS]
    names = tuple(f"{_setting(row)}, alpha {format_value(float(row['alpha']))}" for row in own)
    panel = Panel(
        Axis("setting", "category", names=names),
        Axis("share of images", "percent", (0.0, 1.0)),
        [
            Series(
                f"{attribute} of the reference",
                [(float(place), float(row["follows_reference"])) for place, row in enumerate(own)],
                _intervals(own),
                style="points",
            )
        ],
        [_chance(own)],
        title=attribute,
        note=[_count(own)],
    )
    return [dot_plot(panel)]


def _intervals(rows: Sequence[Row]) -> list[tuple[float, float]]:
    return [(float(row["follows_reference_low"]), float(row["follows_reference_high"])) for row in rows]
