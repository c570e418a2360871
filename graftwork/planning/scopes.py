"""All scopes of a project: which there are, which ones targets ask for, and what is to be said or mended before a run."""

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.atomic import sweep_temporary_files
from graftwork.core.errors import DesignError, suggest
from graftwork.core.locks import try_exclusive_lock
from graftwork.core.yaml_files import check_configuration
from graftwork.design.maps import MAP_FOLDER
from graftwork.design.project import TAKEN, Project
from graftwork.models.catalog import AbsentModel
from graftwork.planning.analyses import AnalysisScope
from graftwork.planning.cells import CellsScope
from graftwork.planning.maps import MapsScope, require_study
from graftwork.planning.scope import PLANS, RESULTS, STUDIES, Scope
from graftwork.planning.scoring import scoring_digest
from graftwork.planning.verdict import Outcome, judge_analysis, judge_cells, judge_maps, judge_scores
from graftwork.scores.outputs import PLOTS_FOLDER
from graftwork.scores.questions import Scoring
from graftwork.store.layout import Store

ALL = "all"
STORE = RESULTS / "store"
# Targets that have to work while models are missing.
MODEL_TARGETS = ("check_models", "download_models")
# Folders of results that no plan is about, and the targets that fill them.
_UNPLANNED = {
    "miniature": ("train_miniature", "evaluate_miniature"),
    "models": MODEL_TARGETS,
    "store": ("verify_store", "repair_store", "store_report", "gc"),
    "list_experiments": ("list_experiments",),
    "time.md": ("report_time",),
}
_STATISTICS, _MAPS = "statistics", "maps"
# How the target of a study begins.
STUDY = "study_"
# What is made of the tables of an experiment, in its results.
LAST_FILES = ("summary.md", "summary.html", "no_ops.csv")
GRIDS, VIEWER = "grids", "viewer"
# Folders that one job fills.
WHOLE_FOLDERS = (PLOTS_FOLDER, VIEWER)
INDEX = "index.html"


def load_project(config: Mapping[str, Any], files: Sequence[Path] = ()) -> Project:
    """Returns the project of the working directory.

    Args:
        config: content of config/config.yaml, with whatever replaced parts of it.
        files: further files that replaced parts of it, read by a reader that lets a repeated key pass.
    """
    for file in files:
        is_here = file.is_relative_to(Path.cwd())
        check_configuration(file, str(file.relative_to(Path.cwd()) if is_here else file))
    return Project(config, Path.cwd())


class Scopes:
    """All scopes of a project, by name and by target."""

    def __init__(
        self, project: Project, studies: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None
    ):
        """Refuses what the settings name, if it cannot be made.

        Args:
            project: the project.
            studies: study -> the experiments and the analyses that it reads.
        """
        self._studies = studies or {}
        self._project = project
        self._settings = project.settings
        self._store = Store(STORE)
        self._of_cells = cache(lambda name: CellsScope(name, self.experiments(name), project, self._store))
        self._of_analysis = cache(lambda name: AnalysisScope(name, project, self._store))
        self._of_maps = cache(lambda name: MapsScope(name, project, self._store))
        self.prefix = AnalysisScope.PREFIX
        self._absence: AbsentModel | None = None
        # Refused here, before anything runs.
        try:
            for experiment in self._settings.experiments:
                project.design(experiment)
            for name in self._settings.statistics:
                project.analysis(name)
        except AbsentModel as error:
            self._absence = error

    def require_models(self, targets: Sequence[str]) -> None:
        """Raises AbsentModel where a model is missing that the settings need, unless the targets are about that."""
        if self._absence is not None and not (targets and set(targets) <= set(MODEL_TARGETS)):
            raise self._absence

    def names(self) -> list[str]:
        """Returns the names of all scopes that can be asked for."""
        analyses = [self.prefix + name for name in self._project.analysis_names()]
        maps = [MapsScope.PREFIX + name for name in self._project.maps.names()]
        return [ALL, *self._project.experiment_names(), *analyses, *maps]

    def get(self, name: str) -> Scope:
        """Returns a scope."""
        if name.startswith(self.prefix):
            return self._of_analysis(name.removeprefix(self.prefix))
        if name.startswith(MapsScope.PREFIX):
            return self._of_maps(name.removeprefix(MapsScope.PREFIX))
        return self._of_cells(name)

    def experiments(self, name: str) -> list[str]:
        """Returns the experiments that are planned together in a scope of cells."""
        return list(self._settings.experiments) if name == ALL else [name]

    def scope_of(self, experiment: str) -> str:
        """Returns the scope that an experiment is planned in: `all` for those named in config/config.yaml."""
        return ALL if experiment in self._settings.experiments else experiment

    def asked(self, name: str) -> dict[str, Scoring]:
        """Returns what the experiments of a scope ask scorers, experiment -> what it asks."""
        return {experiment: self._project.design(experiment).scoring for experiment in self.experiments(name)}

    def asks_scorers(self, name: str) -> bool:
        """Whether an experiment of a scope asks scorers."""
        return any(scoring.scores for scoring in self.asked(name).values())

    def scoring_digest(self, name: str) -> str:
        """Returns what stands for what a scope asks scorers."""
        return scoring_digest(self.asked(name), self._settings.hardware)

    def of_targets(self, targets: Sequence[str]) -> list[Scope]:
        """Returns the scopes that a run with these targets plans; a rule, like no target, stands for `all`.

        Raises:
            DesignError: for a file of an experiment or analysis that there is not.
        """
        names = {name for target in targets or [ALL] for name in self._names_of(target)}
        return [self.get(name) for name in sorted(names)]

    def _names_of(self, target: str) -> list[str]:
        analyses = [self.prefix + name for name in self._settings.statistics]
        if any(target in rules for rules in _UNPLANNED.values()):
            return []
        if target == _STATISTICS:
            return analyses
        if target == _MAPS:
            return [name for maps in self._settings.maps for name in self._with_images(maps)]
        parts = Path(target).parts
        if (studies := self._studies_of(target, parts)) is not None:
            return studies
        if len(parts) < 2 or parts[0] != RESULTS.name or parts[1:] == (INDEX,):
            return [ALL, *(analyses if target == ALL or parts[1:] == (INDEX,) else [])]
        folder, *rest = parts[1:]
        if folder == PLANS.name and rest:
            self._require(rest[0], self.names(), "scope", target)
            return [rest[0]]
        if folder == _STATISTICS and rest:
            self._require(rest[0], self._project.analysis_names(), "analysis", target)
            return [self.prefix + rest[0]]
        if folder == _MAPS and rest:
            self._require(rest[0], self._project.maps.names(), "file of maps", target)
            return self._with_images(rest[0])
        if folder in TAKEN or folder in _UNPLANNED:
            return []
        self._project.require_experiment(folder, target)
        return [self.scope_of(folder)]

    def _studies_of(self, target: str, parts: Sequence[str]) -> list[str] | None:
        """Returns the scopes that studies need; None for a target that is none of them."""
        if target == STUDIES:
            chosen = list(self._studies)
        elif target.startswith(STUDY) and target.removeprefix(STUDY) in self._studies:
            chosen = [target.removeprefix(STUDY)]
        elif len(parts) > 2 and tuple(parts[:2]) == (RESULTS.name, STUDIES):
            self._require(parts[2], list(self._studies), "study", target)
            chosen = [parts[2]]
        else:
            return None
        experiments = [one for study in chosen for one in self._studies[study][0]]
        analyses = [one for study in chosen for one in self._studies[study][1]]
        scopes = [*map(self.scope_of, experiments), *(self.prefix + analysis for analysis in analyses)]
        return list(dict.fromkeys(scopes))

    def _with_images(self, maps: str) -> list[str]:
        """Returns the scope of a file of maps, and that of the experiment whose images its report shows."""
        experiment = require_study(self._project.maps.read(maps)).experiment
        if experiment is not None:
            self._project.require_experiment(experiment, f"{MAP_FOLDER}/{maps}.yaml: study.experiment")
        return [MapsScope.PREFIX + maps, *([self.scope_of(experiment)] if experiment else [])]

    def _require(self, name: str, known: Sequence[str], what: str, target: str) -> None:
        if name not in known:
            raise DesignError(
                f"{target}: there is no {what} {name!r}; there are: {', '.join(known) or 'none'}{suggest(name, known)}"
            )

    def describe(self, targets: Sequence[str]) -> list[str]:
        """Returns what a run with these targets would make."""
        scopes = self.of_targets(targets)
        for scope in scopes:
            scope.require_states()
        return [scope.describe() for scope in scopes]

    def judge(self, targets: Sequence[str], is_over: bool = True) -> list[Outcome]:
        """Returns how what these targets are about has ended: their cells, or those of everything that they stand for.

        Args:
            targets: targets of the run.
            is_over: whether all jobs of the run have ended well.
        """
        outcomes: dict[str, Outcome | None] = {}
        for target in targets or [ALL]:
            for name in self._names_of(target):
                scope = self.get(name)
                if name.startswith(self.prefix):
                    outcomes[name] = judge_analysis(scope, name.removeprefix(self.prefix))
                    continue
                if name.startswith(MapsScope.PREFIX):
                    outcomes[name] = judge_maps(scope, name.removeprefix(MapsScope.PREFIX))
                    continue
                for experiment in self._judged(name, target):
                    design = self._project.design(experiment)
                    outcomes[experiment] = judge_cells(scope, design, self._store, is_over)
                    outcomes[f"scores of {experiment}"] = judge_scores(scope, experiment)
        return [outcome for outcome in outcomes.values() if outcome is not None]

    def folders(self, targets: Sequence[str]) -> list[Path]:
        """Returns the folders of results that these targets are about."""
        found: dict[Path, None] = {}
        for target in targets or [ALL]:
            for name in self._names_of(target):
                if name.startswith(self.prefix):
                    found[RESULTS / _STATISTICS / name.removeprefix(self.prefix)] = None
                else:
                    found |= {RESULTS / experiment: None for experiment in self._judged(name, target)}
        return list(found)

    def _judged(self, scope: str, target: str) -> list[str]:
        """Returns the experiments of a scope that a target is about."""
        parts = Path(target).parts
        experiments = self.experiments(scope)
        return [parts[1]] if len(parts) > 1 and parts[1] in experiments else experiments

    def _remove_last(self, targets: Sequence[str]) -> None:
        """Removes what the targets name at the end of the way from a plan, which is to be made again.

        A missing file is made again only if a target asks for it. A grid that is there asks for nothing, and a run for
        it alone would end at once and well, though its images are missing or have failed.
        """
        for target in map(Path, targets):
            folder, name = target.parent.name, target.name
            unplanned = all(map(_is_planned_again, self.of_targets([target.as_posix()])))
            if target.parts[:1] != (RESULTS.name,) or not unplanned or len(target.parts) not in (3, 4):
                continue
            if name in LAST_FILES or (folder == GRIDS and target.suffix == ".png"):
                target.unlink(missing_ok=True)
            whole = target.parent if name == INDEX and len(target.parts) == 4 else target
            if whole.name in WHOLE_FOLDERS and whole.is_dir() and not whole.is_symlink():
                shutil.rmtree(whole)

    def why_read_only(self) -> str | None:
        """Says why nothing can be made here, or returns None: results that are another user's, or on a read-only disk."""
        for path in (RESULTS, RESULTS / ".lock", STORE):
            if path.exists() and not os.access(path, os.W_OK):
                return f"{path} cannot be written: it is on a read-only file system, or belongs to another user; nothing was made"
        return None

    def heal(self, targets: Sequence[str]) -> list[str]:
        """Removes plans that no longer hold, so that they are made again; returns what was found.

        Only those that a run with these targets makes again, and only while no other run is under way here: the lock
        is held as long as this process lives.
        """
        scopes = self.of_targets(targets)
        for scope in scopes:
            scope.require_states()
        if try_exclusive_lock(RESULTS / ".lock") is None:
            return []
        # Here and not in a job: a run that was killed at its last table leaves nothing to plan.
        swept = sweep_temporary_files(RESULTS)
        lines = [f"graftwork: removed {len(swept)} temporary files of killed processes"] if swept else []
        lines += [
            f"graftwork: {path} is not as it was written (edited, or saved by another program): it is made again; what was "
            f"there is {aside.name}"
            for scope in scopes
            for path, aside in scope.set_edited_aside().items()
        ]
        found = [(scope, scope.heal()) for scope in scopes]
        if any(map(_is_planned_again, scopes)):
            self._remove_last(targets)
        return lines + [f"graftwork: planning {scope.shown} again: {why}" for scope, why in found if why]


def _is_planned_again(scope: Scope) -> bool:
    """Whether a run makes plans of a scope: there is none, or a part was removed."""
    return scope.plan() is None or scope.has_forgotten
