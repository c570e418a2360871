"""The scene reader: exact on renders, right on disturbed ones, and unsure of anything else."""

import io

import numpy as np
import pytest
from PIL import Image

from graftwork.scenes.reader import Reading, SceneReader, _prepare_batches
from graftwork.scenes.world import (
    ATTRIBUTES,
    RGB,
    VOCABULARY,
    Scene,
    all_scenes,
    render_scenes,
    sample_scenes,
    scene_index,
)

SAMPLE = sample_scenes(11, 400, "all")


def _to_bytes(pictures):
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)


def _add_noise(pictures, deviation, seed=0):
    return _to_bytes(pictures + np.random.default_rng(seed).normal(0, deviation, pictures.shape))


def _compress(pictures):
    compressed = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=30)
        compressed.append(np.array(Image.open(buffer)))
    return np.array(compressed)


def _shift(pictures, down, right):
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[:, 1 - down : 65 - down, 1 - right : 65 - right]


def _blur(pictures):
    moved = [_shift(pictures, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return _to_bytes(np.mean(moved, axis=0))


def _shift_colours(pictures):
    steps = np.random.default_rng(0).choice([-12, 12], (len(pictures), 1, 1, 3))
    return _to_bytes(pictures.astype(float) + steps)


def scenes_of(reading: Reading) -> list[Scene]:
    """The scene of each picture, certain or not."""
    columns = (reading.names(attribute) for attribute in ATTRIBUTES)
    return [Scene(*row) for row in zip(*columns, strict=True)]


def distances_of(reader: SceneReader, images: np.ndarray) -> np.ndarray:
    return np.concatenate([reader._distances(batch) for batch in _prepare_batches(images)])


def _accuracies(reading, scenes):
    return {
        a: np.mean([n == getattr(s, a) for n, s in zip(reading.names(a), scenes, strict=True)])
        for a in ATTRIBUTES
    }


def test_every_render_is_read_exactly(reader, renders):
    reading = reader.read(renders)
    assert scenes_of(reading) == list(all_scenes())
    assert reading.least_confidence.min() > 0.999
    assert reading.error.max() < 0.5


def test_every_larger_render_is_read_exactly(reader):
    for start in range(0, len(all_scenes()), 896):
        scenes = all_scenes()[start : start + 896]
        reading = reader.read(render_scenes(scenes, 128))
        assert scenes_of(reading) == list(scenes)
        assert reading.least_confidence.min() > 0.999


DISTURBANCES = {
    "noise": lambda pictures: _add_noise(pictures, 16),
    "jpeg": _compress,
    "blur": _blur,
    "colours": _shift_colours,
    "down": lambda pictures: _shift(pictures, 1, 0),
    "up": lambda pictures: _shift(pictures, -1, 0),
    "right": lambda pictures: _shift(pictures, 0, 1),
    "left": lambda pictures: _shift(pictures, 0, -1),
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_disturbed_renders_are_read(reader, name):
    reading = reader.read(DISTURBANCES[name](render_scenes(SAMPLE)))
    assert min(_accuracies(reading, SAMPLE).values()) >= 0.99


def test_reading_is_the_nearest_render(reader, renders):
    rng = np.random.default_rng(1)
    some = renders[rng.choice(len(renders), 24, replace=False)]
    steep = np.linspace(rng.integers(0, 256, (16, 1, 3)), rng.integers(0, 256, (16, 1, 3)), 64, axis=1)
    pictures = np.concatenate(
        [
            some,
            _add_noise(some, 64),
            _add_noise(some, 128),
            rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8),
            _to_bytes(np.broadcast_to(steep, (16, 64, 64, 3))),
        ]
    )
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    distances = []
    for start in range(0, len(renders), 1120):
        part = renders[start : start + 1120].reshape(1120, -1).astype(np.float32)
        norms = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        distances.append(norms - 2 * (flat @ part.T).astype(np.float64))
    nearest = np.concatenate(distances, axis=1).argmin(1)
    assert [scene_index(scene) for scene in scenes_of(reader.read(pictures))] == nearest.tolist()


def test_distances_are_those_to_the_renders(reader, renders):
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    table = (
        distances_of(reader, pictures)
        + (pictures.astype(float) ** 2).sum(axis=(1, 2, 3))[(...,) + (None,) * 6]
    )
    assert np.isinf(table).sum() == 3 * (10240 - 8960)
    for index in range(0, 8960, 307):
        scene = all_scenes()[index]
        order = ("shape", "size", "position", "texture", "background", "colour")
        place = tuple(VOCABULARY[a].index(getattr(scene, a)) for a in order)
        expected = ((pictures - renders[index].astype(float)) ** 2).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(table[(slice(None), *place)], expected, rtol=1e-3)


def test_confidence_falls_with_noise(reader):
    pictures = render_scenes(SAMPLE[:100])
    readings = [reader.read(_add_noise(pictures, deviation)) for deviation in (0, 4, 8, 16, 32, 64, 128)]
    for attribute in ATTRIBUTES:
        means = [reading.confidence[attribute].mean() for reading in readings]
        assert means == sorted(means, reverse=True)
        assert means[0] > 0.999
        assert means[2] > 0.85
        assert means[-1] < 0.05


def _gradients(rng):
    corners = rng.integers(0, 256, (100, 4, 1, 1, 3))
    x = np.linspace(0, 1, 64)[None, :, None]
    y = np.linspace(0, 1, 64)[:, None, None]
    one, two, three, four = corners.transpose(1, 0, 2, 3, 4)
    return _to_bytes((one * (1 - x) + two * x) * (1 - y) + (three * (1 - x) + four * x) * y)


NO_SCENES = {
    "noise": lambda rng: rng.integers(0, 256, (100, 64, 64, 3), dtype=np.uint8),
    "blocks": lambda rng: rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2),
    "gradients": _gradients,
    "grey": lambda rng: np.full((1, 64, 64, 3), 128, dtype=np.uint8),
    "halves": lambda rng: _to_bytes(
        render_scenes(sample_scenes(1, 100, "all")) / 2 + render_scenes(sample_scenes(2, 100, "all")) / 2
    ),
}


@pytest.mark.parametrize("name", NO_SCENES)
def test_what_is_no_scene_is_not_read_with_confidence(reader, name):
    reading = reader.read(NO_SCENES[name](np.random.default_rng(4)))
    assert all(np.median(reading.confidence[attribute]) < 0.1 for attribute in ATTRIBUTES)
    assert np.quantile(reading.least_confidence, 0.99) < 0.1


def test_a_missing_object_is_noticed_and_the_background_still_read(reader):
    scenes = [s for s in SAMPLE if s.texture == "plain"]
    pictures = np.array([np.full((64, 64, 3), RGB[s.background], dtype=np.uint8) for s in scenes])
    reading = reader.read(pictures)
    assert reading.names("background") == [s.background for s in scenes]
    assert reading.confidence["background"].min() > 0.7
    for attribute in ("shape", "colour", "position"):
        assert np.max(reading.confidence[attribute]) < 0.1


def test_floats_and_company_change_nothing(reader):
    pictures = _add_noise(render_scenes(SAMPLE[:40]), 30)
    reading = reader.read(pictures)
    assert len(reading) == 40
    for other in (
        reader.read(pictures / 255),
        reader.read((pictures / 255).astype(np.float32)),
        reader.read(pictures.repeat(2, axis=1).repeat(2, axis=2)),
    ):
        assert scenes_of(other) == scenes_of(reading)
        for attribute in ATTRIBUTES:
            np.testing.assert_allclose(other.confidence[attribute], reading.confidence[attribute], atol=1e-4)
    alone = reader.read(pictures[33:34])
    assert scenes_of(alone) == scenes_of(reading)[33:34]
    np.testing.assert_allclose(alone.error, reading.error[33:34], rtol=1e-5)


def test_no_pictures_give_an_empty_reading(reader):
    reading = reader.read(np.zeros((0, 64, 64, 3), dtype=np.uint8))
    assert len(reading) == 0
    assert scenes_of(reading) == []
    assert reading.least_confidence.shape == (0,)


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (np.zeros((64, 64, 3), dtype=np.uint8), ValueError, "multiple of 64"),
        (np.zeros((1, 64, 128, 3), dtype=np.uint8), ValueError, "multiple of 64"),
        (np.zeros((1, 96, 96, 3), dtype=np.uint8), ValueError, "96"),
        (np.zeros((1, 3, 64, 64), dtype=np.uint8), ValueError, "multiple of 64"),
        (np.zeros((1, 64, 64, 3), dtype=np.int64), TypeError, "int64"),
        (np.full((1, 64, 64, 3), -0.5), ValueError, "0 to 1"),
        (np.full((1, 64, 64, 3), np.nan), ValueError, "0 to 1"),
    ],
)
def test_other_arrays_are_refused(reader, images, error, text):
    with pytest.raises(error, match=text):
        reader.read(images)


def test_readers_are_alike(reader):
    picture = _add_noise(render_scenes(SAMPLE[:8]), 50)
    assert scenes_of(SceneReader().read(picture)) == scenes_of(reader.read(picture))
