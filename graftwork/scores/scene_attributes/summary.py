"""attributes.csv: how often attributes follow the prompt, and how often the reference, by alpha and one other axis.

The unit that is counted is one attribute of one cell. Cells with the same image each count, because that different
recipes give one image is a result. Intervals resample prompts, which keep all their cells and attributes with them
(`share_interval`): neither repeated images nor attributes of one image are taken as independent.

At alpha 0 every layer, token mode and reference has the same image, that of the text alone. Where an experiment has
cells at alpha 0, these are counted. Where it has none, its baselines are counted in their place, once for each
combination of the other parameters of a cell. The image of a baseline is compared with the reference too, which it
never saw: that share is how often the reference is met by accident.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graftwork.core.cells import CONTROL, Axis, Cell, Expansion
from graftwork.core.identity import canonical_json, digest
from graftwork.core.labels import format_values
from graftwork.core.tables import Row
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.intervals import effective_number, share_interval
from graftwork.scores.means import FEW_PROMPTS, TOO_NARROW
from graftwork.scores.registry import Section
from graftwork.scores.scene_attributes.following import (
    STANDS,
    chance_levels,
    follows_prompt,
    follows_reference,
    stand,
)

ALL_ATTRIBUTES = "all"
# Breakdowns that every table has, whether or not they vary.
ALWAYS_BY = ("hidden_layer", "token_mode", "reference")
# Axes that are no breakdown.
_NEVER_BY = ("alpha", "prompt", "seed")
PROMPT_SAYS = "prompt_says"
MEASURES = ("prompt", "reference")


@dataclass(frozen=True)
class Observation:
    """One attribute of one cell.

    Attributes:
        alpha: alpha of the cell.
        groups: breakdown -> value that the cell has in it.
        attribute: name of the attribute.
        image: path of the image, or None where there is none.
        prompt: text of the prompt.
        targets: measure -> value to be read for a 1, without the measures that are not counted here.
        follows: measure -> 1 or 0; empty without an image.
        confidence: confidence of the reading, or None without an image.
        is_stand_in: whether the image is that of a baseline, for a cell at alpha 0 that the experiment does not have.
    """

    alpha: float
    groups: dict[str, str]
    attribute: str
    image: str | None
    prompt: str
    targets: dict[str, str]
    follows: dict[str, int]
    confidence: float | None
    is_stand_in: bool = False


def breakdowns(axes: Iterable[Axis]) -> list[str]:
    """Returns what a table is broken down by besides alpha: the usual axes, and every other that varies.

    Args:
        axes: axes of the experiment.
    """
    varying = [axis.name for axis in axes if axis.varies]
    return [*ALWAYS_BY, *(name for name in varying if name not in (*ALWAYS_BY, *_NEVER_BY)), PROMPT_SAYS]


def summarize_attributes(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """Returns the rows of attributes.csv.

    Args:
        expansion: the experiment.
        rows: rows of scores.csv.

    Returns:
        One row for each `by` (empty: nothing but alpha), `value` of it, attribute ("all": each attribute of each cell
        counts) and alpha. For each measure, prompt and reference: `_n`, how many were counted; `_n_effective`, what
        they are worth where images repeat; `_prompts`, of how many prompts they are; `follows_`, the share, with the ends of its 95 % interval; `_chance`, the
        share of a picture that has nothing to do with either. Besides `readings`, how many attributes of
        cells have one, `unscored`, how many have none, `stand_ins`, how many of both are of baselines that stand in for
        cells at alpha 0, and `confidence`, the mean over the readings. Empty where nothing was counted.
    """
    observed = observe(expansion, rows)
    summary = []
    for by in ["", *breakdowns(expansion.axes)]:
        of_by = observe_controls(expansion, rows) if by == CONTROL else observed
        values = list(dict.fromkeys(o.groups[by] for o in of_by)) if by else [""]
        if by == PROMPT_SAYS:
            values = [value for value in STANDS if value in values]
        groups: dict[tuple[str, str, float], list[Observation]] = defaultdict(list)
        for o in of_by:
            value = o.groups[by] if by else ""
            groups[value, ALL_ATTRIBUTES, o.alpha].append(o)
            groups[value, o.attribute, o.alpha].append(o)
        summary += [
            {
                "by": by,
                "value": value,
                "attribute": attribute,
                "alpha": alpha,
                **summarize_group(groups[value, attribute, alpha]),
            }
            for value in values
            for attribute in (ALL_ATTRIBUTES, *ATTRIBUTES)
            for alpha in sorted({key[2] for key in groups if key[:2] == (value, attribute)})
        ]
    return summary


def summarize_group(observed: Sequence[Observation]) -> Row:
    """Returns the counts, shares and intervals of some observations."""
    columns: Row = {}
    for measure in MEASURES:
        counted = [o for o in observed if measure in o.follows]
        names = [f"{measure}_n", f"{measure}_n_effective", f"{measure}_prompts", f"follows_{measure}"]
        names += [f"follows_{measure}_low", f"follows_{measure}_high", f"{measure}_chance"]
        values: list[Any] = [len(counted), None, 0, *[None] * 4]
        if counted:
            share = sum(o.follows[measure] for o in counted) / len(counted)
            images = [(o.image, o.attribute) for o in counted]
            prompts = [o.prompt for o in counted]
            ends = share_interval([o.follows[measure] for o in counted], prompts, images)
            chance = sum(chance_levels()[o.attribute][o.targets[measure]] for o in counted) / len(counted)
            # Six digits: the low bits of a sum depend on its order.
            rounded = [round(x, 6) for x in (share, *ends, chance)]
            values = [len(counted), round(effective_number(images), 6), len(set(prompts)), *rounded]
        columns |= dict(zip(names, values, strict=True))
    confidences = [o.confidence for o in observed if o.confidence is not None]
    columns["readings"], columns["unscored"] = len(confidences), len(observed) - len(confidences)
    columns["stand_ins"] = sum(o.is_stand_in for o in observed)
    columns["confidence"] = round(sum(confidences) / len(confidences), 6) if confidences else None
    return columns


def observe(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Observation]:
    """Returns each attribute of each cell, baselines where they stand in for cells at alpha 0.

    Args:
        expansion: the experiment.
        rows: rows of scores.csv.
    """
    row_of = {row["cell"]: row for row in rows}
    cells = [cell for cell in expansion.cells if cell.role == "cell"]
    labels = _labels(cells, breakdowns(expansion.axes))
    observed, at_zero = [], set()
    for cell, groups in zip(cells, labels, strict=True):
        if cell.parameters["alpha"] == 0.0:
            at_zero.add(_but_alpha(cell, groups))
    for cell, groups in zip(cells, labels, strict=True):
        row = row_of[cell.cell]
        prompt = cell.parameters["prompt"]
        seen = _observe_cell(cell.parameters["alpha"], groups, row, row)
        observed += [replace(one, prompt=prompt) for one in seen]
        baseline, recipe = expansion.baselines.get(cell.cell), _but_alpha(cell, groups)
        if baseline is not None and recipe not in at_zero:
            at_zero.add(recipe)
            stand_ins = _observe_cell(0.0, groups, row_of[baseline], row)
            observed += [replace(one, prompt=prompt, is_stand_in=True) for one in stand_ins]
    return observed


def observe_controls(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Observation]:
    """Returns each attribute of each cell and of its controls, which are compared with the cell's prompt and reference.

    A control that several cells share is counted once for each of them. `groups` has the value on the axis `control` alone.

    Args:
        expansion: an experiment with controls.
        rows: rows of scores.csv.
    """
    row_of = {row["cell"]: row for row in rows}
    alpha_of = {cell.cell: cell.parameters["alpha"] for cell in expansion.cells}
    # The axis of controls is the last one, and its first value the cell.
    cell_at = {tuple(indices[:-1]): name for indices, name in expansion.positions if not indices[-1]}
    compared = dict.fromkeys(
        (indices[-1], cell_at[tuple(indices[:-1])], name) for indices, name in expansion.positions
    )
    labels = expansion.axes[-1].labels
    return [
        one
        for place, cell, member in compared
        for one in _observe_cell(alpha_of[cell], {CONTROL: labels[place]}, row_of[member], row_of[cell])
    ]


def _but_alpha(cell: Cell, groups: Mapping[str, str]) -> str:
    """Returns what stands for a cell without its alpha; settings that differ in alpha alone are told apart by `groups`."""
    others = {name: value for name, value in cell.parameters.items() if name != "alpha"}
    return canonical_json([others, groups])


def _labels(cells: Sequence[Cell], names: Sequence[str]) -> list[dict[str, str]]:
    """Returns where each cell belongs in each breakdown, as text; different values have different text."""
    columns: dict[str, list[str]] = {}
    for name in names:
        if name in (PROMPT_SAYS, CONTROL):
            continue
        columns[name] = format_values([cell.shown.get(name) for cell in cells])
    if "reference" in columns:
        columns["reference"] = _distinct_references(cells)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _distinct_references(cells: Sequence[Cell]) -> list[str]:
    """Returns names of references; two files of one name are told apart by their content."""
    files = defaultdict(set)
    for cell in cells:
        files[cell.shown["reference"]].add(_as_one(cell.parameters["reference"]))
    found = []
    for cell in cells:
        name, sha256 = cell.shown["reference"], _as_one(cell.parameters["reference"])
        found.append("none" if name is None else f"{name} {sha256[:8]}" if len(files[name]) > 1 else name)
    return found


def _as_one(reference: str | list[str] | None) -> str | None:
    """Returns what stands for a reference, or for a set of them."""
    return digest(reference) if isinstance(reference, list) else reference


def _observe_cell(
    alpha: float, groups: Mapping[str, str], read: Mapping[str, str], aimed: Mapping[str, str]
) -> list[Observation]:
    """Compares the reading of one row with the prompt and the reference of another, which may be the same."""
    observed = []
    for attribute in ATTRIBUTES:
        p, r = aimed[f"prompt_{attribute}"] or None, aimed[f"reference_{attribute}"] or None
        value = read[f"read_{attribute}"] or None
        targets = {"prompt": p, "reference": r if p != r else None}
        follows = {}
        if value is not None:
            follows = {"prompt": follows_prompt(value, p), "reference": follows_reference(value, p, r)}
        observed.append(
            Observation(
                alpha,
                {**groups, PROMPT_SAYS: stand(p, r)},
                attribute,
                read["image"] or None,
                "",
                {measure: target for measure, target in targets.items() if target is not None},
                {measure: result for measure, result in follows.items() if result is not None},
                float(read[f"confidence_{attribute}"]) if value is not None else None,
            )
        )
    return observed


def describe_attributes(rows: Sequence[Mapping[str, str]]) -> Section:
    """Returns what summary.md says of attributes.csv: the shares by alpha.

    Args:
        rows: rows of attributes.csv.
    """
    prompts = max((int(row[f"{measure}_prompts"]) for row in rows for measure in MEASURES), default=0)
    few = f" {TOO_NARROW}" if 0 < prompts < FEW_PROMPTS else ""
    return Section(
        "Share of the attributes that are read as what the prompt states, and of those that are read as the reference's "
        "where the prompt does not state the same; with the level of chance and 95 % intervals by bootstrap over prompts, "
        f"which keep all their images and attributes with them.{few} By layer, token mode and attribute: "
        "[attributes.csv](attributes.csv).",
        ("alpha", "follows the prompt", "by chance", "follows the reference", "by chance"),
        [
            (
                row["alpha"],
                _share_in_words(row, "follows_prompt"),
                _percent(row["prompt_chance"]),
                _share_in_words(row, "follows_reference"),
                _percent(row["reference_chance"]),
            )
            for row in rows
            if not row["by"] and row["attribute"] == ALL_ATTRIBUTES
        ],
    )


def _share_in_words(row: Mapping[str, str], name: str) -> str:
    if not row[name]:
        return "not counted"
    return f"{_percent(row[name])} ({_percent(row[f'{name}_low'])} to {_percent(row[f'{name}_high'])})"


def _percent(share: str) -> str:
    return f"{100 * float(share):.0f} %" if share else ""
