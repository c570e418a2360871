"""Thumbnails: small copies of images, made once per image and kept in the store.

Beside each thumbnail there is a record of the image it was made of: a digest of the file, its size, and a sketch of 32 x 32
pixels from which differences between images are measured without opening them again.
"""

import base64
import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from graftwork.core.atomic import CannotWrite, write_atomic
from graftwork.models.images import read_image
from graftwork.store.images import require_undamaged

THUMBNAIL_SIDE = 384
QUALITY = 82
# Images of at most this many pixels on a side are kept without loss: they are small, and every pixel of them is seen.
LOSSLESS_SIDE = 128
SKETCH_SIDE = 32
CELLS_PER_PART = 2000


@dataclass(frozen=True)
class Thumbnail:
    """Facts about an image that has a thumbnail.

    Attributes:
        sha256: Digest of the bytes of the image file.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        sketch: The image scaled to 32 x 32 RGB pixels, as base64.
    """

    sha256: str
    width: int
    height: int
    sketch: str

    @cached_property
    def pixels(self) -> np.ndarray:
        """The sketch as uint8 of shape (32, 32, 3)."""
        raw = np.frombuffer(base64.b64decode(self.sketch), dtype=np.uint8)
        return raw.reshape(SKETCH_SIDE, SKETCH_SIDE, 3)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Thumbnail":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class ThumbnailStore:
    """Thumbnails in the store.

    Attributes:
        root: results/store/thumbnails.
    """

    root: Path

    def image(self, key: str) -> Path:
        """The thumbnail, a WebP file."""
        return self.root / key[:2] / f"{key}.webp"

    def record(self, key: str) -> Path:
        """The record of the image. It is written last: a thumbnail with a record is complete."""
        return self.root / key[:2] / f"{key}.json"

    def read(self, key: str) -> Thumbnail | None:
        """Returns the record of an image, or None where there is no complete thumbnail."""
        try:
            record = Thumbnail.from_json(self.record(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return None
        return record if self.image(key).is_file() else None

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys that have no complete thumbnail, in order and without repetition."""
        return [key for key in dict.fromkeys(keys) if self.read(key) is None]


def parts_of(cells: int) -> int:
    """Returns into how many jobs the thumbnails of so many cells are split."""
    return max(1, -(-cells // CELLS_PER_PART))


def sources_of_part(sources: Mapping[str, Path], part: int, parts: int) -> dict[str, Path]:
    """Returns the images of one part of the work, which follow from their keys alone.

    Args:
        sources: Key of an image, in hexadecimal digits -> its file.
        part: 1 to `parts`.
        parts: Number of parts.
    """
    return {key: path for key, path in sources.items() if int(key[:8], 16) % parts == part - 1}


def make_thumbnail(source: Path, key: str, store: ThumbnailStore) -> Thumbnail:
    """Makes the thumbnail of one image and returns its record.

    Args:
        source: image file, of the store or a reference.
        key: Name of the image in the store.
        store: Where the thumbnail is written.

    Raises:
        OSError: where the file cannot be read.
        UnreadableImage: where it is not an image.
        DamagedImage: where it is one of the store, and not what was written under its name.
    """
    require_undamaged(source)
    data = source.read_bytes()
    image = read_image(source)
    sketch = image.resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    record = Thumbnail(
        hashlib.sha256(data).hexdigest(),
        image.width,
        image.height,
        base64.b64encode(sketch.tobytes()).decode(),
    )
    is_lossless = max(image.size) <= LOSSLESS_SIDE
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", lossless=is_lossless, quality=QUALITY, method=4)
    write_atomic(store.image(key), encoded.getvalue())
    write_atomic(store.record(key), record.to_json())
    return record


def make_thumbnails(
    sources: Mapping[str, Path],
    store: ThumbnailStore,
    log: logging.Logger,
    on_made: Callable[[int], None] = lambda count: None,
    threads: int = 2,
) -> dict[str, str]:
    """Makes the thumbnails that are missing, and returns key -> error of images that cannot be read.

    Raises:
        CannotWrite: where there is no room for a thumbnail.

    Args:
        sources: Key of an image -> its file.
        store: Where thumbnails are.
        log: Log of the job.
        on_made: Called after each image with the number of thumbnails made so far.
        threads: Images that are worked on at a time; Pillow releases Python's lock while it scales and encodes.

    Raises:
        CannotWrite: where there is no room for a thumbnail.
    """
    missing = store.missing(sources)
    log.info("%s of %s thumbnails to make", len(missing), len(sources))
    errors: dict[str, str] = {}

    def make(key: str) -> None:
        try:
            make_thumbnail(sources[key], key, store)
        except CannotWrite:  # the image is as it should be: the next run makes its thumbnail
            raise
        except (OSError, ValueError) as error:
            errors[key] = f"{type(error).__name__}: {error}"
            log.warning("no thumbnail of %s: %s", sources[key], errors[key])

    with ThreadPoolExecutor(threads) as pool:
        for count, _ in enumerate(pool.map(make, missing), start=1):
            on_made(count)
    return errors


def image_difference(one: Thumbnail, other: Thumbnail) -> float:
    """Returns the mean absolute difference of two images, from 0 to 1.

    It is taken over the values of sketches of 32 x 32 pixels: differences finer than that are not seen.
    """
    if one.sha256 == other.sha256:
        return 0.0
    difference = one.pixels.astype(np.int16) - other.pixels.astype(np.int16)
    return float(np.abs(difference).mean() / 255)
