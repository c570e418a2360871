"""Tables: CSV files (RFC 4180 in UTF-8, with line feeds) and tables in Markdown."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Column -> value.
Row = dict[str, Any]

OUTSIDE_DIGESTS = "reads and writes tables; what is in them is decided elsewhere"


def write_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Returns a table as CSV: equal values give equal text.

    Numbers have the fewest digits that read back as the same number, float32 those that do so for float32. None and NaN
    are empty fields.

    Args:
        rows: column -> value; at least one row, or none where `columns` are given.
        columns: names of the columns, by default those of the first row.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file; every value is text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _field(value: Any) -> str:
    # Only NaN differs from itself.
    return "" if value is None or value != value else str(value)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown, without a line feed at its end. Columns of numbers are aligned to the right.

    Args:
        columns: headings.
        rows: one value per column; text is shown as it is, None is an empty cell.
    """
    lines = [["" if value is None else escape_markdown(str(value)) for value in row] for row in rows]
    are_numbers = [any(column) and all(map(_is_number, column)) for column in zip(*lines, strict=True)]
    rule = ["---:" if is_number else "---" for is_number in are_numbers or [False] * len(columns)]
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in ([*map(escape_markdown, columns)], rule, *lines)
    )


def _is_number(text: str) -> bool:
    return text in ("", "-") or re.match(r"[-+]?\d", text) is not None


def escape_markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line."""
    return "".join(f"\\{char}" if char in "\\|<>*`[" else char for char in " ".join(text.split()))


def format_number(value: float) -> str:
    """Returns three significant digits, more only where a whole number has them, and - where it is not defined."""
    if math.isnan(value):
        return "-"
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    # Nearly 1 is not 1: the difference is what a correlation is looked at for.
    return f"{value:.6f}".rstrip("0") if text in ("1", "-1") and abs(value) < 1 else text
