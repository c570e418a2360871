"""Cells of an experiment, and where they stand on its axes: what scores, plans and reports read of a design."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Name -> value of what a cell is made with. The names are open: those of the schema and of all transforms.
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A parameter that varies: its values as resolved, and how they are shown.

    Attributes:
        name: name of the parameter.
        values: values of any kind that the parameter takes.
        labels: one text per value.
    """

    name: str
    values: list[Any]
    labels: list[str]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1


@dataclass(frozen=True)
class Cell:
    """One image.

    Attributes:
        cell: name of the cell, which follows from `parameters`.
        role: cell, baseline or control.
        parameters: resolved: prompts as text, references as SHA-256, models as identities.
        shown: the same for people: names of prompts, references and models.
    """

    cell: str
    role: str
    parameters: Parameters
    shown: Parameters


@dataclass
class Expansion:
    """What an experiment expands to.

    Attributes:
        experiment: name of the experiment.
        title: heading of grids and summaries.
        question: what the experiment asks.
        axes: in the order of the file, prompt, reference and seed first.
        cells: unique by name; baselines first, since "the same image as an earlier cell" should point to them.
        positions: for each combination of axis indices, the name of its cell.
        baselines: name of a cell -> name of its baseline.
    """

    experiment: str
    title: str
    question: str
    axes: list[Axis]
    cells: list[Cell]
    positions: list[tuple[list[int], str]]
    baselines: dict[str, str]
