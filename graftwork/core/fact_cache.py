"""Facts about files, valid as long as the size and modification time of a file stay the same.

Hashing a 12 GB checkpoint or decoding a reference image at every start would slow down a run that has nothing to do, so
facts are stored together with the stat of their file. A lost cache costs time, never correctness.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graftwork.core.atomic import CannotWrite, naming_file, write_atomic
from graftwork.core.locks import exclusive_lock


def stat_signature(path: Path) -> list[int] | None:
    """Returns [size in bytes, modification time in ns], or None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


class FactCache:
    """A JSON file that maps a path to its stat and the facts found then."""

    def __init__(self, path: Path):
        self.path = path
        self._entries = self._read()
        self._new: dict[str, Any] = {}

    def get(self, path: Path, find_facts: Callable[[Path], Any]) -> Any:
        """Returns the facts of `path`, determined again if the file has changed. Errors of `find_facts` are not stored."""
        known = self.known(path)
        if known is not None:
            return known
        signature = stat_signature(path)
        facts = find_facts(path)
        self.put(path, facts, signature)
        return facts

    def known(self, path: Path) -> Any | None:
        """Returns the facts of `path` if it is unchanged since they were found, else None."""
        entry, signature = self._entries.get(str(path)), stat_signature(path)
        if entry is None or signature is None or entry["stat"] != signature:
            return None
        return entry["facts"]

    def last_known(self, path: Path) -> Any | None:
        """Returns the last facts found, even if the file has changed or is gone."""
        entry = self._entries.get(str(path))
        return None if entry is None else entry["facts"]

    def put(self, path: Path, facts: Any, signature: list[int] | None) -> None:
        """Records facts; `save` writes them to the file."""
        self._entries[str(path)] = self._new[str(path)] = {"stat": signature, "facts": facts}

    def save(self) -> None:
        """Merges the facts of this process into the file, so that parallel processes do not lose any.

        Where the disk is full a warning says so, and they are found again the next time.
        """
        if not self._new:
            return
        try:
            with naming_file(self.path), exclusive_lock(self.path.with_suffix(".lock")):
                entries: Mapping[str, Any] = {**self._read(), **self._new}
                text = _as_text(entries)
                checked = {"entries": entries, "sha256": hashlib.sha256(text.encode()).hexdigest()}
                write_atomic(self.path, json.dumps(checked, sort_keys=True, indent=0, ensure_ascii=False))
        except CannotWrite as error:
            logging.getLogger("graftwork").warning("%s", error)
            return
        self._new = {}

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            entries = kept["entries"]
            if hashlib.sha256(_as_text(entries).encode()).hexdigest() == kept["sha256"]:
                return entries
        except (OSError, ValueError, KeyError, TypeError):
            pass
        # Missing, damaged, edited or of another version: the facts are determined again.
        return {}


def _as_text(entries: Mapping[str, Any]) -> str:
    return json.dumps(entries, sort_keys=True)
