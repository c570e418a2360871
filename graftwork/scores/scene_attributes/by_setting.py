"""attributes_by_setting.csv: how often an attribute follows prompt and reference, by several factors at once.

A row is one setting of the experiment (every axis that varies but prompt, reference and seed), one attribute, and what
the prompts say of that attribute. What is counted, and the intervals, are as in attributes.csv, which shows one factor at a
time: an effect of one attribute in one setting is lost there among the others.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from graftwork.core.cells import CONTROL, Axis, Expansion
from graftwork.core.tables import Row
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.scene_attributes.following import STANDS
from graftwork.scores.scene_attributes.summary import (
    ALL_ATTRIBUTES,
    PROMPT_SAYS,
    Observation,
    breakdowns,
    observe,
    summarize_group,
)

TABLE = "attributes_by_setting"
# In place of what the prompts say: all of them.
WHATEVER = ""


def factors(axes: Iterable[Axis]) -> list[str]:
    """Returns the axes that tell settings apart besides alpha.

    Args:
        axes: axes of the experiment.
    """
    axes = list(axes)
    varying = [axis.name for axis in axes if axis.varies]
    return [name for name in breakdowns(axes) if name in varying and name not in ("reference", CONTROL)]


def summarize_by_setting(expansion: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """Returns the rows of attributes_by_setting.csv.

    Args:
        expansion: the experiment.
        rows: rows of scores.csv.

    Returns:
        One row for each setting without alpha (a column for each axis that varies), what the prompt says (empty: whatever
        it says), attribute ("all": each attribute of each cell counts) and alpha, with the columns of `summarize_group`.
    """
    names = factors(expansion.axes)
    groups: dict[tuple[tuple[str, ...], str, str, float], list[Observation]] = defaultdict(list)
    for one in observe(expansion, rows):
        setting = tuple(one.groups[name] for name in names)
        for says in (WHATEVER, one.groups[PROMPT_SAYS]):
            for attribute in (ALL_ATTRIBUTES, one.attribute):
                groups[setting, says, attribute, one.alpha].append(one)
    settings = list(dict.fromkeys(key[0] for key in groups))
    alphas = sorted({key[3] for key in groups})
    return [
        {
            **dict(zip(names, setting, strict=True)),
            PROMPT_SAYS: says,
            "attribute": attribute,
            "alpha": alpha,
            **summarize_group(groups[setting, says, attribute, alpha]),
        }
        for setting in settings
        for says in (WHATEVER, *STANDS)
        for attribute in (ALL_ATTRIBUTES, *ATTRIBUTES)
        for alpha in alphas
        if (setting, says, attribute, alpha) in groups
    ]


def factors_of(row: Mapping[str, str]) -> dict[str, str]:
    """Returns the setting of a row without its alpha: axis -> value."""
    names = list(row)
    return {name: row[name] for name in names[: names.index(PROMPT_SAYS)]}
