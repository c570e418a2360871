"""Atomic writing of files: a file is complete, or it does not exist.

All files of the store are written under a temporary name in the same folder and moved with `os.replace`. The temporary
name contains the process that writes it, so that the files of killed processes, and only these, can be removed.
"""

import contextlib
import errno
import logging
import os
import re
import socket
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

OUTSIDE_DIGESTS = "writes files; their content is computed elsewhere"

_GO_ON = "start again: what is finished stays, and is not made again"
# Number of an error -> why a file cannot be written, and what to do.
_REASONS = {
    errno.ENOSPC: ("the disk is full", f"free some space, and {_GO_ON}"),
    errno.EDQUOT: ("your share of the disk is used up", f"free some space, and {_GO_ON}"),
    errno.EFBIG: (
        "it would be longer than a file may be here",
        f"raise the limit (ulimit -f), or use another file system, and {_GO_ON}",
    ),
    errno.EROFS: ("it is on a read-only file system", f"make it writable, and {_GO_ON}"),
    errno.EIO: ("the disk reports an error", f"look at the disk, and {_GO_ON}"),
}
# HDF5 and safetensors say the number in the text of an error of their own.
_NUMBER = re.compile(r"(?:errno = |os error )(\d+)")

_TEMPORARY = re.compile(r"\.tmp-(?P<host>[^~]+)~(?P<pid>\d+)~(?P<start>\d+)~[0-9a-f]{8}$")


class CannotWrite(OSError):
    """A file cannot be written. The message is one sentence: which file, why, and what to do."""


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Says which file it was where writing it fails for want of space or the like; systems give the number alone.

    Raises:
        CannotWrite: in the place of the error.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        if number is None and (found := _NUMBER.search(str(error))):
            number = int(found[1])
        if number not in _REASONS:
            raise
        reason, remedy = _REASONS[number]
        raise CannotWrite(f"{path} cannot be written: {reason}; {remedy}") from error


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; when the block succeeds, what was written there becomes `target`.

    The file is flushed to disk before it is moved, so that a machine that loses power leaves no empty file under a
    final name. When the block fails, the temporary file is removed. A folder in the place of the file is moved aside.

    Raises:
        CannotWrite: where the disk is full or the like.
    """
    with naming_file(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + _temporary_suffix())
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            _move_folder_aside(target)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomic(target: Path, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) so that readers see the old file or the new one, never a part."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def append_whole(path: Path, data: bytes) -> None:
    """Adds lines to a file that this process alone writes; they are on disk when it returns.

    A process that is killed leaves whole lines, but for the last. Where there is no room the file stays as it was, so that
    the next line begins where this one would have.

    Raises:
        CannotWrite: where the disk is full or the like.
    """
    with naming_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                if before == 0:
                    path.unlink(missing_ok=True)
                raise


def remove_file(path: Path) -> None:
    """Removes a file, if there is one; a folder in its place is moved aside, for nobody here knows what is in it."""
    if not _move_folder_aside(path):
        path.unlink(missing_ok=True)


def _move_folder_aside(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    aside = path.with_name(f"{path.name}.folder-{uuid.uuid4().hex[:8]}")
    os.replace(path, aside)
    line = f"graftwork: {path} was a folder where a file belongs; it is {aside.name} now"
    logging.getLogger("graftwork").warning(line)
    print(line, file=sys.stderr, flush=True)
    return True


def sweep_temporary_files(folder: Path) -> list[Path]:
    """Removes the temporary files under `folder`, and behind links in it, whose writer is dead, and returns them.

    A file of another host is left alone: whether its writer lives cannot be known from here.
    """
    swept = []
    if not folder.is_dir():
        return swept
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()  # A link that leads back.
            continue
        seen.add(real)
        for name in names:
            match = _TEMPORARY.search(name)
            if match and match["host"] == _host() and _start_time(int(match["pid"])) != match["start"]:
                path = Path(parent, name)
                path.unlink(missing_ok=True)
                swept.append(path)
    return swept


def _temporary_suffix() -> str:
    pid = os.getpid()
    return f".tmp-{_host()}~{pid}~{_start_time(pid)}~{uuid.uuid4().hex[:8]}"


@cache
def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())


def _start_time(pid: int) -> str:
    """Returns when the process started, or "" if it is dead: a process id alone is soon given to another process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Z: dead, but not collected by its parent, which in a container may never happen.
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        # No such process, or no /proc (macOS): there a live process is told by a signal that does nothing.
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "0"
