"""The miniature world: every scene there is, its picture, and which combinations training never sees.

A scene is one object before a textured background, described by six attributes. The object never has the
colour of the background, which leaves 4 shapes x 8 colours x 2 sizes x 5 positions x 7 backgrounds x 4
textures = 8,960 scenes.

Lengths are in 64ths of the picture's side ("units"; one pixel at 64 px). Pictures are made with integer
arithmetic only: one raster of 512 x 512 points, averaged over boxes. So they are equal on every platform, and
the picture at 64 px is the box average of the one at 128 px, but for up to 8 levels at the edges of objects.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "cyan", "purple", "black", "white")
SIZES = ("small", "large")
POSITIONS = ("centre", "left", "right", "top", "bottom")
TEXTURES = ("plain", "striped", "dotted", "checkered")

# In the order of the fields of Scene.
VOCABULARY = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "position": POSITIONS,
    "background": COLOURS,
    "texture": TEXTURES,
}
ATTRIBUTES = tuple(VOCABULARY)

# Near the corners of the RGB cube, where colours are farthest apart, moved to where people use these names.
RGB = {
    "red": (225, 30, 30),
    "green": (20, 160, 50),
    "blue": (25, 50, 225),
    "yellow": (250, 220, 40),
    "cyan": (30, 205, 225),
    "purple": (180, 40, 195),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
}
# A texture alternates between the background's colour and the same colour moved this far, in percent, to black
# (light colours) or to white (dark ones): enough to survive a lossy autoencoder, and the name still fits.
TINT_PERCENT = 30

# Half the side of the box around the object, in units.
EXTENTS = {"small": 8, "large": 15}
CENTRES = {"centre": (32, 32), "left": (16, 32), "right": (48, 32), "top": (32, 16), "bottom": (32, 48)}
# Two latent pixels of an autoencoder of factor 8 at 64 px: one band, check or dot per latent pixel.
TEXTURE_PERIOD = 16
DOT_RADIUS = 5

SPLITS = ("train", "held_out", "all")
# What training never sees: every scene that agrees with one of these cells, named by the kind of novelty.
# Object pairs cost 1/32 of all scenes each, settings 1/224, layouts 1/80. Objects and layouts take two shapes
# each, objects and settings two and six colours, so that no value is rare among the held-out scenes.
HELD_OUT_CELLS = {
    "object": (
        {"shape": "triangle", "colour": "blue"},
        {"shape": "circle", "colour": "yellow"},
    ),
    "setting": (
        {"colour": "red", "background": "white", "texture": "striped"},
        {"colour": "green", "background": "purple", "texture": "dotted"},
        {"colour": "cyan", "background": "red", "texture": "checkered"},
        {"colour": "purple", "background": "yellow", "texture": "plain"},
        {"colour": "black", "background": "green", "texture": "checkered"},
        {"colour": "white", "background": "blue", "texture": "plain"},
    ),
    "layout": (
        {"shape": "square", "position": "left", "texture": "dotted"},
        {"shape": "cross", "position": "top", "texture": "striped"},
    ),
}

_RASTER = 512
# Odd integers count sixteenths of a unit, so that raster points lie at odd numbers and shapes at even ones.
_STEPS = 2 * _RASTER // 64


@dataclass(frozen=True, order=True)
class Scene:
    """One scene: an object of a shape, colour, size and position before a coloured, textured background.

    Raises:
        ValueError: If a value is not in the vocabulary, or the object has the colour of the background.
    """

    shape: str
    colour: str
    size: str
    position: str
    background: str
    texture: str

    def __post_init__(self) -> None:
        for attribute, allowed in VOCABULARY.items():
            value = getattr(self, attribute)
            if value not in allowed:
                raise ValueError(f"{attribute} {value!r} is not known; allowed: {', '.join(allowed)}")
        if self.colour == self.background:
            raise ValueError(f"a {self.colour} object on a {self.background} background cannot be seen")


@cache
def all_scenes() -> tuple[Scene, ...]:
    """Returns all 8,960 scenes in the order of their indexes: the last attribute changes fastest."""
    return tuple(
        Scene(shape, colour, size, position, background, texture)
        for shape, colour, size, position, background, texture in itertools.product(*VOCABULARY.values())
        if colour != background
    )


@cache
def _indexes() -> dict[Scene, int]:
    return {scene: index for index, scene in enumerate(all_scenes())}


def scene_index(scene: Scene) -> int:
    """Returns the index of a scene, 0 to 8,959; its place in `all_scenes`."""
    return _indexes()[scene]


def held_out_kinds(scene: Scene) -> tuple[str, ...]:
    """Returns the kinds of cells that hold a scene out: of "object", "setting", "layout"; none for training."""
    return tuple(
        kind
        for kind, cells in HELD_OUT_CELLS.items()
        if any(all(getattr(scene, key) == value for key, value in cell.items()) for cell in cells)
    )


@cache
def split_scenes(split: str) -> tuple[Scene, ...]:
    """Returns the scenes of a split, "train", "held_out" or "all", in the order of their indexes.

    Raises:
        ValueError: If there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not known; allowed: {', '.join(SPLITS)}")
    return tuple(
        s for s in all_scenes() if split == "all" or bool(held_out_kinds(s)) == (split == "held_out")
    )


def draw_number(seed: int, *labels: object) -> int:
    """Returns a number of 64 random bits that depends on the seed and the labels only.

    A hash, because the streams of random generators are not promised to stay the same over versions.
    """
    text = "\n".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def choose(options: Sequence[T], seed: int, *labels: object) -> T:
    """Returns one of the options; `draw_number` of the seed and the labels decides which."""
    return options[draw_number(seed, *labels) % len(options)]


def sample_scenes(seed: int, count: int, split: str) -> list[Scene]:
    """Draws scenes of a split in random order.

    No scene comes twice before each has come once; then all come again in another order. A smaller count gives
    a prefix of a larger one.

    Args:
        seed: Seed of the order.
        count: Number of scenes, 0 or more.
        split: "train", "held_out" or "all".

    Raises:
        ValueError: If the split is not known or the count is negative.
    """
    pool = split_scenes(split)
    if count < 0:
        raise ValueError(f"count {count} is negative")
    drawn: list[Scene] = []
    for round_number in range(-(-count // len(pool))):
        drawn += sorted(pool, key=lambda s: draw_number(seed, "scene", round_number, scene_index(s)))
    return drawn[:count]


def tint(colour: str) -> tuple[int, int, int]:
    """Returns the second colour of a texture on a background, 0 to 255."""
    # The weights of ITU-R BT.601 say how light a colour looks; in thousandths, to stay with integers.
    red, green, blue = RGB[colour]
    target = 0 if 299 * red + 587 * green + 114 * blue >= 128_000 else 255
    return tuple(((100 - TINT_PERCENT) * value + TINT_PERCENT * target + 50) // 100 for value in RGB[colour])


def _average(raster: np.ndarray, size: int) -> np.ndarray:
    """Counts the points of a raster, bool (512, 512), in each pixel: int32 (size, size)."""
    box = _RASTER // size
    return raster.reshape(size, box, size, box).sum(axis=(1, 3), dtype=np.int32)


def _require_size(size: int) -> None:
    if size < 16 or _RASTER % size:
        raise ValueError(f"a picture of {size} px is not possible; allowed: 16, 32, 64, 128, 256, 512")


@cache
def object_mask(shape: str, extent: str, position: str, size: int) -> np.ndarray:
    """Returns how many raster points of each pixel the object covers.

    Args:
        shape: One of SHAPES.
        extent: One of SIZES.
        position: One of POSITIONS.
        size: Side of the picture in pixels.

    Returns:
        int32 (size, size), 0 to (512 / size) ** 2; read-only, for it is shared.
    """
    _require_size(size)
    points = 2 * np.arange(_RASTER) + 1
    centre_x, centre_y = CENTRES[position]
    half = EXTENTS[extent] * _STEPS
    x = points[None, :] - centre_x * _STEPS
    y = points[:, None] - centre_y * _STEPS
    box = (abs(x) < half) & (abs(y) < half)
    if shape == "circle":
        raster = x**2 + y**2 < half**2
    elif shape == "square":
        raster = box
    elif shape == "triangle":
        # Apex at the top of the box, base its lower side.
        raster = box & (2 * abs(x) < y + half)
    elif shape == "cross":
        raster = box & ((3 * abs(x) < half) | (3 * abs(y) < half))
    else:
        raise ValueError(f"shape {shape!r} is not known; allowed: {', '.join(SHAPES)}")
    mask = _average(raster, size)
    mask.setflags(write=False)
    return mask


@cache
def texture_mask(texture: str, size: int) -> np.ndarray:
    """Returns how many raster points of each pixel have the texture's second colour.

    Args:
        texture: One of TEXTURES.
        size: Side of the picture in pixels.

    Returns:
        int32 (size, size), 0 to (512 / size) ** 2; read-only, for it is shared.
    """
    _require_size(size)
    points = 2 * np.arange(_RASTER) + 1
    period = TEXTURE_PERIOD * _STEPS
    x, y = points[None, :] % period, points[:, None] % period
    odd_column, odd_row = 2 * x >= period, 2 * y >= period
    if texture == "plain":
        raster = np.zeros((_RASTER, _RASTER), dtype=bool)
    elif texture == "striped":
        raster = odd_row | np.zeros_like(odd_column)
    elif texture == "dotted":
        raster = (x - period // 2) ** 2 + (y - period // 2) ** 2 < (DOT_RADIUS * _STEPS) ** 2
    elif texture == "checkered":
        raster = odd_row ^ odd_column
    else:
        raise ValueError(f"texture {texture!r} is not known; allowed: {', '.join(TEXTURES)}")
    mask = _average(raster, size)
    mask.setflags(write=False)
    return mask


@cache
def _render_background(background: str, texture: str, size: int) -> np.ndarray:
    """Returns the background without an object, times the raster points of a pixel: int32 (size, size, 3)."""
    points = (_RASTER // size) ** 2
    second = texture_mask(texture, size)[..., None]
    base, other = np.array([RGB[background], tint(background)], dtype=np.int32)
    picture = (points - second) * base + second * other
    picture.setflags(write=False)
    return picture


def render_scene(scene: Scene, size: int = 64) -> np.ndarray:
    """Renders a scene, antialiased and equal to the bit on every platform.

    Args:
        scene: Scene to render.
        size: Side in pixels: 64, 128, or another divisor of 512 from 16 on.

    Returns:
        uint8 (size, size, 3), sRGB.

    Raises:
        ValueError: If the size is not possible.
    """
    return render_scenes([scene], size)[0]


def render_scenes(scenes: Sequence[Scene], size: int = 64) -> np.ndarray:
    """Renders scenes as render_scene does: uint8 (scenes, size, size, 3)."""
    _require_size(size)
    points = (_RASTER // size) ** 2
    pictures = np.empty((len(scenes), size, size, 3), dtype=np.uint8)
    for picture, scene in zip(pictures, scenes, strict=True):
        covered = object_mask(scene.shape, scene.size, scene.position, size)[..., None]
        # Where a pixel is partly covered, the texture below it counts with its mean over the pixel.
        behind = _render_background(scene.background, scene.texture, size) * (points - covered)
        total = behind + covered * points * np.array(RGB[scene.colour], dtype=np.int32)
        picture[...] = (2 * total + points**2) // (2 * points**2)
    return pictures
