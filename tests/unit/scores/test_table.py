"""The columns of scores at the end of cells.csv, and what becomes of old plots."""

import re
from pathlib import Path

import pytest

from graftwork.scores import registry
from graftwork.scores.outputs import stale_plots, stale_score_files
from graftwork.scores.registry import Column, Score
from graftwork.scores.table import add_scores, score_rows, shown_columns
from tests.unit.scores.scored import CAPTIONS, SHOWN, make_design, plain_axes


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


def test_plots_that_the_experiment_no_longer_has_are_found(tmp_path):
    for name in ("following", "following_by_seed"):
        (tmp_path / f"{name}.png").touch()
    axes = plain_axes(alpha=[0.0, 1.0], seed=[1, 2])
    assert [path.name for path in stale_plots(["scene_attributes"], axes, tmp_path)] == [
        "following_by_seed.png"
    ]
    assert stale_plots(["scene_attributes"], axes, tmp_path / "none") == []


def test_what_scores_leave_behind_is_found(tmp_path):
    (tmp_path / "plots").mkdir()
    kept = ["cells.csv", "grids.png"]
    for name in ("scores.csv", "score_means.csv", "attributes.csv", "plots/following.png", *kept):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in stale_score_files(tmp_path)]
    assert found == ["scores.csv", "score_means.csv", "attributes.csv", "plots/following.png"]


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
