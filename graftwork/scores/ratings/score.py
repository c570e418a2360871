"""Ratings and blind choices as a score: files in config/ratings, saved with the viewer, joined to cells by the bytes of images."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from graftwork.core.cells import Axis, Expansion
from graftwork.core.charts import Chart
from graftwork.core.errors import DesignError
from graftwork.core.tables import Row
from graftwork.scores.ratings.files import (
    RatedCell,
    Ratings,
    count_stale,
    preferences,
    read_ratings,
    score_columns,
)
from graftwork.scores.registry import (
    NO_IMAGE,
    UNSCORED,
    CellToScore,
    Column,
    Score,
    ScoreInputs,
    Section,
    Summary,
    register,
)

FOLDER = Path("config/ratings")
NOT_RATED = "nobody has rated it"
TABLE = "preferences"
_NOTE_COLUMNS = ("axis", "value", "strength", "low", "high", "compared", "note")


def rating_files(root: Path) -> list[Path]:
    """Returns the files of ratings, of all experiments: a rating belongs to an image, wherever the image is used."""
    return sorted(path for path in (root / FOLDER).glob("*") if path.suffix in (".json", ".csv"))


def check_inputs(inputs: ScoreInputs) -> None:
    """Raises DesignError where there is no file of ratings, or one that cannot be read."""
    files = rating_files(inputs.root)
    if not files:
        raise DesignError(
            f"{inputs.file}: scores: ratings needs a file of ratings in {FOLDER}/, and there is none; save one with the viewer "
            "(Save, My ratings) and put it there, or remove ratings from scores"
        )
    try:
        read_ratings(files)
    except ValueError as error:
        raise DesignError(str(error)) from error


def measure_cells(cells: Sequence[CellToScore], references: Mapping[str, Path]) -> list[Row]:
    """Returns what people said of the image of each cell."""
    digest = cache(_digest)
    rated = [RatedCell("", digest(cell.image) if cell.image else "", cell.prompt, {}) for cell in cells]
    rows: list[Row] = score_columns(_read(), rated)
    for cell, row in zip(cells, rows, strict=True):
        if cell.image is None:
            row[UNSCORED] = NO_IMAGE
        elif all(value is None for value in row.values()):
            row[UNSCORED] = NOT_RATED
    return rows


def summarize(design: Expansion, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """Returns how strongly each value of an axis is preferred, and one row that says how much there is.

    Args:
        design: as in design.json.
        rows: rows of scores.csv.
    """
    ratings, cells = _read(), _rated_cells(design, rows)
    note = f"{len(ratings.ratings)} ratings and {len(ratings.choices)} choices, {count_stale(ratings, cells)} of images that no cell has"
    table: list[Row] = [{**dict.fromkeys(_NOTE_COLUMNS), "note": note}]
    for axis in dict.fromkeys(choice.axis for choice in ratings.choices if choice.axis):
        table += [
            {
                "axis": axis,
                "value": each.item,
                "strength": round(each.strength, 4),
                "low": None if each.low is None else round(each.low, 4),
                "high": None if each.high is None else round(each.high, 4),
                "compared": each.compared,
                "note": None,
            }
            for each in preferences(ratings, cells, axis)
        ]
    return table


def describe(rows: Sequence[Mapping[str, str]]) -> Section:
    """Returns the part of summary.md."""
    found = [row for row in rows if row["axis"]]
    text = f"Ratings by people: {rows[0]['note']}."
    if not found:
        return Section(text)
    text += (
        " Blind choices between values of an axis: strength on the scale of log odds (Bradley-Terry), with a 95 % bootstrap "
        "interval over prompts; no interval with one prompt."
    )
    columns = ("axis", "value", "strength", "low", "high", "compared")
    return Section(text, columns, [[row[name] for name in columns] for row in found])


def no_plots(axes: Sequence[Axis], names: Sequence[str]) -> dict[str, str]:
    """Returns nothing: means of ratings are plotted with those of other scores."""
    return {}


def no_chart(shows: str, title: str, rows: Sequence[Mapping[str, str]]) -> Chart:
    """Is never asked for, since there are no plots."""
    raise ValueError(f"ratings have no plot {shows!r}")


def _read() -> Ratings:
    return read_ratings(rating_files(Path()))


def _digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()


def _rated_cells(design: Expansion, rows: Sequence[Mapping[str, str]]) -> list[RatedCell]:
    values: dict[str, dict[str, str]] = {}
    for indices, cell in design.positions:
        labels = {axis.name: axis.labels[index] for axis, index in zip(design.axes, indices, strict=True)}
        values.setdefault(cell, labels)
    prompts = {cell.cell: cell.parameters["prompt"] for cell in design.cells}
    digest = cache(_digest)
    return [
        RatedCell(
            row["cell"],
            digest(Path(row["image"])) if row["image"] else "",
            prompts[row["cell"]],
            values.get(row["cell"], {}),
        )
        for row in rows
    ]


register(
    Score(
        name="ratings",
        meaning="What people said of images in the viewer: stars, favourites, and which of two images is better, blind.",
        needs=f"Files of ratings in {FOLDER}/, saved with the viewer. A rating belongs to the bytes of an image.",
        columns=(
            Column("rating", "rating", "stars", bounds=(1, 5), better="higher"),
            Column("ratings", "ratings", bounds=(1, None), is_detail=True),
            Column("favourite", "called a favourite", "share", bounds=(0, 1), better="higher"),
            Column(
                "preferred", "preferred in blind choices", "share", bounds=(0, 1), better="higher", chance=0.5
            ),
            Column("compared", "blind choices", bounds=(1, None), is_detail=True),
        ),
        check=check_inputs,
        files=rating_files,
        measure=measure_cells,
        summaries=(Summary(TABLE, summarize, no_plots, no_chart, describe),),
    )
)
