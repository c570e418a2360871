"""Reference images: what a file holds becomes 8-bit RGB, and images that show nothing are known by a name.

A reference is compared with an image that shows nothing, whose name says everything about the pixels.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

GREY = "grey"
_LEVEL = 128
_NAME = re.compile(rf"{GREY}:(\d+)x(\d+)")
_MAX_16_BIT = 65535


def grey_reference(width: int, height: int) -> str:
    """Returns the name of a solid grey image (128 in every channel) of this size in pixels."""
    return f"{GREY}:{width}x{height}"


def is_neutral_image(reference: str | None) -> bool:
    """Returns whether the identity of a reference is the name of an image that shows nothing."""
    return reference is not None and _NAME.fullmatch(reference) is not None


def open_reference(path: str | Path) -> Image.Image:
    """Returns the image at a path, or the neutral one of this name, as RGB.

    Raises:
        ValueError: as `load_reference_image`.
    """
    size = _NAME.fullmatch(str(path))
    if size is None:
        return load_reference_image(path)
    return Image.new("RGB", (int(size[1]), int(size[2])), (_LEVEL,) * 3)


def load_reference_image(path: str | Path) -> Image.Image:
    """Reads an image as RGB, upright, with transparency composited on white.

    16-bit grey is scaled to 8 bit. Of an animation the first frame is read. Colour profiles are not applied.

    Args:
        path: An image file of any format that Pillow reads.

    Returns:
        A new image in mode RGB without metadata.

    Raises:
        ValueError: naming the file, where it is missing, empty, truncated, not an image, or of a pixel type
            that has no agreed range (floating point, or integers beyond 16 bit).
    """
    path = Path(path)
    where = "change config/references, or the reference in config/experiments/*.yaml"
    if not path.is_file():
        raise ValueError(f"reference image {path} does not exist; {where}")
    if path.stat().st_size == 0:
        raise ValueError(f"reference image {path} is empty; {where}")
    try:
        with Image.open(path) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    # Decoders raise whatever they meet in a damaged file (OSError, SyntaxError, struct.error, EOFError ...).
    except Exception as error:
        raise ValueError(f"reference image {path} cannot be read: {error}; {where}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray(_scale_to_8_bit(np.asarray(image)))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; convert the file to 8 or 16 bit")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.replace("a", "A"))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    rgb = image.convert("RGB")
    # A fresh image: metadata (EXIF, text chunks, profiles) must not travel on.
    return Image.fromarray(np.array(rgb, dtype=np.uint8))


def _scale_to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Scales 0..65535 to 0..255 with rounding; both ends map onto each other."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _MAX_16_BIT:
        raise ValueError(
            f"its pixels range from {low} to {high}, beyond 16 bit; convert the file to 8 or 16 bit"
        )
    return ((pixels.astype(np.uint32) * 255 + _MAX_16_BIT // 2) // _MAX_16_BIT).astype(np.uint8)
