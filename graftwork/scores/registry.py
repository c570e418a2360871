"""The registry of scores: what can be measured of an experiment's images, by name.

A score is one module of this package, or a package of its own within it, that calls `register`; modules are found by
walking the package. The registration says everything about the score, and tables, plots, the summary and the
documentation follow from it. The registry is read while the workflow is parsed: what is heavy (torch, a model) is
imported inside the functions of a score.

A score takes no part in any identity: it names no cell, no image and no plan.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graftwork.core.cells import Axis, Expansion
from graftwork.core.charts import Chart
from graftwork.core.code_digest import outside_digests
from graftwork.core.inputs import Prompt, Reference
from graftwork.core.tables import Row

# Column of a measured row that says why a cell has no values; not a column of any score.
UNSCORED = "unscored"
NO_IMAGE = "there is no image"


@dataclass(frozen=True)
class ScoreInputs:
    """The part of an experiment that a score may have to refuse.

    Attributes:
        prompts: all prompts of the experiment.
        references: all images of the experiment's references.
        sizes: every (height, width) of its images, in pixels.
        root: folder that paths of references are relative to.
        file: path of the experiment file, for messages.
    """

    prompts: Sequence[Prompt]
    references: Sequence[Reference]
    sizes: Sequence[tuple[int, int]]
    root: Path
    file: str


@dataclass(frozen=True)
class CellToScore:
    """One cell and its image.

    Attributes:
        prompt: text of the prompt.
        references: SHA-256 of the reference images, usually one; none without a reference.
        image: path, or None where there is no image. Cells with the same image have the same path.
        baseline: path of the image of its baseline; None for a baseline, and where there is none.
    """

    prompt: str
    references: tuple[str, ...]
    image: Path | None
    baseline: Path | None = None


@dataclass(frozen=True)
class ImageBeside:
    """Pixels of an image and of what it is compared with, uint8 (height, width, 3) each.

    Attributes:
        pixels: the image.
        references: those of its cell, each of a size of its own.
        baseline: the image of its baseline; None for a baseline, and where there is none.
    """

    pixels: np.ndarray
    references: tuple[np.ndarray, ...] = ()
    baseline: np.ndarray | None = None


@dataclass(frozen=True)
class Column:
    """One quantity that a score measures.

    Attributes:
        name: column of scores.csv.
        label: the quantity in words, on plots.
        unit: for example "grey levels"; empty for a number without a unit. "share" is shown in percent.
        bounds: (lowest, highest) value that is possible; None where there is no limit.
        better: whether a higher or a lower value is better.
        against: what the image is compared with. Equal images of one prompt count once in a mean, those compared with
            different references or baselines once for each.
        text_alone: column with the value of the baseline's image, compared with the same thing. Without one, differences are
            to the baseline's own value: a baseline has the same prompt, but no reference.
        chance: value of an image that has nothing to do with what it is compared with, where it is known.
        is_number: whether the values are numbers, which are summed up; others are text.
        is_detail: whether the column is left out of cells.csv and has no plot and no line in the summary.
    """

    name: str
    label: str
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    better: Literal["higher", "lower", "neither"] = "neither"
    against: Literal["nothing", "prompt", "reference", "baseline"] = "nothing"
    text_alone: str = ""
    chance: float | None = None
    is_number: bool = True
    is_detail: bool = False


def prompt_truncated(name: str) -> Column:
    """Returns the column that says whether a scorer of texts cut the prompt, 0 or 1."""
    return Column(
        name,
        "prompt longer than the scorer reads",
        "share",
        bounds=(0, 1),
        against="prompt",
        is_detail=True,
    )


@dataclass(frozen=True)
class Section:
    """A part of summary.md.

    Attributes:
        text: paragraphs in Markdown.
        columns: headings of the table below it; none: no table.
        rows: one value per column.
        finding: what came out, in sentences that stand at the top of the summary; empty where nothing is known.
    """

    text: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    finding: str = ""


@dataclass(frozen=True)
class Summary:
    """A table that sums scores up, and what is drawn and said of it.

    Attributes:
        table: name of the table, without its ending.
        summarize: given an experiment and the rows of scores.csv, returns the rows of the table.
        plots: given the axes of an experiment and the names of its scores, returns plot name -> what is on it.
        chart: given what is on a plot, the title of the experiment and the rows of the table, returns the plot.
        describe: given the rows of the table, returns its part of summary.md.
    """

    table: str
    summarize: Callable[[Expansion, Sequence[Mapping[str, str]]], list[Row]]
    plots: Callable[[Sequence[Axis], Sequence[str]], dict[str, str]]
    chart: Callable[[str, str, Sequence[Mapping[str, str]]], Chart]
    describe: Callable[[Sequence[Mapping[str, str]]], Section]


@dataclass(frozen=True)
class Question:
    """What a score asks a scorer about an image: one column.

    Attributes:
        column: name of the column.
        role: which scorer is asked, a key of `scorers` in an experiment.
        quantity: which of its numbers, see `graftwork.models.scorer`.
        about: what the image is compared with. Over several references the mean is taken.
        truncated: column that says whether the text was cut (1 or 0); empty for none.
        of_baseline: whether the image of the baseline is compared in place of the cell's.
    """

    column: str
    role: str
    quantity: str
    about: Literal["prompt", "reference_caption", "reference", "baseline"]
    truncated: str = ""
    of_baseline: bool = False


def accept_all(inputs: ScoreInputs) -> None:
    """Accepts every experiment."""


def no_files(root: Path) -> list[Path]:
    """Returns no files."""
    return []


@dataclass(frozen=True)
class Score:
    """One registered score.

    Attributes:
        name: what an experiment file calls it.
        meaning: what it measures, for the documentation.
        columns: what it writes to scores.csv.
        measure_image: given the pixels of an image, uint8 (height, width, 3), returns the values of the columns. For
            scores that look at one image at a time and at nothing else.
        measure_beside: in its place, for scores that compare an image with its references or its baseline.
        measure: in its place, for all others: given cells, and SHA-256 -> path of reference images, returns for each cell
            the values of the columns, and `UNSCORED` -> the reason where there are none. Reads each distinct image once.
        measured_by: function at which the digest of its code begins, where `measure` is none of a module.
        depends_on: of a score with `measure`: returns what stands for all that decides its values besides its code and the
            cell. Values are then kept, and it is asked only for what is not known; None keeps nothing.
        questions: in the place of all of these, for scores whose columns scorers say: models that jobs of their own load.
        needs: what it asks of an experiment, for the documentation.
        check: raises DesignError for an experiment that cannot be scored, before anything is made.
        files: given the folder of the project, returns the files that it reads besides the images.
        summaries: tables with plots and text of their own, besides the means of its columns.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    measure_image: Callable[[np.ndarray], Row] | None = None
    measure_beside: Callable[[ImageBeside], Row] | None = None
    measure: Callable[[Sequence[CellToScore], Mapping[str, Path]], list[Row]] | None = None
    measured_by: Callable[..., Any] | None = None
    depends_on: Callable[[], str] | None = None
    questions: tuple[Question, ...] = ()
    needs: str = "Nothing."
    check: Callable[[ScoreInputs], None] = accept_all
    files: Callable[[Path], Sequence[Path]] = no_files
    summaries: tuple[Summary, ...] = ()

    def __post_init__(self):
        for what, text in {"name": self.name, "meaning": self.meaning, "columns": self.columns}.items():
            if not text:
                raise ValueError(f"score {self.name!r}: {what} is empty")
        if len(self.measures) + bool(self.questions) != 1:
            raise ValueError(
                f"score {self.name!r}: give one of measure_image, measure_beside, measure or questions"
            )
        asked = {name for one in self.questions for name in (one.column, one.truncated) if name}
        if self.questions and asked != {column.name for column in self.columns}:
            raise ValueError(f"score {self.name!r}: its questions are about other columns than it has")
        if self.depends_on is not None and self.measure is None:
            raise ValueError(
                f"score {self.name!r}: depends_on is for scores with measure; the others need none"
            )
        for column in self.columns:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", column.name):
                raise ValueError(
                    f"score {self.name!r}: column {column.name!r}; allowed: lower-case letters, digits and _"
                )
            if not column.label:
                raise ValueError(f"score {self.name!r}: column {column.name!r} has no label")

    @property
    def measures(self) -> tuple[Callable[..., Any], ...]:
        """The function that measures, or at which its code begins."""
        if self.measured_by is not None:
            return (self.measured_by,)
        found = (self.measure_image, self.measure_beside, self.measure)
        return tuple(function for function in found if function is not None)


_SCORES: dict[str, Score] = {}


@outside_digests("registers a score, whose functions have digests of their own")
def register(score: Score) -> None:
    """Adds a score.

    Raises:
        ValueError: where its name, its table or one of its columns is taken.
    """
    reserved = _names(score) & {UNSCORED, "cell", "image"}
    if reserved:
        raise ValueError(f"score {score.name!r}: {min(reserved)!r} is a column of every table of scores")
    for other in _SCORES.values():
        taken = _names(score) & _names(other)
        if taken:
            raise ValueError(f"score {score.name!r}: {min(taken)!r} is taken by score {other.name!r}")
    _SCORES[score.name] = score


def _names(score: Score) -> set[str]:
    tables = {summary.table for summary in score.summaries}
    return {score.name, *(column.name for column in score.columns), *tables}


@outside_digests("looks functions up, which have digests of their own")
def scores() -> dict[str, Score]:
    """Returns the scores by name, sorted."""
    _load_all()
    return dict(sorted(_SCORES.items()))


def check_scores(names: Sequence[str], inputs: ScoreInputs) -> None:
    """Raises DesignError where one of the named scores cannot be taken of an experiment."""
    for name in names:
        scores()[name].check(inputs)


@cache
def _load_all() -> None:
    # Importing a module registers what it defines.
    package = __name__.rpartition(".")[0]
    folder = Path(__file__).parent
    for module in pkgutil.walk_packages([str(folder)], f"{package}."):
        importlib.import_module(module.name)
