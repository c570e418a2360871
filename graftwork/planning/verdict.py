"""Verdict on a run: which cells of its targets are done, which failed, and why.

It is judged from plans and manifests, whatever the targets are: a table of failed cells is made like any other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from graftwork.core.png import is_complete_png
from graftwork.core.records import read_record_or_none
from graftwork.design.cells import Design
from graftwork.planning.cells import IMAGES, MANIFESTS
from graftwork.planning.plan import ImagePlan
from graftwork.planning.scope import RESULTS, STUDIES, Scope
from graftwork.planning.scoring import SCORES, SCORING_PLAN, ScoringPlan
from graftwork.planning.shards import Manifest
from graftwork.scores.outputs import PLOTS_FOLDER
from graftwork.store.layout import Store

# Stage -> folder of the logs of its jobs, in logs/.
LOGS = {
    "captions": "write_captions",
    "hidden_states": "extract_hidden_states",
    "statistics": "measure_statistics",
    "maps": "fit_maps",
    "conditioning": "condition",
    "images": "generate_images",
    SCORES: "measure_images",
}
NOT_MADE = "not made, for a job that it needs did not end well"
GONE = "its image is missing or damaged, though a job has made it"
_MOST_REASONS = 5
_MOST_LOGS = 3
_MOST_NAMES = 5


@dataclass(frozen=True)
class Outcome:
    """How an experiment or an analysis ended.

    Attributes:
        name: what people call it.
        what: one of those that are counted: a cell, or a part of an analysis.
        folder: folder of its results.
        total: how many there are; None where it is not known.
        failures: item -> why it failed.
        logs: logs of jobs in which something failed.
        left: how many were not asked for: the targets end before the images.
    """

    name: str
    what: str
    folder: Path
    total: int | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    left: int = 0


def judge_cells(scope: Scope, design: Design, store: Store, is_over: bool = True) -> Outcome | None:
    """Returns how the cells of an experiment ended, or None where nothing was planned.

    Args:
        scope: scope that plans the experiment.
        design: its cells.
        store: where images are.
        is_over: whether all jobs that the targets need have ended well.
    """
    plan = read_record_or_none(ImagePlan, scope.folder / IMAGES)
    if plan is None:
        return _judge_items(scope, design.experiment, RESULTS / design.experiment, "item")
    manifests = _manifests(scope, MANIFESTS)
    images = {path.stem: found for path, found in manifests.items() if path.parent.name == MANIFESTS[-1]}
    failed = {key: why for manifest in images.values() for key, why in manifest.failures.items()}
    failures, keys, left = {}, set(), 0
    for cell in design.cells:
        entry = plan.cells.get(cell.cell)
        if entry is None or (entry.image is not None and is_complete_png(store.image(entry.image))):
            continue
        shard = plan.shard_of.get(entry.image or "")
        why = entry.error or failed.get(entry.image or "")
        if why is None:
            why = GONE if shard is None or shard in images else NOT_MADE
        if why == NOT_MADE and is_over:
            left += 1
            continue
        failures[cell.cell] = why
        keys |= {entry.image, entry.recipe}
    has_error = any(plan.cells[cell].error is not None for cell in failures)
    logs = [
        _log(scope, path)
        for path, manifest in manifests.items()
        if keys & manifest.failures.keys()
        or (has_error and manifest.failures and path.parent.name in MANIFESTS[:4])
    ]
    return Outcome(
        design.experiment,
        "cell",
        RESULTS / design.experiment,
        len(design.cells),
        failures,
        tuple(logs),
        left,
    )


def judge_analysis(scope: Scope, analysis: str) -> Outcome | None:
    """Returns how an analysis ended, or None where nothing was planned.

    Args:
        scope: scope of the analysis.
        analysis: its name.
    """
    return _judge_items(scope, f"analysis {analysis}", RESULTS / "statistics" / analysis, "part")


def judge_scores(scope: Scope, experiment: str) -> Outcome | None:
    """Returns which comparisons by scorers have failed, or None where none has.

    Args:
        scope: scope that plans the experiment.
        experiment: its name.
    """
    plan = read_record_or_none(ScoringPlan, scope.folder / SCORING_PLAN)
    own = set(plan.keys.get(experiment, ())) if plan is not None else set()
    manifests = _manifests(scope, [SCORES])
    failed = {
        path: {key: why for key, why in manifest.failures.items() if key in own}
        for path, manifest in manifests.items()
    }
    failures = {key: why for found in failed.values() for key, why in found.items()}
    if not failures:
        return None
    logs = tuple(_log(scope, path) for path, found in failed.items() if found)
    return Outcome(f"scores of {experiment}", "comparison", RESULTS / experiment, len(own), failures, logs)


def judge_maps(scope: Scope, maps: str) -> Outcome | None:
    """Returns how a file of maps ended, or None where nothing was planned.

    Args:
        scope: scope of the file.
        maps: name of the file.
    """
    return _judge_items(scope, f"maps {maps}", RESULTS / "maps" / maps, "part")


def _judge_items(scope: Scope, name: str, folder: Path, what: str) -> Outcome | None:
    manifests = _manifests(scope, MANIFESTS)
    failures = {key: why for manifest in manifests.values() for key, why in manifest.failures.items()}
    if not failures and scope.plan() is None:
        return None
    logs = tuple(_log(scope, path) for path, manifest in manifests.items() if manifest.failures)
    return Outcome(name, what, folder, None, failures, logs)


def _manifests(scope: Scope, stages: Iterable[str]) -> dict[Path, Manifest]:
    read = {
        path: read_record_or_none(Manifest, path)
        for stage in stages
        for path in sorted(scope.folder.glob(f"{stage}/*.json"))
    }
    return {path: manifest for path, manifest in read.items() if manifest is not None}


def _log(scope: Scope, manifest: Path) -> str:
    return f"logs/{LOGS[manifest.parent.name]}/{scope.name}/{manifest.stem}.log"


@dataclass(frozen=True)
class Verdict:
    """Last lines of a run.

    Attributes:
        outcomes: of each experiment and analysis of the targets.
        made: files that the jobs of this run have made.
        current: files of the targets that are there and up to date, these among them.
        failed_jobs: rule -> logs of its jobs that failed.
        log: file with everything that the run has said.
    """

    outcomes: Sequence[Outcome]
    made: Sequence[str]
    current: Sequence[str]
    failed_jobs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    log: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return not self.failed_jobs and not any(outcome.failures for outcome in self.outcomes)

    def lines(self) -> list[str]:
        """Returns what failed and why, or what was made; and where to look first."""
        if not self.outcomes and not self.failed_jobs and not self._reports():
            return []
        head = self._success() if self.is_good else self._failure()
        full = [f"  the whole log: {self.log}"] if self.log else []
        return [*head, *self._where_to_look(), *full]

    def _success(self) -> list[str]:
        names = _shortened([outcome.name for outcome in self.outcomes if outcome.total is not None])
        others = _shortened([outcome.name for outcome in self.outcomes if outcome.total is None])
        total = sum(outcome.total or 0 for outcome in self.outcomes)
        left = sum(outcome.left for outcome in self.outcomes)
        if left:
            done = f"{total - left} of {total} cells of {names} are done, the others were not asked for; "
        else:
            done = f"all {total} cells of {names} are done; " if total else ""
        done += f"nothing of {others} failed; " if others else ""
        # Plots of studies are not declared, so that they cannot be counted.
        return [f"graftwork: {done}{self._made()}" if self.outcomes else "graftwork: nothing failed"]

    def _failure(self) -> list[str]:
        bad = [outcome for outcome in self.outcomes if outcome.failures]
        lines = []
        if self.failed_jobs:
            jobs = _list(
                [f"{_count(len(logs), rule.replace('_', ' '))}" for rule, logs in self.failed_jobs.items()]
            )
            lines.append(f"graftwork: jobs failed: {jobs}; their errors are above")
            lines += _log_lines([log for logs in self.failed_jobs.values() for log in logs])
        for outcome in bad:
            failed = len(outcome.failures)
            counted = f"{failed} of " if outcome.total is not None else ""
            counted += _count(failed if outcome.total is None else outcome.total, outcome.what)
            lines.append(f"graftwork: {counted} of {outcome.name} failed:")
            reasons = Counter(outcome.failures.values()).most_common()
            lines += [f"  {count} x {' '.join(why.split())}" for why, count in reasons[:_MOST_REASONS]]
            if len(reasons) > _MOST_REASONS:
                lines.append(f"  and {len(reasons) - _MOST_REASONS} more reasons")
            table = (outcome.folder / "cells.csv").as_posix()
            if table in self.current:
                lines.append(f"  they have the status failed in {table}")
            lines += _log_lines(outcome.logs)
        lines.append(
            f"  {self._made()}; the next run tries again what failed, and nothing that is made is made again"
        )
        return lines

    def _made(self) -> str:
        images = 0
        for path in map(Path, self.made):
            if path.parent.name == MANIFESTS[-1] and path.suffix == ".json":
                manifest = read_record_or_none(Manifest, path)
                images += 0 if manifest is None else len(manifest.made)
        pages = sum(Path(path).parent.name == "grids" for path in self.made if path.endswith(".png"))
        folders = (Path(path) for path in self.made if Path(path).name == PLOTS_FOLDER)
        plots = sum(len(list(folder.glob("*.png"))) for folder in folders)
        parts = {"image": images, "grid page": pages, "plot": plots}
        said = [_count(count, what) for what, count in parts.items() if count]
        return f"this run made {_list(said)}" if said else "this run made no new image, grid or plot"

    def _where_to_look(self) -> list[str]:
        """Returns what there is to look at: of one experiment all of it, of several the first."""
        places = [found for outcome in self.outcomes if (found := self._places(outcome.folder.as_posix()))]
        if reports := self._reports():
            # They say what all the others come to.
            return [
                *_shown(reports, "look first at"),
                *_shown([found[0] for found in places], "then"),
            ]
        if len(places) == 1:
            first, *others = places[0]
            return [f"  look first at {first}", *(f"  then {place}" for place in others)]
        return _shown([found[0] for found in places], "look first at")

    def _reports(self) -> list[str]:
        """Returns the pages of studies that are there."""
        pages = (RESULTS / STUDIES / "*" / "report.html").as_posix()
        return [path for path in self.current if PurePath(path).match(pages)]

    def _places(self, folder: str) -> list[str]:
        files = ("summary.md", "report.html", "viewer", "grids", "plots", "export/index.csv", "cells.csv")
        return [
            f"{folder}/{name}/index.html" if name == "viewer" else f"{folder}/{name}"
            for name in files
            if any(
                path == f"{folder}/{name}" or path.startswith(f"{folder}/{name}/") for path in self.current
            )
        ]


def _shown(places: Sequence[str], said: str) -> list[str]:
    lines = [f"  {said} {place}" for place in places[:_MOST_NAMES]]
    return lines + [f"  and {len(places) - _MOST_NAMES} more in results/"] * (len(places) > _MOST_NAMES)


def _log_lines(logs: Sequence[str]) -> list[str]:
    logs = [log for log in logs if Path(log).is_file()]
    more = f", and {len(logs) - _MOST_LOGS} more beside them" if len(logs) > _MOST_LOGS else ""
    return [f"  log: {', '.join(logs[:_MOST_LOGS])}{more}"] if logs else []


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 or what.endswith("s") else f"{count} {what}s"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _list(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
