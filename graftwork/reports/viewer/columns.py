"""Columns of a table of cells in the compact form that the page reads."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

# A mean is formed of numeric scores that share the first part of their name, where there are at least this many.
_FEWEST_FOR_A_MEAN = 3
_DIGITS = 6

Group = Literal["parameter", "conditioning", "score", "image"]


class Column(TypedDict, total=False):
    """One column, one entry for each cell.

    Attributes:
        name: Its heading.
        group: parameter, score, conditioning or image.
        meaning: explanation, for columns that the table of cells has not.
        numbers: values of a numeric column, None where a cell has none.
        texts: distinct values of a text column.
        codes: index into `texts` for each cell of a text column; absent where all cells have the only value.
    """

    name: str
    group: Group
    meaning: str
    numbers: list[float | None]
    texts: list[str]
    codes: list[int]


def encode_column(name: str, group: Group, values: Sequence[str]) -> Column | None:
    """Returns a column of the table, or None where it is empty for all cells."""
    if not any(values):
        return None
    numbers = [_number(value) for value in values]
    is_numeric = all(number is not None or not value for number, value in zip(numbers, values, strict=True))
    if is_numeric and len(set(values)) > 1:
        return {"name": name, "group": group, "numbers": numbers}
    texts, codes = encode_texts(values)
    return {"name": name, "group": group, "texts": texts, **({"codes": codes} if len(texts) > 1 else {})}


def encode_texts(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """Returns the distinct values in order of appearance, and for each value its index among them."""
    index_of: dict[str, int] = {}
    codes = [index_of.setdefault(value, len(index_of)) for value in values]
    return list(index_of), codes


def mean_columns(columns: Sequence[Column]) -> list[Column]:
    """Returns means of numeric scores that share the first part of their name: follows_prompt of follows_prompt_shape, ...

    Args:
        columns: Columns of the table; those of the group "score" are looked at.
    """
    families: dict[str, list[Column]] = defaultdict(list)
    for column in columns:
        family, _, part = column["name"].rpartition("_")
        if column["group"] == "score" and "numbers" in column and family and part:
            families[family].append(column)
    taken = {column["name"] for column in columns}
    means: list[Column] = []
    for family, members in families.items():
        if len(members) < _FEWEST_FOR_A_MEAN or family in taken:
            continue
        parts = ", ".join(column["name"].rpartition("_")[2] for column in members)
        rows = zip(*(column["numbers"] for column in members), strict=True)
        means.append(
            {
                "name": family,
                "group": "score",
                "meaning": f"mean of {len(members)} columns: {parts}",
                "numbers": [_mean(row) for row in rows],
            }
        )
    return means


def number_column(
    name: str, group: Group, numbers: Mapping[str, float], cells: Sequence[str], meaning: str
) -> Column | None:
    """Returns a numeric column that the table of cells has not, or None where no cell has a value.

    Args:
        name: Heading.
        group: parameter, score, conditioning or image.
        numbers: Cell -> value.
        cells: All cells, in order.
        meaning: explanation of the column.
    """
    if not numbers:
        return None
    values = [round(numbers[cell], _DIGITS) if cell in numbers else None for cell in cells]
    return {"name": name, "group": group, "meaning": meaning, "numbers": values}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), _DIGITS) if known else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
