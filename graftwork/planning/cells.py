"""Cells of experiments as a scope: `all`, those named in config/config.yaml, or one further experiment asked for by name."""

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from graftwork.core.derived import derived_files
from graftwork.core.identity import digest
from graftwork.core.png import is_complete_png
from graftwork.core.progress import format_bytes, format_seconds
from graftwork.core.records import read_record_or_none, record_form
from graftwork.design.cells import Design
from graftwork.design.controls import controls_in_words, references_of, words_of
from graftwork.design.project import Project
from graftwork.design.settings import Hardware
from graftwork.models.families import encoder_families
from graftwork.planning.captions import captions_shard, missing_captions, needed_captions
from graftwork.planning.code import (
    captioning_code,
    conditioning_code,
    extraction_code,
    map_code,
    sampling_code,
    statistics_code,
)
from graftwork.planning.inputs import InputsPlan, find_damaged_inputs, require_states
from graftwork.planning.no_ops import find_no_ops, one_line
from graftwork.planning.plan import (
    ConditioningPlan,
    ImagePlan,
    MergedDesigns,
    Missing,
    count_missing,
    inputs_of_cells,
    resolve_images,
)
from graftwork.planning.scope import RESULTS, Scope
from graftwork.planning.scoring import SCORES, SCORING_PLAN, ScoringPlan, scoring_digest
from graftwork.planning.shards import (
    ConditioningShard,
    ExtractionShard,
    ImageShard,
    Manifest,
    MapShard,
    Rate,
    StatisticsShard,
)
from graftwork.scores.outputs import PLOTS_FOLDER, SCORES_FILE, all_summaries, plots_of
from graftwork.store.layout import Store
from graftwork.store.values import read_values
from graftwork.transforms.registry import STAGES as TRANSFORM_STAGES
from graftwork.transforms.registry import choice_of, transform

STAGES = ("hidden_states", "statistics", "maps", "conditioning", "images")
CAPTIONS = "captions"
# Folders of manifests. Captions are written before there is a plan.
MANIFESTS = (CAPTIONS, *STAGES)
# If nothing says that a job wrote them, they are made again.
DERIVED = ("design.json", "cells.csv", "cells_full.csv", "scores.csv")
SHARDS = (ExtractionShard, StatisticsShard, MapShard, ConditioningShard, ImageShard)
IMAGES = "images.json"
# Whatever these records look like, a plan with jobs is made of them.
FORMS = (
    ConditioningPlan,
    ImagePlan,
    *SHARDS,
    Manifest,
)
# Tables of cells, and the one that stands for exported images.
_TABLES = ("cells.csv", "cells_full.csv", "constants.csv", "export/index.csv")
# Images that the mean size is taken of.
_MOST_SIZES = 200


def cells_digest(designs: Sequence[Design], hardware: Hardware) -> str:
    """Returns what stands for the inputs of a plan: cells, hardware settings, code, and the form of plans themselves.

    Planning jobs compute it again: what was edited after the run started is not planned under the earlier digest.

    Args:
        designs: designs of the scope.
        hardware: of config.yaml.
    """
    chosen, families = set(), set()
    for design in designs:
        families |= {model.facts.family for model in design.models.values()}
        for cell in design.cells:
            chosen |= {
                (stage, choice_of(stage, cell.parameters).name)
                for stage in TRANSFORM_STAGES
                if stage in cell.parameters
            }
    code = [
        extraction_code(family) if family in encoder_families() else sampling_code(family, from_image=True)
        for family in sorted(families)
    ]
    code += [
        sampling_code(family, from_image=False, with_references=True)
        for family in sorted(_families_with_references(designs))
    ]
    fitted = {record.method for design in designs for record in design.maps.values()}
    return digest(
        {
            "designs": [design.digest for design in designs],
            "hardware": hardware.model_dump(),
            "transforms": {f"{stage}:{name}": transform(stage, name).digest for stage, name in chosen},
            "code": [
                conditioning_code(),
                statistics_code(),
                *map(map_code, sorted(fitted)),
                *code,
                *_captioning(designs),
            ],
            "forms": [record_form(record) for record in FORMS],
        }
    )


def _families_with_references(designs: Sequence[Design]) -> set[str]:
    """Returns the families of generators that are shown references by controls."""
    return {
        design.models[cell.parameters["generator"]].facts.family
        for design in designs
        for cell in design.cells
        if references_of(cell.parameters)
    }


def _captioning(designs: Sequence[Design]) -> list[str]:
    """Returns the digests of the code that writes captions, for designs with controls that need words."""
    families = {
        design.models[cell.parameters["encoder"]].facts.family
        for design in designs
        for cell in design.cells
        if words_of(cell.parameters) is not None
    }
    return [captioning_code(family) for family in sorted(families)]


class CellsScope(Scope):
    """Experiments that are planned together.

    Attributes:
        experiments: their names.
    """

    inputs = "experiments"
    plan_type = ConditioningPlan
    plan_name = "conditioning.json"

    def __init__(self, name: str, experiments: Sequence[str], project: Project, store: Store):
        super().__init__(name, store)
        self.shown = name
        self.experiments = experiments
        self._project = project
        self._hardware = project.settings.hardware

    @cached_property
    def caption_shards(self) -> list[str]:
        """The job that writes the captions of controls; empty where none needs words."""
        shard = captions_shard(self._captions)
        return [shard] if shard else []

    @cached_property
    def _captions(self) -> list[str]:
        return list(needed_captions(self._designs, self._hardware))

    @property
    def _designs(self) -> list[Design]:
        return [self._project.design(experiment) for experiment in self.experiments]

    def _digest(self) -> str:
        return cells_digest(self._designs, self._hardware)

    def require_states(self) -> None:
        """Refuses inputs of cells, statistics and maps that files of states lack."""
        merged = MergedDesigns.of(self._designs)
        keys = merged.keys(self._hardware, self._store)
        require_states(merged.models, lambda: inputs_of_cells(merged, keys), self._project.settings.models)

    def describe(self) -> str:
        """Returns what a run would make: cells, missing images, estimates of time and disk."""
        designs = self._designs
        resolved = resolve_images(designs, self._hardware, self._store)
        missing = count_missing(designs, self._hardware, resolved, self._store)
        cells = [cell for design in designs for cell in design.cells]
        roles = [cell.role for cell in cells]
        named = ", ".join(f"{roles.count(role)} {role}s" for role in dict.fromkeys(roles))
        named += f": {kinds}" if (kinds := controls_in_words(cells)) else ""
        found = [(find_no_ops(design, resolved), design.experiment) for design in designs]
        return "\n".join(
            [
                f"graftwork: {missing.cells} cells ({named}), experiments: {', '.join(self.experiments)}",
                *dict.fromkeys(f"  note: {note}" for design in designs for note in design.notes),
                *(f"  {line}" for line in self._work(missing)),
                *(f"  {one_line(no_ops, name)}" for no_ops, name in found if no_ops.is_known),
            ]
        )

    def _work(self, missing: Missing) -> list[str]:
        images = missing.known + missing.unknown
        if not images:
            return [f"no image is missing; {missing.done} distinct ones are in the store"]
        most = "at most " if missing.unknown else ""
        captions = len(missing_captions(self._captions, self._store))
        return [
            *([f"{captions} captions of references to write, for the control words"] if captions else []),
            f"{most}{images} images to make ({missing.known} known to be missing; the conditioning of "
            f"{missing.unknown} is not recorded yet), {missing.done} in the store",
            f"{missing.recipes} conditionings to build",
            self._estimate(missing.work, images),
        ]

    def _estimate(self, work: int, images: int) -> str:
        """Extrapolates from the images made so far; says so where there are none."""
        found = [read_record_or_none(Rate, path) for path in sorted(self._store.rates.glob("*.json"))]
        rates = [rate for rate in found if rate is not None]
        done = sum(rate.work for rate in rates)
        files = list((self._store.root / "images").glob("*/*.png"))[:_MOST_SIZES]
        if not done or not files:
            return "time and disk: unknown until the first images are made"
        seconds = sum(rate.seconds for rate in rates) / done * work / self._hardware.gpus
        size = sum(file.stat().st_size for file in files) / len(files)
        return (
            f"about {format_seconds(seconds)} of generation and {format_bytes(size * images)} of images, going by those "
            "made so far"
        )

    def shards(self, plan: InputsPlan) -> dict[str, tuple[type, Sequence[str]]]:
        """Returns the shards of all stages."""
        images = read_record_or_none(ImagePlan, self.folder / IMAGES)
        planned = (
            plan.extraction,
            plan.statistics,
            plan.maps,
            plan.conditioning,
            images.shards if images else (),
        )
        return dict(zip(STAGES, zip(SHARDS, planned, strict=True), strict=True))

    def derived_files(self) -> list[Path]:
        """Returns designs and tables of the experiments."""
        folders = [RESULTS / experiment for experiment in self.experiments]
        known = [folder / name for folder in folders for name in DERIVED]
        return list(dict.fromkeys([*known, *(file for folder in folders for file in derived_files(folder))]))

    def damage(self, plan: InputsPlan) -> str | None:
        """Returns why the plans no longer hold: something failed, or is missing in the store."""
        if damage := find_damaged_inputs(plan, self._store):
            return damage
        if gone := len(missing_captions(self._captions, self._store)):
            return f"{gone} captions are missing or damaged"
        images = read_record_or_none(ImagePlan, self.folder / IMAGES)
        if images is None:
            return "the last planning was interrupted"
        if images.cells.keys() != {cell.cell for design in self._designs for cell in design.cells}:
            return "the plan of images is of other cells"
        entries = images.cells.values()
        errors = sum(entry.error is not None for entry in entries)
        if failed := max(self.failures(MANIFESTS), errors):
            return f"{failed} items failed last time"
        keys = {entry.image for entry in entries if entry.image is not None}
        missing = sum(not is_complete_png(self._store.image(key)) for key in keys)
        return f"{missing} images are missing or incomplete" if missing else None

    def heal(self) -> str | None:
        """Forgets a plan that does not hold; of what scorers are asked, only that is planned again."""
        damage = super().heal()
        if damage is None and (damage := self._damage_of_scores()):
            tables = [*_TABLES, SCORES_FILE, *(f"{table}.csv" for table in all_summaries())]
            files = [RESULTS / experiment / name for experiment in self.experiments for name in tables]
            self._forget([SCORES], [self.folder / "verdict.txt", self.folder / SCORING_PLAN, *files])
        self._remove_incomplete_plots()
        return damage

    def _remove_incomplete_plots(self) -> None:
        """Removes folders of plots of which one is missing, so that they are drawn again: Snakemake asks for the folder."""
        for design in self._designs:
            folder = RESULTS / design.experiment / PLOTS_FOLDER
            plots = plots_of(design.scores, design.axes)
            if (
                folder.is_dir()
                and not folder.is_symlink()
                and not all((folder / f"{plot}.png").exists() for plot in plots)
            ):
                shutil.rmtree(folder)

    def _scoring_digest(self) -> str:
        return scoring_digest({design.experiment: design.scoring for design in self._designs}, self._hardware)

    def _damage_of_scores(self) -> str | None:
        """Returns why what scorers said is not all there, or None."""
        plan = read_record_or_none(ScoringPlan, self.folder / SCORING_PLAN)
        if plan is None:
            return None
        if plan.digest != self._scoring_digest():
            return "what scorers are asked, their settings or their code are others now"
        if failed := self.failures([SCORES]):
            return f"{failed} comparisons by scorers failed last time"
        # What was planned and not made yet is no damage; its manifest is missing, and so its job will run.
        made = {file.stem for file in self._manifests([SCORES])}
        known = read_values(self._store.values)
        gone = [
            key
            for keys in plan.keys.values()
            for key in keys
            if key not in known and plan.shard_of.get(key, "") in {"", *made}
        ]
        return f"{len(gone)} values that scorers gave are missing" if gone else None

    def forget(self, inputs_changed: bool) -> None:
        """Removes plans, manifests and tables, from which grids follow; with other inputs, designs too.

        All tables: where one of a job's files is left, a target that needs only that one asks for no other.
        """
        summaries = [f"{table}.csv" for table in all_summaries()]
        names = [*_TABLES, SCORES_FILE, *summaries, *(["design.json"] if inputs_changed else [])]
        self._forget(
            [*MANIFESTS, SCORES],
            [
                *(self.folder / name for name in ("verdict.txt", SCORING_PLAN, IMAGES, self.plan_name)),
                *(Path(RESULTS, experiment, name) for experiment in self.experiments for name in names),
            ],
        )
