"""Files of maps as scopes: the task of the job that measures them, their plan, and what they lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError
from graftwork.core.identity import digest
from graftwork.core.records import record_form
from graftwork.design.cells import MapRecord
from graftwork.design.maps import MAP_FOLDER, MapsDesign, StudyRecord
from graftwork.design.project import Project
from graftwork.design.settings import Hardware, Sharding
from graftwork.maps.registry import method
from graftwork.planning.code import extraction_code, map_code
from graftwork.planning.inputs import (
    InputsPlan,
    WantedInputs,
    find_damaged_inputs,
    plan_inputs,
    require_states,
)
from graftwork.planning.keys import Keys, NeededInput, NeededMap
from graftwork.planning.scope import RESULTS, Scope
from graftwork.planning.shards import ExtractionShard, Manifest, MapShard, ModelToLoad
from graftwork.store.layout import Store

STAGES = ("hidden_states", "maps")
# Tables and pages of a study, in its folder of results.
TABLES = ("metrics.csv", "curves.csv", "velocities.csv", "problems.txt")
PAGES = ("report.md", "report.html")


@dataclass(frozen=True)
class StudiedMap:
    """A map that is measured.

    Attributes:
        name: name in the file; of a curve, that of the method.
        method: method that fits it.
        is_control: whether it is there to be compared with.
        key: name of its file in the store.
        layers: entries of `hidden_states` that it takes.
        curve: `size` or `rank`, and empty for a map of the file itself.
        at: number of prompts or rank on a curve; 0 for a map of the file itself.
    """

    name: str
    method: str
    is_control: bool
    key: str
    layers: tuple[int, ...]
    curve: str = ""
    at: int = 0


@dataclass(frozen=True)
class PairedPrompt:
    """One prompt as both encoders read it.

    Attributes:
        prompt: text.
        source: key of the hidden states of the encoder that is mapped.
        target: key of those of the generator's own text encoder.
    """

    prompt: str
    source: str
    target: str


@dataclass(frozen=True)
class VelocityTask:
    """Comparison of velocities.

    Attributes:
        generator: generator that is loaded.
        identity: its identity.
        hardware: `hardware.generation` of config.yaml.
        prompts: how many held-out prompts, the first ones.
        sigmas: noise levels.
        height: height of the images in pixels.
        width: width likewise.
        empty: key of the text encoder's hidden states for an empty prompt.
    """

    generator: ModelToLoad
    identity: str
    hardware: Mapping[str, Any]
    prompts: int
    sigmas: tuple[float, ...]
    height: int
    width: int
    empty: str


@dataclass(frozen=True)
class MapStudyTask:
    """Measurements of a file of maps.

    Attributes:
        name: name of the file.
        title: heading.
        question: question that it asks.
        method: name of the map that stands for the file.
        encoder: name of the encoder that is mapped.
        text_encoder: name of the one that it is mapped to.
        hidden_layer: layer as people say it.
        text_hidden_layer: likewise.
        target_layer: entry of `hidden_states`.
        normalization: what is done to states first.
        corpus: name of the corpus that maps are fitted on.
        held_out_corpus: name of the one that they are judged on.
        fitted: prompts that maps are fitted on.
        held_out: prompts that they are judged on.
        maps: maps.
        shared: prompts that are in both corpora.
        experiment: experiment whose images are shown; None for none.
        velocity: comparison of velocities; None for none.
    """

    name: str
    title: str
    question: str
    method: str
    encoder: str
    text_encoder: str
    hidden_layer: int
    text_hidden_layer: int
    target_layer: int
    normalization: str
    corpus: str
    held_out_corpus: str
    fitted: tuple[PairedPrompt, ...]
    held_out: tuple[PairedPrompt, ...]
    maps: tuple[StudiedMap, ...]
    shared: tuple[str, ...]
    experiment: str | None
    velocity: VelocityTask | None


@dataclass(frozen=True)
class MapsPlan(InputsPlan):
    """Plan of a file of maps.

    Attributes:
        study: task of the job that measures.
    """

    study: MapStudyTask


@dataclass(frozen=True)
class ResolvedMaps:
    """A file of maps by keys.

    Attributes:
        task: task of the job that measures.
        maps: key -> map.
        inputs: further inputs: held-out prompts, and the empty one.
    """

    task: MapStudyTask
    maps: Mapping[str, NeededMap]
    inputs: Sequence[NeededInput]


def require_study(design: MapsDesign) -> StudyRecord:
    """Returns the study of a file of maps.

    Raises:
        DesignError: where the file has none.
    """
    if design.study is None:
        raise DesignError(
            f"{MAP_FOLDER}/{design.name}.yaml: study is missing, so there is nothing to measure; give it with held_out, or take "
            "the file out of maps in config/config.yaml"
        )
    return design.study


def resolve_maps(design: MapsDesign, hardware: Hardware) -> ResolvedMaps:
    """Returns what a file of maps needs of the store, and the task of the job that measures."""
    study = require_study(design)
    keys = Keys(design.models, hardware, design.corpora, maps=design.maps)
    needed = {name: keys.map(name) for name in design.maps}
    studied = [
        *(_studied(name, needed[key]) for name, key in design.named.items()),
        *(_studied(design.method, needed[key], "size", int(at)) for at, key in study.sizes.items()),
        *(_studied("", needed[key], "rank", int(at)) for at, key in study.ranks.items()),
    ]
    first = design.maps[design.named[design.method]]
    layers = sorted({layer for record in design.maps.values() for layer in record.hidden_layers})
    source = keys.pair_inputs(study.held_out, None, first.encoder, layers, first.options)
    target = keys.pair_inputs(
        study.held_out, None, first.text_encoder, (first.text_hidden_layer,), first.text_options
    )
    empty = keys.text_input("", first)
    fitted_on = needed[design.named[design.method]].parts
    names = {identity: model.name for identity, model in design.models.items()}
    corpora = design.corpora
    task = MapStudyTask(
        name=design.name,
        title=design.title,
        question=design.question,
        method=design.method,
        encoder=names[first.encoder],
        text_encoder=names[first.text_encoder],
        hidden_layer=first.hidden_layers[0],
        text_hidden_layer=first.text_hidden_layer,
        target_layer=fitted_on.target_layer,
        normalization=first.normalization,
        corpus=corpora[first.corpus].name,
        held_out_corpus=corpora[study.held_out].name,
        fitted=_paired(corpora[first.corpus].prompts, fitted_on.source, fitted_on.target),
        held_out=_paired(
            corpora[study.held_out].prompts,
            [needs[0].key for needs in source],
            [needs[0].key for needs in target],
        ),
        maps=tuple(studied),
        shared=study.shared,
        experiment=study.experiment,
        velocity=_velocity(design, study, first, hardware, empty.key),
    )
    inputs = [need for needs in (*source, *target) for need in needs]
    return ResolvedMaps(task, {one.key: one for one in needed.values()}, [*inputs, empty])


def _velocity(
    design: MapsDesign, study: StudyRecord, record: MapRecord, hardware: Hardware, empty: str
) -> VelocityTask | None:
    if not study.velocity_prompts:
        return None
    generator = design.models[record.generator]
    return VelocityTask(
        ModelToLoad(generator.name, generator.entry),
        record.generator,
        hardware.generation.model_dump(),
        study.velocity_prompts,
        study.sigmas,
        study.height,
        study.width,
        empty,
    )


def _studied(name: str, one: NeededMap, curve: str = "", at: int = 0) -> StudiedMap:
    chosen = method(one.record.method)
    return StudiedMap(
        name or chosen.name, chosen.name, chosen.is_control, one.key, one.parts.layers, curve, at
    )


def _paired(prompts: Sequence[str], source: Sequence[str], target: Sequence[str]) -> tuple[PairedPrompt, ...]:
    return tuple(PairedPrompt(*one) for one in zip(prompts, source, target, strict=True))


def plan_maps(
    design: MapsDesign, hardware: Hardware, sharding: Sharding, store: Store, digest: str = ""
) -> MapsPlan:
    """Plans extraction and fitting of a file of maps, and freezes the shards.

    Args:
        design: the file.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where everything is kept.
        digest: stands for what the plan is made for.
    """
    resolved = resolve_maps(design, hardware)
    wanted = WantedInputs({}, resolved.maps)
    wanted.add(resolved.inputs)
    inputs = plan_inputs(wanted, design.models, {}, hardware, sharding, store)
    return MapsPlan(**vars(replace(inputs, digest=digest)), study=resolved.task)


def maps_digest(design: MapsDesign, hardware: Hardware) -> str:
    """Returns a digest of the inputs of a plan; the planning job computes it again."""
    families = {design.models[one].facts.family for one in _encoders(design)}
    forms = (MapsPlan, ExtractionShard, MapShard, Manifest)
    return digest(
        {
            "maps": design.digest,
            "hardware": hardware.model_dump(),
            "code": [
                *map(extraction_code, sorted(families)),
                *map(map_code, sorted({one.method for one in design.maps.values()})),
            ],
            "forms": [record_form(record) for record in forms],
        }
    )


def _all_inputs(resolved: ResolvedMaps) -> list[NeededInput]:
    return [*resolved.inputs, *(need for one in resolved.maps.values() for need in one.inputs)]


def _encoders(design: MapsDesign) -> set[str]:
    return {key for record in design.maps.values() for key in (record.encoder, record.text_encoder)}


class MapsScope(Scope):
    """One file of maps."""

    # A dot, which names of experiments have not.
    PREFIX = "maps."
    inputs = "the maps"
    plan_type = MapsPlan
    plan_name = "maps.json"

    def __init__(self, maps: str, project: Project, store: Store):
        super().__init__(self.PREFIX + maps, store)
        self.shown = f"maps {maps}"
        self._results = RESULTS / "maps" / maps
        self._maps = maps
        self._project = project
        self._hardware = project.settings.hardware

    @property
    def _design(self) -> MapsDesign:
        design = self._project.maps.read(self._maps)
        require_study(design)
        return design

    def _digest(self) -> str:
        return maps_digest(self._design, self._hardware)

    def require_states(self) -> None:
        """Refuses inputs of the corpora that files of states lack."""
        design = self._design

        def needs() -> list[NeededInput]:
            return _all_inputs(resolve_maps(design, self._hardware))

        require_states(design.models, needs, self._project.settings.models)

    def describe(self) -> str:
        """Returns what a run would make: maps, inputs, and which of them are missing."""
        resolved = resolve_maps(self._design, self._hardware)
        inputs = {need.key for need in _all_inputs(resolved)}
        absent = sum(not self._store.hidden_states(key).exists() for key in inputs)
        missing = sum(not self._store.map(key).exists() for key in resolved.maps)
        notes = (
            f"\n  note: {len(resolved.task.shared)} held-out prompts are among those that the maps are fitted on"
            if resolved.task.shared
            else ""
        )
        return (
            f"graftwork: {self.shown}: {len(resolved.maps)} maps over {len(inputs)} encoder inputs; at least {absent} inputs to "
            f"extract, {missing} maps to fit{notes}"
        )

    def shards(self, plan: InputsPlan) -> dict[str, tuple[type, Sequence[str]]]:
        """Returns the shards of both stages."""
        planned = ((ExtractionShard, plan.extraction), (MapShard, plan.maps))
        return dict(zip(STAGES, planned, strict=True))

    def damage(self, plan: InputsPlan) -> str | None:
        """Returns why the plan no longer holds: something failed, or is missing in the store."""
        if damage := find_damaged_inputs(plan, self._store):
            return damage
        failed = self.failures(STAGES)
        return f"{failed} items failed last time" if failed else None

    def forget(self, inputs_changed: bool) -> None:
        """Removes plan, manifests, tables and pages."""
        files = [self._results / name for name in (*TABLES, *PAGES)]
        self._forget(STAGES, [self.folder / self.plan_name, *files])

    def derived_files(self) -> list[Path]:
        """Returns the tables, which the report is made of."""
        return [self._results / name for name in TABLES]
