"""The one reader of images: what a file holds becomes 8-bit RGB, and images that show nothing are known by a name.

Encoders, images to start from, scores, grids and previews all read here, so that people see the pixels that models saw.
A reference is compared with an image that shows nothing, whose name says everything about the pixels.
"""

import io
import re
import stat
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from graftwork.core.code_digest import outside_digests

GREY = "grey"
# Pillow goes by content, and for some formats it starts other programs: no others are tried, whatever a file is called.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
_LEVEL = 128
_NAME = re.compile(rf"{GREY}:(\d+)x(\d+)")
_MAX_16_BIT = 65535
# Orientations of EXIF that exchange width and height.
_ON_THEIR_SIDE = (5, 6, 7, 8)
# Modes of Pillow -> the colour space that a profile of such pixels is for.
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
# Beginnings of files that people take for images, and what they are: (bytes, where they stand, name).
_KNOWN = (
    (b"ftypheic", 4, "a HEIC image"),
    (b"ftypheix", 4, "a HEIC image"),
    (b"ftyphevc", 4, "a HEIC image"),
    (b"ftypmif1", 4, "a HEIF image"),
    (b"ftypmsf1", 4, "a HEIF image"),
    (b"ftypavif", 4, "an AVIF image"),
    (b"ftypavis", 4, "an AVIF image"),
    (b"ftypcrx ", 4, "a raw photograph"),
    (b"ftyp", 4, "a video"),
    (b"\xff\x0a", 0, "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", 0, "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", 0, "a JPEG 2000 image"),
    (b"%!PS", 0, "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", 0, "a PostScript file"),
    (b"%PDF", 0, "a PDF file"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"DDS ", 0, "a DDS texture"),
    (b"v/1\x01", 0, "an OpenEXR image"),
    (b"PK\x03\x04", 0, "a ZIP archive"),
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"version https://git-lfs", 0, "a pointer of Git LFS, whose content was not downloaded"),
)
_MARKUP = ((b"<svg", "an SVG drawing"), (b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"))
_HEAD_BYTES = 512


class UnreadableImage(ValueError):
    """An image file that cannot be read. The message says why, without the path."""


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
    """Reads an image as `read_image` does, with errors that name the file.

    Raises:
        ValueError: naming the file and what to do about it.
    """
    path = Path(path)
    where = "change config/references, or the reference in config/experiments/*.yaml"
    try:
        return read_image(path)
    except UnreadableImage as error:
        raise ValueError(f"reference image {path} {error}; {where}") from error


def read_image(path: Path) -> Image.Image:
    """Reads an image as sRGB, upright, with transparency composited on white.

    16-bit grey is scaled to 8 bit. Of an animation the first frame is read. A colour profile is applied; one that cannot
    be is left out (see `profile_warning`).

    Args:
        path: Image file of one of `FORMATS`.

    Returns:
        A new image in mode RGB without metadata.

    Raises:
        UnreadableImage: for a file that is missing, empty, truncated, no image, or of a pixel type that has no agreed
            range (floating point, or integers beyond 16 bit).
    """
    _check_file(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), image.info.get("icc_profile"))
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"cannot be read: {_what_it_is(path)}") from error
    # Decoders raise whatever they meet in a damaged file (OSError, SyntaxError, struct.error, EOFError ...).
    except Exception as error:
        raise UnreadableImage(f"cannot be read: {' '.join(str(error).split())}") from error


def image_size(path: Path) -> tuple[int, int]:
    """Returns the width and height that `read_image` gives, from the header alone.

    Raises:
        UnreadableImage: as `read_image`; damage behind the header is not found.
    """
    _check_file(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
            return image.size[::-1] if turned else image.size
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"cannot be read: {_what_it_is(path)}") from error
    except Exception as error:  # As above.
        raise UnreadableImage(f"cannot be read: {' '.join(str(error).split())}") from error


@outside_digests("says what is lost; the pixels are those of read_image")
def profile_warning(path: Path) -> str | None:
    """Returns why the colour profile of a readable image was not applied, or None where it was or there is none."""
    with Image.open(path, formats=FORMATS) as image:
        profile = image.info.get("icc_profile")
        if not profile:
            return None
        image.load()
        try:
            _apply_profile(_opaque(image)[0], profile)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            return f"its colour profile cannot be used ({error}), so that its colours are taken for sRGB"
    return None


@outside_digests("refuses files; what is read of them is decided elsewhere")
def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise UnreadableImage("does not exist") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("is a folder; give the path of an image in it")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("is no regular file (a pipe, socket or device); give the path of an image")
    if status.st_size == 0:
        raise UnreadableImage("is empty")


@outside_digests("words of a message")
def _what_it_is(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    kind = next((name for mark, at, name in _KNOWN if head[at : at + len(mark)] == mark), None)
    kind = kind or next((name for mark, name in _MARKUP if mark in head.lower()), None)
    known = ", ".join(FORMATS)
    if kind is None:
        return f"it is not an image of a known format; allowed: {known}"
    return f"it is {kind}, whatever its name says; convert it to PNG (allowed: {known})"


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    colours, alpha = _opaque(image)
    rgb = None
    if profile:
        try:
            rgb = _apply_profile(colours, profile)
        except (ImageCms.PyCMSError, OSError, ValueError):
            rgb = None  # `profile_warning` tells.
    rgb = colours.convert("RGB") if rgb is None else rgb
    if alpha is not None:
        layered = rgb.copy()
        layered.putalpha(alpha)
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        rgb = Image.alpha_composite(white, layered).convert("RGB")
    # A fresh image: metadata (EXIF, text chunks, profiles) must not travel on.
    return Image.fromarray(np.array(rgb, dtype=np.uint8))


def _opaque(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Returns the colours of an image, 8 bits a channel, and how opaque it is where; None where it is everywhere."""
    if image.mode.startswith("I"):
        image = Image.fromarray(_scale_to_8_bit(np.asarray(image)))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; convert the file to 8 or 16 bit")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.replace("a", "A"))
    if "A" in image.getbands() or "transparency" in image.info:
        layered = image.convert("RGBA")
        colours = image.getchannel("L") if image.mode == "LA" else layered.convert("RGB")
        return colours, layered.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _SPACES else image.convert("RGB")), None


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = own.profile.xcolor_space.strip()
    if space != _SPACES[image.mode]:
        raise ValueError(f"it is one for {space}, but the pixels are {image.mode}")
    converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        raise ValueError("it gives no colours")
    return converted


def _scale_to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Scales 0..65535 to 0..255 with rounding; both ends map onto each other."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _MAX_16_BIT:
        raise ValueError(
            f"its pixels range from {low} to {high}, beyond 16 bit; convert the file to 8 or 16 bit"
        )
    return ((pixels.astype(np.uint32) * 255 + _MAX_16_BIT // 2) // _MAX_16_BIT).astype(np.uint8)
