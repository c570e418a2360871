"""The table from recipe to conditioning: which bytes a recipe gave, kept when the bytes are not.

A folder of JSON-lines files, each written once under the digest of its content. Adding rows adds a file, so that jobs
side by side need no lock and a killed one loses nothing that another wrote.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.records import from_json, to_json
from graftwork.store.records import ConditioningReport

_MOST_FILES = 200
_KEY = "recipe"


def read_recipes(folder: Path) -> dict[str, ConditioningReport]:
    """Returns recipe key -> what is recorded of it.

    Lines that are damaged, or of another version, are skipped: their recipes are built again.
    """
    rows: dict[str, ConditioningReport] = {}
    seen: set[Path] = set()
    while files := sorted(set(folder.glob("*.jsonl")) - seen):
        seen.update(files)
        for file in files:
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                continue  # Merged meanwhile, into a file that the next round finds.
            for line in text.split("\n"):  # not splitlines(), which also splits inside of a row, at U+2028
                try:
                    row = dict(json.loads(line))
                    key = row.pop(_KEY)
                    rows[key] = from_json(ConditioningReport, row)
                except (ValueError, KeyError, TypeError):
                    continue
    return rows


def add_recipes(folder: Path, rows: Mapping[str, ConditioningReport]) -> Path | None:
    """Adds rows, recipe key -> what is recorded of it; returns the file they are in."""
    if not rows:
        return None
    lines = [
        json.dumps({**to_json(row), _KEY: key}, sort_keys=True, ensure_ascii=False)
        for key, row in sorted(rows.items())
    ]
    text = "".join(f"{line}\n" for line in lines)
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.jsonl"
    write_atomic(file, text)
    return file


def compact_recipes(folder: Path) -> None:
    """Merges the files when they have become many. Only while nobody else writes (the planning job)."""
    files = sorted(folder.glob("*.jsonl"))
    if len(files) <= _MOST_FILES:
        return
    merged = add_recipes(folder, read_recipes(folder))
    for file in files:
        if file != merged:
            file.unlink(missing_ok=True)
