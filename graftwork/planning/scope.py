"""What the rule files ask: which experiments belong together, what their plans say, and what has been damaged.

A scope is a set of experiments that are planned together, so that they share jobs: `all`, those named in
config/config.yaml, or one further experiment that is asked for by name.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.atomic import sweep_temporary_files
from graftwork.core.errors import DesignError
from graftwork.core.identity import digest
from graftwork.core.labels import label
from graftwork.core.locks import try_exclusive_lock
from graftwork.core.progress import format_bytes, format_seconds
from graftwork.design.inputs import read_yaml
from graftwork.design.project import EXPERIMENT_FOLDER, Project
from graftwork.models.families import encoder_families
from graftwork.planning.analyses import Analyses
from graftwork.planning.code import (
    conditioning_code,
    extraction_code,
    sampling_code,
    statistics_code,
)
from graftwork.planning.healing import find_damage, forget, planned_digest
from graftwork.planning.no_ops import find_no_ops, one_line
from graftwork.planning.plan import count_missing, resolve_images
from graftwork.reports.pages import page_names
from graftwork.scores.outputs import SCORES_FILE, Plot, plots_of, summaries_of
from graftwork.scores.registry import scores
from graftwork.store.layout import Store
from graftwork.transforms.registry import STAGES, transform

ALL = "all"
MINIATURE_TARGETS = ("train_miniature", "evaluate_miniature")
STATISTICS_TARGET = "statistics"
CONFIG_FILE = "config/config.yaml"


def make_importable(folder: str | Path) -> None:
    """Lets scripts, which run in processes of their own, import the package from `folder`."""
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), others]))


def load_project(config: Mapping[str, Any]) -> Project:
    """Returns the project of the working directory."""
    if Path(CONFIG_FILE).is_file():
        read_yaml(Path(CONFIG_FILE), CONFIG_FILE)  # Snakemake has read it too, but lets a repeated key pass.
    return Project(config, Path.cwd())


class Scopes:
    """Answers questions about the project's experiments, each computed once."""

    def __init__(self, project: Project):
        self._project = project
        self._hardware = project.settings.hardware.model_dump()
        self.store = Store(Path("results/store"))
        self.analyses = Analyses(project, self.store)
        self.design_digest = cache(lambda experiment: project.design(experiment).digest)
        self.plan_digest = cache(self._plan_digest)
        self.pages = cache(self._pages)
        self.read_plan = cache(lambda path: json.loads(Path(path).read_text(encoding="utf-8")))
        for experiment in project.settings.experiments:
            project.design(experiment)  # Refused here, before anything runs.

    def experiments(self, scope: str) -> list[str]:
        """Returns the experiments that are planned together."""
        return list(self._project.settings.experiments) if scope == ALL else [scope]

    def scope_of(self, experiment: str) -> str:
        """Returns the scope that an experiment is planned in."""
        return ALL if experiment in self._project.settings.experiments else experiment

    def scopes_of(self, targets: Iterable[str]) -> list[str]:
        """Returns the scopes that a run with these targets plans; a rule, like no target, stands for `all`.

        With `all` come the analyses that config/config.yaml names. Targets about the miniature family plan nothing.
        """
        known, scopes, targets = self._project.experiment_names(), set(), list(targets)
        for target in targets or [ALL]:
            if target.startswith("results/miniature/") or target in MINIATURE_TARGETS:
                continue
            if analysis := self.analyses.scope_of_target(target):
                scopes.add(analysis)
                continue
            if target in (ALL, STATISTICS_TARGET):
                scopes.update(self.analyses.named_scopes())
            if target == STATISTICS_TARGET:
                continue
            # results/{experiment}/... and results/plan/{scope}/...
            parts = [part for part in Path(target).parts[:3] if part not in ("results", "plan")]
            named = target.startswith("results/") and parts and parts[0] in known
            scopes.add(self.scope_of(parts[0]) if named else ALL)
        return sorted(scopes)

    def _design(self, experiment: str) -> dict[str, Any]:
        return self._project.design(experiment).to_json()

    def _pages(self, experiment: str) -> dict[str, dict[str, Any]]:
        design = self._project.design(experiment)
        return page_names([asdict(axis) for axis in design.axes], design.grids)

    def page(self, experiment: str, page: str) -> dict[str, Any]:
        """Returns {x, y, fixed} of a grid's page."""
        pages = self.pages(experiment)
        if page not in pages:
            raise KeyError(
                f"experiment {experiment} has no grid page {page}; its pages: {', '.join(pages) or 'none'}"
            )
        return pages[page]

    def scores(self, experiment: str) -> list[str]:
        """Returns the names of an experiment's scores."""
        return self._project.design(experiment).scores

    def scores_asked_for(self, experiment: str) -> list[str]:
        """Returns the names of an experiment's scores, which must be some."""
        if not self.scores(experiment):
            raise DesignError(
                f"{EXPERIMENT_FOLDER}/{experiment}.yaml: scores is missing or empty, so there is nothing to measure; "
                f"allowed: a list of {', '.join(scores())}"
            )
        return self.scores(experiment)

    def score_files(self, experiment: str) -> list[str]:
        """Returns the tables and plots of an experiment's scores, relative to its results; none without scores.

        The first is the table of scores itself.
        """
        names = self.scores(experiment)
        tables = [SCORES_FILE] if names else []
        tables += self.score_summaries(experiment)
        return [*tables, *(f"plots/{plot}.png" for plot in self.plots(experiment))]

    def score_summaries(self, experiment: str) -> list[str]:
        """Returns the tables that sum an experiment's scores up, relative to its results, in the order of the scores."""
        return [f"{summary.table}.csv" for summary in summaries_of(self.scores(experiment))]

    def pictures(self, experiment: str) -> dict[str, dict[str, str]]:
        """Returns heading -> path of a grid or plot, relative to the experiment's results -> what is constant on it."""
        axes = {axis.name: axis for axis in self._project.design(experiment).axes}
        grids = {
            f"grids/{page}.png": ", ".join(
                label(name, axes[name].labels[index])
                for name, index in content["fixed"].items()
                if len(axes[name].labels) > 1
            )
            for page, content in self.pages(experiment).items()
        }
        return {"Grids": grids, "Plots": {f"plots/{plot}.png": "" for plot in self.plots(experiment)}}

    def plots(self, experiment: str) -> dict[str, Plot]:
        """Returns the plots of an experiment's scores by name."""
        design = self._project.design(experiment)
        return plots_of(design.scores, [asdict(axis) for axis in design.axes])

    def plot(self, experiment: str, plot: str) -> Plot:
        """Returns a plot of an experiment's scores."""
        plots = self.plots(experiment)
        if plot not in plots:
            raise DesignError(
                f"experiment {experiment} has no plot {plot}; its plots: {', '.join(plots) or 'none'} (they follow from "
                f"scores in {EXPERIMENT_FOLDER}/{experiment}.yaml)"
            )
        return plots[plot]

    def _plan_digest(self, scope: str) -> str:
        """Returns what decides a plan: the cells, the hardware, and the code that their keys contain."""
        designs = [self._project.design(experiment) for experiment in self.experiments(scope)]
        chosen, families = set(), set()
        for design in designs:
            families |= {model["facts"]["family"] for model in design.models.values()}
            for cell in design.cells:
                chosen |= {(stage, cell.parameters[stage]) for stage in STAGES if stage in cell.parameters}
        code = {f"{stage}:{name}": transform(stage, name).digest for stage, name in chosen}
        families = sorted(families)
        return digest(
            {
                "designs": [self.design_digest(design.experiment) for design in designs],
                "hardware": self._hardware,
                "transforms": code,
                "code": [conditioning_code(), statistics_code()]
                + [
                    extraction_code(family)
                    if family in encoder_families()
                    else sampling_code(family, from_image=True)
                    for family in families
                ],
            }
        )

    def _cells(self, experiment: str) -> list[str]:
        return [cell.cell for cell in self._project.design(experiment).cells]

    def image_shards(self, plan: Mapping[str, Any], experiment: str | None = None) -> list[str]:
        """Returns the planned shards of images, of one experiment or all."""
        if experiment is None:
            return plan["shards"]
        images = (plan["cells"].get(cell, {}).get("image") for cell in self._cells(experiment))
        return sorted({plan["shard_of"][image] for image in images if image in plan["shard_of"]})

    def cells_digest(self, plan: Mapping[str, Any], experiment: str) -> str:
        """Returns what the plan says of an experiment's cells, so that its table follows it and no other's."""
        return digest([plan["cells"].get(cell) for cell in self._cells(experiment)])

    def describe(self, scope: str) -> str:
        """Returns what a run would make: cells, missing images, estimates of time and disk."""
        if analysis := self.analyses.name_of(scope):
            return self.analyses.describe(analysis)
        designs = [self._design(experiment) for experiment in self.experiments(scope)]
        resolved = resolve_images(designs, self._hardware, self.store)
        count = count_missing(designs, self._hardware, resolved, self.store)
        roles = [cell["role"] for design in designs for cell in design["cells"]]
        named = ", ".join(f"{roles.count(role)} {role}s" for role in dict.fromkeys(roles))
        images = count["missing"] + count["unknown"]
        no_ops = [
            f"  {one_line(found, design['experiment'])}"
            for design in designs
            if (found := find_no_ops(design, resolved)).is_known
        ]
        notes = dict.fromkeys(f"  note: {note}" for design in designs for note in design["notes"])
        lines = [
            f"graftwork: {count['cells']} cells ({named}), experiments: {', '.join(self.experiments(scope))}",
            *notes,
        ]
        if not images:
            lines.append(f"  no image is missing; {count['done']} distinct ones are in the store")
            return "\n".join([*lines, *no_ops])
        most = "at most " if count["unknown"] else ""
        lines.append(
            f"  {most}{images} images to make ({count['missing']} known to be missing; the conditioning of "
            f"{count['unknown']} is not recorded yet), {count['done']} in the store"
        )
        lines.append(f"  {count['recipes']} conditionings to build")
        lines.append(f"  {self._estimate(count, images)}")
        return "\n".join([*lines, *no_ops])

    def _estimate(self, count: Mapping[str, Any], images: int) -> str:
        """Extrapolates from the images made so far; says so where there are none."""
        rates = [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.store.rates.glob("*.json"))
        ]
        work = sum(rate["work"] for rate in rates)
        folder = self.store.root / "images"
        sizes = [file.stat().st_size for file in list(folder.glob("*/*.png"))[:200]]
        if not work or not sizes:
            return "time and disk: unknown until the first images are made"
        seconds = sum(rate["seconds"] for rate in rates) / work * count["work"] / self._hardware["gpus"]
        disk = format_bytes(sum(sizes) / len(sizes) * images)
        return (
            f"about {format_seconds(seconds)} of generation and {disk} of images, going by those made so far"
        )

    def heal(self, targets: Iterable[str] = ()) -> list[str]:
        """Removes plans that no longer hold, so that they are made again; returns what was found.

        Only those that a run with these targets makes again, and only while no other run is under way here: the lock
        is held as long as this process lives.
        """
        if try_exclusive_lock(Path("results/.lock")) is None:
            return []
        # Here and not in a job: a run that was killed at its last table leaves nothing to plan.
        swept = sweep_temporary_files(Path("results"))
        lines = [f"graftwork: removed {len(swept)} temporary files of killed processes"] if swept else []
        for scope in self.scopes_of(targets):
            if analysis := self.analyses.name_of(scope):
                lines += self._heal_analysis(analysis)
                continue
            folder, experiments = Path("results/plan", scope), self.experiments(scope)
            planned = planned_digest(folder)
            if planned != self.plan_digest(scope):
                # Snakemake compares this too, but not where its records are gone: results moved into a fresh clone.
                forget(folder, experiments, designs=True)
                damage = planned and "experiments, settings or code are others now"
            elif damage := find_damage(folder, self.store):
                forget(folder, experiments)
            if damage:
                lines.append(f"graftwork: planning {scope} again: {damage}")
        return lines

    def _heal_analysis(self, name: str) -> list[str]:
        planned = self.analyses.planned_digest(name)
        damage = self.analyses.find_damage(name)
        if planned != self.analyses.plan_digest(name):
            damage = planned and "the analysis, settings or code are others now"
            self.analyses.forget(name)
        elif damage:
            self.analyses.forget(name)
        return [f"graftwork: planning statistics {name} again: {damage}"] if damage else []
