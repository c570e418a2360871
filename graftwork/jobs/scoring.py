"""Scoring: what a scorer says of a shard of comparisons, into the store."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.core.collector import importing
from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.parts import do_parts
from graftwork.jobs.planned import scores_as_planned
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.planning.shards import ComparisonToMake, ScorerComparisons, ScoringShard
from graftwork.scores.questions import TRUNCATED, VALUE
from graftwork.store.layout import Store
from graftwork.store.values import Values, ValueWriter, read_values

if TYPE_CHECKING:
    from graftwork.models.scorer import Looked, Scorer

# Values that are written at once: what a job that is killed may lose.
_BATCH = 16


def measure_images(shard: ScoringShard, store: Store, log: logging.Logger) -> JobRecord:
    """Asks the scorers what the store does not know of the shard, one after the other.

    The store is asked before torch is imported. A comparison that fails (an image that cannot be read or has changed, a value
    that is not finite) is recorded, and the others go on. So do the other scorers where one cannot be loaded.

    Raises:
        ChangedSincePlanning: where code or scorer are others now than when the shard was planned.
    """
    record, known = JobRecord(log), read_values(store.values)
    record.found = [item.key for item in shard.comparisons if item.key in known]
    unknown = (
        replace(part, comparisons=tuple(item for item in part.comparisons if item.key not in known))
        for part in shard.parts
    )
    pending = [part for part in unknown if part.comparisons]
    if not pending:
        return record
    progress = Progress("comparisons made", sum(len(part.comparisons) for part in pending))
    do_parts(pending, lambda part: _ask(part, shard.hardware, store, record, progress, log), log)
    progress.end(len(record.failures))
    return record


def _ask(
    part: ScorerComparisons,
    hardware: Mapping[str, Any],
    store: Store,
    record: JobRecord,
    progress: Progress,
    log: logging.Logger,
) -> None:
    planned = scores_as_planned(part, store)
    planned.require()

    with importing():
        from graftwork.models.hardware import configure_torch
        from graftwork.models.loading import load_scorer

    take_device(hardware, log)
    with blaming_settings(log):
        configure_torch(hardware)
    log.info("loading scorer %s for %s comparisons", part.scorer.name, len(part.comparisons))
    scorer = load_scorer(part.scorer.name, part.scorer.entry, hardware)
    planned.require()
    writer = ValueWriter(store.values)
    for start in range(0, len(part.comparisons), _BATCH):
        planned.require()
        batch = part.comparisons[start : start + _BATCH]
        made: dict[str, Values] = {}
        for item in batch:
            try:
                made[item.key] = _measure(scorer, item)
            except Exception as error:  # one comparison's failure is that comparison's result
                record.fail(item.key, error)
        writer.add(made)
        record.made += made
        progress.advance(len(batch))


def _measure(scorer: "Scorer", item: ComparisonToMake) -> Values:
    made = item.comparison
    image = _look(item.path, made.image)
    other = None
    if item.other is not None and made.other is not None:
        other = _look(item.other, made.other)
    measured = scorer.measure(made.quantity, image, made.text, other)
    return {VALUE: measured.value, **({TRUNCATED: 1} if measured.is_truncated else {})}


def _look(path: str, sha256: str) -> "Looked":
    from graftwork.models.images import load_reference_image
    from graftwork.models.scorer import Looked

    # The key names the content that was planned for.
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
        raise ValueError(f"{path} has changed since this run was planned; the next run looks at it again")
    return Looked(sha256, load_reference_image(path))
