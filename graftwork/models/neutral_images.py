"""Images that show nothing, by name: what a reference is compared with. A name says everything about the pixels."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

GREY = "grey"
_LEVEL = 128
_NAME = re.compile(rf"{GREY}:(\d+)x(\d+)")


def grey_reference(width: int, height: int) -> str:
    """Returns the name of a solid grey image (128 in every channel) of this size in pixels."""
    return f"{GREY}:{width}x{height}"


def is_neutral_image(reference: str | None) -> bool:
    """Returns whether the identity of a reference is the name of an image that shows nothing."""
    return reference is not None and _NAME.fullmatch(reference) is not None


def open_reference(path: str | Path) -> "Image.Image":
    """Returns the image at a path, or the neutral one of this name, as RGB.

    Raises:
        ValueError: as `load_reference_image`.
    """
    # Here, for names are asked for while the workflow is parsed, and pixels are not.
    from PIL import Image

    from graftwork.models.images import load_reference_image

    size = _NAME.fullmatch(str(path))
    if size is None:
        return load_reference_image(path)
    return Image.new("RGB", (int(size[1]), int(size[2])), (_LEVEL,) * 3)
