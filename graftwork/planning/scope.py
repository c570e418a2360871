"""A scope: what is planned together, so that it shares jobs. Cells of experiments are one kind, analyses the other.

A scope has a plan in results/plan/{scope}. Rules see plans and manifests, not the store: where a plan promises something
that is not there, `heal` removes the plan and what is derived from it, and the next step makes them again. Nothing in the
store is removed here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from graftwork.core.atomic import remove_file
from graftwork.core.derived import is_as_written, move_edited
from graftwork.core.records import read_record_or_none
from graftwork.planning.inputs import InputsPlan
from graftwork.planning.shards import Manifest, is_sound
from graftwork.store.layout import Store

RESULTS, PLANS = Path("results"), Path("results/plan")
# Folder of the reports of studies in the results, and the target for all of them.
STUDIES = "studies"


class Scope(ABC):
    """Experiments that are planned together.

    Attributes:
        name: name of its folder in results/plan.
        shown: what messages call it.
        inputs: what it is made from, in messages.
        folder: results/plan/{name}.
        plan_type: type of its first plan.
        plan_name: file of that plan.
        has_forgotten: whether plans were removed by this process, so that they are made again.
    """

    shown: str
    inputs: str
    plan_type: type[InputsPlan]
    plan_name: str

    def __init__(self, name: str, store: Store):
        self.name = name
        self.folder = PLANS / name
        self._store = store
        self.has_forgotten = False

    @cached_property
    def digest(self) -> str:
        """Stands for what decides the plan: cells or analysis, hardware, code, and the form of plans themselves."""
        return self._digest()

    @abstractmethod
    def _digest(self) -> str: ...

    def plan(self) -> InputsPlan | None:
        """Returns the first plan as it was written, or None where there is none of this version."""
        return read_record_or_none(self.plan_type, self.folder / self.plan_name)

    @abstractmethod
    def require_states(self) -> None:
        """Raises DesignError where files that stand for an encoder lack states that are needed."""

    @abstractmethod
    def describe(self) -> str:
        """Returns what a run would make, without freezing anything."""

    @abstractmethod
    def damage(self, plan: InputsPlan) -> str | None:
        """Returns why a plan that was made for the present inputs no longer holds, or None."""

    @abstractmethod
    def forget(self, inputs_changed: bool) -> None:
        """Removes the plans, the manifests of their shards, and the files from which all others follow.

        Args:
            inputs_changed: whether what the plan is made from has to be made again too.
        """

    def heal(self) -> str | None:
        """Forgets a plan that does not hold; returns why, or None where it holds or there is none."""
        # The digest first: mistakes in what the plan is made from are found here, before anything runs.
        digest, plan = self.digest, self.plan()
        if plan is None or plan.digest != digest:
            # The rules compare this too, but not where their records are gone: results moved into a fresh clone.
            self.forget(inputs_changed=True)
            return plan and f"{self.inputs}, settings or code are others now"
        damage = self._unreadable(plan) or self.damage(plan)
        if damage:
            self.forget(inputs_changed=False)
        return damage

    @abstractmethod
    def shards(self, plan: InputsPlan) -> dict[str, tuple[type, Sequence[str]]]:
        """Returns stage -> type and names of the shards that were planned; the stage is the folder of their manifests."""

    def derived_files(self) -> list[Path]:
        """Returns the files of results that jobs write and other jobs read."""
        return []

    def set_edited_aside(self) -> dict[Path, Path]:
        """Moves derived files that are not as they were written, so that they are made again; returns where they are."""
        edited = [path for path in self.derived_files() if path.exists() and not is_as_written(path)]
        return {path: move_edited(path) for path in edited}

    def _unreadable(self, plan: InputsPlan) -> str | None:
        """Returns which files of the plan are not what their names say, in words, or None."""
        shards = self.shards(plan)
        found = [read_record_or_none(Manifest, file) for file in self._manifests(shards)]
        if broken := found.count(None):
            return f"{broken} manifests cannot be read"
        broken = sum(
            not is_sound(kind, self._store.shards, name)
            for stage, (kind, names) in shards.items()
            for name in names
            if not (self.folder / stage / f"{name}.json").exists()
        )
        return f"{broken} frozen shards are missing or damaged" if broken else None

    def failures(self, stages: Iterable[str]) -> int:
        """Returns how many items have failed, by the manifests of some stages."""
        found = (read_record_or_none(Manifest, file) for file in self._manifests(stages))
        return sum(len(manifest.failures) for manifest in found if manifest is not None)

    def _forget(self, stages: Iterable[str], files: Iterable[Path]) -> None:
        self.has_forgotten = True
        for path in [*self._manifests(stages), *files]:
            remove_file(path)

    def _manifests(self, stages: Iterable[str]) -> list[Path]:
        return [file for stage in stages for file in self.folder.glob(f"{stage}/*.json")]
