"""Progress of a job: lines in its log, from which whoever watches the run reads how far it is."""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OUTSIDE_DIGESTS = "reports progress"

_log = logging.getLogger("graftwork")


# Bytes at the end of a log that are searched for its last line of progress.
_TAIL = 4096
_LINE = re.compile(r"(\d+) of (\d+) (.+?), [^,\n]+ gone(?:, (\d+) failed)?")


@dataclass(frozen=True)
class Done:
    """How far a job is.

    Attributes:
        done: items that are finished.
        total: items of the job.
        what: what they are.
        failed: items that failed, where the job has ended; they are not among those that are done.
    """

    done: int
    total: int
    what: str
    failed: int = 0


class Progress:
    """Counts finished items and estimates the remaining time."""

    def __init__(self, what: str, total: int):
        self._what = what
        self._total = total
        self._done = 0
        self._start = time.monotonic()

    def advance(self, items: int = 1) -> None:
        """Records that `items` more items are finished."""
        self._done += items
        elapsed = time.monotonic() - self._start
        left = elapsed / self._done * (self._total - self._done) if self._done else 0.0
        line = f"{self._done} of {self._total} {self._what}, {format_seconds(elapsed)} gone"
        if self._done < self._total:
            line += f", about {format_seconds(left)} left"
        _log.info(line)

    def end(self, failed: int) -> None:
        """Corrects the count when it is known how many of the items failed.

        Args:
            failed: items that failed.
        """
        if failed:
            elapsed = format_seconds(time.monotonic() - self._start)
            _log.info(f"{self._done - failed} of {self._total} {self._what}, {elapsed} gone, {failed} failed")


def read_progress(logs: Sequence[str]) -> Done | None:
    """Returns how far a job is by the last line of progress in its logs; None where there is none yet.

    Args:
        logs: paths of its logs.
    """
    for path in map(Path, logs):
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL))
                found = _LINE.findall(file.read().decode("utf-8", "replace"))
        except OSError:  # The job has not opened it yet.
            continue
        if found:
            done, total, what, failed = found[-1]
            return Done(int(done), int(total), what, int(failed or 0))
    return None


def format_seconds(seconds: float) -> str:
    """Returns a duration as text: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def format_bytes(count: float) -> str:
    """Returns a size in powers of 1000, as `df -H` does."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
