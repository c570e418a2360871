"""What the summary of an experiment says of its attributes: how often they follow prompt and reference, by alpha."""

from collections.abc import Mapping, Sequence

from graftwork.scores.attribute_summary import ALL_ATTRIBUTES


def describe_attributes(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns lines of Markdown, from the rows of attributes.csv."""
    lines = [
        "Share of the attributes that are read as what the prompt states, and of those that are read as the reference's "
        "where the prompt does not state the same; with 95 % intervals and the level of chance. By layer, token mode and "
        "attribute: [attributes.csv](attributes.csv).",
        "",
        "| alpha | follows the prompt | by chance | follows the reference | by chance |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if not row["by"] and row["attribute"] == ALL_ATTRIBUTES:
            cells = [row["alpha"]]
            for measure in ("prompt", "reference"):
                cells += [_share(row, f"follows_{measure}"), _percent(row[f"{measure}_chance"])]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _share(row: Mapping[str, str], name: str) -> str:
    if not row[name]:
        return "not counted"
    return f"{_percent(row[name])} ({_percent(row[f'{name}_low'])} to {_percent(row[f'{name}_high'])})"


def _percent(share: str) -> str:
    return f"{100 * float(share):.0f} %" if share else ""
