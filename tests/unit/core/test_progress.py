"""Durations and sizes as people say them, and lines that are not too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.core import progress as module
from graftwork.core.progress import Done, Progress, format_bytes, format_seconds, read_progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5370, "1 h 30 min"),  # rounded to minutes first
        (5400, "1 h 30 min"),
        (12000, "3 h 20 min"),
        (86400, "1 d 0 h"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (123456, "123.5 kB"),
        (5e6, "5.0 MB"),
        (7e9, "7.0 GB"),
        (3e12, "3.0 TB"),
        (4e15, "4000.0 TB"),
    ],
)
def test_sizes(count, text):
    assert format_bytes(count) == text


@given(st.floats(0, 1e9))
def test_every_duration_has_a_text(seconds):
    assert format_seconds(seconds)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_every_step_is_logged_and_the_end_is_counted_rightly(clock, monkeypatch):
    logged = []
    monkeypatch.setattr(module._log, "info", logged.append)
    progress = Progress("images made", 40)
    for _ in range(20):
        clock[0] += 1
        progress.advance(2)
    assert len(logged) == 20
    assert logged[0] == "2 of 40 images made, 1 s gone, about 19 s left"
    assert logged[-1] == "40 of 40 images made, 20 s gone"
    progress.end(0)
    assert len(logged) == 20
    progress.end(3)
    assert logged[-1] == "37 of 40 images made, 20 s gone, 3 failed"


def test_progress_is_read_from_the_end_of_a_log(tmp_path):
    log = tmp_path / "job.log"
    assert read_progress([str(log)]) is None
    log.write_text("loading\n" * 3)
    assert read_progress([str(log)]) is None
    lines = [
        f"2026-01-01 10:00:00,000 INFO {n} of 900 images made, {n} s gone, about 1 h 3 min left\n"
        for n in range(500)
    ]
    log.write_text("".join(lines) + "a warning\n2026-01-01 INFO 5")
    assert read_progress([str(tmp_path / "none.log"), str(log)]) == Done(499, 900, "images made")
    log.write_text("INFO 37 of 40 inputs of qwen, small encoded, 3 h 20 min gone, 3 failed\n")
    assert read_progress([str(log)]) == Done(37, 40, "inputs of qwen, small encoded", 3)


def test_nothing_done_yet_is_no_division(clock):
    Progress("images made", 3).advance(0)
