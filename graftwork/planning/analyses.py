"""An analysis as a scope: the job that writes it, its plan, and what it lacks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graftwork.core.identity import digest
from graftwork.core.records import record_form
from graftwork.design.analysis_design import AnalysisDesign, Comparison, MassiveActivations
from graftwork.design.project import Project
from graftwork.design.settings import Hardware, Sharding
from graftwork.planning.code import extraction_code, statistics_code
from graftwork.planning.inputs import (
    InputsPlan,
    WantedInputs,
    find_damaged_inputs,
    plan_inputs,
    require_states,
)
from graftwork.planning.keys import Keys, NeededInput, NeededStatistics
from graftwork.planning.scope import RESULTS, Scope
from graftwork.planning.shards import ExtractionShard, Manifest, ModelToLoad, StatisticsShard
from graftwork.store.layout import Store

STAGES = ("hidden_states", "statistics")
# What an analysis has written, beside its plan.
FILES = "files.json"


@dataclass(frozen=True)
class AnalyzedCorpus:
    """How large a corpus is.

    Attributes:
        name: name of its file.
        prompts: how many prompts it has.
        references: how many references it has.
    """

    name: str
    prompts: int
    references: int


@dataclass(frozen=True)
class AnalyzedInput:
    """One input of the corpus.

    Attributes:
        key: name of its hidden states.
        prompt: text.
        reference: SHA-256 of the image; None without one.
    """

    key: str
    prompt: str
    reference: str | None


@dataclass(frozen=True)
class AnalyzedLayer:
    """One layer of an encoder.

    Attributes:
        hidden_layer: layer as people say it.
        index: entry of `hidden_states`.
        statistics: key of its statistics.
    """

    hidden_layer: int
    index: int
    statistics: str


@dataclass(frozen=True)
class AnalyzedEncoder:
    """An encoder that reads the corpus.

    Attributes:
        name: what tables call it.
        token_classes: token classes that get a table.
        layers: layers that are analyzed.
        inputs: inputs in the order of the corpus.
        model: where its tokenizer is; None for token ids in place of words.
    """

    name: str
    token_classes: tuple[str, ...]
    layers: tuple[AnalyzedLayer, ...]
    inputs: tuple[AnalyzedInput, ...]
    model: ModelToLoad | None = None

    def layer(self, hidden_layer: int) -> AnalyzedLayer:
        """Returns one of the layers."""
        return next(layer for layer in self.layers if layer.hidden_layer == hidden_layer)


@dataclass(frozen=True)
class AnalysisTask:
    """Task of the job of an analysis.

    Attributes:
        name: name of its file.
        title: heading.
        question: what it asks.
        corpus: what is read.
        entries: encoders that read it.
        comparisons: pairs of sides.
        massive: what counts as a massive activation.
    """

    name: str
    title: str
    question: str
    corpus: AnalyzedCorpus
    entries: tuple[AnalyzedEncoder, ...]
    comparisons: tuple[Comparison, ...]
    massive: MassiveActivations


@dataclass(frozen=True)
class StatisticsPlan(InputsPlan):
    """Plan of an analysis: the inputs that it needs, and the task of its job.

    Attributes:
        analysis: what the job does.
    """

    analysis: AnalysisTask


def resolve_analysis(design: AnalysisDesign, keys: Keys) -> tuple[AnalysisTask, dict[str, NeededStatistics]]:
    """Returns what an analysis reads of the store: the task of the job, and key -> statistics.

    Args:
        design: the analysis.
        keys: keys under its models and corpora.
    """
    needed: dict[str, NeededStatistics] = {}
    entries = []
    for entry in design.entries:
        found = {
            layer: keys.statistics(design.corpus, entry.encoder, layer, entry.options)
            for layer in entry.hidden_layers
        }
        needed |= {one.key: one for one in found.values()}
        # The inputs of all layers are the same.
        inputs = next(iter(found.values())).inputs
        model = design.models[entry.encoder]
        entries.append(
            AnalyzedEncoder(
                entry.name,
                entry.token_classes,
                tuple(AnalyzedLayer(layer, one.parts.layer, one.key) for layer, one in found.items()),
                tuple(AnalyzedInput(need.key, need.input.prompt, need.input.reference) for need in inputs),
                ModelToLoad(model.name, model.entry),
            )
        )
    corpus = design.corpora[design.corpus]
    task = AnalysisTask(
        design.name,
        design.title,
        design.question,
        AnalyzedCorpus(corpus.name, len(corpus.prompts), len(corpus.references)),
        tuple(entries),
        design.comparisons,
        design.massive,
    )
    return task, needed


def plan_analysis(
    design: AnalysisDesign, hardware: Hardware, sharding: Sharding, store: Store, digest: str = ""
) -> StatisticsPlan:
    """Plans extraction and statistics of an analysis, and freezes the shards.

    Args:
        design: the analysis.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where everything is kept.
        digest: stands for what the plan is made for.
    """
    task, needed = resolve_analysis(design, Keys(design.models, hardware, design.corpora))
    inputs = plan_inputs(WantedInputs(needed), design.models, design.references, hardware, sharding, store)
    return StatisticsPlan(**vars(replace(inputs, digest=digest)), analysis=task)


def analysis_digest(design: AnalysisDesign, hardware: Hardware) -> str:
    """Returns what stands for the inputs of a plan; the planning job computes it again."""
    families = {model.facts.family for model in design.models.values()}
    forms = (StatisticsPlan, ExtractionShard, StatisticsShard, Manifest)
    return digest(
        {
            "analysis": design.digest,
            "hardware": hardware.model_dump(),
            "code": [*sorted(map(extraction_code, families)), statistics_code()],
            "forms": [record_form(record) for record in forms],
        }
    )


class AnalysisScope(Scope):
    """One analysis."""

    # A dot, which names of experiments have not.
    PREFIX = "statistics."
    inputs = "the analysis"
    plan_type = StatisticsPlan
    plan_name = "statistics.json"

    def __init__(self, analysis: str, project: Project, store: Store):
        super().__init__(self.PREFIX + analysis, store)
        self.shown = f"statistics {analysis}"
        self._results = RESULTS / "statistics" / analysis
        self._analysis = analysis
        self._project = project
        self._hardware = project.settings.hardware

    @property
    def _design(self) -> AnalysisDesign:
        return self._project.analysis(self._analysis)

    def _digest(self) -> str:
        return analysis_digest(self._design, self._hardware)

    def require_states(self) -> None:
        """Refuses inputs of the corpus that files of states lack."""
        design = self._design

        def needs() -> list[NeededInput]:
            _, needed = resolve_analysis(design, Keys(design.models, self._hardware, design.corpora))
            return [need for one in needed.values() for need in one.inputs]

        require_states(design.models, needs, self._project.settings.models)

    def describe(self) -> str:
        """Returns what a run would make: layers, inputs, and which of them are missing."""
        design = self._design
        _, needed = resolve_analysis(design, Keys(design.models, self._hardware, design.corpora))
        inputs = {need.key for found in needed.values() for need in found.inputs}
        absent = sum(not self._store.hidden_states(key).exists() for key in inputs)
        missing = sum(not self._store.statistics(key).exists() for key in needed)
        return (
            f"graftwork: {self.shown}: {len(needed)} layers over {len(inputs)} encoder inputs; at least {absent} "
            f"inputs to extract, {missing} layers to measure"
        )

    def shards(self, plan: InputsPlan) -> dict[str, tuple[type, Sequence[str]]]:
        """Returns the shards of both stages."""
        planned = ((ExtractionShard, plan.extraction), (StatisticsShard, plan.statistics))
        return dict(zip(STAGES, planned, strict=True))

    def damage(self, plan: InputsPlan) -> str | None:
        """Returns why the plan no longer holds: something failed, or is missing in the store or of the analysis."""
        if damage := find_damaged_inputs(plan, self._store):
            return damage
        if failed := self.failures(STAGES):
            return f"{failed} items failed last time"
        gone = [file for file in read_files(self.folder) if not (self._results / file).is_file()]
        return f"{len(gone)} files of the analysis are missing" if gone else None

    def forget(self, inputs_changed: bool) -> None:
        """Removes plan, manifests, and the summary, from which all else follows."""
        files = [self.folder / name for name in (self.plan_name, "measured.txt")]
        self._forget(STAGES, [*files, self._results / "summary.md"])


def read_files(folder: Path) -> list[str]:
    """Returns the files that an analysis has written, relative to its results; none where that is not known.

    Args:
        folder: folder of its plan.
    """
    try:
        files = json.loads((folder / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(files, list):
        return []
    # A file that lies elsewhere was not written by an analysis, and is not removed by one.
    inside = (file for file in files if isinstance(file, str) and ".." not in Path(file).parts)
    return [file for file in inside if not Path(file).is_absolute()]
