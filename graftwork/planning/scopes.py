"""All scopes of a project: which there are, which ones targets ask for, and what is to be said or mended before a run."""

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.atomic import sweep_temporary_files
from graftwork.core.errors import DesignError, suggest
from graftwork.core.locks import try_exclusive_lock
from graftwork.core.yaml_files import check_configuration
from graftwork.design.project import TAKEN, Project
from graftwork.planning.analyses import AnalysisScope
from graftwork.planning.cells import CellsScope
from graftwork.planning.scope import PLANS, RESULTS, Scope
from graftwork.planning.verdict import Outcome, judge_analysis, judge_cells
from graftwork.store.layout import Store

ALL = "all"
STORE = RESULTS / "store"
# Folders of results that no plan is about, and the targets that fill them.
_UNPLANNED = {
    "miniature": ("train_miniature", "evaluate_miniature"),
    "store": ("verify_store", "repair_store"),
}
_STATISTICS = "statistics"
# What is made of the tables of an experiment, in its results.
LAST_FILES = ("summary.md", "no_ops.csv")
LAST_FOLDERS = ("grids", "plots")
VIEWER = "viewer"


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

    def __init__(self, project: Project):
        self._project = project
        self._settings = project.settings
        self._store = Store(STORE)
        self._of_cells = cache(lambda name: CellsScope(name, self.experiments(name), project, self._store))
        self._of_analysis = cache(lambda name: AnalysisScope(name, project, self._store))
        self.prefix = AnalysisScope.PREFIX
        # Refused here, before anything runs.
        for experiment in self._settings.experiments:
            project.design(experiment)
        for name in self._settings.statistics:
            project.analysis(name)

    def names(self) -> list[str]:
        """Returns the names of all scopes that can be asked for."""
        analyses = [self.prefix + name for name in self._project.analysis_names()]
        return [ALL, *self._project.experiment_names(), *analyses]

    def get(self, name: str) -> Scope:
        """Returns a scope."""
        if name.startswith(self.prefix):
            return self._of_analysis(name.removeprefix(self.prefix))
        return self._of_cells(name)

    def experiments(self, name: str) -> list[str]:
        """Returns the experiments that are planned together in a scope of cells."""
        return list(self._settings.experiments) if name == ALL else [name]

    def scope_of(self, experiment: str) -> str:
        """Returns the scope that an experiment is planned in: `all` for those named in config/config.yaml."""
        return ALL if experiment in self._settings.experiments else experiment

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
        parts = Path(target).parts
        if len(parts) < 2 or parts[0] != RESULTS.name:
            return [ALL, *(analyses if target == ALL else [])]
        folder, *rest = parts[1:]
        if folder == PLANS.name and rest:
            self._require(rest[0], self.names(), "scope", target)
            return [rest[0]]
        if folder == _STATISTICS and rest:
            self._require(rest[0], self._project.analysis_names(), "analysis", target)
            return [self.prefix + rest[0]]
        if folder in TAKEN or folder in _UNPLANNED:
            return []
        self._project.require_experiment(folder, target)
        return [self.scope_of(folder)]

    def _require(self, name: str, known: Sequence[str], what: str, target: str) -> None:
        if name not in known:
            raise DesignError(
                f"{target}: there is no {what} {name!r}; there are: {', '.join(known) or 'none'}{suggest(name, known)}"
            )

    def describe(self, targets: Sequence[str]) -> list[str]:
        """Returns what a run with these targets would make."""
        return [scope.describe() for scope in self.of_targets(targets)]

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
                for experiment in self._judged(name, target):
                    design = self._project.design(experiment)
                    outcomes[experiment] = judge_cells(scope, design, self._store, is_over)
        return [outcome for outcome in outcomes.values() if outcome is not None]

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
            unplanned = all(scope.plan() is None for scope in self.of_targets([target.as_posix()]))
            if target.parts[:1] != (RESULTS.name,) or not unplanned or len(target.parts) not in (3, 4):
                continue
            if name in LAST_FILES or (folder in LAST_FOLDERS and target.suffix == ".png"):
                target.unlink(missing_ok=True)
            elif name == VIEWER and target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)

    def heal(self, targets: Sequence[str]) -> list[str]:
        """Removes plans that no longer hold, so that they are made again; returns what was found.

        Only those that a run with these targets makes again, and only while no other run is under way here: the lock
        is held as long as this process lives.
        """
        scopes = self.of_targets(targets)
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
        if any(scope.plan() is None for scope in scopes):
            self._remove_last(targets)
        return lines + [f"graftwork: planning {scope.shown} again: {why}" for scope, why in found if why]
