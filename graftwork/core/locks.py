"""Advisory locks between processes that share the results folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

OUTSIDE_DIGESTS = "synchronizes processes"


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Waits for the exclusive lock on `path` (created if need be) and holds it for the block.

    The kernel drops the lock when its holder dies, however it dies. The file stays: removing it would let two
    processes hold "the" lock on two different files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_exclusive_lock(path: Path) -> int | None:
    """Takes the lock for the life of this process; returns its file descriptor, or None if another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    # Children must not inherit it: a job that outlives a killed workflow would keep the next one out.
    os.set_inheritable(descriptor, False)
    return descriptor


def try_lock(file: IO[bytes]) -> bool:
    """Takes the lock on an open file until it is closed; returns whether it could be had."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
