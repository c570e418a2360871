"""The terminal during a run: one line a stage with what is done, its rate and the time left.

A handler of log records. It knows the workflow manager's events by the names that they have in its records, and passes
on what is no progress: errors, warnings, and every message that it does not know. The lines move on a terminal; in
pipes, batch jobs and continuous integration each stage is one plain line when it is done, and one a minute before.
"""

import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from graftwork.core.progress import Done, format_seconds, read_progress

# Events and messages of which the lines of the stages say all that a reader needs.
_TOLD = {
    "run_info",
    "workflow_started",
    "resources_info",
    "shellcmd",
    "job_started",
    "group_info",
    "rulegraph",
}
_NOISE = re.compile(
    r"(Assuming unrestricted shared filesystem|host: |Building DAG of jobs|Using shell: |Provided |Rules claiming more "
    r"threads|Select jobs to execute|DAG of jobs will be updated|Updating checkpoint dep|Singularity containers: ignored"
    r"|Group jobs: inactive|Conda environments: ignored|Complete log\(s\): |Elapsed time: |Touching output file)"
)
# Escape sequences and other control characters, which a prompt or a file name can bring along.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ERASE_BELOW = "\x1b[J"
_SECONDS_MOVING, _SECONDS_PLAIN, _SECONDS_COUNTING = 0.5, 60.0, 1.0


def harmless(text: str) -> str:
    """Returns text without control characters other than line breaks and tabs; they are shown as codes."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


@dataclass
class Stage:
    """The jobs of one rule.

    Attributes:
        name: what it is called.
        start: when its first job started.
        end: when its last job so far ended.
        total: jobs that are known of.
        done: jobs that ended well.
        failed: jobs that failed, and were not tried again since.
        running: job -> its logs.
        left: log -> its state when the job started, when it still told of an earlier one.
        items: job -> how far it is.
        shown: done and failed jobs when its plain line was written.
    """

    name: str
    start: float
    end: float = 0.0
    total: int = 0
    done: int = 0
    failed: set[int] = field(default_factory=set)
    running: dict[int, list[str]] = field(default_factory=dict)
    left: dict[str, tuple[int, int]] = field(default_factory=dict)
    items: dict[int, Done] = field(default_factory=dict)
    shown: tuple[int, int] = (0, 0)

    @property
    def over(self) -> int:
        """How many jobs have ended."""
        return self.done + len(self.failed)

    @property
    def is_over(self) -> bool:
        """Whether all jobs that are known of have ended."""
        return not self.running and self.over >= self.total

    def begin(self, job: int, logs: Sequence[str]) -> None:
        """Counts a job as running.

        Args:
            job: its number.
            logs: its logs.
        """
        self.running[job] = list(logs)
        self.left.update({log: _state(log) for log in logs})
        self.items.pop(job, None)
        self.failed.discard(job)

    def read(self, job: int) -> None:
        """Reads how far a job is."""
        found = read_progress([log for log in self.running.get(job, []) if self.left[log] != _state(log)])
        if found is not None:
            self.items[job] = found

    def line(self, now: float) -> str:
        """Returns the line: jobs, items, rate, and the time that is left or was taken.

        Args:
            now: the time, by the clock that `start` is of.
        """
        total = max(self.total, self.over + len(self.running))
        done, planned, what, failed = self._counted()
        elapsed = (self.end if self.is_over else now) - self.start
        parts = [f"{len(self.failed)} FAILED"] if self.failed else []
        if total > 1:
            parts.append(f"{self.done} of {total} jobs")
        if what:
            parts.append(f"{done} of {planned} {what}" + (f", {failed} failed" if failed else ""))
        if done and elapsed >= 1 and (what or total > 1):
            parts.append(_rate(done / elapsed))
        if self.is_over:
            parts.append(f"{'' if self.failed else 'done '}in {format_seconds(elapsed)}")
        elif (fraction := self._fraction(total)) > 0:
            parts.append(f"about {format_seconds(elapsed / fraction * (1 - fraction))} left")
        else:
            parts.append(f"{format_seconds(elapsed)} gone" if self.running else "waiting")
        return f"{self.name:<24} {', '.join(parts)}"

    def _counted(self) -> tuple[int, int, str, int]:
        """Returns items of the jobs that have started: done, planned, what they are, failed; jobs where none are counted."""
        if not self.items:
            return self.over, 0, "", 0
        what = next(reversed(self.items.values())).what
        alike = [item for item in self.items.values() if item.what == what]
        done, planned, failed = (sum(getattr(item, n) for item in alike) for n in ("done", "total", "failed"))
        return done, planned, what, failed

    def _fraction(self, total: int) -> float:
        running = [self.items[job] for job in self.running if job in self.items]
        return (self.over + sum(item.done / max(item.total, 1) for item in running)) / max(total, 1)


def _state(log: str) -> tuple[int, int]:
    """Returns what changes when a log is written."""
    try:
        status = os.stat(log)
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:.1f}/s"
    per_minute = per_second * 60
    return f"{per_minute:.1f}/min" if per_minute >= 1 else f"{per_minute * 60:.1f}/h"


class StageLines(logging.Handler):
    """Writes one line a stage."""

    def __init__(
        self, stream: TextIO, count_jobs: Callable[[], Mapping[str, int]], is_moving: bool | None = None
    ):
        """Starts the thread that brings the lines up to date.

        Args:
            stream: where it writes.
            count_jobs: returns rule -> jobs that the run needs, as far as they are known. It is called while a record
                is handled, in the thread that logs.
            is_moving: whether the lines move; None looks at the stream.
        """
        super().__init__()
        self._stream, self._count_jobs = stream, count_jobs
        self._is_moving = is_terminal(stream) if is_moving is None else is_moving
        self._stages: dict[str, Stage] = {}
        self._rules: dict[int, str] = {}
        self._counted, self._written = 0.0, time.monotonic()
        self._has_lines = self._is_finished = False
        self._stop = threading.Event()
        self._pipe = self._capture() if is_moving is None and self._is_moving else None
        self._ticker = threading.Thread(target=self._tick, name="stage lines", daemon=True)
        self._ticker.start()

    def _capture(self) -> "_Pipe":
        """Lets what jobs write to the terminal through, above the lines; left alone, it would be written over."""
        pipe = _Pipe([file.fileno() for file in (sys.stdout, sys.stderr) if file.isatty()], self._wrote)
        self._stream = pipe.terminal
        return pipe

    def _wrote(self, text: bytes) -> None:
        with self.lock:
            self._erase()
            self._stream.write(harmless(text.decode("utf-8", "backslashreplace").replace("\r\n", "\n")))
            self._stream.flush()
            self._show()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record into the lines, or writes it."""
        try:
            self._take(record)
        except Exception:  # logging reports it, and the run goes on
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", None) or "")
        if event == "job_info":
            # Rules with neither output nor log only name what is to be made.
            if (record.output or record.log) and not self._is_finished:
                self._started(record)
        elif event == "job_finished":
            self._ended(record.job_id, is_good=True)
        elif event == "progress":
            self._count()
        elif event in _TOLD:
            return
        else:
            if event == "job_error":
                self._ended(record.jobid, is_good=False)
            self._pass_on(record, event)
        self._show()

    def _started(self, record: logging.LogRecord) -> None:
        rule, now = record.rule_name, time.monotonic()
        stage = self._stages.setdefault(rule, Stage(rule.replace("_", " "), now))
        stage.begin(record.jobid, record.log or ())
        self._rules[record.jobid] = rule
        self._count()

    def _ended(self, job: int, is_good: bool) -> None:
        stage = self._stages.get(self._rules.pop(job, ""))
        if stage is None:
            return
        stage.read(job)
        stage.running.pop(job, None)
        stage.done += is_good
        if not is_good:
            stage.failed.add(job)
        stage.end = time.monotonic()

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted < _SECONDS_COUNTING and all(stage.total for stage in self._stages.values()):
            return
        self._counted = now
        totals = self._count_jobs()
        for rule, stage in self._stages.items():
            stage.total = totals.get(rule, 0)

    def _pass_on(self, record: logging.LogRecord, event: str) -> None:
        if event == "" and record.levelno < logging.WARNING and _NOISE.match(str(record.msg)):
            return
        text = self.format(record)
        if text and text != "None":
            self._erase()
            self._stream.write(harmless(text) + "\n")
            self._stream.flush()

    # What follows writes, and is called with the handler's lock held.

    def _show(self) -> None:
        now = time.monotonic()
        if self._is_finished:
            return
        if self._is_moving:
            self._erase()
            self._draw(now)
            return
        for stage in self._stages.values():
            over = (stage.done, len(stage.failed))
            if stage.is_over and stage.total and stage.shown != over:
                stage.shown = over
                self._stream.write(stage.line(now) + "\n")
                self._written = now
        if now - self._written >= _SECONDS_PLAIN:
            self._written = now
            running = [stage for stage in self._stages.values() if stage.running]
            self._stream.write("".join(f"{stage.line(now)}\n" for stage in running))
        self._stream.flush()

    def _erase(self) -> None:
        """Removes the lines. The cursor rests above them, so that what jobs write stays and the lines go under it."""
        if self._has_lines:
            self._stream.write(_ERASE_BELOW)
            self._has_lines = False

    def _draw(self, now: float) -> None:
        size = shutil.get_terminal_size()
        lines = [stage.line(now)[: size.columns - 1] for stage in self._stages.values()][-(size.lines - 2) :]
        if lines:
            self._stream.write("\n".join(lines) + f"\r\x1b[{len(lines) - 1}A" * (len(lines) > 1) + "\r")
            self._has_lines = True
        self._stream.flush()

    def _tick(self) -> None:
        while not self._stop.wait(_SECONDS_MOVING):
            with self.lock:
                for stage in self._stages.values():
                    for job in list(stage.running):
                        stage.read(job)
                self._show()

    def finish(self) -> None:
        """Writes the lines for the last time; what comes after stands below them."""
        with self.lock:
            if self._is_finished:
                return
            self._stop.set()
            now = time.monotonic()
            if self._is_moving:
                self._erase()
            left = [
                stage
                for stage in self._stages.values()
                if self._is_moving or stage.shown != (stage.done, len(stage.failed)) or stage.running
            ]
            self._stream.write("".join(f"{stage.line(now)}\n" for stage in left))
            self._stream.flush()
            self._is_finished = True
        if self._pipe is not None:
            self._pipe.close()

    def close(self) -> None:
        """Ends the lines."""
        self.finish()
        super().close()


class _Pipe:
    """Takes what this process and its children write to the terminal, line by line.

    Attributes:
        terminal: stream that reaches the terminal itself.
    """

    def __init__(self, descriptors: Sequence[int], wrote: Callable[[bytes], None]):
        """Redirects.

        Args:
            descriptors: standard output and standard error, as far as they are the terminal.
            wrote: takes lines.
        """
        self._saved = {descriptor: os.dup(descriptor) for descriptor in descriptors}
        self.terminal = os.fdopen(os.dup(descriptors[-1]), "w", encoding="utf-8", errors="backslashreplace")
        self._wrote = wrote
        self._end, self._begin = os.pipe()
        for descriptor in descriptors:
            os.dup2(self._begin, descriptor)
        self._mark = os.urandom(16).hex().encode() + b"\n"
        self._is_drained = threading.Event()
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Reads to the end, also after the mark: no job that still runs writes to a pipe that nobody reads."""
        rest = b""
        while text := os.read(self._end, 65536):
            lines, newline, rest = (rest + text).rpartition(b"\n")
            lines += newline
            if self._mark in lines:
                before, _, after = lines.partition(self._mark)
                self._wrote(before + (b"" if before.endswith(b"\n") or not before else b"\n") + after)
                self._is_drained.set()
            elif lines:
                self._wrote(lines)
        if rest:
            self._wrote(rest + b"\n")

    def close(self) -> None:
        """Gives the terminal back, after what was written before."""
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in self._saved.items():
            os.dup2(saved, descriptor)
            os.close(saved)
        os.write(self._begin, self._mark)
        os.close(self._begin)
        self._is_drained.wait(timeout=2.0)


def is_terminal(stream: TextIO) -> bool:
    """Returns whether lines can be moved where a stream goes."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
