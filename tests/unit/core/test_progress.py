"""Durations and sizes as people say them, and lines that are not too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.core import progress as module
from graftwork.core.progress import Progress, format_bytes, format_seconds


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


def test_every_step_is_logged_and_the_terminal_hears_now_and_then(clock, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(module._log, "info", logged.append)
    progress = Progress("images made", 40, terminal_seconds=10)
    for _ in range(20):
        clock[0] += 1
        progress.advance(2)
    assert len(logged) == 20
    assert logged[0] == "2 of 40 images made, 1 s gone, about 19 s left"
    assert logged[-1] == "40 of 40 images made, 20 s gone"
    assert capsys.readouterr().err.splitlines() == [
        "20 of 40 images made, 10 s gone, about 10 s left",
        "40 of 40 images made, 20 s gone",
    ]


def test_nothing_done_yet_is_no_division(clock):
    Progress("images made", 3).advance(0)
