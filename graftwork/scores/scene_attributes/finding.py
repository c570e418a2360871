"""Finding of an experiment with references, in sentences: what of the reference arrives, and what becomes of the prompt.

The sentences are computed from attributes_by_setting.csv. Of all settings with an alpha above 0, all attributes, and what
prompts say of them, the clearest is named: where the interval of the share that follows the reference lies highest above
both chance and the share of the text alone, which never saw the reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graftwork.core.labels import format_value
from graftwork.scenes.world import ATTRIBUTES
from graftwork.scores.registry import Section
from graftwork.scores.scene_attributes.by_setting import TABLE, WHATEVER, factors_of
from graftwork.scores.scene_attributes.following import DIFFERS, OPEN
from graftwork.scores.scene_attributes.summary import ALL_ATTRIBUTES, PROMPT_SAYS

Row = Mapping[str, str]
# Rows of the table in the summary.
_MOST_ROWS = 40
# Other values that are named in a sentence.
_MOST_OTHERS = 3
# With fewer different images, all of which agree, the share may still be that of chance.
_FEWEST = 4


@dataclass(frozen=True)
class Finding:
    """The row in which the reference arrives most clearly, and what it is compared with.

    Attributes:
        row: row of attributes_by_setting.csv.
        margin: how far its interval lies above chance and above the text alone; not above 0 where nothing arrives.
        text_alone: the same at alpha 0, if there is such a row.
        factor: axis by another value of which the share falls most; empty if none varies.
        others: the rows with these other values; none if the share falls nowhere.
        compared: among how many rows it was chosen.
        is_too_few: whether no row has enough different images to say anything.
    """

    row: Row
    margin: float
    text_alone: Row | None
    factor: str
    others: Sequence[Row]
    compared: int
    is_too_few: bool


def find_clearest(rows: Sequence[Row]) -> Finding | None:
    """Returns where most of the reference arrives; None where nothing was compared with a reference.

    Of the rows whose interval lies above chance and above the text alone, the one whose share lies highest above both: with few
    prompts the end of an interval says little of which of two shares is larger (of 8 in 8 it lies below that of 5 in 8, where
    two prompts were resampled). Where there is no such row, the one whose interval comes nearest.

    Args:
        rows: rows of attributes_by_setting.csv.
    """
    compared = [row for row in rows if row["attribute"] != ALL_ATTRIBUTES and int(row["reference_n"])]
    at_zero = {_place(row): row for row in compared if not float(row["alpha"])}
    candidates = [row for row in compared if row[PROMPT_SAYS] in (OPEN, DIFFERS) and float(row["alpha"])]
    if not candidates:
        return None
    enough = [row for row in candidates if float(row["reference_n_effective"]) >= _FEWEST]

    def level(row: Row) -> float:
        beside = at_zero.get(_place(row))
        return max(float(row["reference_chance"]), _share(beside) if beside else 0.0)

    def margin(row: Row) -> float:
        return float(row["follows_reference_low"]) - level(row)

    def rank(row: Row) -> tuple[float, ...]:
        _, others = _other_values(row, candidates)
        contrast = _share(row) - (_share(others[0]) if others else 0.0)
        above = _share(row) - level(row)
        return (1.0, above, contrast, margin(row)) if margin(row) > 0 else (0.0, margin(row), contrast, above)

    row = max(enough or candidates, key=rank)
    factor, others = _other_values(row, candidates)
    return Finding(row, margin(row), at_zero.get(_place(row)), factor, others, len(candidates), not enough)


def _other_values(row: Row, rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """Returns the factor by which alone the share falls most, and the rows with the values by which it does."""
    best: tuple[str, list[Row]] = ("", [])
    for factor in factors_of(row):
        fixed = {*factors_of(row), "attribute", PROMPT_SAYS, "alpha"} - {factor}
        others = [one for one in rows if one is not row and all(one[name] == row[name] for name in fixed)]
        if others:
            lowest = min(map(_share, others))
            if not best[1] or lowest < _share(best[1][0]):
                best = (factor, [one for one in others if _share(one) == lowest])
    factor, others = best
    # Others that have as much are no contrast; the factor is kept, because the plot shows it.
    return factor, [one for one in others if _share(one) < _share(row)]


def _place(row: Row) -> tuple[str, ...]:
    return (*factors_of(row).values(), row[PROMPT_SAYS], row["attribute"])


def _share(row: Row) -> float:
    return float(row["follows_reference"])


def finding_in_words(rows: Sequence[Row]) -> str:
    """Returns the sentences that stand at the top of the summary; empty where no image was read.

    Args:
        rows: rows of attributes_by_setting.csv.
    """
    found = find_clearest(rows)
    sentences = [] if found is None else [arrival_in_words(found)]
    followed = [
        row
        for row in rows
        if (row[PROMPT_SAYS], row["attribute"]) == (WHATEVER, ALL_ATTRIBUTES) and int(row["prompt_n"])
    ]
    if found is not None and found.margin > 0 and not found.is_too_few:
        same = {**factors_of(found.row), "alpha": found.row["alpha"]}
        sentences += [
            f"There the images keep {_counts(row, 'prompt', ' attributes')} that their prompts state."
            for row in followed
            if all(row[name] == value for name, value in same.items())
        ]
    acting = [row for row in followed if float(row["alpha"])]
    if acting:
        lowest = min(acting, key=lambda row: float(row["follows_prompt"]))
        if float(lowest["follows_prompt"]) < 1:
            sentences.append(
                f"The prompt is lost most at {_setting(lowest)}: {_counts(lowest, 'prompt', ' attributes')} are kept."
            )
        else:
            sentences.append("Everything that the prompts state is kept in every setting.")
    return " ".join(sentences)


def arrival_in_words(found: Finding) -> str:
    """Returns what of the reference arrives, and beside what."""
    row, attribute = found.row, found.row["attribute"]
    says = f"leaves the {attribute} open" if row[PROMPT_SAYS] == OPEN else f"states another {attribute}"
    if found.is_too_few:
        return (
            f"With fewer than {_FEWEST} different images in each comparison nothing can be said of the reference. Most of it "
            f"comes where the prompt {says}, at {_setting(row)}: {_counts(row, 'reference', ' images')}."
        )
    if found.margin <= 0:
        return (
            f"Nothing of the reference is seen to arrive: in none of {found.compared} comparisons is an attribute the "
            f"reference's more often than both by chance and in the text alone (95 % intervals). Most comes where the prompt "
            f"{says}, at {_setting(row)}: {_counts(row, 'reference', ' images')}."
        )
    beside = []
    if found.others:
        values = [
            f"{one[found.factor]} in {_counts(one, 'reference')}" for one in found.others[:_MOST_OTHERS]
        ]
        more = len(found.others) - _MOST_OTHERS
        values += [f"and {more} others alike"] if more > 0 else []
        beside.append(f"with {_words(found.factor)} {', '.join(values)}")
    if found.text_alone is not None:
        beside.append(f"the text alone in {_counts(found.text_alone, 'reference')}")
    compared = f"; {'; '.join(beside)}" if beside else ""
    return (
        f"Where the prompt {says}, the reference's {attribute} arrives in "
        f"{_counts(row, 'reference', ' images', '95 % interval ')} at {_setting(row)}{compared}."
    )


def _setting(row: Row) -> str:
    values = {_words(name): value for name, value in factors_of(row).items()}
    return ", ".join(f"{name} {value}" for name, value in {**values, "alpha": _number(row["alpha"])}.items())


def _counts(row: Row, measure: str, what: str = "", interval: str = "") -> str:
    low, high = (100 * float(row[f"follows_{measure}_{end}"]) for end in ("low", "high"))
    return f"{count_of(row, measure)}{what} ({interval}{low:.0f} to {high:.0f} %)"


def count_of(row: Row, measure: str) -> str:
    """Returns how many of how many follow."""
    n = int(row[f"{measure}_n"])
    return f"{round(n * float(row[f'follows_{measure}']))} of {n}" if n else ""


def _number(alpha: str) -> str:
    return format_value(float(alpha))


def _words(name: str) -> str:
    return name.replace("_", " ")


def describe_settings(rows: Sequence[Row]) -> Section:
    """Returns what summary.md says of attributes_by_setting.csv: the finding, and where the reference arrives.

    Args:
        rows: rows of attributes_by_setting.csv.
    """
    finding = finding_in_words(rows)
    found = find_clearest(rows)
    if found is None:
        return Section(f"By all factors at once: [{TABLE}.csv]({TABLE}.csv).", finding=finding)
    says = found.row[PROMPT_SAYS]
    places: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row[PROMPT_SAYS] == says and row["attribute"] != ALL_ATTRIBUTES and float(row["alpha"]):
            key = (*factors_of(row).values(), _number(row["alpha"]))
            places.setdefault(key, {})[row["attribute"]] = count_of(row, "reference")
    shown = [name for name in ATTRIBUTES if any(counts.get(name) for counts in places.values())]
    what = "leaves the attribute open" if says == OPEN else "states another value"
    more = len(places) - _MOST_ROWS
    text = (
        f"How many images have the attribute of the reference where the prompt {what}. The sentence at the top is about the "
        f"largest share above chance and the text alone of {found.compared} comparisons (95 % intervals by bootstrap over "
        f"prompts; Wilson's where all prompts agree); its interval is not corrected for having been chosen. Every factor, with intervals: [{TABLE}.csv]({TABLE}.csv)"
        + (f", which has {more} rows of this table more." if more > 0 else ".")
    )
    columns = (*map(_words, factors_of(found.row)), "alpha", *shown)
    cells = [
        (*place, *(counts.get(name, "") for name in shown))
        for place, counts in list(places.items())[:_MOST_ROWS]
    ]
    return Section(text, columns, cells, finding)
