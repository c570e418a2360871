"""Files of the store: how much they take, which experiments, analyses and maps use them, and which none of them does.

An experiment uses what a run of it with the settings of config/config.yaml would read or make. With other settings of
hardware that are part of keys (see docs/architecture.md), or another `family`, it uses other files.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from graftwork.core.atomic import remove_file
from graftwork.core.errors import DesignError
from graftwork.core.progress import format_bytes
from graftwork.core.records import read_record_or_none
from graftwork.design.cells import Design
from graftwork.design.maps import MapsDesign
from graftwork.design.project import Project
from graftwork.design.settings import Hardware
from graftwork.planning.analyses import StatisticsPlan, resolve_analysis
from graftwork.planning.captions import needed_captions
from graftwork.planning.inputs import maps_of, statistics_of
from graftwork.planning.keys import Keys, NeededMap, NeededStatistics
from graftwork.planning.maps import MapsPlan, MapsScope, resolve_maps
from graftwork.planning.plan import (
    ConditioningPlan,
    ImagePlan,
    MergedDesigns,
    resolve_images,
    states_of_cells,
)
from graftwork.planning.scoring import SCORING_PLAN, ScoringPlan
from graftwork.store.layout import Store

D = TypeVar("D")

# Folder of the store -> what it holds, in the order of the report. Files of `KEPT` are never unused: they are small, and
# say of all other files what is known of them.
FOLDERS = {
    "hidden_states": "hidden states",
    "statistics": "statistics",
    "maps": "fitted maps",
    "captions": "captions",
    "conditioning": "conditioning",
    "images": "images",
    "thumbnails": "thumbnails",
    "shards": "frozen shards",
    "values": "values of scores",
    "recipes": "table of recipes",
    "facts": "facts",
}
KEPT = ("values", "recipes", "facts")
PLANS = {
    "conditioning.json": ConditioningPlan,
    "images.json": ImagePlan,
    "statistics.json": StatisticsPlan,
    MapsScope.plan_name: MapsPlan,
    SCORING_PLAN: ScoringPlan,
}
# Fields of plans that name shards.
_SHARDS = ("extraction", "statistics", "maps", "conditioning", "shards")


@dataclass(frozen=True)
class StoreUse:
    """Files of the store, and what uses them.

    Attributes:
        files: path -> bytes.
        users: path -> names of the experiments, analyses and files of maps that use it.
        unread: experiment, analysis or file of maps -> why it cannot be read, and so what it uses is not known.
    """

    files: Mapping[Path, int] = field(default_factory=dict)
    users: Mapping[Path, frozenset[str]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    def unused(self) -> list[Path]:
        """Returns the files that nothing uses, in order."""
        return [path for path in self.files if path not in self.users]

    def size(self, paths: Iterable[Path]) -> int:
        """Returns how many bytes files take together."""
        return sum(self.files[path] for path in paths)


def find_use(project: Project, store: Store, plans: Path) -> StoreUse:
    """Returns what experiments, analyses and files of maps of a project use, those that the default target leaves out too.

    Args:
        project: settings, experiments, analyses and files of maps.
        store: nothing in it is changed.
        plans: results/plan; shards that a plan names are in use.
    """
    files = dict(sorted(_files(store)))
    users: dict[Path, set[str]] = defaultdict(set)
    unread: dict[str, str] = {}
    for name, path in _uses(project, store, unread):
        users[path].add(name)
    for scope, shard in _planned_shards(plans):
        for folder in (store.shards, store.recipes_of_shards):
            users[folder / f"{shard}.json"].add(scope)
    for path in files:
        if path.relative_to(store.root).parts[0] in KEPT:
            users[path].add("the store")
    known = {path: frozenset(names) for path, names in users.items() if path in files}
    return StoreUse(files, known, unread)


def _uses(project: Project, store: Store, unread: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Yields (user, file that it uses), and notes in `unread` whose files cannot be read."""
    hardware = project.settings.hardware
    for name, design in _readable(project.experiment_names(), project.design, unread):
        for path in _of_experiment(design, hardware, store):
            yield name, path
    for name, analysis in _readable(project.analysis_names(), project.analysis, unread):
        keys = Keys(analysis.models, hardware, analysis.corpora)
        for path in _of_fitted(resolve_analysis(analysis, keys)[1], store.statistics, store):
            yield f"statistics/{name}", path
    for name, maps in _readable(project.maps.names(), project.maps.read, unread):
        for path in _of_maps(maps, hardware, store):
            yield f"maps/{name}", path


def _readable(
    names: Iterable[str], read: Callable[[str], D], unread: dict[str, str]
) -> Iterator[tuple[str, D]]:
    """Yields (name, design), and notes in `unread` why the others cannot be read."""
    for name in names:
        try:
            yield name, read(name)
        except DesignError as error:
            unread[name] = str(error)


def _files(store: Store) -> Iterator[tuple[Path, int]]:
    """Yields (file, bytes) of the folders that jobs write; locks and files under temporary names are left out."""
    for kind in FOLDERS:
        for folder, _, names in os.walk(store.root / kind):
            for name in names:
                if not name.endswith(".lock") and ".tmp-" not in name:
                    path = Path(folder, name)
                    yield path, path.lstat().st_size


def _of_experiment(design: Design, hardware: Hardware, store: Store) -> Iterator[Path]:
    merged = MergedDesigns.of([design])
    # With the store: what a control of the kind `words` uses is known once its words are.
    keys = merged.keys(hardware, store)
    yield from _of_fitted(statistics_of(merged.cells.values(), keys), store.statistics, store)
    yield from _of_fitted(maps_of(merged.cells.values(), keys), store.map, store)
    yield from map(store.caption, needed_captions([design], hardware))
    for need in states_of_cells(merged.cells.values(), keys):
        yield store.hidden_states(need.key)
    images = [sha256[:32] for sha256 in design.references]
    for entry in resolve_images([design], hardware, store).values():
        if entry.report is not None:
            yield store.conditioning(entry.report.conditioning)
            yield store.image(entry.image)
            images.append(entry.image)
    for key in images:
        for ending in ("webp", "json"):
            yield store.root / "thumbnails" / key[:2] / f"{key}.{ending}"


def _of_fitted(
    needed: Mapping[str, NeededStatistics] | Mapping[str, NeededMap],
    file: Callable[[str], Path],
    store: Store,
) -> Iterator[Path]:
    """Yields the files of statistics or maps, given the file of a key, and of the states that they come from."""
    for key, one in needed.items():
        path = file(key)
        yield from (path, path.with_suffix(".json"))
        for need in one.inputs:
            yield store.hidden_states(need.key)


def _of_maps(design: MapsDesign, hardware: Hardware, store: Store) -> Iterator[Path]:
    """Yields what the study of a file of maps uses; maps without one are used by the experiments that name them."""
    if design.study is None:
        return
    resolved = resolve_maps(design, hardware)
    yield from _of_fitted(resolved.maps, store.map, store)
    for need in resolved.inputs:
        yield store.hidden_states(need.key)


def _planned_shards(plans: Path) -> Iterator[tuple[str, str]]:
    """Yields (scope, shard) of the shards that plans name."""
    for path in sorted(plans.glob("*/*.json")):
        plan = read_record_or_none(PLANS[path.name], path) if path.name in PLANS else None
        for field_name in _SHARDS:
            for shard in getattr(plan, field_name, ()):
                yield path.parent.name, shard


def report_lines(use: StoreUse, store: Store) -> list[str]:
    """Returns the report: kinds of files, then experiments and analyses, as columns."""
    by_kind: dict[str, list[Path]] = {kind: [] for kind in FOLDERS}
    for path in use.files:
        by_kind[path.relative_to(store.root).parts[0]].append(path)
    rows = [("kind", "files", "size", "unused")]
    for kind, paths in by_kind.items():
        if paths:
            unused = use.size(path for path in paths if path not in use.users)
            rows.append((FOLDERS[kind], str(len(paths)), format_bytes(use.size(paths)), _or_none(unused)))
    of_user: dict[str, list[Path]] = defaultdict(list)
    for path, names in use.users.items():
        if path.relative_to(store.root).parts[0] not in (*KEPT, "shards"):
            for name in names:
                of_user[name].append(path)
    uses = [("experiment, analysis or maps", "files", "uses", "alone")]
    for name, paths in sorted(of_user.items(), key=lambda item: (-use.size(item[1]), item[0])):
        alone = use.size(path for path in paths if len(use.users[path]) == 1)
        uses.append((name, str(len(paths)), format_bytes(use.size(paths)), _or_none(alone)))
    total = f"{store.root}: {format_bytes(use.size(use.files))} in {len(use.files)} files"
    tables = [line for table in (rows, uses) if len(table) > 1 for line in ("", *_columns(table))]
    return [total, *tables, *_unread_lines(use)]


def collect_lines(use: StoreUse, store: Store) -> list[str]:
    """Returns what `collect` would remove, by kind, and why it would not."""
    unused = use.unused()
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for path in unused:
        by_kind[path.relative_to(store.root).parts[0]].append(path)
    return [
        f"{len(unused)} of {len(use.files)} files in {store.root} ({format_bytes(use.size(unused))}) are used by no "
        "experiment, no analysis and no file of maps",
        *(
            f"  {len(paths)} of {FOLDERS[kind]}, {format_bytes(use.size(paths))}"
            for kind, paths in by_kind.items()
        ),
        *_unread_lines(use),
    ]


def why_not_collect(use: StoreUse, store: Store) -> str | None:
    """Says why nothing may be removed, or returns None."""
    if use.unread:
        return f"nothing was removed: what {', '.join(use.unread)} uses is not known; mend the file, or remove it"
    if store.root.is_symlink():
        return (
            f"nothing was removed: {store.root} is a link, and other checkouts may use the same store; run gc in the "
            f"folder that it leads to ({store.root.resolve()}), with the experiments of all of them in its "
            "config/experiments/"
        )
    return None


def collect(use: StoreUse) -> list[Path]:
    """Removes the files that nothing uses, and returns them."""
    unused = use.unused()
    for path in unused:
        remove_file(path)
    return unused


def _unread_lines(use: StoreUse) -> list[str]:
    return [f"  {name} cannot be read: {why}" for name, why in use.unread.items()]


def _or_none(size: int) -> str:
    return format_bytes(size) if size else "-"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Returns rows as lines, the first column aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
