"""References are found by name or path, told apart by their names, and refused as what they are."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.core.inputs import Reference
from graftwork.design.inputs import distinct_names, find_reference
from tests.unit.design.designs import expand, experiment

WHERE = "config/experiments/test.yaml: base.references"


def draw(path, grey=50, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12, 3), grey, dtype=np.uint8)).save(path, **options)
    return path


def find(root, name):
    return find_reference(name, root, FactCache(root / "facts.json"), WHERE)


def refusal(root, name):
    with pytest.raises(DesignError) as error:
        find(root, name)
    message = str(error.value)
    assert message.startswith(WHERE)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("ending", ["JPG", "Png", "TIFF", "avif", "jfif"])
def test_endings_in_any_case(tmp_path, ending):
    draw(tmp_path / f"config/references/IMG_0001.{ending}", format="PNG")
    for name in ("IMG_0001", f"IMG_0001.{ending}", f"config/references/IMG_0001.{ending}"):
        assert find(tmp_path, name).name == "IMG_0001"


def test_points_in_a_name_are_no_ending(tmp_path):
    for name in ("house.v1", "house.v2"):
        draw(tmp_path / f"config/references/{name}.png")
        assert find(tmp_path, name).name == name


def test_composed_and_decomposed_letters_are_one_name(tmp_path):
    draw(tmp_path / "config/references/cafe\u0301.png")
    assert find(tmp_path, "caf\u00e9").name == "cafe\u0301"


def test_a_name_of_two_files_is_refused(tmp_path):
    draw(tmp_path / "config/references/house.png")
    draw(tmp_path / "config/references/house.JPG")
    assert "stands for house.JPG and house.png in config/references" in refusal(tmp_path, "house")
    assert find(tmp_path, "house.png").path == "config/references/house.png"


def test_own_references_come_before_those_that_ship(tmp_path):
    draw(tmp_path / "resources/references/house.png")
    draw(tmp_path / "config/references/house.jpg")
    assert find(tmp_path, "house").path == "config/references/house.jpg"


def test_what_is_no_image_is_named(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "pic.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (photos / "notes").write_text("no image")
    os.mkfifo(photos / "pipe.png")
    assert "photos/pic.heic cannot be read: it is a HEIC image" in refusal(tmp_path, "photos/pic.heic")
    assert "photos/notes cannot be read: it is not an image" in refusal(tmp_path, "photos/notes")
    assert "photos is a folder; give the path of an image in it" in refusal(tmp_path, "photos")
    assert "photos/pipe.png is no regular file" in refusal(tmp_path, "photos/pipe.png")
    for name in ("x" * 300, "x" * 300 + ".png", "a\0b.png", "photos/none.png", "../none"):
        assert "is neither a file nor a name" in refusal(tmp_path, name)


def test_files_of_one_name_are_told_apart(tmp_path):
    one = Reference("house", "a/house.png", "1", 1, 1)
    paths = ["a/house.png", "b/house.png", "c/b/house.png", "c/b/house.jpg", "tree.png", "x/Tree.png"]
    names = distinct_names(replace(one, name=path.rpartition("/")[2][:-4], path=path) for path in paths)
    assert names == {
        "a/house.png": "a/house.png",
        "b/house.png": "b/house.png",
        "c/b/house.png": "c/b/house.png",
        "c/b/house.jpg": "c/b/house.jpg",
        "tree.png": "tree",
        "x/Tree.png": "x/Tree",
    }
    assert distinct_names([one, replace(one, path="b/house.png")]) == {
        "a/house.png": "a/house",
        "b/house.png": "b/house",
    }


def test_labels_and_tables_tell_files_of_one_name_apart(tmp_path):
    for folder, grey in (("a", 50), ("b", 90), ("c", 20)):
        draw(tmp_path / folder / "house.png", grey)
    base = {"references": ["a/house.png", "b/house.png"], "init_image": "c/house.png", "strength": 0.5}
    design = expand(tmp_path, experiment({}, base))
    (axis,) = [axis for axis in design.axes if axis.name == "reference"]
    assert axis.labels == ["a/house", "b/house"]
    cells = [cell.shown for cell in design.cells if cell.role == "cell"]
    assert {cell["reference"] for cell in cells} == {"a/house", "b/house"}
    assert {cell["init_image"] for cell in cells} == {"c/house"}


def test_a_profile_that_cannot_be_used_is_a_note(tmp_path):
    draw(tmp_path / "config/references/odd.png", icc_profile=b"no profile")
    design = expand(tmp_path, experiment({}, {"references": ["odd"]}))
    (note,) = [note for note in design.notes if "odd.png" in note]
    assert "its colour profile cannot be used" in note
    assert not any("colour" in note for note in expand(tmp_path, experiment()).notes)
