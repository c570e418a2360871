"""Files that jobs write for people and that other jobs read: design.json and tables.

People open tables in spreadsheets, which save them in another form, and edit what they should not. Beside such a file lies
the SHA-256 of what was written, so that the next run can tell, and makes the file again in place of believing it.
"""

import hashlib
import os
from pathlib import Path

from graftwork.core.atomic import remove_file, write_atomic

OUTSIDE_DIGESTS = "writes files; their content is computed elsewhere"

_WRITTEN, _ENDING = ".written", ".sha256"


def write_derived(path: Path, text: str) -> None:
    """Writes a file, and first what it will be: a job that is killed in between leaves a file that is made again."""
    write_atomic(_note_of(path), f"{hashlib.sha256(text.encode()).hexdigest()}\n")
    write_atomic(path, text)


def _note_of(path: Path) -> Path:
    return path.parent / _WRITTEN / f"{path.name}{_ENDING}"


def derived_files(folder: Path) -> list[Path]:
    """Returns the files of a folder that `write_derived` has written, as far as they are there."""
    files = (folder / note.stem for note in sorted((folder / _WRITTEN).glob(f"*{_ENDING}")))
    return [file for file in files if file.exists()]


def move_edited(path: Path) -> Path:
    """Moves a file aside that is not as it was written: what someone did to it is theirs. Returns where it is now."""
    aside = path.with_name(f"{path.stem}.edited{path.suffix}")
    remove_file(aside)
    os.replace(path, aside)
    return aside


def is_as_written(path: Path) -> bool:
    """Returns whether a file is what `write_derived` wrote last."""
    try:
        noted = _note_of(path).read_text(encoding="utf-8").strip()
        return hashlib.sha256(path.read_bytes()).hexdigest() == noted
    except (OSError, ValueError):
        return False
