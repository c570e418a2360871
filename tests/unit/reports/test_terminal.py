"""One line a stage, fed with records as the workflow manager writes them; and nothing that matters is lost."""

import io
import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.reports import terminal as module
from graftwork.reports.terminal import Stage, StageLines, harmless


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


class Run:
    """A handler without its thread, and what it has written."""

    def __init__(self, is_moving=False, **totals):
        self.stream, self.totals = io.StringIO(), totals
        self.lines = StageLines(self.stream, lambda: self.totals, is_moving)
        self.lines._stop.set()
        self.lines._ticker.join()
        self.lines.setFormatter(logging.Formatter("%(message)s"))

    def log(self, event=None, message="", level=logging.INFO, **fields):
        record = logging.LogRecord("x", level, "x.py", 1, message, (), None)
        record.__dict__.update(fields, **({"event": event} if event else {}))
        self.lines.handle(record)

    def start(self, job, rule, *logs, output=("x",)):
        self.log("job_info", "Rule: ...", jobid=job, rule_name=rule, log=list(logs), output=list(output))

    def end(self, job):
        self.log("job_finished", f"Finished jobid: {job}", job_id=job)

    @property
    def said(self):
        return self.stream.getvalue().splitlines()


def test_a_stage_is_one_line_when_it_is_done(clock, tmp_path):
    run, log = Run(generate_images=2, tabulate=1), tmp_path / "a.log"
    for job in (1, 2):
        run.start(job, "generate_images", str(log))
    log.write_text("INFO 7 of 8 images made, 1 min gone, 1 failed\n")
    clock[0] += 4
    run.end(1)
    assert run.said == []
    run.end(2)
    run.start(3, "tabulate")
    clock[0] += 2
    run.end(3)
    run.start(4, "all", output=())
    run.end(4)
    run.lines.close()
    assert run.said == [
        "generate images          2 of 2 jobs, 14 of 16 images made, 2 failed, 3.5/s, done in 4 s",
        "tabulate                 done in 2 s",
    ]


def test_a_long_job_has_a_line_a_minute_with_rate_and_time_left(clock, tmp_path):
    run, log = Run(generate_images=1), tmp_path / "a.log"
    log.write_text("INFO 99 of 100 images made, of an earlier run, 1 s gone\n")
    run.start(1, "generate_images", str(log))
    for minute, done in enumerate((0, 10, 30)):
        if done:
            log.write_text(
                f"INFO {done} of 100 images made, {minute} min gone, about 1 s left\n" + " " * minute
            )
        clock[0] += 61
        with run.lines.lock:
            run.lines._stages["generate_images"].read(1)
            run.lines._show()
            run.lines._show()
    assert run.said == [
        "generate images          61 s gone",
        "generate images          10 of 100 images made, 4.9/min, about 18 min left",
        "generate images          30 of 100 images made, 9.8/min, about 7 min left",
    ]


def test_jobs_that_failed_and_were_tried_again(clock):
    run = Run(draw_grid=3)
    for job in (1, 2, 3):
        run.start(job, "draw_grid")
    run.log("job_error", "Error in rule draw_grid", logging.ERROR, jobid=2)
    run.log("job_error", "Error in rule draw_grid", logging.ERROR, jobid=3)
    run.start(3, "draw_grid")
    clock[0] += 10
    run.end(1)
    run.end(3)
    assert run.said[:2] == ["Error in rule draw_grid"] * 2
    assert run.said[2:] == ["draw grid                1 FAILED, 2 of 3 jobs, 18.0/min, in 10 s"]


def test_only_what_the_lines_say_is_left_out():
    run = Run()
    told = ["Building DAG of jobs...", "Using shell: /bin/bash", "Select jobs to execute...", None]
    for message in told:
        run.log(message=message)
    for event in ("run_info", "shellcmd", "resources_info", "job_started", "workflow_started"):
        run.log(event, "Job stats:")
    kept = ["Removing output files of failed job", "Nothing to be done", "a message of a later version"]
    for message in kept:
        run.log(message=message)
    run.log("group_error", "Error in group", logging.ERROR)
    run.log("error", "WorkflowError:\nwhat to change", logging.ERROR)
    run.log("an_event_of_a_later_version", "and its text")
    run.log(message="Building DAG of jobs... failed", level=logging.WARNING)
    assert run.said == [
        *kept,
        "Error in group",
        "WorkflowError:",
        "what to change",
        "and its text",
        "Building DAG of jobs... failed",
    ]


def test_control_characters_are_shown_and_not_sent():
    run = Run()
    run.log("error", "a\x1b[2Jb\rc\x9bd\te\u200f", logging.ERROR)
    assert run.said == ["a\\x1b[2Jb\\x0dc\\x9bd\te\u200f"]
    assert harmless("line\n\x00") == "line\n\\x00"


def test_lines_that_move_are_erased_before_anything_else_is_written(clock, monkeypatch):
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: os.terminal_size((30, 24)))
    run = Run(is_moving=True, a=2, b=1)
    run.start(1, "a")
    run.start(2, "b")
    run.log("error", "wrong", logging.ERROR)
    clock[0] += 5
    run.lines.finish()
    text = run.stream.getvalue()
    assert "\x1b[Jwrong\na " in text
    drawn = re.split(r"\x1b\[\d*[AJ]", text)
    assert max(len(line.strip("\r")) for part in drawn[:-1] for line in part.split("\n")) == 29
    assert text.endswith(
        "\x1b[Ja                        5 s gone\nb                        5 s gone\n".replace(
            "5 s gone", "0 of 2 jobs, 5 s gone", 1
        )
    )
    run.log(message="after the end")
    run.lines.finish()
    assert run.stream.getvalue().endswith("after the end\n")


def test_a_stage_whose_jobs_wait():
    assert Stage("x", 0.0, total=3, done=1).line(10.0).endswith("1 of 3 jobs, 6.0/min, about 20 s left")
    assert Stage("x", 0.0, total=3).line(10.0).endswith("0 of 3 jobs, waiting")


PROGRAM = """
import logging, os, subprocess, sys
from graftwork.reports.terminal import StageLines
lines = StageLines(sys.stderr, lambda: {"a": 1})
lines.setFormatter(logging.Formatter("%(message)s"))
record = logging.LogRecord("x", logging.INFO, "x.py", 1, "", (), None)
record.__dict__.update(event="job_info", jobid=1, rule_name="a", log=[], output=["x"])
lines.handle(record)
# It outlives the run, like a helper of multiprocessing, and holds what it was given as standard error.
left = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
subprocess.run([sys.executable, "-c", "import sys; print('of a job'); print('Trace\\x1b[2Jback', file=sys.stderr)"])
os.write(2, b"no end of line")
lines.close()
print("afterwards", os.isatty(2))
"""


def test_what_jobs_write_to_a_terminal_stays_above_the_lines():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            got = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not got:
            break
        text += got
    assert process.wait(timeout=30) == 0
    os.close(ours)
    shown = re.sub(r"\x1b\[\d*[AJ]", "", text.decode().replace("\r\n", "\n"))
    lines = [line.split("\r")[-1] for line in shown.split("\n")]
    for line in ("of a job", "Trace\\x1b[2Jback", "afterwards True"):
        assert line in lines, shown
    assert "no end of line" in shown
    assert "\x1b[2J" not in text.decode()
