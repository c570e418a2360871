"""The design of an experiment: its cells, and the grids, models, references and corpora that they name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graftwork.core.cells import Expansion
from graftwork.core.identity import digest
from graftwork.core.records import ALWAYS, record_form, to_json
from graftwork.models.catalog import Model
from graftwork.models.families import Facts
from graftwork.scores.questions import Scoring


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
        facts: what is known of it without loading it.
    """

    kind: str
    name: str
    entry: Mapping[str, Any]
    facts: Facts

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


@dataclass(frozen=True)
class MapRecord:
    """A fitted map of a design.

    Attributes:
        corpus: digest of the corpus that it is fitted on.
        prompts: how many of its prompts, the first ones; None for all.
        encoder: identity of the encoder that is mapped.
        hidden_layers: layers as people say them; one, but for maps over layers.
        options: what the encoder is shown besides, and how.
        text_encoder: identity of the encoder that it is mapped to.
        text_hidden_layer: layer as people say it.
        text_options: as `options`.
        generator: identity of the generator whose text encoder that is.
        normalization: what is done to states first.
        method: what fits it.
        parameters: of the method.
    """

    corpus: str
    prompts: int | None
    encoder: str
    hidden_layers: tuple[int, ...]
    options: Mapping[str, Any]
    text_encoder: str
    text_hidden_layer: int
    text_options: Mapping[str, Any]
    generator: str
    normalization: str
    method: str
    parameters: Mapping[str, Any]


@dataclass
class Design(Expansion):
    """An experiment, expanded. `Expander` fills it; afterwards nothing changes it.

    Attributes:
        grids: what is shown.
        models: identity -> model.
        references: SHA-256 -> path, of single images.
        scores: what is measured of the images. Neither in design.json nor in `digest`: it makes no image and no plan.
        scoring: what scorers are asked; as little in them as `scores`.
        notes: what may be meant otherwise, one line each; no error.
        corpora: digest -> corpus.
        statistics_files: SHA-256 of a file of statistics or a vector -> path.
        look_for: which images answer the question.
        maps: digest -> fitted map.
    """

    grids: list[Grid]
    models: dict[str, ModelRecord] = field(default_factory=dict, metadata=ALWAYS)
    references: dict[str, str] = field(default_factory=dict, metadata=ALWAYS)
    scores: list[str] = field(default_factory=list)
    scoring: Scoring = field(default_factory=Scoring)
    notes: list[str] = field(default_factory=list, metadata=ALWAYS)
    corpora: dict[str, CorpusRecord] = field(default_factory=dict, metadata=ALWAYS)
    statistics_files: dict[str, str] = field(default_factory=dict, metadata=ALWAYS)
    look_for: str = ""
    maps: dict[str, MapRecord] = field(default_factory=dict)

    @property
    def lengths(self) -> dict[str, int]:
        """How many values each axis has."""
        return {axis.name: len(axis.values) for axis in self.axes}

    @property
    def written(self) -> "Design":
        """The content of design.json."""
        return replace(self, scores=[], scoring=Scoring())

    @property
    def digest(self) -> str:
        """Stands for everything in the design, cells by their names and what is shown of them, and for the form it has."""
        apart = ("cells", "positions", "baselines", "scores", "scoring")
        plain = {name: to_json(value) for name, value in vars(self).items() if name not in apart}
        plain["cells"] = [[cell.cell, cell.role] for cell in self.cells]
        plain["shown"] = [self.cells[0].shown, self.cells[-1].shown]
        return digest({**plain, "form": record_form(Design)})
