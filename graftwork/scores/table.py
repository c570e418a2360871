"""scores.csv: a row per cell with what the scores measure of its image."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from graftwork.core.cells import Cell
from graftwork.core.code_digest import code_digest
from graftwork.core.identity import digest
from graftwork.core.records import record_digest
from graftwork.core.tables import Row
from graftwork.models.images import load_reference_image
from graftwork.scores.questions import Answers
from graftwork.scores.registry import NO_IMAGE, UNSCORED, CellToScore, ImageBeside, Score, scores
from graftwork.store.images import require_undamaged
from graftwork.store.values import Seen, Values, ValueWriter, read_values

# Values that are written at once: what a job that is killed may lose.
_BATCH = 16


@dataclass(frozen=True)
class Besides:
    """What a table of scores needs besides cells and images.

    Attributes:
        baselines: cell -> its baseline.
        values: folder of values that are kept from one run to the next; None keeps nothing.
        answers: what scorers said; None where no score asks any.
    """

    baselines: Mapping[str, str] = field(default_factory=dict)
    values: Path | None = None
    answers: Answers | None = None


def score_rows(
    cells: Sequence[Cell],
    images: Mapping[str, str | None],
    references: Mapping[str, str],
    names: Sequence[str],
    root: Path,
    besides: Besides = Besides(),
) -> list[Row]:
    """Returns the rows of scores.csv: cell, image, why a cell has no values, and the columns of each score.

    Args:
        cells: cells of an experiment.
        images: cell -> path of its image, or nothing where there is none.
        references: SHA-256 -> path of reference images.
        names: names of the scores.
        root: folder that paths are relative to.
        besides: what else is needed.

    Raises:
        ValueError: where a score returns a column that it does not have, or a value outside of its bounds.
    """
    to_score = {
        cell.cell: cell_to_score(
            cell, images[cell.cell], images.get(besides.baselines.get(cell.cell, "")), root
        )
        for cell in cells
    }
    kept = KeptValues(besides.values)
    files = {sha256: root / path for sha256, path in references.items()}
    table: dict[str, Row] = {
        name: {"cell": name, "image": images[name] or None, UNSCORED: None} for name in to_score
    }
    reasons: dict[str, dict[str, None]] = {name: {} for name in to_score}
    for score in (scores()[name] for name in names):
        if score.questions:
            assert besides.answers is not None
            measured = besides.answers.rows(score, list(to_score.values()), kept.sha256_of)
        else:
            measured = measure_cells(score, list(to_score.values()), files, kept)
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


def cell_to_score(cell: Cell, image: str | None, baseline: str | None, root: Path) -> CellToScore:
    """Returns a cell as scores see it.

    Args:
        cell: a cell of an experiment.
        image: path of its image, or nothing.
        baseline: path of the image of its baseline, or nothing.
        root: folder that paths are relative to.
    """
    reference = cell.parameters.get("reference")
    references = (
        tuple(reference) if isinstance(reference, list | tuple) else (reference,) if reference else ()
    )
    return CellToScore(
        cell.parameters["prompt"],
        references,
        root / image if image else None,
        root / baseline if baseline else None,
    )


def measure_cells(
    score: Score,
    cells: Sequence[CellToScore],
    references: Mapping[str, Path],
    kept: "KeptValues | None" = None,
) -> list[Row]:
    """Returns what a score measures of each cell: column -> value, and `UNSCORED` -> the reason where there is none.

    Args:
        score: a registered score.
        cells: cells to score.
        references: SHA-256 -> path of reference images.
        kept: values that are known; none by default.
    """
    if score.measure is not None and score.depends_on is None:
        return score.measure(cells, references)
    kept = kept or KeptValues(None)
    keys = [None if cell.image is None else kept.key(score, cell) for cell in cells]
    missing = {
        key: cell for key, cell in zip(keys, cells, strict=True) if key is not None and key not in kept.known
    }
    kept.add(_measure_missing(score, missing, references))
    return [dict(kept.known[key]) if key is not None else {UNSCORED: NO_IMAGE} for key in keys]


def _measure_missing(
    score: Score, missing: Mapping[str, CellToScore], references: Mapping[str, Path]
) -> Iterator[tuple[str, Row]]:
    if score.measure is not None:
        yield from zip(
            missing, score.measure(list(missing.values()), references) if missing else (), strict=True
        )
        return
    # Images of one prompt have one baseline, and those of an experiment few references.
    read = lru_cache(maxsize=16)(read_image)
    for key, cell in missing.items():
        beside = () if score.measure_beside is None else (*(references[r] for r in cell.references),)
        baseline = None if score.measure_beside is None else cell.baseline
        found = [read(path) for path in (cell.image, *beside, *([] if baseline is None else [baseline]))]
        problems = [one for one in found if isinstance(one, str)]
        if problems:
            yield key, {UNSCORED: problems[0]}
        elif score.measure_image is not None:
            yield key, dict(score.measure_image(found[0]))
        else:
            seen = ImageBeside(found[0], tuple(found[1 : 1 + len(beside)]), found[-1] if baseline else None)
            yield key, dict(score.measure_beside(seen))


class KeptValues:
    """Values of scores without a model, as far as they are known, by the bytes that were looked at.

    Attributes:
        known: key -> column -> value.
        sha256_of: path -> SHA-256 of the file, each read once.
    """

    def __init__(self, folder: Path | None):
        """Reads what is known; without a folder, nothing is."""
        self.known: dict[str, Values] = dict(read_values(folder)) if folder else {}
        self._writer = ValueWriter(folder) if folder else None
        self.sha256_of = cache(sha256_of)
        self._code = cache(_code_of)

    def key(self, score: Score, cell: CellToScore) -> str:
        """Returns what the columns of a cell with an image are the digest of."""
        assert cell.image is not None
        beside = score.measure_image is None
        seen = Seen(
            score.name,
            self._code(score.name),
            self.sha256_of(cell.image),
            cell.prompt if score.measure is not None else None,
            cell.references if beside else (),
            self.sha256_of(cell.baseline) if beside and cell.baseline is not None else None,
        )
        return record_digest(seen)

    def add(self, measured: Iterable[tuple[str, Row]]) -> None:
        """Takes values up as they come, and keeps those of every few images. What could not be measured is not kept."""
        waiting: dict[str, Row] = {}
        for key, values in measured:
            self.known[key] = values
            if not values.get(UNSCORED):
                waiting[key] = values
            if len(waiting) == _BATCH:
                self._keep(waiting)
                waiting = {}
        self._keep(waiting)

    def _keep(self, values: Mapping[str, Row]) -> None:
        if self._writer is not None:
            self._writer.add(values)


def _code_of(name: str) -> str:
    score = scores()[name]
    return digest([code_digest(*score.measures), score.depends_on() if score.depends_on else ""])


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file; of one that is gone, that of nothing, which no image has."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


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
