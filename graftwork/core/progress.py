"""Progress of a job: lines in its log, and every few seconds one on the terminal."""

import logging
import sys
import time

OUTSIDE_DIGESTS = "reports progress"

_log = logging.getLogger("graftwork")


class Progress:
    """Counts finished items and estimates the remaining time."""

    def __init__(self, what: str, total: int, terminal_seconds: float = 10.0):
        self._what = what
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._shown = self._start
        self._terminal_seconds = terminal_seconds

    def advance(self, items: int = 1) -> None:
        """Records that `items` more items are finished."""
        self._done += items
        now = time.monotonic()
        elapsed = now - self._start
        left = elapsed / self._done * (self._total - self._done) if self._done else 0.0
        line = f"{self._done} of {self._total} {self._what}, {format_seconds(elapsed)} gone"
        if self._done < self._total:
            line += f", about {format_seconds(left)} left"
        _log.info(line)
        if now - self._shown >= self._terminal_seconds or self._done >= self._total:
            self._shown = now
            print(line, file=sys.stderr, flush=True)


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
