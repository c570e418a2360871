"""Ratings that were exported from the viewer: the file, what belongs to which cell, and strengths from choices."""

import csv
import hashlib
import io
import json

import numpy as np
import pytest

from graftwork.core.cells import Axis, Cell, Expansion
from graftwork.core.errors import DesignError
from graftwork.core.png import encode_png
from graftwork.core.tables import write_table
from graftwork.scores.ratings.bradley_terry import Comparison, estimate_strengths, fit_strengths
from graftwork.scores.ratings.files import (
    CSV_COLUMNS,
    RatedCell,
    count_stale,
    preferences,
    read_ratings,
    score_columns,
)
from graftwork.scores.registry import NO_IMAGE, UNSCORED, CellToScore, ScoreInputs, scores
from graftwork.scores.table import measure_cells

CELLS = [
    RatedCell("c0", "sha0", "apple", {"alpha": "0"}),
    RatedCell("c1", "sha1", "apple", {"alpha": "1"}),
    RatedCell("c2", "sha0", "boat", {"alpha": "0"}),
    RatedCell("c3", "", "boat", {"alpha": "1"}),
]


def rating(image, cell, stars, favourite=False):
    return {"image": image, "cell": cell, "stars": stars, "favourite": favourite, "blind": True, "at": ""}


def choice(a, b, chosen, axis="alpha", blind=True):
    sides = {"a": {"image": a[0], "cell": a[1]}, "b": {"image": b[0], "cell": b[1]}}
    return {**sides, "chosen": chosen, "axis": axis, "blind": blind, "at": ""}


def write(path, ratings=(), choices=(), **more):
    content = {"format": "graftwork-ratings", "version": 1, "experiment": "e", "rater": "Ada"}
    path.write_text(json.dumps({**content, "ratings": list(ratings), "choices": list(choices), **more}))
    return path


def test_a_rating_holds_for_every_cell_with_the_image(tmp_path):
    first = write(tmp_path / "a.json", [rating("sha0", "c0", 4), rating("sha1", "c1", None, True)])
    second = write(tmp_path / "b.json", [rating("sha0", "c9", 2), rating("", "c3", 5)])
    columns = score_columns(read_ratings([first, second]), CELLS)
    assert [row["rating"] for row in columns] == [3, None, 3, 5]
    assert [row["ratings"] for row in columns] == [2, None, 2, 1]
    assert [row["favourite"] for row in columns] == [0, 1, 0, 0]


def test_ratings_of_images_that_are_gone_are_not_used_but_counted(tmp_path):
    file = write(
        tmp_path / "a.json",
        [rating("old", "c0", 1), rating("sha1", "c1", 5)],
        [choice(("old", "c0"), ("sha1", "c1"), "a")],
    )
    ratings = read_ratings([file])
    assert [row["rating"] for row in score_columns(ratings, CELLS)] == [None, 5, None, None]
    assert count_stale(ratings, CELLS) == 2
    assert preferences(ratings, CELLS, "alpha") == []


def test_shares_of_choices(tmp_path):
    pair = (("sha0", "c0"), ("sha1", "c1"))
    choices = [choice(*pair, "a"), choice(*pair, "tie"), choice(*pair, "a", blind=False)]
    columns = score_columns(read_ratings([write(tmp_path / "a.json", (), choices)]), CELLS)
    assert [row["preferred"] for row in columns] == [0.75, 0.25, 0.75, None]
    assert [row["compared"] for row in columns] == [2, 2, 2, None]


def test_csv_says_the_same_as_json(tmp_path):
    ratings = [rating("sha0", "c0", 4), rating("sha1", "c1", None, True)]
    choices = [choice(("sha0", "c0"), ("sha1", "c1"), "tie")]
    lines = [
        ",".join(CSV_COLUMNS),
        "rating,sha0,c0,4,0,1,,Ada,,,,",
        "rating,sha1,c1,,1,1,,Ada,,,,",
        "choice,sha0,c0,,,1,,Ada,alpha,sha1,c1,tie",
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    as_json = read_ratings([write(tmp_path / "a.json", ratings, choices)])
    assert read_ratings([tmp_path / "a.csv"]) == as_json


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"version": 2}, "version 2; allowed: 'graftwork-ratings', 1"),
        ({"ratings": [rating("s", "c", 6)]}, r"ratings\[0\].stars is 6; allowed: 1 to 5, or null"),
        ({"ratings": [{"image": "s", "cell": "c"}]}, "'stars' is missing"),
        (
            {"choices": [choice(("s", "c"), ("t", "d"), "left")]},
            r"choices\[0\].chosen is 'left'; allowed: a, b, tie",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, message):
    file = write(tmp_path / "mine.json", **change)
    with pytest.raises(ValueError, match=message) as caught:
        read_ratings([file])
    assert "mine.json" in str(caught.value)


def test_a_table_that_is_no_file_of_ratings_is_refused(tmp_path):
    (tmp_path / "cells.csv").write_text("cell,role\nc0,cell\n")
    with pytest.raises(ValueError, match=r"cells.csv: the first line is not kind,image"):
        read_ratings([tmp_path / "cells.csv"])


# ---- Bradley-Terry


def drawn(strengths, prompts, per_prompt, seed, spread=0.0):
    """Draws comparisons from known strengths; those of a prompt share deviations of their own."""
    random = np.random.default_rng(seed)
    found = []
    for prompt in range(prompts):
        own = np.array(strengths) + random.normal(0, spread, len(strengths))
        for _ in range(per_prompt):
            first, second = random.choice(len(strengths), 2, replace=False)
            share = float(random.random() < 1 / (1 + np.exp(own[second] - own[first])))
            found.append(Comparison(f"i{first}", f"i{second}", share, prompt))
    return found


def test_known_strengths_are_found():
    known = np.array([1.5, 0.3, -0.4, -1.4])
    found = estimate_strengths(drawn(known, 40, 300, seed=1), resamples=100)
    by_item = {each.item: each for each in found}
    for place, strength in enumerate(known - known.mean()):
        each = by_item[f"i{place}"]
        assert each.strength == pytest.approx(strength, abs=0.15)
        assert each.low < each.strength < each.high
    assert [each.item for each in found] == ["i0", "i1", "i2", "i3"]
    assert sum(each.compared for each in found) == 2 * 40 * 300


def test_intervals_cover_the_truth_as_often_as_they_say():
    known = np.array([0.8, 0.0, -0.8])
    covered = [
        each.low <= known[int(each.item[1])] <= each.high
        for seed in range(24)
        for each in estimate_strengths(drawn(known, 25, 12, seed, spread=0.5), resamples=100)
    ]
    assert 0.85 <= np.mean(covered) <= 1


def test_prompts_that_disagree_make_intervals_wider():
    def width(spread):
        found = estimate_strengths(drawn([0.5, -0.5], 20, 50, seed=3, spread=spread), resamples=200)
        return found[0].high - found[0].low

    assert width(2.0) > 2 * width(0.0)


def test_one_prompt_gives_no_interval():
    (first, _) = estimate_strengths([Comparison("a", "b", 1.0, "p"), Comparison("a", "b", 1.0, "p")])
    assert first.item == "a"
    assert (first.low, first.high) == (None, None)


def test_one_that_always_wins_stays_finite_and_ties_make_equals():
    always = fit_strengths(np.array([[0.0, 50.0], [0.0, 0.0]]))
    assert 2 < always[0] - always[1] < 20
    assert fit_strengths(np.array([[0.0, 5.0], [5.0, 0.0]])) == pytest.approx([0, 0])


def test_two_things_have_the_odds_that_were_counted():
    fitted = fit_strengths(np.array([[0.0, 900.0], [300.0, 0.0]]), deviation=1e6)
    assert fitted[0] - fitted[1] == pytest.approx(np.log(3))


def test_preferences_are_by_value_of_the_axis(tmp_path):
    choices = [choice(("sha1", "c1"), ("sha0", "c0"), "a")] * 6 + [
        choice(("sha0", "c0"), ("sha1", "c1"), "a")
    ]
    ratings = read_ratings([write(tmp_path / "a.json", (), choices)])
    first, second = preferences(ratings, CELLS, "alpha")
    assert (first.item, second.item) == ("1", "0")
    assert first.compared == second.compared == 7
    assert preferences(ratings, CELLS, "seed") == []


# ---- The score


def write_project(tmp_path, monkeypatch, choices=()):
    monkeypatch.chdir(tmp_path)
    images = {}
    for level, name in enumerate(("low", "high")):
        images[name] = tmp_path / f"{name}.png"
        images[name].write_bytes(encode_png(np.full((4, 4, 3), level, dtype=np.uint8)))
    sha256 = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in images.items()}
    (tmp_path / "config" / "ratings").mkdir(parents=True)
    made = [choice((sha256[a], "x"), (sha256[b], "y"), chosen) for a, b, chosen in choices]
    write(tmp_path / "config" / "ratings" / "ada.json", [rating(sha256["low"], "x", 2)], made)
    return images


def test_the_score_takes_no_experiment_without_files(tmp_path):
    inputs = ScoreInputs([], [], [], tmp_path, "config/experiments/e.yaml")
    with pytest.raises(
        DesignError, match=r"e.yaml: scores: ratings needs a file of ratings in config/ratings/"
    ):
        scores()["ratings"].check(inputs)
    (tmp_path / "config" / "ratings").mkdir(parents=True)
    (tmp_path / "config" / "ratings" / "bad.json").write_text("{}")
    with pytest.raises(DesignError, match=r"bad.json: format is None"):
        scores()["ratings"].check(inputs)


def test_the_score_measures_what_was_said_of_an_image(tmp_path, monkeypatch):
    images = write_project(tmp_path, monkeypatch, [("low", "high", "b"), ("low", "high", "tie")])
    cells = [
        CellToScore("apple", (), images["low"]),
        CellToScore("apple", (), images["high"]),
        CellToScore("boat", (), None),
    ]
    low, high, none = measure_cells(scores()["ratings"], cells, {})
    assert (low["rating"], low["preferred"]) == (2, 0.25)
    assert (high["rating"], high["preferred"]) == (None, 0.75)
    assert none[UNSCORED] == NO_IMAGE
    assert [path.name for path in scores()["ratings"].files(tmp_path)] == ["ada.json"]


def test_preferences_are_summed_up(tmp_path, monkeypatch):
    images = write_project(tmp_path, monkeypatch, [("low", "high", "b")] * 5)
    design = Expansion(
        experiment="test",
        title="test",
        question="",
        axes=[
            Axis("prompt", ["a red apple", "a boat"], ["apple", "boat"]),
            Axis("alpha", [0, 1], ["0", "1"]),
        ],
        cells=[Cell(name, "cell", {"prompt": "a red apple"}, {}) for name in ("c0", "c1")],
        positions=[([0, 0], "c0"), ([0, 1], "c1")],
        baselines={},
    )
    rows = [{"cell": "c0", "image": str(images["low"])}, {"cell": "c1", "image": str(images["high"])}]
    (summary,) = scores()["ratings"].summaries
    first, *found = summary.summarize(design, rows)
    assert first["note"] == "1 ratings and 5 choices, 0 of images that no cell has"
    assert [(row["axis"], row["value"]) for row in found] == [("alpha", "1"), ("alpha", "0")]
    section = summary.describe(list(csv.DictReader(io.StringIO(write_table([first, *found])))))
    assert [row[1] for row in section.rows] == ["1", "0"]
    assert "Bradley-Terry" in section.text
