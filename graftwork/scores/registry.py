"""The registry of scores: what can be measured of an experiment's images, by name.

A score is one module, named in `_load_all`, that calls `register`. The registry is read while the workflow is
parsed: a module of a score imports what is heavy (torch, matplotlib, a model) inside its functions only.

A score takes no part in any identity: it names no cell, no image and no plan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.code_digest import code_digest, outside_digests
from graftwork.core.inputs import Prompt, Reference


@dataclass(frozen=True)
class ScoreInputs:
    """What an experiment asks for, as far as a score may have to refuse it.

    Attributes:
        prompts: All of the experiment.
        references: All images of the experiment's references.
        sizes: Every (height, width) that its images have, in pixels.
        root: What paths of references are relative to.
        file: Of the experiment, for messages.
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
        prompt: Its text.
        references: SHA-256 of the reference images, usually one; none without a reference.
        image: Path, or None where there is no image. Cells with the same image have the same path.
    """

    prompt: str
    references: tuple[str, ...]
    image: Path | None


@dataclass(frozen=True)
class Score:
    """One registered score.

    Attributes:
        name: What an experiment file calls it.
        meaning: What it measures, for the documentation.
        needs: What it asks of an experiment, for the documentation.
        columns: Of the table of scores, and at the end of cells.csv.
        check: Raises DesignError for an experiment that cannot be scored, before anything is made.
        measure: Given cells, and SHA-256 -> path of reference images, returns for each cell the values of the columns;
            None is an empty field. Reads each distinct image once.
        summary: Name of the table that sums the scores up, without its ending.
        summarize: Given a design as in design.json, and the rows of the table of scores, returns the rows of the
            summary.
        plots: Given the axes of a design, returns plot name -> what is on it, as plain values.
        draw: Given what is on a plot, the title of the experiment and the rows of the summary, returns pixels,
            uint8 (height, width, 3).
        describe: Given the rows of the summary, returns what summary.md says of it: lines of Markdown.
    """

    name: str
    meaning: str
    needs: str
    columns: tuple[str, ...]
    check: Callable[[ScoreInputs], None]
    measure: Callable[[Sequence[CellToScore], Mapping[str, Path]], list[dict[str, Any]]]
    summary: str
    summarize: Callable[[Mapping[str, Any], Sequence[Mapping[str, str]]], list[dict[str, Any]]]
    plots: Callable[[Sequence[Mapping[str, Any]]], dict[str, dict[str, Any]]]
    draw: Callable[[Mapping[str, Any], str, Sequence[Mapping[str, str]]], np.ndarray]
    describe: Callable[[Sequence[Mapping[str, str]]], list[str]]


_SCORES: dict[str, Score] = {}
_FUNCTIONS = {"measure": "measure", "summary": "summarize", "plot": "draw", "describe": "describe"}


def register(score: Score) -> None:
    """Adds a score.

    Raises:
        ValueError: where its name, its summary or one of its columns is taken.
    """
    for other in _SCORES.values():
        taken = {score.name, score.summary, *score.columns} & {other.name, other.summary, *other.columns}
        if taken:
            raise ValueError(f"score {score.name!r}: {min(taken)!r} is taken by score {other.name!r}")
    _SCORES[score.name] = score


@outside_digests("looks functions up, which have digests of their own")
def scores() -> dict[str, Score]:
    """Returns the scores by name, in the order they were registered."""
    _load_all()
    return dict(_SCORES)


def score_of_summary(summary: str) -> Score:
    """Returns the score that a summary sums up."""
    return next(score for score in scores().values() if score.summary == summary)


def check_scores(names: Sequence[str], inputs: ScoreInputs) -> None:
    """Raises DesignError where one of the named scores cannot be taken of an experiment."""
    for name in names:
        scores()[name].check(inputs)


def digest_of(names: Sequence[str], stage: str) -> str:
    """Returns the digest of the code of some scores; `stage` is "measure", "summary", "plot" or "describe"."""
    return code_digest(*(getattr(scores()[name], _FUNCTIONS[stage]) for name in names))


def _load_all() -> None:
    # Importing a module registers what it defines.
    from graftwork.scores import scene_attributes  # noqa: F401
