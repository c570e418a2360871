"""What an experiment expands to: axes, cells, and which cell is at which combination of values."""

from dataclasses import dataclass, field
from typing import Any

from graftwork.core.identity import digest


@dataclass(frozen=True)
class Axis:
    """A parameter that varies: its values as resolved, and how they are shown."""

    name: str
    values: list[Any]
    labels: list[str]


@dataclass
class Cell:
    """One image.

    Attributes:
        cell: Its name, which follows from `parameters`.
        role: cell, baseline or control.
        parameters: Resolved: prompts as text, references as SHA-256, models as identities.
        shown: The same for people: names of prompts, references and models.
    """

    cell: str
    role: str
    parameters: dict[str, Any]
    shown: dict[str, Any]


@dataclass
class Design:
    """An experiment, expanded.

    Attributes:
        experiment: Its name.
        axes: In the order of the file, prompt, reference and seed first.
        cells: Unique by name; baselines first, since "the same image as an earlier cell" should point to them.
        positions: For each combination of axis indices, the name of its cell.
        baselines: For each such combination, the name of its baseline.
        grids: [{x, y}], axis names; y may be None.
        models: Identity -> {kind, name, entry, facts}.
        references: SHA-256 -> path, of single images.
        scores: What is measured of the images. Neither in design.json nor in `digest`: it makes no image and no plan.
        notes: What may be meant otherwise, one line each; no error.
        corpora: Digest -> {name, prompts, references}, texts and SHA-256.
        statistics_files: SHA-256 of a file of statistics -> path.
    """

    experiment: str
    title: str
    question: str
    axes: list[Axis]
    cells: list[Cell]
    positions: list[tuple[list[int], str]]
    baselines: dict[str, str]
    grids: list[dict[str, Any]]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    scores: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    corpora: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics_files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as written to design.json; parts are shared, not copied."""
        plain = {key: value for key, value in vars(self).items() if key != "scores"}
        plain["axes"] = [dict(vars(axis)) for axis in self.axes]
        plain["cells"] = [dict(vars(cell)) for cell in self.cells]
        return plain

    @property
    def digest(self) -> str:
        """Stands for everything in the design: cells by their names, and what is shown of them."""
        apart = ("cells", "positions", "baselines", "scores")
        plain = {key: value for key, value in vars(self).items() if key not in apart}
        plain["axes"] = [vars(axis) for axis in self.axes]
        plain["cells"] = [[cell.cell, cell.role] for cell in self.cells]
        plain["shown"] = [self.cells[0].shown, self.cells[-1].shown]
        return digest(plain)
