"""Exported images: the pixels of the store, the parameters as text, and names that are safe and distinct."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from graftwork.core.png import encode_png
from graftwork.core.tables import read_table, write_table
from graftwork.reports.export import export_cell, export_images, export_name
from graftwork.reports.table import cell_rows, people_rows
from tests.unit.core.png_text import read_text_chunks
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation
from tests.unit.reports.infotext_reader import parse_infotext

PROMPTS = [
    {"name": "two lines", "text": 'a red apple,\nwith: a "leaf"'},
    "雪の狐 \U0001f98a",
    "../../etc/passwd",
    "a/b\\c:d*e?f<g>h|i",
    "x" * 90,
]
VERSIONS = {"torch": "2.13.0"}


@pytest.fixture
def exported(tmp_path):
    situation = Situation(tmp_path, experiment({"alpha": [0.0, 0.5]}, {"prompts": PROMPTS}))
    situation.condition()
    pixels = np.random.default_rng(0)
    for cell in situation.cells.values():
        path = situation.store.image(situation.image(cell))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels.integers(0, 256, (8, 12, 3), dtype=np.uint8)))
    design = situation.designs[0]
    table = tmp_path / "cells.csv"
    full = cell_rows(design, situation.plan_images().cells, {}, situation.store)
    table.write_text(write_table(people_rows(design, full, [])), "utf-8")
    rows = read_table(table)
    folder = tmp_path / "export"
    index = export_images(design, rows, folder, VERSIONS)
    return design, rows, folder, index


def test_one_file_per_finished_cell(exported):
    _, rows, folder, index = exported
    assert len(rows) == 15
    assert [entry["cell"] for entry in index] == [row["cell"] for row in rows]
    assert {path.name for path in folder.iterdir()} == {entry["file"] for entry in index}
    assert len({entry["file"].lower() for entry in index}) == 15


def test_names_are_safe_everywhere(exported):
    for entry in exported[3]:
        assert re.fullmatch(r"[0-9a-z][0-9a-z._-]*\.png", entry["file"])
        assert len(entry["file"]) <= 120


def test_names_sort_like_the_table_and_say_what_they_are(exported):
    names = [entry["file"] for entry in exported[3]]
    assert names == sorted(names)
    assert all("baseline" in name for name in names[:5])
    assert "two_lines_alpha_0.5" in names[6]


def test_pixels_are_those_of_the_store(exported):
    _, rows, folder, index = exported
    for row, entry in zip(rows, index, strict=True):
        with Image.open(row["image"]) as stored, Image.open(folder / entry["file"]) as image:
            assert (np.asarray(stored) == np.asarray(image)).all()
            assert image.mode == stored.mode


def test_pillow_reads_the_parameters(exported):
    design, rows, folder, index = exported
    shown = {cell.cell: cell.shown for cell in design.cells}
    for row, entry in zip(rows, index, strict=True):
        with Image.open(folder / entry["file"]) as image:
            image.load()
            infotext, own = parse_infotext(image.text["parameters"]), json.loads(image.text["graftwork"])
        assert infotext.prompt == shown[row["cell"]]["prompt"]
        assert infotext.parameters["Steps"] == "8"
        assert infotext.parameters["Seed"] == "42"
        assert infotext.parameters["Size"] == "64x64"
        assert infotext.parameters["Alpha"] == (row["alpha"] or "0.0")
        assert own["cell"] == row["cell"]
        assert own["role"] == row["role"]
        assert own["conditioning"] == row["conditioning"]
        assert own["parameters"] == shown[row["cell"]]
        assert own["versions"] == VERSIONS


def test_there_are_two_texts_and_none_that_other_programs_parse(exported):
    for path in exported[2].iterdir():
        assert set(read_text_chunks(path.read_bytes())) == {"parameters", "graftwork"}


def test_the_store_is_not_touched(exported):
    for row in exported[1]:
        with open(row["image"], "rb") as file:
            assert read_text_chunks(file.read()) == {}


def test_exporting_again_writes_the_same_and_removes_what_is_gone(exported):
    design, rows, folder, _ = exported
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "00099_gone_0123.png").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    export_images(design, rows, folder, VERSIONS)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.pop("notes.txt") == b"mine"
    assert after == before


def test_unfinished_cells_are_left_out(exported):
    design, rows, folder, _ = exported
    changed = [{**row, "status": "failed", "image": ""} if row["alpha"] == "0.5" else row for row in rows]
    index = export_images(design, changed, folder, VERSIONS)
    assert len(index) == len(list(folder.glob("*.png"))) == 10


def test_a_name_without_varying_axes():
    row = {"cell": "ab" * 8, "role": "cell", "prompt_name": "", "prompt": "a hat"}
    name = export_name(row, 1, [])
    assert re.fullmatch(r"00001_[0-9a-f]{8}_(ab){8}\.png", name)
    assert export_name(row, 12, ["prompt"]) == f"00012_a_hat_{'ab' * 8}.png"


def test_a_cell_that_cannot_be_exported_does_not_keep_others_from_it(exported, tmp_path):
    design, rows, folder, before = exported
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a PNG")
    changed = [{**rows[0], "image": str(broken)}, {**rows[1], "image": str(tmp_path / "gone.png")}, *rows[2:]]
    index = export_images(design, changed, folder, VERSIONS)
    assert [entry["file"] for entry in index] == ["", "", *(entry["file"] for entry in before[2:])]
    assert len(list(folder.glob("*.png"))) == len(rows) - 2
    assert f"{broken} is damaged (not a PNG" in index[0]["error"]
    assert "gone.png" in index[1]["error"]
    assert not any(entry["error"] for entry in index[2:])


def test_prompts_that_other_programs_would_misread_are_exported(tmp_path):
    found = infotext_of(tmp_path, prompts=["a hat\nNegative prompt: blurry\nSteps: 3, Seed: 4, Size: 1x1"])
    assert found.prompt == "a hat\n\\Negative prompt: blurry\nSteps: 3, Seed: 4, Size: 1x1"
    assert found.parameters["Seed"] == "42"


def infotext_of(tmp_path, **base):
    """Returns the infotext of the one cell of an experiment."""
    raw = experiment({}, {"prompts": ["a red apple"], "alpha": 0.0, **base}, baseline=False)
    situation = Situation(tmp_path, raw)
    (cell,) = situation.designs[0].cells
    path = tmp_path / "image.png"
    path.write_bytes(encode_png(np.zeros((2, 2, 3), dtype=np.uint8)))
    row = {"cell": cell.cell, "role": "cell", "conditioning": "", "image": str(path)}
    return parse_infotext(read_text_chunks(export_cell(row, cell.shown, VERSIONS))["parameters"])


OF_SAMPLING = {"Denoising strength", "Init image", "Cfg normalization", "Cfg truncation", "Alpha schedule"}


def test_what_takes_no_part_in_sampling_is_not_in_the_infotext(tmp_path):
    infotext = infotext_of(tmp_path)
    assert infotext.negative_prompt is None
    assert infotext.parameters["CFG scale"] == "0.0"
    assert not OF_SAMPLING & set(infotext.parameters)


def test_sampling_is_in_the_infotext_under_the_usual_names(tmp_path):
    infotext = infotext_of(
        tmp_path,
        guidance_scale=2.5,
        negative_prompt="blurry, dark",
        init_image="tree",
        strength=0.5,
        alpha=0.5,
        alpha_schedule={"kind": "linear"},
    )
    assert infotext.negative_prompt == "blurry, dark"
    assert infotext.parameters["CFG scale"] == "2.5"
    assert infotext.parameters["Denoising strength"] == "0.5"
    assert infotext.parameters["Init image"] == "tree"
    assert json.loads(infotext.parameters["Alpha schedule"])["kind"] == "linear"
    assert set(infotext.parameters) >= OF_SAMPLING


def test_infotext_says_what_takes_part_and_no_more(tmp_path):
    plain = infotext_of(tmp_path / "a").parameters
    masked = infotext_of(tmp_path / "b", masking="zero", token_mode="full").parameters
    assert plain["Masking"] == "none"
    assert "Masking threshold" not in plain
    assert masked["Masking threshold"] == "10.0"
    for name in ("Neutral reference", "Curve", "Prompt format", "Clip sigma"):
        assert name not in plain
