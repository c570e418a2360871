"""Locks between processes: one holder at a time, and a dead holder holds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graftwork.core.locks import exclusive_lock, try_exclusive_lock

HOLD = """
import sys
from pathlib import Path
from graftwork.core.locks import exclusive_lock, try_exclusive_lock
path = Path(sys.argv[2])
if sys.argv[1] == "exclusive":
    with exclusive_lock(path):
        print("held", flush=True)
        sys.stdin.read()
else:
    print("held" if try_exclusive_lock(path) is not None else "taken", flush=True)
    sys.stdin.read()
"""

# Reads a number, waits, writes it back plus one: without a lock, increments get lost.
COUNT = """
import sys, time
from pathlib import Path
from graftwork.core.locks import exclusive_lock
folder = Path(sys.argv[1])
for _ in range(20):
    with exclusive_lock(folder / "lock"):
        number = int((folder / "number").read_text())
        time.sleep(0.002)
        (folder / "number").write_text(str(number + 1))
"""


@pytest.fixture
def start():
    """Starts a process that takes a lock; returns it when it has said whether it got it."""
    processes = []

    def started(how: str, path: Path) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, how, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["exclusive", "try"])
def test_second_process_does_not_get_it_until_the_first_dies(tmp_path: Path, start, how: str) -> None:
    path = tmp_path / "new" / "lock"
    process, said = start(how, path)
    assert said == "held"
    assert try_exclusive_lock(path) is None
    _, said = start("try", path)
    assert said == "taken"
    process.kill()
    process.wait()
    descriptor = try_exclusive_lock(path)
    assert descriptor is not None
    os.close(descriptor)
    assert path.exists()


def test_lock_is_given_back_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive_lock(path):
        assert try_exclusive_lock(path) is None
    with pytest.raises(ValueError, match="x"), exclusive_lock(path):
        raise ValueError("x")
    descriptor = try_exclusive_lock(path)
    assert descriptor is not None
    os.close(descriptor)


def test_failed_attempt_leaves_no_descriptor_open(tmp_path: Path) -> None:
    descriptor = try_exclusive_lock(tmp_path / "lock")
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        assert try_exclusive_lock(tmp_path / "lock") is None
    assert len(os.listdir("/dev/fd")) == before
    os.close(descriptor)


def test_child_processes_do_not_keep_it(tmp_path: Path) -> None:
    descriptor = try_exclusive_lock(tmp_path / "lock")
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    os.close(descriptor)
    again = try_exclusive_lock(tmp_path / "lock")
    child.kill()
    child.wait()
    assert again is not None
    os.close(again)


def test_processes_side_by_side_take_turns(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert (tmp_path / "number").read_text() == "40"
