"""What an experiment expands to: axes, cells, and which cell is at which combination of values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graftwork.core.identity import digest
from graftwork.core.records import ALWAYS, record_form, to_json
from graftwork.models.catalog import Model


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


@dataclass(frozen=True)
class Cell:
    """One image.

    Attributes:
        cell: name of the cell, which follows from `parameters`.
        role: cell, baseline or control.
        parameters: resolved: prompts as text, references as SHA-256, models as identities. Their names are open: those of
            the schema and of all transforms.
        shown: the same for people: names of prompts, references and models.
    """

    cell: str
    role: str
    parameters: dict[str, Any]
    shown: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A grid of images.

    Attributes:
        x: axis of the columns.
        y: axis of the rows; None for a single row.
        pages: how many pages the default target draws, the first ones; None for all.
    """

    x: str
    y: str | None
    pages: int | None = 1


@dataclass(frozen=True)
class ModelRecord:
    """A model of a design.

    Attributes:
        kind: "encoder" or "generator".
        name: name in config/models.yaml.
        entry: entry there, whose keys are the family's.
        facts: what is known of it without loading it, whose keys are the family's.
    """

    kind: str
    name: str
    entry: Mapping[str, Any]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, model: Model) -> "ModelRecord":
        """Returns what a design keeps of a model, under its identity."""
        return cls(model.kind, model.name, model.entry, model.facts)


@dataclass(frozen=True)
class CorpusRecord:
    """A corpus of a design.

    Attributes:
        name: name of its file.
        prompts: texts.
        references: SHA-256 of images.
    """

    name: str
    prompts: tuple[str, ...]
    references: tuple[str, ...]


@dataclass
class Design:
    """An experiment, expanded. `Expander` fills it; afterwards nothing changes it.

    Attributes:
        experiment: name of the experiment.
        title: heading of grids and summaries.
        question: what the experiment asks.
        axes: in the order of the file, prompt, reference and seed first.
        cells: unique by name; baselines first, since "the same image as an earlier cell" should point to them.
        positions: for each combination of axis indices, the name of its cell.
        baselines: name of a cell -> name of its baseline.
        grids: what is shown.
        models: identity -> model.
        references: SHA-256 -> path, of single images.
        scores: what is measured of the images. Neither in design.json nor in `digest`: it makes no image and no plan.
        notes: what may be meant otherwise, one line each; no error.
        corpora: digest -> corpus.
        statistics_files: SHA-256 of a file of statistics -> path.
    """

    experiment: str
    title: str
    question: str
    axes: list[Axis]
    cells: list[Cell]
    positions: list[tuple[list[int], str]]
    baselines: dict[str, str]
    grids: list[Grid]
    models: dict[str, ModelRecord] = field(default_factory=dict, metadata=ALWAYS)
    references: dict[str, str] = field(default_factory=dict, metadata=ALWAYS)
    scores: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list, metadata=ALWAYS)
    corpora: dict[str, CorpusRecord] = field(default_factory=dict, metadata=ALWAYS)
    statistics_files: dict[str, str] = field(default_factory=dict, metadata=ALWAYS)

    @property
    def lengths(self) -> dict[str, int]:
        """How many values each axis has."""
        return {axis.name: len(axis.values) for axis in self.axes}

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as written to design.json."""
        return to_json(replace(self, scores=[]))

    @property
    def digest(self) -> str:
        """Stands for everything in the design, cells by their names and what is shown of them, and for the form it has."""
        apart = ("cells", "positions", "baselines", "scores")
        plain = {name: to_json(value) for name, value in vars(self).items() if name not in apart}
        plain["cells"] = [[cell.cell, cell.role] for cell in self.cells]
        plain["shown"] = [self.cells[0].shown, self.cells[-1].shown]
        return digest({**plain, "form": record_form(Design)})
