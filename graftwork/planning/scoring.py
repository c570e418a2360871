"""What scorers have not said yet of a scope's images, and the shards in which they are asked."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from graftwork.core.cells import Cell
from graftwork.core.identity import digest
from graftwork.core.png import is_complete_png
from graftwork.core.records import ALWAYS, record_digest, record_form, to_json
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware, Sharding
from graftwork.planning.plan import ImagePlan
from graftwork.planning.shards import (
    ComparisonToMake,
    ModelToLoad,
    ScorerComparisons,
    ScoringShard,
    share_jobs,
    split_evenly,
    write_shard,
)
from graftwork.scores.questions import Answers, ChosenScorer, Scoring, comparisons
from graftwork.scores.registry import CellToScore, scores
from graftwork.scores.table import cell_to_score, sha256_of
from graftwork.store.layout import Store
from graftwork.store.records import Arithmetic
from graftwork.store.values import Comparison, compact_values, read_values

# Stage: the folder of its manifests in results/plan/{scope}.
SCORES = "scores"
SCORING_PLAN = "scores.json"


@dataclass(frozen=True)
class ScoringPlan:
    """What scorers are asked in a scope.

    Attributes:
        digest: stands for what is asked, hardware settings and code.
        shards: names of shards.
        keys: experiment -> keys of all comparisons that its scores need, done or not.
        shard_of: key of a missing comparison -> shard.
    """

    digest: str = ""
    shards: tuple[str, ...] = field(default_factory=tuple, metadata=ALWAYS)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=ALWAYS)
    shard_of: Mapping[str, str] = field(default_factory=dict, metadata=ALWAYS)


def arithmetic_of(hardware: Hardware) -> Arithmetic:
    """Returns the settings of `hardware.scoring` that change low bits of a value."""
    own = hardware.scoring
    return Arithmetic(own.dtype, own.device, own.cpu_threads if own.device == "cpu" else None)


def read_answers(scoring: Scoring, hardware: Hardware, store: Store, failures: Mapping[str, str]) -> Answers:
    """Returns what scorers said, from the store.

    Args:
        scoring: what an experiment asks.
        hardware: of config.yaml.
        store: where values are.
        failures: key of a comparison -> why it failed.
    """
    return Answers(scoring, arithmetic_of(hardware), read_values(store.values), failures)


def scoring_digest(asked: Mapping[str, Scoring], hardware: Hardware) -> str:
    """Returns what stands for a plan of scoring.

    Args:
        asked: experiment -> what it asks.
        hardware: of config.yaml.
    """
    chosen = {one.identity: one.code for scoring in asked.values() for one in scoring.scorers.values()}
    forms = [record_form(record) for record in (ScoringPlan, ScoringShard, Comparison)]
    return digest([to_json(asked), to_json(arithmetic_of(hardware)), chosen, forms])


@dataclass(frozen=True)
class _Wanted:
    """A comparison that is not known.

    Attributes:
        comparison: what is compared.
        scorer: by which scorer.
        path: where the image is.
        other: where the other image is; None where the image is compared with a text.
    """

    comparison: Comparison
    scorer: ChosenScorer
    path: str
    other: str | None


def plan_scoring(
    designs: Sequence[Design],
    asked: Mapping[str, Scoring],
    images: ImagePlan,
    hardware: Hardware,
    sharding: Sharding,
    store: Store,
) -> ScoringPlan:
    """Plans what scorers are asked, and freezes the shards.

    Args:
        designs: designs of the scope.
        asked: experiment -> what it asks.
        images: plan of their images.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where everything is kept.
    """
    compact_values(store.values)
    known, read = read_values(store.values), cache(sha256_of)
    keys: dict[str, tuple[str, ...]] = {}
    missing: dict[str, _Wanted] = {}
    for design in designs:
        wanted = _wanted(design, asked[design.experiment], images, arithmetic_of(hardware), (store, read))
        keys[design.experiment] = tuple(wanted)
        missing |= {key: one for key, one in wanted.items() if key not in known}
    by_scorer: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, one in missing.items():
        by_scorer[one.scorer.identity][one.comparison.image].append(key)
    parts = []
    for _, by_image in sorted(by_scorer.items()):
        # What is asked about one image stands side by side: it is read and embedded once.
        groups = [keys_of for _, keys_of in sorted(by_image.items())]
        for names in split_evenly(groups, hardware.gpus, sharding.min_images_per_shard):
            scorer = missing[names[0]].scorer
            asked_of_it = tuple(
                ComparisonToMake(key, missing[key].comparison, missing[key].path, missing[key].other)
                for key in names
            )
            parts.append(ScorerComparisons(ModelToLoad(scorer.name, scorer.entry), asked_of_it))
    settings = hardware.scoring.model_dump()
    shards, shard_of = [], {}
    for shared in share_jobs(parts, hardware.gpus):
        shard = ScoringShard(settings, shared)
        names = [item.key for item in shard.comparisons]
        shards.append(write_shard(store.shards, names, shard))
        shard_of |= dict.fromkeys(names, shards[-1])
    return ScoringPlan(scoring_digest(asked, hardware), tuple(sorted(shards)), keys, shard_of)


def _wanted(
    design: Design,
    scoring: Scoring,
    images: ImagePlan,
    arithmetic: Arithmetic,
    places: tuple[Store, Callable[[Path], str]],
) -> dict[str, _Wanted]:
    """Returns key -> comparison of all that an experiment asks of the images that there are."""
    store, read = places
    paths = {cell: _path(images, cell, store) for cell in (one.cell for one in design.cells)}
    found: dict[str, _Wanted] = {}
    for cell in design.cells if scoring.scores else ():
        seen = _as_seen(cell, design, paths)
        if seen.image is None:
            continue
        others = {**design.references, read(seen.image): seen.image.as_posix()}
        if seen.baseline is not None:
            others[read(seen.baseline)] = seen.baseline.as_posix()
        for name in scoring.scores:
            for question in scores()[name].questions:
                for one in comparisons(question, seen, scoring, arithmetic, read):
                    other = others[one.other] if one.other is not None else None
                    scorer = scoring.scorers[question.role]
                    found.setdefault(record_digest(one), _Wanted(one, scorer, others[one.image], other))
    return found


def _as_seen(cell: Cell, design: Design, paths: Mapping[str, str | None]) -> CellToScore:
    return cell_to_score(cell, paths[cell.cell], paths.get(design.baselines.get(cell.cell, "")), Path())


def _path(images: ImagePlan, cell: str, store: Store) -> str | None:
    entry = images.cells.get(cell)
    if entry is None or entry.image is None:
        return None
    path = store.image(entry.image)
    return path.as_posix() if is_complete_png(path) else None
