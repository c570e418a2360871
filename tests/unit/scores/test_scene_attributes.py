"""Scoring images of the miniature world: readings, truths, what is refused, what is missing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftwork.core.errors import DesignError
from graftwork.scenes.captions import ABOUT, write_partial
from graftwork.scenes.reader import SceneReader
from graftwork.scenes.world import ATTRIBUTES, Scene, all_scenes, render_scene
from graftwork.scores.registry import UNSCORED, CellToScore
from graftwork.scores.scene_attributes.score import (
    COLUMNS,
    common_attributes,
    measure_cells,
    read_references,
)
from graftwork.scores.table import score_rows
from tests.unit.design.designs import expand, experiment
from tests.unit.scores.scored import (
    CAPTIONS,
    SHOWN,
    WANTED,
    images_of,
    make_design,
    paint_table,
    save_picture,
    save_references,
)

FILE = "config/experiments/test.yaml"
SCENES = st.sampled_from(all_scenes())


def score(tmp_path: Path, image: Scene, prompt: str, reference: Scene | None) -> dict:
    references = {}
    if reference is not None:
        references = {"sha": save_picture(tmp_path / "reference.png", render_scene(reference, 128))}
    path = save_picture(tmp_path / "image.png", render_scene(image))
    cell = CellToScore(prompt, ("sha",) if reference else (), path)
    return measure_cells([cell], references)[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=SCENES, prompt=SCENES, reference=st.none() | SCENES, about=st.sampled_from(list(ABOUT)))
def test_columns_say_what_is_known_of_the_scenes(tmp_path, image, prompt, reference, about):
    row = score(tmp_path, image, write_partial(prompt, about, 7), reference)
    assert list(row) == [UNSCORED, *(column.name for column in COLUMNS)]
    assert row["unscored"] is None
    assert row["least_confidence"] == min(row[f"confidence_{a}"] for a in ATTRIBUTES) > 0.9
    for a in ATTRIBUTES:
        v, p = getattr(image, a), getattr(prompt, a) if a in ABOUT[about] else None
        r = getattr(reference, a) if reference else None
        assert (row[f"read_{a}"], row[f"prompt_{a}"], row[f"reference_{a}"]) == (v, p, r)
        assert row[f"follows_prompt_{a}"] == (None if p is None else int(v == p))
        assert row[f"follows_reference_{a}"] == (None if r is None or r == p else int(v == r))


def test_each_distinct_image_is_read_once(tmp_path, monkeypatch):
    read = []
    original = SceneReader.read

    def counting(self, images):
        read.append(len(images))
        return original(self, images)

    monkeypatch.setattr(SceneReader, "read", counting)
    design = make_design(CAPTIONS, {"shown": SHOWN}, hidden_layer=[-2, -4, -6])
    save_references({"shown": SHOWN}, tmp_path)
    rows = paint_table(design, tmp_path / "images", lambda p: render_scene(SHOWN if p["alpha"] else WANTED))
    scored = score_rows(design.cells, images_of(rows), design.references, ["scene_attributes"], tmp_path)
    assert sum(read) == 2 + 1  # Two images and a reference.
    assert [row["cell"] for row in scored] == [row["cell"] for row in rows]
    assert {row["read_shape"] for row in scored} == {"circle", "cross"}


def test_cells_without_an_image_say_so_and_keep_what_was_aimed_at(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN})
    save_references({"shown": SHOWN}, tmp_path)
    rows = paint_table(design, tmp_path / "images", lambda p: None if p["alpha"] else render_scene(WANTED))
    for row, found in zip(
        rows,
        score_rows(design.cells, images_of(rows), design.references, ["scene_attributes"], tmp_path),
        strict=True,
    ):
        empty = {key for key, value in found.items() if value is None}
        if row["image"]:
            assert found["unscored"] is None
            assert found["read_shape"] == "circle"
        else:
            assert found["unscored"] == "there is no image"
            assert found["reference_shape"] == "cross"
            assert {"image", "read_shape", "least_confidence", "follows_prompt_shape"} <= empty


def test_baselines_have_no_reference(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN})
    save_references({"shown": SHOWN}, tmp_path)
    rows = paint_table(design, tmp_path / "images", lambda p: render_scene(WANTED))
    by_cell = {
        row["cell"]: row
        for row in score_rows(
            design.cells, images_of(rows), design.references, ["scene_attributes"], tmp_path
        )
    }
    assert by_cell["baseline full 1"]["reference_shape"] is None
    assert by_cell["baseline full 1"]["follows_reference_shape"] is None
    assert by_cell["baseline full 1"]["follows_prompt_shape"] == 1


def test_damaged_images_are_unscored_with_the_reason(tmp_path):
    path = save_picture(tmp_path / "image.png", render_scene(WANTED))
    path.write_bytes(path.read_bytes()[:200])
    row = measure_cells([CellToScore(CAPTIONS["full"], (), path)], {})[0]
    assert "image.png cannot be read" in row["unscored"]
    assert row["read_shape"] is None


@pytest.mark.parametrize("kind", ["noise", "grey", "black"])
def test_pictures_of_no_scene_are_read_with_little_confidence(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = {"noise": noise, "grey": np.full_like(noise, 128), "black": np.zeros_like(noise)}[kind]
    row = measure_cells([CellToScore(CAPTIONS["full"], (), save_picture(tmp_path / "i.png", pixels))], {})[0]
    assert row["unscored"] is None
    assert row["read_shape"]
    assert 0 <= row["least_confidence"] < 0.1


def test_larger_images_are_read_too(tmp_path):
    path = save_picture(tmp_path / "image.png", render_scene(SHOWN, 256))
    row = measure_cells([CellToScore(CAPTIONS["full"], (), path)], {})[0]
    assert [row[f"read_{a}"] for a in ATTRIBUTES] == [getattr(SHOWN, a) for a in ATTRIBUTES]


def test_references_are_read_from_their_pixels(tmp_path):
    save_references({"one": WANTED, "other": SHOWN}, tmp_path)
    paths = {name: tmp_path / "references" / f"{name}.png" for name in ("one", "other")}
    assert read_references(paths) == {"one": vars(WANTED), "other": vars(SHOWN)}


@pytest.mark.parametrize(
    ("pixels", "parts"),
    [
        (np.full((64, 64, 3), 128, dtype=np.uint8), ["does not look like a scene", "at least 0.5"]),
        (np.zeros((64, 128, 3), dtype=np.uint8), ["128 x 64", "multiple of 64"]),
    ],
)
def test_references_that_are_no_scenes_are_refused(tmp_path, pixels, parts):
    path = save_picture(tmp_path / "mine.png", pixels)
    with pytest.raises(ValueError, match="'mine'") as error:
        read_references({"mine": path})
    for part in ["mine.png", *parts]:
        assert part in str(error.value)


def asking(**base):
    usual = {"prompts": [CAPTIONS["full"]], "references": ["shown"], **base}
    return experiment({}, usual, scores=["scene_attributes"])


def save_shown(root: Path) -> None:
    save_picture(root / "config" / "references" / "shown.png", render_scene(SHOWN, 128))


@pytest.mark.parametrize("caption", CAPTIONS.values())
def test_captions_and_scenes_are_accepted(tmp_path, caption):
    save_shown(tmp_path)
    design = expand(tmp_path, asking(prompts=[caption], references=["shown", None]))
    assert design.scores == ["scene_attributes"]


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ({"prompts": ["a red apple"]}, ["prompt 'a red apple'", "no caption", "allowed: full captions"]),
        (
            {"prompts": [CAPTIONS["full"], {"name": "boat", "text": "a boat"}]},
            ["prompt 'boat', 'a boat',", "no caption"],
        ),
        (
            {"prompts": ["a large red circle on the left of a plain red background"]},
            ["a red object on a red background", "two different colours"],
        ),
        ({"references": ["house"]}, ["reference 'house'", "12 x 8 pixels", "multiple of 64"]),
        ({"height": 128}, ["height 128 and width 64", "square", "multiple of 64"]),
        ({"height": 32, "width": 32}, ["height 32 and width 32"]),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_made(tmp_path, base, parts):
    save_shown(tmp_path)
    with pytest.raises(DesignError) as error:
        expand(tmp_path, asking(**base))
    for part in [FILE, "scores: scene_attributes", *parts]:
        assert part in str(error.value)


def test_sizes_on_axes_are_looked_at(tmp_path):
    save_shown(tmp_path)
    raw = asking()
    raw["axes"] = {"width": [64, 128]}
    with pytest.raises(DesignError, match="height 64 and width 128"):
        expand(tmp_path, raw)


def test_prompts_on_an_axis_are_looked_at(tmp_path):
    save_shown(tmp_path)
    raw = asking()
    raw["axes"] = {"prompt": [CAPTIONS["full"], "a blue boat"]}
    with pytest.raises(DesignError, match="'a blue boat'"):
        expand(tmp_path, raw)


def test_a_set_of_references_shows_what_all_of_them_show():
    one = {"colour": "red", "background": "blue", "shape": "circle"}
    other = {"colour": "red", "background": "green", "shape": "circle"}
    assert common_attributes([one]) == one
    assert common_attributes([one, other]) == {"colour": "red", "shape": "circle"}
    assert common_attributes([]) == {}
