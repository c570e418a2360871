"""The table from recipe to conditioning: which bytes a recipe gave, kept when the bytes are not.

A folder of JSON-lines files, each written once. Adding rows adds a file, so that jobs side by side need no lock and a
killed one loses nothing that another wrote. A recipe may have several rows, for another machine may give other bytes:
every row says when it was written, and the newest holds. The time is that of the clock, but later than every row that was
there.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import from_json, to_json
from graftwork.store.records import ConditioningReport

_MOST_FILES = 200
_KEY, _WRITTEN = "recipe", "written"


def read_recipes(folder: Path) -> dict[str, ConditioningReport]:
    """Returns recipe key -> what the newest row records of it.

    Lines that are damaged, or of another version, are skipped: their recipes are built again.
    """
    return {key: report for key, (_, report) in _newest_rows(folder).items()}


def _newest_rows(folder: Path) -> dict[str, tuple[int, ConditioningReport]]:
    """Returns recipe key -> when its newest row was written, and what it records."""
    rows: dict[str, tuple[int, ConditioningReport]] = {}
    for text in _texts(folder):
        for line in text.split("\n"):  # not splitlines(), which also splits inside of a row, at U+2028
            try:
                row = dict(json.loads(line))
                key, written = str(row.pop(_KEY)), int(row.pop(_WRITTEN))
                report = from_json(ConditioningReport, row)
            except (ValueError, KeyError, TypeError):
                continue
            kept = rows.get(key)
            # Of two machines at the same moment, either; but the same one for all who read.
            if kept is None or (written, report.conditioning) >= (kept[0], kept[1].conditioning):
                rows[key] = written, report
    return rows


def _texts(folder: Path) -> Iterator[str]:
    """Yields the files, those included that appear while others are read."""
    seen: set[Path] = set()
    while files := sorted(set(folder.glob("*.jsonl")) - seen):
        seen.update(files)
        for file in files:
            try:
                yield file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # Merged meanwhile, into a file that the next round finds; or no file.


def add_recipes(folder: Path, rows: Mapping[str, ConditioningReport]) -> Path | None:
    """Adds rows, recipe key -> what is recorded of it; returns the file they are in."""
    if not rows:
        return None
    written = max(time.time_ns(), _latest(folder) + 1)
    return _write(folder, {key: (written, row) for key, row in rows.items()})


def _latest(folder: Path) -> int:
    """Returns when the newest file was written, by the names of the files."""
    stamps = (file.stem.partition("-")[0] for file in folder.glob("*.jsonl"))
    return max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)


def _write(folder: Path, rows: Mapping[str, tuple[int, ConditioningReport]]) -> Path:
    lines = [
        json.dumps({**to_json(row), _KEY: key, _WRITTEN: written}, sort_keys=True, ensure_ascii=False)
        for key, (written, row) in sorted(rows.items())
    ]
    text = "".join(f"{line}\n" for line in lines)
    newest = max(written for written, _ in rows.values())
    file = folder / f"{newest}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    write_atomic(file, text)
    return file


def compact_recipes(folder: Path) -> None:
    """Merges the files when they have become many. Only while nobody else writes (the planning job)."""
    files = sorted(folder.glob("*.jsonl"))
    if len(files) <= _MOST_FILES:
        return
    rows = _newest_rows(folder)
    merged = _write(folder, rows) if rows else None
    for file in files:
        if file != merged:
            file.unlink(missing_ok=True)
