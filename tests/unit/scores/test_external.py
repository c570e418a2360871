"""Scores by a command: what it is given, what is made of its table, and every way in which it can fail."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from graftwork.core.errors import DesignError
from graftwork.scores import registry
from graftwork.scores.external import register_external
from graftwork.scores.registry import ScoreInputs
from graftwork.scores.table import Besides, score_rows
from tests.unit.scores.scored import CAPTIONS, SHOWN, images_of, make_design, paint_table, save_references

# What the command does: one line for each image that it was given, and a table with its mean level.
PROGRAM = """
import csv, os, sys
from PIL import Image
given = list(csv.DictReader(open(sys.argv[1], newline="")))
open("LOG", "a").write("".join(row["prompt"] + "\\n" for row in given))
with open(sys.argv[2], "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["row", "level", "lettering"])
    for row in given:
        assert os.path.isfile(row["image"]) and "PYTHONPATH" not in os.environ
        has_both = os.path.isfile(row["reference"]) and os.path.isfile(row["baseline"])
        table.writerow([row["row"], Image.open(row["image"]).getpixel((0, 0))[0], 1 if has_both else ""])
"""


@pytest.fixture
def external(tmp_path, monkeypatch):
    """Returns a function that registers a score `mine` with changes of its file."""
    registry.scores()
    monkeypatch.setattr("graftwork.scores.table.code_digest", lambda *functions: "code")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("LOG", str(tmp_path / "log.txt")))

    def make(**changes):
        monkeypatch.setattr(registry, "_SCORES", {})
        content = {
            "meaning": "A test.",
            "command": [sys.executable, str(program), "{input}", "{output}"],
            "files": [str(program)],
            "columns": {
                "level": {"label": "a level", "unit": "grey levels", "bounds": [0, 255], "better": "higher"},
                "lettering": {"label": "lettering", "against": "reference"},
            },
            **changes,
        }
        folder = tmp_path / "external"
        folder.mkdir(exist_ok=True)
        (folder / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        register_external(folder)
        return registry.scores()["mine"]

    return make


def run(tmp_path, level=lambda parameters: 7, keep=True):
    design = make_design({"full": CAPTIONS["full"]}, {"shown": SHOWN}, seeds=(1, 2), alphas=(1.0,))
    save_references({"shown": SHOWN}, tmp_path)

    def painter(parameters):
        role = 100 if "reference" not in parameters else 0
        return np.full((64, 64, 3), level(parameters) + parameters["seed"] + role, dtype=np.uint8)

    images = images_of(paint_table(design, tmp_path / "images", painter))
    besides = Besides(design.baselines, tmp_path / "values" if keep else None)
    return design, score_rows(design.cells, images, design.references, ["mine"], tmp_path, besides)


def asked(tmp_path):
    return len((tmp_path / "log.txt").read_text().splitlines())


def test_a_command_measures_what_is_not_known(tmp_path, external):
    score = external()
    assert [column.unit for column in score.columns] == ["grey levels", ""]
    design, rows = run(tmp_path)
    for cell, row in zip(design.cells, rows, strict=True):
        is_cell = cell.role == "cell"
        assert row["level"] == 7.0 + cell.parameters["seed"] + (0 if is_cell else 100)
        assert row["lettering"] == (1.0 if is_cell else None)
        assert row["unscored"] is None
    assert asked(tmp_path) == 4
    run(tmp_path)
    assert asked(tmp_path) == 4
    run(tmp_path, lambda p: 7 if p["seed"] == 1 else 30)
    # Seed 2: the image and its baseline.
    assert asked(tmp_path) == 6
    # Another version of the command measures all anew.
    program = tmp_path / "program.py"
    program.write_text(program.read_text() + "\n# edited\n")
    run(tmp_path)
    assert asked(tmp_path) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ["no-such-program", "{input}", "{output}"]}, "no-such-program cannot be run"),
        ({"command": ["false", "{input}", "{output}"]}, "the command ended with 1"),
        ({"command": ["true", "{input}", "{output}"]}, "wrote no table"),
        (
            {"command": ["sh", "-c", "sleep 30; : {input} {output}"], "minutes": 0.0001},
            "took more than 0.0001 minutes",
        ),
        ({"command": ["cp", "{input}", "{output}"]}, "lacks the columns level, lettering; it has row, image"),
        (
            {"command": ["sh", "-c", "printf 'row,level,lettering\\n0,dark,1\\n' > {output}; : {input}"]},
            "wrote level = 'dark' in row 0, which is no number",
        ),
        (
            {"command": ["sh", "-c", "printf 'row,level,lettering\\n0,256,1\\n' > {output}; : {input}"]},
            "level = 256.0; allowed, as it is registered: 0.0 to 255.0",
        ),
    ],
)
def test_a_command_that_fails_is_named_with_its_file(tmp_path, external, changes, message):
    external(**changes)
    with pytest.raises(ValueError, match="mine") as error:
        run(tmp_path, keep=False)
    assert message in str(error.value)


def test_an_image_without_a_row_is_unscored(tmp_path, external):
    external(command=["sh", "-c", "printf 'row,level,lettering\\n1,5,\\n' > {output}; : {input}"])
    _, rows = run(tmp_path)
    assert [row["level"] for row in rows] == [None, 5.0, None, None]
    assert all("wrote no row for it" in row["unscored"] for row in rows if row["level"] is None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ["measure", "{input}"]}, "command has no {output}"),
        ({"colums": {}}, "colums"),
        ({"columns": {}}, "columns"),
        ({"columns": {"Level": {"label": "a"}}}, "allowed: lower-case letters"),
        ({"files": ["gone.py"]}, "files: gone.py does not exist"),
        ({}, "compares images with references, and there are none"),
    ],
)
def test_what_cannot_work_is_refused_where_an_experiment_asks_for_it(tmp_path, external, changes, message):
    score = external(**changes)
    with pytest.raises(DesignError) as error:
        score.check(ScoreInputs([], [], [], tmp_path, "config/experiments/test.yaml"))
    assert message in str(error.value)
    assert "mine" in str(error.value)


def test_the_example_of_the_guide_is_a_valid_file(tmp_path, external):
    """The command is not there, but its file is read."""
    text = Path("docs/scores.md").read_text()
    example = text.split("# config/external/image_reward.yaml\n")[1].split("```")[0]
    score = external(**yaml.safe_load(example))
    assert [column.name for column in score.columns] == ["image_reward"]
    assert score.columns[0].better == "higher"
