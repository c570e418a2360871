"""What judges of pictures are trained on: scenes side by side that differ in little, and pictures that are not quite as rendered.

A generated picture has passed an autoencoder and is never clean. So pictures are disturbed: noise, colours that are a little off, soft
edges. What they show stays the same.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from graftwork.scenes.world import (
    ATTRIBUTES,
    VOCABULARY,
    Scene,
    all_scenes,
    held_out_kinds,
    render_scenes,
    split_scenes,
)

# Most noise, as standard deviation, and most of how far colours are off, in grey levels; most change of contrast.
NOISE, OFFSET, GAIN = 12.0, 8.0, 0.06
# Share of pictures whose edges are softened.
SOFT = 0.3


@cache
def attribute_table() -> np.ndarray:
    """Returns the values of all scenes as indexes into VOCABULARY: int64 (8960, 6)."""
    return np.array(
        [[VOCABULARY[a].index(getattr(scene, a)) for a in ATTRIBUTES] for scene in all_scenes()],
        dtype=np.int64,
    )


@cache
def _places() -> dict[tuple[int, ...], int]:
    return {tuple(row): index for index, row in enumerate(attribute_table().tolist())}


@cache
def _is_trained() -> np.ndarray:
    return np.array([not held_out_kinds(scene) for scene in all_scenes()])


@cache
def split_places(split: str) -> np.ndarray:
    """Returns the indexes of the scenes of a split, as in `scene_index`."""
    return np.array([_places()[_values(scene)] for scene in split_scenes(split)], dtype=np.int64)


def _values(scene: Scene) -> tuple[int, ...]:
    return tuple(VOCABULARY[a].index(getattr(scene, a)) for a in ATTRIBUTES)


def change_some(
    place: int, attributes: Sequence[str], count: int, rng: np.random.Generator, split: str = "train"
) -> int:
    """Returns the index of a scene that differs in some attributes and in no others.

    Args:
        place: index of the scene to start from.
        attributes: those that may change.
        count: how many of them change, at least 1.
        rng: decides which, and to what.
        split: "train" gives scenes of training alone, "all" any.
    """
    columns = [ATTRIBUTES.index(attribute) for attribute in attributes]
    while True:
        values = attribute_table()[place].copy()
        for column in rng.choice(columns, size=count, replace=False):
            other = rng.integers(0, len(VOCABULARY[ATTRIBUTES[column]]) - 1)
            values[column] = other + (other >= values[column])
        # None where the object has the colour of the background.
        found = _places().get(tuple(values.tolist()))
        if found is not None and (split == "all" or _is_trained()[found]):
            return found


def draw_relatives(rng: np.random.Generator, count: int, split: str = "train") -> np.ndarray:
    """Draws scenes of which every second one differs from the one before it in one to five attributes: indexes, (count,)."""
    first = rng.choice(split_places(split), size=-(-count // 2))
    near = "train" if split == "train" else "all"
    second = [change_some(int(place), ATTRIBUTES, int(rng.integers(1, 6)), rng, near) for place in first]
    return np.stack([first, np.array(second)], axis=1).reshape(-1)[:count]


def agreements(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which attributes of two lists of scenes agree: bool (scenes, others, 6)."""
    table = attribute_table()
    return table[places][:, None] == table[others][None]


@cache
def _pictures() -> np.ndarray:
    return np.zeros((len(all_scenes()), 64, 64, 3), dtype=np.uint8)


@cache
def _rendered() -> np.ndarray:
    return np.zeros(len(all_scenes()), dtype=bool)


def pictures_of(places: np.ndarray) -> np.ndarray:
    """Returns the renders of scenes at 64 px, each rendered once: uint8 (scenes, 64, 64, 3)."""
    missing = [int(place) for place in np.unique(places) if not _rendered()[place]]
    if missing:
        _pictures()[missing] = render_scenes([all_scenes()[place] for place in missing])
        _rendered()[missing] = True
    return _pictures()[places]


def disturb(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns pictures with noise, other colours and contrast, and soft edges: uint8 (n, height, width, 3), as given."""
    n = len(pictures)
    x = pictures.astype(np.float32)
    soft = rng.random(n) < SOFT
    for axis in (1, 2):
        padded = np.concatenate([x.take([0], axis), x, x.take([-1], axis)], axis)
        size = x.shape[axis]
        before, after = (padded.take(range(start, start + size), axis) for start in (0, 2))
        x = np.where(soft[:, None, None, None], 0.25 * before + 0.5 * x + 0.25 * after, x)
    gain = 1 + rng.uniform(-GAIN, GAIN, size=(n, 1, 1, 3))
    offset = rng.uniform(-OFFSET, OFFSET, size=(n, 1, 1, 3))
    noise = rng.uniform(0, NOISE, size=(n, 1, 1, 1)) * rng.standard_normal(x.shape, dtype=np.float32)
    x = (x - 127.5) * gain + 127.5 + offset + noise
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)
