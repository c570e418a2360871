"""scores.csv: a row per cell with what the scores measure of its image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graftwork.core.cells import Cell
from graftwork.core.tables import Row
from graftwork.models.images import load_reference_image
from graftwork.scores.registry import NO_IMAGE, UNSCORED, CellToScore, Score, scores
from graftwork.store.images import require_undamaged


def score_rows(
    cells: Sequence[Cell],
    images: Mapping[str, str | None],
    references: Mapping[str, str],
    names: Sequence[str],
    root: Path,
) -> list[Row]:
    """Returns the rows of scores.csv: cell, image, why a cell has no values, and the columns of each score.

    Args:
        cells: cells of an experiment.
        images: cell -> path of its image, or nothing where there is none.
        references: SHA-256 -> path of reference images.
        names: names of the scores.
        root: folder that paths are relative to.

    Raises:
        ValueError: where a score returns a column that it does not have, or a value outside of its bounds.
    """
    to_score = {cell.cell: _cell_to_score(cell, images[cell.cell], root) for cell in cells}
    files = {sha256: root / path for sha256, path in references.items()}
    table: dict[str, Row] = {
        name: {"cell": name, "image": images[name] or None, UNSCORED: None} for name in to_score
    }
    reasons: dict[str, dict[str, None]] = {name: {} for name in to_score}
    for score in (scores()[name] for name in names):
        measured = measure_cells(score, list(to_score.values()), files)
        for cell, values in zip(to_score, measured, strict=True):
            _check_values(score, values)
            reason = values.get(UNSCORED)
            if reason:
                reasons[cell][reason] = None
            table[cell] |= {column.name: values.get(column.name) for column in score.columns}
    for cell, found in reasons.items():
        table[cell][UNSCORED] = "; ".join(found) or None
    return list(table.values())


def _check_values(score: Score, values: Row) -> None:
    columns = {column.name: column for column in score.columns}
    for name, value in values.items():
        if name == UNSCORED:
            continue
        if name not in columns:
            raise ValueError(
                f"score {score.name!r} returned the column {name!r}; allowed, as it is registered: {', '.join(columns)}"
            )
        low, high = columns[name].bounds
        if value is None or not columns[name].is_number:
            continue
        if not (low is None or value >= low) or not (high is None or value <= high) or value != value:
            raise ValueError(
                f"score {score.name!r} returned {name} = {value}; allowed, as it is registered: {low} to {high}"
            )


def _cell_to_score(cell: Cell, image: str | None, root: Path) -> CellToScore:
    reference = cell.parameters.get("reference")
    references = (
        tuple(reference) if isinstance(reference, list | tuple) else (reference,) if reference else ()
    )
    return CellToScore(cell.parameters["prompt"], references, root / image if image else None)


def measure_cells(score: Score, cells: Sequence[CellToScore], references: Mapping[str, Path]) -> list[Row]:
    """Returns what a score measures of each cell: column -> value, and `UNSCORED` -> the reason where there is none.

    Args:
        score: a registered score.
        cells: cells to score.
        references: SHA-256 -> path of reference images.
    """
    if score.measure is not None:
        return score.measure(cells, references)
    assert score.measure_image is not None
    found: dict[Path | None, Row] = {None: {UNSCORED: NO_IMAGE}}
    for image in sorted({cell.image for cell in cells if cell.image is not None}):
        pixels = read_image(image)
        is_unread = isinstance(pixels, str)
        found[image] = {UNSCORED: pixels} if is_unread else dict(score.measure_image(pixels))
    return [found[cell.image] for cell in cells]


def read_image(path: Path) -> np.ndarray | str:
    """Returns the pixels of an image, uint8 (height, width, 3), or why it cannot be read."""
    try:
        pixels = np.asarray(load_reference_image(path))
        require_undamaged(path)
        return pixels
    except ValueError as error:
        return str(error).partition(";")[0].replace("reference image", "image")


def add_scores(rows: Sequence[Row], scored: Sequence[Row]) -> list[Row]:
    """Returns rows of a table of cells with the columns of scores.csv after their own.

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


def shown_columns(scored: Sequence[Row]) -> list[str]:
    """Returns the columns of scores.csv that are shown in the table that people open, in its order.

    Args:
        scored: rows of scores.csv.
    """
    details = {column.name for score in scores().values() for column in score.columns if column.is_detail}
    return [name for name in (scored[0] if scored else ()) if name not in ("cell", "image", *details)]
