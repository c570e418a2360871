"""Cells of an experiment, and where they stand on its axes: what scores, plans and reports read of a design."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

# Name -> value of what a cell is made with. The names are open: those of the schema and of all transforms.
Parameters = Mapping[str, Any]
# Axis of an experiment with controls, and the parameter of a control cell. Its first value is the cell itself.
CONTROL = "control"
# What the settings of an experiment are not told apart by.
COORDINATES = ("prompt", "reference", "seed")


class SharedParameters(dict[str, Any]):
    """Parameters of a cell that are those of another one but for prompt and seed.

    Attributes:
        first: the parameters of that one, whose values the others are, object by object.
    """

    __slots__ = ("first",)

    def __init__(self, first: Parameters, own: Parameters):
        super().__init__(first)
        self.update(own)
        self.first = first


V = TypeVar("V")


class OncePerSetting(Generic[V]):
    """Values that cells have in common which differ in prompt, reference and seed alone, made for the first of them.

    Cells of one experiment share the objects that their parameters are, so that cells are found to be alike without a
    comparison. Equal parameters may be different objects: then a value is made more than once.
    """

    def __init__(self, make: Callable[[Parameters], V]):
        self._make = make
        # Parameters are kept with the values, so that no other object gets the identity of one of theirs.
        self._of_first: dict[int, tuple[Parameters, V]] = {}
        self._of_values: dict[tuple[int, ...], tuple[Parameters, V]] = {}

    def get(self, parameters: Parameters) -> V:
        """Returns the value for a cell with these parameters."""
        if not isinstance(parameters, SharedParameters):
            return self._by_values(parameters)
        first = parameters.first
        known = self._of_first.get(id(first))
        if known is None:
            known = self._of_first[id(first)] = (first, self._by_values(first))
        return known[1]

    def _by_values(self, parameters: Parameters) -> V:
        at = tuple([id(value) for name, value in parameters.items() if name not in COORDINATES])
        if at not in self._of_values:
            self._of_values[at] = (parameters, self._make(parameters))
        return self._of_values[at][1]


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
    """Expansion of an experiment.

    Attributes:
        experiment: name of the experiment.
        title: heading of grids and summaries.
        question: what the experiment asks.
        axes: in the order of the file, prompt, reference and seed first.
        cells: unique by name; baselines first, since "the same image as an earlier cell" should point to them.
        positions: for each combination of axis indices, the name of its cell. On the axis `control` the first value is the
            cell, the others are its controls; cells that have a control in common share it.
        baselines: name of a cell -> name of its baseline.
    """

    experiment: str
    title: str
    question: str
    axes: list[Axis]
    cells: list[Cell]
    positions: list[tuple[list[int], str]]
    baselines: dict[str, str]
