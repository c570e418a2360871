"""Scenes, their pictures, and the combinations held out of training."""

import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest

from graftwork.scenes.world import (
    ATTRIBUTES,
    COLOURS,
    HELD_OUT_CELLS,
    RGB,
    SPLITS,
    VOCABULARY,
    Scene,
    all_scenes,
    held_out_kinds,
    object_mask,
    render_scene,
    render_scenes,
    sample_scenes,
    scene_index,
    split_scenes,
    texture_mask,
    tint,
)

SCENE = Scene("circle", "red", "large", "left", "blue", "plain")


def test_every_scene_has_one_index():
    assert len(all_scenes()) == len(set(all_scenes())) == 4 * 8 * 2 * 5 * 7 * 4
    assert [scene_index(scene) for scene in all_scenes()] == list(range(8960))


@pytest.mark.parametrize(("attribute", "value"), [("shape", "star"), ("background", "red"), ("texture", "")])
def test_scenes_that_do_not_exist_are_refused(attribute, value):
    with pytest.raises(ValueError, match=r"allowed|cannot be seen"):
        replace(SCENE, **{attribute: value})


def test_all_pictures_differ(renders):
    assert len({picture.tobytes() for picture in renders}) == len(renders)


def test_pictures_do_not_change(renders):
    # Pictures are equal to the bit everywhere. If they change on purpose, everything trained on them is stale.
    digest = hashlib.sha256(renders.tobytes()).hexdigest()
    assert digest == "4a272d48216aba606066fae8fc3f50430129d7794729050640b97efe6c348be4"
    larger = render_scenes(all_scenes()[::97], 128)
    assert (
        hashlib.sha256(larger.tobytes()).hexdigest()
        == "af34d0655f93ff07947c9467441313403a69455d7d7aad96e393047443461fcb"
    )


def test_picture_shows_its_scene():
    picture = render_scene(SCENE)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[32, 16]) == RGB["red"]
    assert tuple(picture[32, 60]) == tuple(picture[0, 0]) == RGB["blue"]


def test_larger_pictures_average_to_smaller_ones():
    for scene in all_scenes()[::211]:
        averaged = render_scene(scene, 128).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        # Half a level of rounding where pixels are averaged; at an object's edge on a texture, which is mixed with
        # its mean over the pixel, a few more.
        difference = abs(averaged - render_scene(scene))
        assert difference.max() <= 8
        assert (difference > 0.75).mean() < 0.01


@pytest.mark.parametrize("size", [0, 8, 96, 1024])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"{size} px"):
        render_scene(SCENE, size)


def test_objects_lie_inside_at_their_place():
    full = object_mask("square", "small", "centre", 64).max()
    for values in itertools.product(VOCABULARY["shape"], VOCABULARY["size"], VOCABULARY["position"]):
        mask = object_mask(*values, 64) / full
        assert mask[[0, -1]].max() == mask[:, [0, -1]].max() == 0, values
        assert 80 < mask.sum() < 901, values
        left, top = mask[:, :32].sum(), mask[:32].sum()
        assert (left > 0.99 * mask.sum()) == (values[2] == "left") or values[1] == "large"
        assert (top > 0.99 * mask.sum()) == (values[2] == "top") or values[1] == "large"


def test_textures_repeat_every_16_pixels():
    for texture in VOCABULARY["texture"]:
        mask = texture_mask(texture, 64)
        assert (mask == np.roll(mask, 16, axis=0)).all()
        assert (mask == np.roll(mask, 16, axis=1)).all()
        assert (texture == "plain") == (mask.max() == 0)


def test_colours_are_far_apart_and_keep_their_name_when_textured():
    for one, other in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(np.subtract(RGB[one], RGB[other])) > 140
    for colour in COLOURS:
        assert np.linalg.norm(np.subtract(tint(colour), RGB[colour])) > 60
        blurred = np.add(tint(colour), RGB[colour]) / 2
        distances = {other: np.linalg.norm(blurred - RGB[other]) for other in COLOURS}
        assert min(distances, key=distances.get) == colour


def test_splits_share_nothing_and_miss_nothing():
    train, held_out = set(split_scenes("train")), set(split_scenes("held_out"))
    assert not train & held_out
    assert train | held_out == set(split_scenes("all")) == set(all_scenes())
    assert len(held_out) == 1020
    with pytest.raises(ValueError, match="'test'"):
        split_scenes("test")


@pytest.mark.parametrize("split", SPLITS)
def test_every_value_is_frequent_in_every_split(split):
    scenes = split_scenes(split)
    for attribute, values in VOCABULARY.items():
        counts = Counter(getattr(scene, attribute) for scene in scenes)
        assert set(counts) == set(values)
        # At least half of an even share.
        assert min(counts.values()) > 0.5 * len(scenes) / len(values)


def _combinations(scenes, count):
    for names in itertools.combinations(ATTRIBUTES, count):
        for values in set(map(attrgetter(*names), scenes)):
            yield frozenset(zip(names, values, strict=True))


@pytest.mark.parametrize("count", [2, 3])
def test_training_misses_the_cells_and_no_other_combination(count):
    missing = set(_combinations(all_scenes(), count)) - set(_combinations(split_scenes("train"), count))
    cells = [frozenset(cell.items()) for kind in HELD_OUT_CELLS.values() for cell in kind]
    assert all(any(cell <= combination for cell in cells) for combination in missing)
    assert {cell for cell in cells if len(cell) == count} <= missing
    if count == 2:
        assert len(missing) == 2


def test_kinds_of_novelty_are_named():
    assert held_out_kinds(SCENE) == ()
    assert held_out_kinds(Scene("triangle", "blue", "large", "left", "red", "plain")) == ("object",)
    assert held_out_kinds(Scene("cross", "red", "small", "top", "white", "striped")) == ("setting", "layout")


def test_samples_are_prefixes_without_repeats():
    drawn = sample_scenes(3, 1020, "held_out")
    assert set(drawn) == set(split_scenes("held_out"))
    assert sample_scenes(3, 50, "held_out") == drawn[:50]
    assert sample_scenes(4, 50, "held_out") != drawn[:50]
    twice = sample_scenes(3, 2040, "held_out")
    assert twice[:1020] == drawn
    assert sorted(twice[1020:]) == sorted(drawn)
    assert twice[1020:] != drawn
    assert sample_scenes(3, 0, "train") == []
    with pytest.raises(ValueError, match="-1"):
        sample_scenes(3, -1, "train")


def test_samples_do_not_change():
    assert [scene_index(scene) for scene in sample_scenes(0, 5, "train")] == [2542, 158, 3718, 8017, 119]
