"""Jobs that cannot write: a sentence with path, reason and remedy, whatever library writes, and nothing half-written is left."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graftwork.core.atomic import CannotWrite, atomic_path, naming_file
from graftwork.jobs.record import JobRecord

ROOM = 2000
# Each writes more than there is room for.
WRITERS = {
    "bytes": "write_atomic(target, bytes(10000))",
    "hdf5": "\n".join(
        (
            "import h5py, numpy",
            "with atomic_path(target) as temporary, h5py.File(temporary, 'w') as file:",
            "    file.create_dataset('x', data=numpy.zeros(100000))",
        )
    ),
    "safetensors": "\n".join(
        (
            "import torch",
            "from safetensors.torch import save_file",
            "with atomic_path(target) as temporary:",
            "    save_file({'x': torch.zeros(10000)}, temporary)",
        )
    ),
    "lines": "append_whole(target, b'x' * 1000 + b'\\n')\nappend_whole(target, b'y' * 1500 + b'\\n')",
    "a log": "for number in range(1000):\n    log.info('line %s', number)",
}
JOB = """
import resource, signal, sys
from pathlib import Path
from graftwork.core.atomic import append_whole, atomic_path, write_atomic
from graftwork.jobs.record import open_log

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
target = Path("target")
log = open_log("job.log")
log.info("begins")
{writer}
print("ended")
"""
ENDING = (
    "cannot be written: it would be longer than a file may be here; raise the limit (ulimit -f), or use another file system, "
    "and start again: what is finished stays, and is not made again"
)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_job_without_room_ends_in_one_sentence(tmp_path, writer):
    run = subprocess.run(
        [sys.executable, "-c", JOB.format(room=ROOM, writer=WRITERS[writer])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    log = (tmp_path / "job.log").read_text()
    if writer == "a log":
        # What a job makes does not depend on its log: it goes on, and says once that the log ends.
        assert (run.returncode, run.stdout) == (0, "ended\n")
        assert run.stderr.replace(f"{tmp_path}/", "") == f"graftwork: job.log {ENDING}\n"
        assert "begins" in log
        assert ROOM // 2 < len(log) <= ROOM
    else:
        assert run.returncode == 1
        assert run.stderr == f"graftwork: target {ENDING}\n"
        assert ENDING in log
    # Of the lines those that fit are whole; of what is written at once nothing is there.
    left = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "job.log"}
    assert left == ({"target": "x" * 1000 + "\n"} if writer == "lines" else {})


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space, and start again"),
        (errno.EDQUOT, "your share of the disk is used up; free some space"),
        (errno.EROFS, "it is on a read-only file system; make it writable"),
        (errno.EIO, "the disk reports an error; look at the disk"),
    ],
)
def test_reason_and_remedy_of_each_error(tmp_path, number, said):
    with (
        pytest.raises(CannotWrite, match=f"^results/x.png cannot be written: {said}"),
        naming_file(Path("results/x.png")),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "target"):
        raise FileNotFoundError(errno.ENOENT, "no such file", "source")
    with pytest.raises(ValueError, match="no number here"), naming_file(tmp_path):
        raise ValueError("no number here")
    with (
        pytest.raises(CannotWrite, match="inner cannot be written"),
        naming_file(Path("outer")),
        naming_file(Path("inner")),
    ):
        raise OSError(errno.ENOSPC, "full")


def test_an_item_without_room_fails_with_the_sentence_alone():
    record = JobRecord(logging.getLogger("test"))
    record.fail("key", CannotWrite("b.png cannot be written: the disk is full"))
    record.fail("other", OSError("something else"))
    assert record.failures == {
        "key": "b.png cannot be written: the disk is full",
        "other": "OSError: something else",
    }
