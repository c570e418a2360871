"""The scene reader: decodes pictures back to the attributes of a scene, with a confidence for each.

The reading is the nearest render, by squared distance over all pixels and channels, among all 8,960 scenes. No
render is stored. A render is the background times one minus the object's mask, plus the object's colour times the
mask, and the background is the base colour plus the texture's mask times the step to the tint. So the distance to
every render follows from 164 weighted sums per channel of the picture, taken with one matrix product: over the
picture, each of the 40 object masks, each texture mask and each product of the two. (Renders are rounded to whole
levels, this sum is not; the difference is below half a level per pixel.)

Confidence of an attribute. Let B be the nearest render and R its rival: the nearest render with another value of the
attribute. Both are compared on the domain of the attribute: the pixels where B and R differ, and besides, for shape,
colour, size and position all pixels of B's object, for background and texture all others. There, with d(.) the
squared distance to the picture,

    confidence = (d(R) - d(B)) / (d(R) + d(B)) * 1 / (1 + (m / 1500) ** 2)

where m is the mean squared error, in levels squared, of B over the domain. The first factor is 1 if the picture is B and 0
if it is half way between the two, and falls as anything else adds to both distances. The second is about 1 up to the
errors of noise, lossy compression or an autoencoder (m = 256 for noise of 16 levels: 0.97), and small where B does not
look like the picture at all, although all others may look like it even less (m = 4,000 for flat grey: 0.12).
It is a grade and no probability.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graftwork.scenes.world import (
    ATTRIBUTES,
    COLOURS,
    POSITIONS,
    RGB,
    SHAPES,
    SIZES,
    TEXTURES,
    VOCABULARY,
    object_mask,
    texture_mask,
    tint,
)

_SIDE = 64
_PIXELS = _SIDE**2
# Small, so that the arrays of a batch stay in the processor cache: three times as fast as 64.
_BATCH = 16
# Levels squared at which the picture counts as half unlike the render.
_MISFIT = 1500.0
# Axes of the table of distances behind the picture's: the order keeps masks, backgrounds and colours together.
_AXES = ("shape", "size", "position", "texture", "background", "colour")
_DIMENSIONS = tuple(len(VOCABULARY[axis]) for axis in _AXES)


@dataclass(frozen=True)
class Reading:
    """Attributes that the reader found in n pictures.

    Attributes:
        values: Attribute to indexes into VOCABULARY[attribute], int64 (n,).
        confidence: Attribute to confidence, float64 (n,), 0 to 1; the module says what it means.
        error: Root mean squared difference between picture and nearest render in levels of 255, float64 (n,).
    """

    values: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    error: np.ndarray

    def __len__(self) -> int:
        return len(self.error)

    @property
    def least_confidence(self) -> np.ndarray:
        """The confidence of the least certain attribute of each picture, float64 (n,)."""
        return np.min(list(self.confidence.values()), axis=0)

    def names(self, attribute: str) -> list[str]:
        """Returns the value of an attribute in each picture by name."""
        return [VOCABULARY[attribute][i] for i in self.values[attribute]]


class SceneReader:
    """Decodes pictures to scenes; make one and use it for many pictures, for it precomputes its tables."""

    def __init__(self) -> None:
        full = object_mask("square", "small", "centre", _SIDE).max()
        masks = [object_mask(s, e, p, _SIDE) / full for s in SHAPES for e in SIZES for p in POSITIONS]
        textures = [texture_mask(texture, _SIDE) / full for texture in TEXTURES]
        self._masks = np.array(masks, dtype=np.float32).reshape(-1, _PIXELS)
        self._textures = np.array(textures, dtype=np.float32).reshape(-1, _PIXELS)
        self._colours = np.array([RGB[colour] for colour in COLOURS], dtype=np.float32)
        self._steps = np.array([tint(colour) for colour in COLOURS], dtype=np.float32) - self._colours
        # Sums of the picture over: everything, each mask, each texture but plain, and each product of these.
        products = self._masks[:, None] * self._textures[None, 1:]
        self._weights = np.concatenate(
            [np.ones((1, _PIXELS)), self._masks, self._textures[1:], products.reshape(-1, _PIXELS)]
        ).astype(np.float32)
        self._norms = self._squared_norms()

    def _squared_norms(self) -> np.ndarray:
        """Returns the squared norm of every render, infinite where nothing is seen: float64 (_DIMENSIONS)."""
        m, q = self._masks.astype(np.float64), self._textures.astype(np.float64)
        base, step = self._colours.astype(np.float64), self._steps.astype(np.float64)
        rest = 1 - m
        # Behind the object: |rest * (base + q * step)|^2, per mask, texture and background.
        behind = (
            (rest**2).sum(1)[:, None, None] * (base**2).sum(1)
            + 2 * (rest**2 @ q.T)[:, :, None] * (base * step).sum(1)
            + (rest**2 @ (q**2).T)[:, :, None] * (step**2).sum(1)
        )
        # At the object's edge both count: 2 <rest * (base + q * step), m * colour>.
        edge = 2 * (
            (rest * m).sum(1)[:, None, None, None] * (base @ base.T)
            + ((rest * m) @ q.T)[:, :, None, None] * (step @ base.T)
        )
        front = (m**2).sum(1)[:, None] * (base**2).sum(1)
        norms = behind[..., None] + edge + front[:, None, None, :]
        norms[:, :, np.arange(len(COLOURS)), np.arange(len(COLOURS))] = np.inf
        return norms.reshape(_DIMENSIONS)

    def read(self, images: np.ndarray) -> Reading:
        """Decodes pictures.

        Args:
            images: uint8 (n, side, side, 3), or floats in 0 to 1 of the same shape; side a multiple of 64. Larger
                pictures are averaged over boxes to 64 x 64.

        Returns:
            Values and confidences; all the same whatever else is in the batch, up to rounding errors.

        Raises:
            TypeError: If the pictures are neither uint8 nor floats.
            ValueError: If the shape does not fit, or floats are not in 0 to 1.
        """
        parts = [self._read_batch(batch) for batch in _prepare_batches(images)]
        if not parts:
            empty = np.zeros(0)
            return Reading(
                {a: np.zeros(0, dtype=np.int64) for a in ATTRIBUTES}, {a: empty for a in ATTRIBUTES}, empty
            )
        return Reading(
            {a: np.concatenate([part.values[a] for part in parts]) for a in ATTRIBUTES},
            {a: np.concatenate([part.confidence[a] for part in parts]) for a in ATTRIBUTES},
            np.concatenate([part.error for part in parts]),
        )

    def _distances(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the squared distance to every render less the squared norm of the picture, in levels squared.

        Args:
            pictures: float32 (n, 3, 4096), 0 to 255.

        Returns:
            float64 (n, 4, 2, 5, 4, 8, 8): shape, size, position, texture, background, colour; infinite where object
            and background have one colour.
        """
        n, masks, textures = len(pictures), len(self._masks), len(self._textures)
        # float32 (n, 3, 164), with errors far below the distance between any two renders; the sums of few terms
        # that follow are done in float64.
        sums = (pictures.reshape(3 * n, _PIXELS) @ self._weights.T).reshape(n, 3, -1).astype(np.float64)
        everything = sums[:, :, :1]
        on_mask = sums[:, :, 1 : 1 + masks]
        tinted = np.concatenate([np.zeros((n, 3, 1)), sums[:, :, 1 + masks : masks + textures]], axis=2)
        both = sums[:, :, masks + textures :].reshape(n, 3, masks, textures - 1)
        both = np.concatenate([np.zeros((n, 3, masks, 1)), both], axis=3)
        base = np.einsum("nim,bi->nmb", everything - on_mask, self._colours, optimize=True)[:, :, None]
        step = np.einsum("nimt,bi->nmtb", tinted[:, :, None] - both, self._steps, optimize=True)
        front = np.einsum("nim,ci->nmc", on_mask, self._colours, optimize=True)[:, :, None, None]
        products = (base + step)[..., None] + front
        return self._norms - 2 * products.reshape(n, *_DIMENSIONS)

    def _read_batch(self, pictures: np.ndarray) -> Reading:
        n = len(pictures)
        distances = self._distances(pictures)
        best = _unravel(distances.reshape(n, -1).argmin(1))
        render, mask = self._compose(best)
        squares = ((pictures - render) ** 2).sum(1)
        pick = np.arange(n)
        best_distance = distances[(pick, *best.values())]
        confidence = {}
        for attribute in ATTRIBUTES:
            rival = _find_rival(distances, best, attribute)
            # Outside the domain the two are equal, so its difference of distances is that of the whole picture.
            margin = distances[(pick, *rival.values())] - best_distance
            is_setting = attribute in ("background", "texture")
            differs = (abs(self._compose(rival)[0] - render) > 0.5).any(1)
            domain = np.where(differs, 1, 1 - mask if is_setting else mask)
            near = (squares * domain).sum(1, dtype=np.float64)
            misfit = near / (3 * domain.sum(1)) / _MISFIT
            confidence[attribute] = margin / (margin + 2 * near) / (1 + misfit**2)
        error = np.sqrt(squares.sum(1, dtype=np.float64) / (3 * _PIXELS))
        return Reading({attribute: best[attribute] for attribute in ATTRIBUTES}, confidence, error)

    def _compose(self, index: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns renders, float32 (n, 3, 4096), and the masks of their objects, float32 (n, 4096)."""
        mask = self._masks[np.ravel_multi_index([index[a] for a in _AXES[:3]], _DIMENSIONS[:3])]
        texture = self._textures[index["texture"]]
        base, step = self._colours[index["background"]], self._steps[index["background"]]
        behind = base[..., None] + texture[:, None] * step[..., None]
        return behind + mask[:, None] * (self._colours[index["colour"]][..., None] - behind), mask


def _prepare_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields pictures as float32 (up to 16, 3, 4096), 0 to 255."""
    images = np.asarray(images)
    shape = images.shape
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or not shape[1] or shape[1] % _SIDE:
        raise ValueError(f"images of shape {shape}; allowed: (n, side, side, 3), side a multiple of {_SIDE}")
    is_float = np.issubdtype(images.dtype, np.floating)
    if not is_float and images.dtype != np.uint8:
        raise TypeError(f"images of type {images.dtype}; allowed: uint8, or floats in 0 to 1")
    # Written so that NaN fails too.
    if is_float and not ((images >= 0) & (images <= 1)).all():
        raise ValueError(
            "images of floats must lie in 0 to 1; clip them, or convert from other ranges, before"
        )
    box = shape[1] // _SIDE
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH].astype(np.float32) * (255 if is_float else 1)
        if box > 1:
            batch = sum(batch[:, i::box, j::box] for i in range(box) for j in range(box)) / box**2
        yield np.ascontiguousarray(batch.reshape(-1, _PIXELS, 3).transpose(0, 2, 1))


def _unravel(flat: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(_AXES, np.unravel_index(flat, _DIMENSIONS), strict=True))


def _find_rival(distances: np.ndarray, best: dict[str, np.ndarray], attribute: str) -> dict[str, np.ndarray]:
    """Returns the indexes of the nearest render that has another value of an attribute than the best has."""
    n, axis = len(distances), _AXES.index(attribute)
    before, count = int(np.prod(_DIMENSIONS[:axis])), _DIMENSIONS[axis]
    others = distances.reshape(n, before, count, -1).copy()
    others[np.arange(n), :, best[attribute]] = np.inf
    return _unravel(others.reshape(n, -1).argmin(1))
