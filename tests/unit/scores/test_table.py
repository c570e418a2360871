"""The columns of scores at the end of cells.csv, and what becomes of old plots."""

import re
from pathlib import Path

import numpy as np
import pytest

from graftwork.scores import registry
from graftwork.scores.outputs import stale_score_files
from graftwork.scores.registry import Column, Score
from graftwork.scores.table import Besides, add_scores, score_rows, shown_columns
from tests.unit.scores.scored import (
    CAPTIONS,
    SHOWN,
    make_design,
    save_picture,
    save_references,
)


def test_scores_come_after_everything_else():
    rows = [{"cell": "a", "image": "x.png", "alpha": 0.5}, {"cell": "b", "image": None, "alpha": 1.0}]
    scored = [{"cell": "b", "image": "", "read": ""}, {"cell": "a", "image": "x.png", "read": "red"}]
    added = add_scores(rows, scored)
    assert [list(row) for row in added] == [["cell", "image", "alpha", "read"]] * 2
    assert [row["read"] for row in added] == ["red", ""]
    assert [row["image"] for row in added] == ["x.png", None]


def test_columns_are_never_replaced():
    with pytest.raises(ValueError, match="'alpha' is a column"):
        add_scores([{"cell": "a", "alpha": 0.5}], [{"cell": "a", "alpha": "1"}])


def test_cells_without_scores_are_named():
    with pytest.raises(ValueError, match="cell b is not"):
        add_scores([{"cell": "b"}], [{"cell": "a", "read": "red"}])


def test_what_scores_leave_behind_is_found(tmp_path):
    (tmp_path / "plots").mkdir()
    kept = ["cells.csv", "grids.png"]
    for name in ("scores.csv", "score_means.csv", "attributes.csv", "plots/following.png", *kept):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in stale_score_files(tmp_path)]
    assert found == ["scores.csv", "score_means.csv", "attributes.csv", "plots"]


def test_details_are_left_out_of_the_table_that_people_open():
    scored = [
        {
            "cell": "a",
            "image": "",
            "unscored": "",
            "read_shape": "",
            "confidence_shape": "",
            "follows_prompt_size": "",
        }
    ]
    assert shown_columns(scored) == ["unscored", "read_shape"]
    assert shown_columns([]) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"part": 1.5}, "score 'mine' returned part = 1.5; allowed, as it is registered: 0 to 1"),
        ({"part": -0.5}, "part = -0.5"),
        ({"part": float("nan")}, "part = nan"),
        ({"prat": 0.5}, "returned the column 'prat'; allowed, as it is registered: part, word"),
    ],
)
def test_what_a_score_may_not_return(values, message, monkeypatch):
    columns = (Column("part", "a part", bounds=(0, 1)), Column("word", "a word", is_number=False))
    score = Score("mine", "A test.", columns, measure=lambda cells, references: [values for _ in cells])
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", {"mine": score})
    design = make_design(CAPTIONS, {"shown": SHOWN})
    images = dict.fromkeys(cell.cell for cell in design.cells)
    with pytest.raises(ValueError, match=re.escape(message)):
        score_rows(design.cells, images, design.references, ["mine"], Path())


def test_reasons_of_several_scores_are_joined(monkeypatch):
    reasons = {"one": "there is no image", "other": "too dark", "third": "too dark"}
    made = {
        name: Score(
            name,
            "A test.",
            (Column(f"{name}_1", "a"),),
            measure=lambda cells, references, r=reason: [{"unscored": r}] * len(cells),
        )
        for name, reason in reasons.items()
    }
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", made)
    design = make_design({"full": CAPTIONS["full"]}, {}, alphas=(1.0,), baseline=False)
    (row,) = score_rows(design.cells, {"cell 0": "an.png"}, design.references, list(made), Path())
    assert row == {
        "cell": "cell 0",
        "image": "an.png",
        "unscored": "there is no image; too dark",
        "one_1": None,
        "other_1": None,
        "third_1": None,
    }


def paint(design, folder, level=lambda cell: 0):
    images = {}
    for cell in design.cells:
        pixels = np.full((64, 64, 3), level(cell), dtype=np.uint8)
        images[cell.cell] = str(save_picture(folder / f"{level(cell)}.png", pixels))
    return images


def test_what_is_known_is_not_measured_again(tmp_path, monkeypatch):
    """By the bytes of the image: under another name it is known too, and one more image is one more measurement."""
    measured = []

    def measure(pixels):
        measured.append(int(pixels[0, 0, 0]))
        return {"level": measured[-1]}

    score = Score("mine", "A test.", (Column("level", "a level"),), measure_image=measure)
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", {"mine": score})
    monkeypatch.setattr("graftwork.scores.table.code_digest", lambda *functions: "code")
    design = make_design({"full": CAPTIONS["full"]}, {}, seeds=(1, 2, 3), alphas=(1.0,), baseline=False)
    besides = Besides(values=tmp_path / "values")

    def run(folder, level):
        measured.clear()
        images = paint(design, tmp_path / folder, level)
        rows = score_rows(design.cells, images, {}, ["mine"], Path(), besides)
        return [row["level"] for row in rows], list(measured)

    def seed(cell):
        return cell.parameters["seed"]

    assert run("one", seed) == ([1, 2, 3], [1, 2, 3])
    assert run("other", seed) == ([1, 2, 3], [])
    assert run("third", lambda cell: 9 if seed(cell) == 2 else seed(cell)) == ([1, 9, 3], [9])
    assert run("fourth", lambda cell: 9) == ([9, 9, 9], [])
    monkeypatch.setattr("graftwork.scores.table.code_digest", lambda *functions: "other code")
    assert run("one", seed)[1] == [1, 2, 3]


def test_a_score_sees_references_and_the_baseline_of_its_cell(tmp_path, monkeypatch):
    seen = []

    def measure(beside):
        seen.append((beside.pixels, *beside.references, beside.baseline))
        return {"level": None if beside.baseline is None else float(beside.baseline[0, 0, 0])}

    score = Score("mine", "A test.", (Column("level", "a level"),), measure_beside=measure)
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", {"mine": score})
    monkeypatch.setattr("graftwork.scores.table.code_digest", lambda *functions: "code")
    design = make_design({"full": CAPTIONS["full"]}, {"shown": SHOWN}, seeds=(1, 2), alphas=(1.0,))
    save_references({"shown": SHOWN}, tmp_path)
    images = paint(design, tmp_path, lambda cell: cell.parameters["seed"] + 10 * (cell.role == "baseline"))
    besides = Besides(design.baselines, tmp_path / "values")
    rows = score_rows(design.cells, images, design.references, ["mine"], tmp_path, besides)
    level = {row["cell"]: row["level"] for row in rows}
    for cell in design.cells:
        assert level[cell.cell] == (10 + cell.parameters["seed"] if cell.role == "cell" else None)
    assert {len(beside) for beside in seen} == {2, 3}
    # The same again needs nothing; a cell whose baseline is another image does.
    seen.clear()
    assert score_rows(design.cells, images, design.references, ["mine"], tmp_path, besides) == rows
    assert seen == []
    images["baseline full 1"] = images["baseline full 2"]
    score_rows(design.cells, images, design.references, ["mine"], tmp_path, besides)
    assert len(seen) == 1


def test_what_could_not_be_measured_is_tried_again(tmp_path, monkeypatch):
    score = Score(
        "mine", "A test.", (Column("level", "a level"),), measure_image=lambda pixels: {"level": 1.0}
    )
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", {"mine": score})
    monkeypatch.setattr("graftwork.scores.table.code_digest", lambda *functions: "code")
    design = make_design({"full": CAPTIONS["full"]}, {}, alphas=(1.0,), baseline=False)
    (tmp_path / "broken.png").write_bytes(b"no image")
    besides = Besides(values=tmp_path / "values")
    for _ in range(2):
        (row,) = score_rows(design.cells, {"cell 0": "broken.png"}, {}, ["mine"], tmp_path, besides)
        assert row["level"] is None
        assert row["unscored"]
    assert not (tmp_path / "values").exists()
