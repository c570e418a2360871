"""Scoring: what a scorer says of a shard of comparisons, into the store."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.planned import scores_as_planned
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.planning.shards import ComparisonToMake, ScoringShard
from graftwork.scores.questions import TRUNCATED, VALUE
from graftwork.store.layout import Store
from graftwork.store.values import Values, ValueWriter, read_values

if TYPE_CHECKING:
    from graftwork.models.scorer import Looked, Scorer

# Values that are written at once: what a job that is killed may lose.
_BATCH = 16


def measure_images(shard: ScoringShard, store: Store, log: logging.Logger) -> JobRecord:
    """Asks the scorer what the store does not know of the shard.

    The store is asked before torch is imported. A comparison that fails (an image that cannot be read or has changed, a value
    that is not finite) is recorded, and the others go on.

    Raises:
        ChangedSincePlanning: where code or scorer are others now than when the shard was planned.
    """
    record, known = JobRecord(log), read_values(store.values)
    pending = [item for item in shard.comparisons if item.key not in known]
    record.found = [item.key for item in shard.comparisons if item.key in known]
    if not pending:
        return record
    planned = scores_as_planned(shard, store)
    planned.require()

    from graftwork.models.hardware import configure_torch
    from graftwork.models.loading import load_scorer

    take_device(shard.hardware, log)
    with blaming_settings(log):
        configure_torch(shard.hardware)
    log.info("loading scorer %s for %s comparisons", shard.scorer.name, len(pending))
    scorer = load_scorer(shard.scorer.name, shard.scorer.entry, shard.hardware)
    planned.require()
    progress, writer = Progress("comparisons made", len(pending)), ValueWriter(store.values)
    for start in range(0, len(pending), _BATCH):
        planned.require()
        batch = pending[start : start + _BATCH]
        made: dict[str, Values] = {}
        for item in batch:
            try:
                made[item.key] = _measure(scorer, item)
            except Exception as error:  # one comparison's failure is that comparison's result
                record.fail(item.key, error)
        writer.add(made)
        record.made += made
        progress.advance(len(batch))
    progress.end(len(record.failures))
    return record


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
