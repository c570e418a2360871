"""What a study reads: tables of experiments, comparisons and hidden states of analyses, and files of models."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.core.records import read_record
from graftwork.core.tables import read_table
from graftwork.design.cells import Design
from graftwork.planning.analyses import AnalysisTask, AnalyzedEncoder, StatisticsPlan
from graftwork.store.layout import Store

if TYPE_CHECKING:
    from graftwork.statistics.analysis import ReadInput

OUTSIDE_DIGESTS = "reads what others have written"


@dataclass(frozen=True)
class ModelFiles:
    """A model of config/models.yaml, as far as it is on this machine.

    Attributes:
        kind: "encoder" or "generator".
        name: name in config/models.yaml.
        identity: what its content is; empty where it is not here.
        folder: where it is; None where it is not here.
        entry: entry in config/models.yaml.
        why_not: why nothing is known of it.
    """

    kind: str
    name: str
    identity: str
    folder: Path | None
    entry: Mapping[str, Any]
    why_not: str = ""

    def config(self, *parts: str) -> dict[str, Any]:
        """Returns a JSON file in its folder; empty where there is none."""
        file = self.folder.joinpath(*parts) if self.folder is not None else None
        return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}


@dataclass(frozen=True)
class Material:
    """What a study reads.

    Attributes:
        results: folder `results`.
        family: family of models that is chosen, or None.
        store: the store.
        models: models of config/models.yaml.
        experiments: names of experiments whose tables are there.
        only_designs: names of experiments of which only the design is there.
        analyses: names of analyses.
        roles: role -> encoder of the chosen family.
    """

    results: Path
    family: str | None
    store: Store
    models: tuple[ModelFiles, ...] = ()
    experiments: tuple[str, ...] = ()
    only_designs: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def designs(self) -> dict[str, Design]:
        """Experiment -> its design."""
        names = (*self.experiments, *self.only_designs)
        return {name: read_record(Design, self.results / name / "design.json") for name in names}

    def cells(self, experiment: str) -> list[dict[str, str]]:
        """Returns the rows of cells_full.csv, scores included."""
        return read_table(self.results / experiment / "cells_full.csv")

    def grid(self, experiment: str) -> list[str]:
        """Returns the grids of an experiment that are drawn, relative to the folder of a report."""
        folder = self.results / experiment / "grids"
        return [f"../../{experiment}/grids/{file.name}" for file in sorted(folder.glob("*.png"))]

    def task(self, analysis: str) -> AnalysisTask:
        """Returns what an analysis has read."""
        plan = self.results / "plan" / f"statistics.{analysis}" / "statistics.json"
        return read_record(StatisticsPlan, plan).analysis

    def comparison(self, analysis: str, name: str) -> dict[str, float]:
        """Returns measurement -> value of a comparison of an analysis; what is not defined is left out."""
        rows = read_table(self.results / "statistics" / analysis / "comparisons" / f"{name}.csv")
        return {row["name"]: float(row["value"]) for row in rows if row["value"]}

    def states(self, entry: AnalyzedEncoder, hidden_layer: int) -> "Iterator[ReadInput]":
        """Yields the hidden states of an encoder of an analysis at a layer, input by input."""
        from graftwork.statistics.accumulator import decode_states
        from graftwork.statistics.analysis import ReadInput
        from graftwork.store.hidden_states import read_layer

        index = entry.layer(hidden_layer).index
        for one in entry.inputs:
            stored = read_layer(self.store.hidden_states(one.key), index)
            yield ReadInput(decode_states(stored.values, stored.dtype), stored.roles, stored.token_ids)

    def model(self, kind: str, name: str) -> ModelFiles:
        """Returns a model by kind and name."""
        return next(model for model in self.models if (model.kind, model.name) == (kind, name))
