"""Values that were measured of images, by what they are the digest of: bytes of the image, what it is compared with, and by what.

A folder of JSON-lines files. Every job appends to a file of its own, a line per value, and flushes each batch to disk: a job
that is killed loses the values of a few images at most, and the line that it was writing is skipped.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftwork.core.atomic import append_whole, write_atomic
from graftwork.store.records import Arithmetic

# Column or quantity -> value; text says why there is none.
Values = Mapping[str, float | str | None]
_KEY, _VALUES = "key", "values"
_MOST_FILES = 200


@dataclass(frozen=True, kw_only=True)
class Comparison(Arithmetic):
    """What a scorer says of an image: what its value is the digest of.

    Attributes:
        scorer: identity of the scorer.
        code: digest of the code that computes it.
        quantity: which of the scorer's numbers.
        image: SHA-256 of the file.
        text: what the image is compared with; None where that is an image.
        other: SHA-256 of the other image; None where it is a text.
    """

    scorer: str
    code: str
    quantity: str
    image: str
    text: str | None = None
    other: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a score without a model sees of a cell: what its columns are the digest of.

    Attributes:
        score: name of the score.
        code: digest of its code, and of whatever else it depends on.
        image: SHA-256 of the file.
        prompt: text of the prompt; None where the score does not read it.
        references: SHA-256 of the reference images.
        baseline: SHA-256 of the image of the baseline; None without one.
    """

    score: str
    code: str
    image: str
    prompt: str | None = None
    references: tuple[str, ...] = ()
    baseline: str | None = None


class ValueWriter:
    """Appends values to a file of this process."""

    def __init__(self, folder: Path):
        self._path = folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl"

    def add(self, values: Mapping[str, Values]) -> None:
        """Writes values, key -> values, to disk before it returns."""
        if values:
            append_whole(self._path, _as_lines(values).encode())


def read_values(folder: Path) -> dict[str, Values]:
    """Returns key -> values; lines that are cut or damaged are skipped, and what they were is measured again."""
    found: dict[str, Values] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in _lines(file):
            try:
                row = json.loads(line)
                key, values = row[_KEY], row[_VALUES]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(key, str) and isinstance(values, dict):
                found[key] = values
    return found


def compact_values(folder: Path) -> None:
    """Merges the files when they have become many. Only while nobody else writes (the planning job)."""
    files = sorted(folder.glob("*.jsonl"))
    if len(files) <= _MOST_FILES:
        return
    merged = folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl"
    write_atomic(merged, _as_lines(read_values(folder)))
    for file in files:
        file.unlink(missing_ok=True)


def _lines(file: Path) -> Sequence[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ()  # Merged meanwhile.


def _as_lines(values: Mapping[str, Values]) -> str:
    return "".join(
        json.dumps({_KEY: key, _VALUES: dict(own)}, sort_keys=True, ensure_ascii=False) + "\n"
        for key, own in values.items()
    )
