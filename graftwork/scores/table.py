"""The table of scores: a row per cell, and its columns at the end of cells.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.reports.table import read_table
from graftwork.scores.registry import CellToScore, scores


def score_rows(
    design: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], names: Sequence[str], root: Path
) -> list[dict[str, Any]]:
    """Returns the rows of scores.csv: cell, image, and the columns of each score.

    Args:
        design: As in design.json.
        rows: Of cells.csv, without scores.
        names: Of the scores.
        root: What paths are relative to.
    """
    parameters = {cell["cell"]: cell["parameters"] for cell in design["cells"]}
    cells = [
        CellToScore(
            parameters[row["cell"]]["prompt"],
            _reference_images(parameters[row["cell"]].get("reference")),
            root / row["image"] if row["image"] else None,
        )
        for row in rows
    ]
    references = {sha256: root / path for sha256, path in design["references"].items()}
    table: list[dict[str, Any]] = [{"cell": row["cell"], "image": row["image"] or None} for row in rows]
    for name in names:
        for row, columns in zip(table, scores()[name].measure(cells, references), strict=True):
            row |= columns
    return table


def _reference_images(reference: str | list[str] | None) -> tuple[str, ...]:
    if reference is None:
        return ()
    return tuple(reference) if isinstance(reference, list) else (reference,)


def add_scores(
    rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the rows of cells.csv with the columns of scores.csv after their own.

    Raises:
        ValueError: where a column of the scores has the name of another, or a cell has no scores.
    """
    scores_of = {row["cell"]: {k: v for k, v in row.items() if k not in ("cell", "image")} for row in scored}
    added = []
    for row in rows:
        if row["cell"] not in scores_of:
            raise ValueError(f"cell {row['cell']} is not in the table of scores")
        columns = scores_of[row["cell"]]
        taken = row.keys() & columns.keys()
        if taken:
            raise ValueError(f"score column {min(taken)!r} is a column of cells.csv already; rename it")
        added.append({**row, **columns})
    return added


def describe_scores(names: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Returns what summary.md says of an experiment's scores: lines of Markdown.

    Args:
        names: Of the scores.
        tables: Paths of the tables that sum them up, in the same order.
    """
    return [
        line
        for name, table in zip(names, tables, strict=True)
        for line in scores()[name].describe(read_table(table))
    ]


def stale_score_files(results: Path) -> list[Path]:
    """Returns the tables and plots of scores in a folder whose experiment has none any more."""
    tables = [results / f"{name}.csv" for name in ("scores", *(score.summary for score in scores().values()))]
    return [*(path for path in tables if path.exists()), *sorted((results / "plots").glob("*.png"))]


def stale_plots(design: Mapping[str, Any], names: Sequence[str], folder: Path) -> list[Path]:
    """Returns the plots in `folder` that the experiment no longer has: beside the others they look current."""
    current = {f"{plot}.png" for name in names for plot in scores()[name].plots(design["axes"])}
    return [path for path in sorted(folder.glob("*.png")) if path.name not in current]
