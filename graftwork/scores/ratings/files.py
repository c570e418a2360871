"""Ratings that people exported from the viewer: read, joined to cells, and summed up.

A file of ratings is JSON:

    {"format": "graftwork-ratings", "version": 1, "experiment": "demo", "rater": "Ada",
     "ratings": [{"image": SHA-256, "cell": "468d...", "stars": 4, "favourite": false, "blind": true, "at": "2026-..."}],
     "choices": [{"a": {"image": SHA-256, "cell": "468d..."}, "b": {...}, "chosen": "a", "axis": "alpha", "blind": true, "at": "..."}]}

`stars` is 1 to 5 or null, `chosen` is "a", "b" or "tie", `axis` is the parameter that the two differ by, or "". The same as CSV
has one line for each rating and choice, with the columns of `CSV_COLUMNS`.

A rating belongs to the bytes of an image: it holds for all cells that have this image, whatever they are called. One whose
image no cell has any more is not used; it is counted as stale. Where a file names no image, the name of the cell decides.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from graftwork.scores.ratings.bradley_terry import Comparison, Strength, estimate_strengths

FORMAT = "graftwork-ratings"
VERSION = 1
CSV_COLUMNS = (
    "kind",
    "image",
    "cell",
    "stars",
    "favourite",
    "blind",
    "at",
    "rater",
    "axis",
    "other_image",
    "other_cell",
    "chosen",
)
_SHARES = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Rated:
    """An image that was rated.

    Attributes:
        image: SHA-256 of the image file, or "" where it is not known.
        cell: Name of the cell that was on the screen.
    """

    image: str
    cell: str


@dataclass(frozen=True)
class Rating:
    """Stars of one image by one person.

    Attributes:
        of: The image.
        stars: 1 to 5, or None for an image that is a favourite only.
        favourite: Whether it is a favourite.
        blind: Whether the settings were hidden.
        rater: Name of the person, or "".
    """

    of: Rated
    stars: int | None
    favourite: bool
    blind: bool
    rater: str


@dataclass(frozen=True)
class Choice:
    """The better one of two images.

    Attributes:
        first: One image.
        second: The other one.
        share: 1 where the first is better, 0 where the second is, 0.5 where neither is.
        axis: Parameter by which alone the two differ, or "".
        blind: Whether the settings were hidden.
        rater: Name of the person, or "".
    """

    first: Rated
    second: Rated
    share: float
    axis: str
    blind: bool
    rater: str


@dataclass(frozen=True)
class RatedCell:
    """A cell to which ratings may belong.

    Attributes:
        cell: Name of the cell.
        image: SHA-256 of its image file, or "" where there is none.
        prompt: Text of its prompt.
        values: Axis -> label of its value.
    """

    cell: str
    image: str
    prompt: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Ratings:
    """Everything that is in one or several files."""

    ratings: tuple[Rating, ...]
    choices: tuple[Choice, ...]


def read_ratings(paths: Iterable[Path]) -> Ratings:
    """Returns the ratings and choices of several files together.

    Raises:
        ValueError: If a file is no file of ratings, or says something that is not allowed. The message names file and place.
    """
    ratings, choices = [], []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            content = json.loads(text) if text.lstrip().startswith("{") else _from_csv(text)
            if content.get("format") != FORMAT or content.get("version") != VERSION:
                raise ValueError(
                    f"format is {content.get('format')!r}, version {content.get('version')!r}; "
                    f"allowed: {FORMAT!r}, {VERSION}; save the file again with the viewer"
                )
            rater = str(content.get("rater") or "")
            ratings += [_rating(item, rater, f"ratings[{at}]") for at, item in enumerate(content["ratings"])]
            choices += [_choice(item, rater, f"choices[{at}]") for at, item in enumerate(content["choices"])]
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: {problem}") from error
    return Ratings(tuple(ratings), tuple(choices))


def score_columns(ratings: Ratings, cells: Sequence[RatedCell]) -> list[dict[str, float | int | None]]:
    """Returns for each cell what its image was given; None where nobody has rated it.

    `rating` is the mean of the stars, `ratings` their number, `favourite` whether anybody called it one, `preferred` the share
    of blind choices that it won (a tie counts half), `compared` their number.
    """
    places = _Places(cells)
    stars, favourites, shares = defaultdict(list), set(), defaultdict(list)
    for rating in ratings.ratings:
        for place in places.of(rating.of):
            if rating.stars is not None:
                stars[place].append(rating.stars)
            if rating.favourite:
                favourites.add(place)
    for choice in ratings.choices:
        if choice.blind:
            for of, share in ((choice.first, choice.share), (choice.second, 1 - choice.share)):
                for place in places.of(of):
                    shares[place].append(share)
    return [
        {
            "rating": round(fmean(stars[place]), 4) if place in stars else None,
            "ratings": len(stars[place]) if place in stars else None,
            "favourite": 1 if place in favourites else (0 if place in stars else None),
            "preferred": round(fmean(shares[place]), 4) if place in shares else None,
            "compared": len(shares[place]) if place in shares else None,
        }
        for place in range(len(cells))
    ]


def count_stale(ratings: Ratings, cells: Sequence[RatedCell]) -> int:
    """Returns how many ratings and choices are of images that no cell has."""
    places = _Places(cells)
    stale = sum(not places.of(rating.of) for rating in ratings.ratings)
    return stale + sum(
        not (places.of(choice.first) and places.of(choice.second)) for choice in ratings.choices
    )


def preferences(ratings: Ratings, cells: Sequence[RatedCell], axis: str) -> list[Strength]:
    """Returns how strongly the values of an axis are preferred, from blind choices between two of them.

    Args:
        ratings: ratings of the experiment.
        cells: Cells of the experiment.
        axis: Name of the axis.

    Returns:
        The strongest first, with bootstrap intervals over prompts; empty without such choices.
    """
    places = _Places(cells)
    comparisons = []
    for choice in ratings.choices:
        if not choice.blind or choice.axis != axis:
            continue
        first, second = places.shown(choice.first), places.shown(choice.second)
        if first is None or second is None or axis not in first.values or axis not in second.values:
            continue
        comparisons.append(Comparison(first.values[axis], second.values[axis], choice.share, first.prompt))
    return estimate_strengths(comparisons) if comparisons else []


class _Places:
    """Which cells a rating holds for."""

    def __init__(self, cells: Sequence[RatedCell]) -> None:
        self._cells = cells
        self._of_image: dict[str, list[int]] = defaultdict(list)
        self._of_cell = {cell.cell: place for place, cell in enumerate(cells)}
        for place, cell in enumerate(cells):
            if cell.image:
                self._of_image[cell.image].append(place)

    def of(self, rated: Rated) -> list[int]:
        """Returns the indices of all cells that have the image."""
        if rated.image:
            return self._of_image.get(rated.image, [])
        return [self._of_cell[rated.cell]] if rated.cell in self._of_cell else []

    def shown(self, rated: Rated) -> RatedCell | None:
        """Returns the cell that was on the screen, as long as it has the image still."""
        places = self.of(rated)
        own = self._of_cell.get(rated.cell)
        if own in places:
            return self._cells[own]
        return self._cells[places[0]] if places else None


def _rating(item: Mapping[str, Any], rater: str, where: str) -> Rating:
    stars = item["stars"]
    if stars is not None and stars not in (1, 2, 3, 4, 5):
        raise ValueError(f"{where}.stars is {stars!r}; allowed: 1 to 5, or null")
    return Rating(
        Rated(str(item["image"]), str(item["cell"])),
        stars,
        bool(item["favourite"]),
        bool(item["blind"]),
        str(item.get("rater") or rater),
    )


def _choice(item: Mapping[str, Any], rater: str, where: str) -> Choice:
    if item["chosen"] not in _SHARES:
        raise ValueError(f"{where}.chosen is {item['chosen']!r}; allowed: {', '.join(_SHARES)}")
    first, second = (Rated(str(item[side]["image"]), str(item[side]["cell"])) for side in ("a", "b"))
    return Choice(
        first,
        second,
        _SHARES[item["chosen"]],
        str(item.get("axis") or ""),
        bool(item["blind"]),
        str(item.get("rater") or rater),
    )


def _from_csv(text: str) -> dict[str, Any]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if tuple(reader.fieldnames or ()) != CSV_COLUMNS:
        raise ValueError(f"the first line is not {','.join(CSV_COLUMNS)}")
    ratings, choices = [], []
    for row in reader:
        shared = {"blind": row["blind"] == "1", "rater": row["rater"]}
        if row["kind"] == "rating":
            stars = int(row["stars"]) if row["stars"] else None
            rating = {"image": row["image"], "cell": row["cell"], "stars": stars}
            ratings.append({**rating, "favourite": row["favourite"] == "1", **shared})
        elif row["kind"] == "choice":
            a = {"image": row["image"], "cell": row["cell"]}
            b = {"image": row["other_image"], "cell": row["other_cell"]}
            choices.append({"a": a, "b": b, "chosen": row["chosen"], "axis": row["axis"], **shared})
        else:
            raise ValueError(f"line {reader.line_num}: kind is {row['kind']!r}; allowed: rating, choice")
    return {"format": FORMAT, "version": VERSION, "ratings": ratings, "choices": choices}
