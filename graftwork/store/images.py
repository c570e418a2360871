"""Images of the store, compared with the digest of what was written.

A PNG has a checksum for every chunk, which finds damage but not another image under the same name. So the jobs that
write images note the SHA-256 of each file in `facts/images/`: a line `key sha256` in a file of their own, written before
the image is moved into place. One key may have several lines, for another machine may give other bytes; any of them is
right. An image without a line, of an earlier version, is held against its own checksums alone.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from graftwork.core.atomic import append_whole
from graftwork.core.png import check_png
from graftwork.store.layout import Store

OUTSIDE_DIGESTS = "checks what others made"


class DamagedImage(ValueError):
    """An image of the store that is not what was written under its name."""


class DigestWriter:
    """Notes digests of images in a file of this process."""

    def __init__(self, store: Store, name: str):
        """Takes the name of the job's own file."""
        self._path = store.image_digests / f"{name}.txt"
        self._lock = threading.Lock()

    def note(self, key: str, data: bytes) -> None:
        """Notes what is about to be written under a key."""
        line = f"{key} {hashlib.sha256(data).hexdigest()}\n"
        with self._lock:
            append_whole(self._path, line.encode())


def read_digests(store: Store) -> dict[str, set[str]]:
    """Returns key -> digests that were noted; lines that are cut or foreign are skipped."""
    found: dict[str, set[str]] = {}
    for file in sorted(store.image_digests.glob("*.txt")):
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
            key, _, digest = line.partition(" ")
            if key and len(digest) == 64:
                found.setdefault(key, set()).add(digest)
    return found


def check_image(path: Path, digests: Mapping[str, set[str]]) -> bytes:
    """Returns the bytes of an image of the store, compared with what was written.

    Args:
        path: the image.
        digests: as `read_digests` returns them.

    Raises:
        OSError: where it cannot be read.
        DamagedImage: naming the file and what to do.
    """
    data = path.read_bytes()
    try:
        check_png(data)
    except ValueError as error:
        raise DamagedImage(f"{path} is damaged ({error}); {_REMEDY}") from None
    noted = digests.get(path.stem)
    if noted and hashlib.sha256(data).hexdigest() not in noted:
        raise DamagedImage(f"{path} is not the image that was written under this name; {_REMEDY}")
    return data


_REMEDY = "the target `repair_store` removes what is damaged, and the next run makes it again"


def read_stored_image(path: Path) -> bytes:
    """Returns the bytes of an image by its path in the store; for jobs that read what others have written.

    Raises:
        OSError: as `check_image`.
        DamagedImage: as `check_image`.
    """
    store = Store(path.parents[2]) if _is_stored(path) else Store(path.parent)
    return check_image(path, _digests_once(store.root, _listing(store)))


def require_undamaged(path: Path) -> None:
    """Compares an image that is about to be shown or measured, if it is one of the store.

    Raises:
        DamagedImage: as `check_image`.
    """
    if _is_stored(path) and path.is_file():
        read_stored_image(path)


def _is_stored(path: Path) -> bool:
    """Returns whether a path is that of an image of the store, `images/ab/ab....png`."""
    return len(path.parents) > 2 and path.parents[1].name == "images" and path.stem[:2] == path.parent.name


@lru_cache(maxsize=4)
def _digests_once(root: Path, listing: tuple[tuple[str, int], ...]) -> dict[str, set[str]]:
    """Reads the digests again only where the files are others."""
    return read_digests(Store(root))


def _listing(store: Store) -> tuple[tuple[str, int], ...]:
    try:
        with os.scandir(store.image_digests) as entries:
            return tuple(sorted((entry.name, entry.stat().st_size) for entry in entries))
    except OSError:
        return ()
