"""Means of numbers by every axis: who is counted, what is drawn and said of them."""

from dataclasses import replace

import pytest

from graftwork.core.charts import MOST_SIDE_BY_SIDE
from graftwork.scores import registry
from graftwork.scores.means import chart_of_means, describe_means, plots_of_means, summarize_means
from graftwork.scores.registry import Column, Score
from tests.unit.scores.scored import CAPTIONS, SHOWN, make_design
from tests.unit.scores.test_attribute_summary import as_text

NUMBER = Column("number", "a number", unit="grey levels", bounds=(0, 255), better="higher")
SHARE = Column("part", "a share", unit="share", bounds=(0, 1), against="reference", chance=0.25)
DETAIL = Column("detail", "a detail", is_detail=True)
WORD = Column("word", "a word", is_number=False)
MINE = Score("mine", "A test.", (NUMBER, SHARE, DETAIL, WORD), measure_image=lambda pixels: {})


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    registry.scores()
    monkeypatch.setattr(registry, "_SCORES", {"mine": MINE})


def measured(design, value, image=lambda cell: cell.cell):
    """Rows of scores.csv as they are read back; `value` is called with the parameters of a cell."""
    rows = []
    for cell in design.cells:
        number = value(cell.parameters)
        rows.append(
            {
                "cell": cell.cell,
                "image": "" if number is None else image(cell),
                "unscored": "there is no image" if number is None else "",
                "number": number,
                "part": None if number is None else number / 100,
                "detail": number,
                "word": "w",
            }
        )
    return as_text(rows)


def pick(summary, by="", value="", column="number"):
    (row,) = [row for row in summary if (row["by"], row["value"], row["column"]) == (by, value, column)]
    return row


def test_means_by_every_axis_that_varies():
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2))
    summary = summarize_means(design, measured(design, lambda p: 10 * p["alpha"] + p["seed"]))
    assert {row["by"] for row in summary} == {
        "",
        "role",
        "prompt",
        "seed",
        "alpha",
    }  # No map over a single axis.
    assert {row["column"] for row in summary} == {"number", "part", "detail"}
    row = pick(summary)
    assert (row["score"], row["unit"], row["better"]) == ("mine", "grey levels", "higher")
    assert (row["n"], row["prompts"], row["unscored"]) == (18, 3, 0)
    assert (row["mean"], row["min"], row["max"]) == (6.5, 1.0, 12.0)
    assert pick(summary, "alpha", "0.5")["mean"] == 6.5
    assert pick(summary, "seed", "2")["mean"] == 7.0
    assert pick(summary, "role", "baseline")["mean"] == 1.5
    assert pick(summary, "prompt", "full")["n"] == 6


def test_intervals_are_over_prompts():
    """Prompts that are alike have an interval without width, however much seeds differ; one prompt has none."""
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2))
    row = pick(summarize_means(design, measured(design, lambda p: p["seed"])))
    assert row["low"] == row["mean"] == row["high"] == 1.5
    row = pick(summarize_means(design, measured(design, lambda p: len(p["prompt"]))))
    assert row["low"] < row["mean"] < row["high"]
    summary = summarize_means(design, measured(design, lambda p: p["seed"]))
    assert pick(summary, "prompt", "full")["low"] is None


def test_equal_images_of_a_prompt_count_once():
    design = make_design({"full": CAPTIONS["full"]}, {"one": SHOWN, "other": SHOWN}, hidden_layer=[-2, -4])
    same = measured(
        design, lambda p: 4.0 if p["alpha"] else 1.0, image=lambda c: f"{c.parameters['alpha']}.png"
    )
    summary = summarize_means(design, same)
    assert (pick(summary)["n"], pick(summary)["mean"]) == (3, 3.0)
    # Compared with each of two references, an image says two things.
    assert (pick(summary, column="part")["n"], pick(summary, column="part")["mean"]) == (6, 0.03)


def test_cells_without_a_value_are_counted_apart():
    design = make_design(CAPTIONS, {"shown": SHOWN})
    summary = summarize_means(design, measured(design, lambda p: None if p["alpha"] == 0.5 else 1.0))
    assert (pick(summary)["n"], pick(summary)["unscored"]) == (6, 3)
    half = pick(summary, "alpha", "0.5")
    assert (half["n"], half["mean"], half["low"]) == (0, None, None)


def test_cells_that_a_question_does_not_arise_for_are_not_unscored():
    design = make_design(CAPTIONS, {"shown": SHOWN})
    rows = measured(design, lambda p: 1.0)
    for row in rows[:-1]:
        row["part"] = ""
    row = pick(summarize_means(design, rows), column="part")
    assert (row["n"], row["unscored"]) == (1, 0)


def test_equal_rows_give_an_equal_table():
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2))
    rows = measured(design, lambda p: len(p["prompt"]) + p["seed"])
    assert summarize_means(design, rows) == summarize_means(design, rows)


def test_there_is_a_plot_for_each_number_that_is_no_detail():
    assert plots_of_means([], ["mine"]) == {"number": "number", "part": "part"}
    axes = make_design(CAPTIONS, {"shown": SHOWN}, hidden_layer=[-2, -4]).axes
    assert list(plots_of_means(axes, ["mine"])) == ["number", "part", "number_map", "part_map"]


def drawn(design, value, column="number"):
    return chart_of_means(column, "A test", as_text(summarize_means(design, measured(design, value))))


def test_plots_have_units_directions_and_what_to_compare_with():
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2), token_mode=["full", "text_only"])
    chart = drawn(design, lambda p: 10 * p["alpha"] + p["seed"])
    assert chart.title == "A number, by axis"
    assert chart.subtitle == ["A test", "score mine: 36 images of 3 prompts; higher is better"]
    assert any("Fewer than 10 prompts" in line for line in chart.footer)
    prompts, seeds, modes, alphas = chart.panels
    assert {panel.y.label for panel in chart.panels} == {"a number (grey levels)"}
    assert len({panel.y.limits for panel in chart.panels}) == 1, "panels can be compared"
    assert (seeds.x.scale, seeds.x.names) == ("category", ("1", "2")), "a seed is a name"
    assert (modes.x.label, modes.x.names) == ("token mode", ("full", "text_only"))
    assert (alphas.x.scale, alphas.x.ticks) == ("linear", (0.0, 0.5, 1.0))
    assert alphas.series[0].points == [(0.0, 1.5), (0.5, 6.5), (1.0, 11.5)]
    assert (alphas.series[0].style, modes.series[0].style) == ("line", "points")
    assert [(level.label, level.points) for level in prompts.levels] == [("the text alone", [(0.0, 1.5)])]
    share = drawn(design, lambda p: 10 * p["alpha"] + p["seed"], "part")
    assert {(panel.y.scale, panel.y.limits) for panel in share.panels} == {("percent", (0.0, 1.0))}
    assert [level.label for level in share.panels[0].levels] == ["the text alone", "chance"]


def test_plots_of_many_settings_and_of_none():
    many = [f"setting {number}" for number in range(MOST_SIDE_BY_SIDE + 1)]
    chart = drawn(make_design(CAPTIONS, {"shown": SHOWN}, token_mode=many), lambda p: 1.0)
    panel = next(panel for panel in chart.panels if panel.y.scale == "category")
    assert panel.y.names == tuple(many)
    single = make_design({"full": CAPTIONS["full"]}, {"shown": SHOWN}, alphas=(1.0,), baseline=False)
    (panel,) = drawn(single, lambda p: 3.0).panels
    assert panel.series[0].points == [(0.0, 3.0)]
    (panel,) = drawn(single, lambda p: None).panels
    assert panel.remark.startswith("nothing was measured")


def test_the_summary_lists_what_is_no_detail():
    design = make_design(CAPTIONS, {"shown": SHOWN})
    section = describe_means(as_text(summarize_means(design, measured(design, lambda p: p["alpha"]))))
    assert "[score_means.csv](score_means.csv)" in section.text
    assert "With fewer than 10 prompts" in section.text
    assert {row[0] for row in section.rows} == {"a number", "a share"}
    cells = [row[3:7] for row in section.rows if row[0] == "a number"]
    assert cells[:2] == [("all", "9", "3", "0.5"), ("the text alone", "3", "3", "0")]
    assert [row[0] for row in cells[2:]] == ["alpha = 0.0", "alpha = 0.5", "alpha = 1.0"]


def test_a_score_of_details_and_words_has_no_lines(monkeypatch):
    monkeypatch.setattr(registry, "_SCORES", {"mine": replace(MINE, columns=(DETAIL, WORD))})
    design = make_design(CAPTIONS, {"shown": SHOWN})
    section = describe_means(as_text(summarize_means(design, measured(design, lambda p: 1.0))))
    assert (section.columns, section.rows) == ((), ())


def test_differences_are_to_the_baseline_of_the_same_prompt_and_seed():
    """Prompts are unlike, seeds too; what alpha adds is the same for all."""
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2))

    def value(parameters):
        return 100 * len(parameters["prompt"]) + 10 * parameters["seed"] + 2 * parameters["alpha"]

    summary = summarize_means(design, measured(design, value))
    row = pick(summary, "alpha", "0.5")
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (1.0, 1.0, 1.0)
    assert (row["pairs"], row["p"]) == (6, 2 / 8)
    assert pick(summary, "alpha", "0.0")["p"] == 1.0
    assert pick(summary, "role", "baseline")["difference"] is None
    # Three alphas, two seeds, all: six that have a p, of which some have two prompts or more.
    tested = [r for r in summary if r["column"] == "number" and r["p"] is not None]
    assert min(r["p_adjusted"] for r in tested) == min(1.0, len(tested) * 2 / 8)


def test_what_is_compared_with_the_baseline_has_no_difference(monkeypatch):
    away = replace(NUMBER, against="baseline")
    monkeypatch.setattr(registry, "_SCORES", {"mine": replace(MINE, columns=(away,))})
    design = make_design({"full": CAPTIONS["full"]}, {"shown": SHOWN}, seeds=(1, 2), alphas=(1.0,))
    summary = summarize_means(design, measured(design, lambda p: 1.0, image=lambda c: c.role))
    # One image beside one baseline counts once, though both seeds have it.
    assert (pick(summary)["n"], pick(summary)["difference"]) == (1, None)


def test_a_map_has_numbers_before_names():
    design = make_design(CAPTIONS, {"shown": SHOWN}, token_mode=["full", "text_only"], hidden_layer=[-2, -4])
    summary = summarize_means(design, measured(design, lambda p: p["alpha"] - p.get("hidden_layer", 0)))
    row = pick(summary, "alpha x hidden_layer", "0.5 x -4")
    assert (row["mean"], row["n"], row["p_adjusted"]) == (4.5, 6, None)
    chart = chart_of_means("number_map", "A test", as_text(summary))
    (panel,) = chart.panels
    assert (panel.x.label, panel.y.label) == ("alpha", "hidden layer")
    assert (panel.x.names, panel.y.names) == (("0.0", "0.5", "1.0"), ("-2", "-4"))
    assert panel.map.values.tolist() == [[2.0, 2.5, 3.0], [4.0, 4.5, 5.0]]
    assert panel.map.label == "a number (grey levels)"
    assert "higher is better" in chart.subtitle[1]
    unmeasured = summarize_means(design, measured(design, lambda p: None if p["alpha"] == 0.5 else 1.0))
    (panel,) = chart_of_means("number_map", "A test", as_text(unmeasured)).panels
    assert panel.map is None
    assert "failed or are missing" in panel.remark


def test_other_roles_stand_beside_the_text_alone():
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(1.0,))
    extra = replace(design.cells[-1], cell="noise", role="control")
    design.cells.append(extra)
    summary = as_text(summarize_means(design, measured(design, lambda p: p["alpha"])))
    assert pick(summary, "role", "control")["mean"] == "1.0"
    levels = chart_of_means("number", "A test", summary).panels[0].levels
    assert [level.label for level in levels] == ["the text alone", "control"]


def test_the_finding_says_where_a_measure_changes():
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.25, 0.5, 0.75, 1.0))

    def value(parameters):
        own = len(parameters["prompt"]) / 100
        return 10 + own - (2 + own) * (parameters["alpha"] > 0.5)

    finding = describe_means(as_text(summarize_means(design, measured(design, value)))).finding
    assert finding.startswith("A number falls below the text alone from alpha 0.75 on: by -2.")
    assert "3 images of 3 prompts" in finding
    flat = describe_means(as_text(summarize_means(design, measured(design, lambda p: 1.0)))).finding
    assert flat == "No difference to the text alone is seen at any alpha: a number."


def test_the_finding_says_what_comes_first(monkeypatch):
    """Does likeness to the reference rise before the prompt is lost?"""
    kept = Column("kept", "the prompt", better="higher", against="prompt")
    like = Column("like", "likeness", better="higher", against="reference", text_alone="like_text_alone")
    alone = Column("like_text_alone", "likeness of the text alone", against="reference", is_detail=True)
    monkeypatch.setattr(registry, "_SCORES", {"mine": replace(MINE, columns=(kept, like, alone))})
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.25, 0.5, 0.75, 1.0))

    def finding(lost, gained):
        rows = [
            {
                "cell": cell.cell,
                "image": cell.cell,
                "unscored": "",
                "kept": 1.0 - 0.5 * (cell.parameters["alpha"] >= lost),
                "like": None if cell.role == "baseline" else 0.2 + 0.3 * (cell.parameters["alpha"] >= gained),
                "like_text_alone": None if cell.role == "baseline" else 0.2,
            }
            for cell in design.cells
        ]
        section = describe_means(as_text(summarize_means(design, as_text(rows))))
        texts.append(section.text)
        return section.finding

    texts = []
    assert finding(0.75, 0.5) == (
        "Likeness to the reference rises before the prompt begins to be lost: from alpha 0.5 (likeness) and from alpha 0.75 on "
        "(the prompt), by 95 % intervals of the difference to the text alone."
    )
    assert "\n* The prompt falls below the text alone from alpha 0.75 on: by -0.5" in texts[-1]
    assert "rises after" in finding(0.5, 0.75)
    assert "rises at the same value as" in finding(0.5, 0.5)
    assert finding(0.5, 2).startswith(
        "The prompt begins to be lost at alpha 0.5 (the prompt), and no likeness"
    )
    assert finding(2, 0.5).startswith(
        "Likeness to the reference rises from alpha 0.5 on (likeness), and the prompt is not"
    )
    assert "\n* Likeness rises above the text alone from alpha 0.5 on: by +0.3" in texts[-1]
    assert "\n* No difference to the text alone is seen at any alpha: the prompt." in texts[-1]


def test_the_finding_names_the_earliest_of_several_measures(monkeypatch):
    """Judges need not agree; which one speaks first is said, and of how many."""
    early, late = (
        Column(f"kept_{when}", f"what is kept, {when}", better="higher", against="prompt")
        for when in ("early", "late")
    )
    near = Column("near", "distance", better="lower", against="reference")
    monkeypatch.setattr(registry, "_SCORES", {"mine": replace(MINE, columns=(late, early, near))})
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.25, 0.5, 0.75, 1.0))
    rows = [
        {
            "cell": cell.cell,
            "image": cell.cell,
            "unscored": "",
            "kept_late": 1.0 - (cell.parameters["alpha"] >= 0.75),
            "kept_early": 1.0 - (cell.parameters["alpha"] >= 0.5),
            "near": 1.0 - 0.5 * (cell.parameters["alpha"] >= 0.75),
        }
        for cell in design.cells
    ]
    finding = describe_means(as_text(summarize_means(design, as_text(rows)))).finding
    assert finding.startswith(
        "Likeness to the reference rises after the prompt begins to be lost: from alpha 0.75 (distance) and from alpha 0.5 on "
        "(what is kept, early), by 95 % intervals of the difference to the text alone. These are the earliest of the measures: 1 of "
        "likeness and 2 of the prompt."
    )


def test_low_bits_are_no_change():
    """A judge that is sure differs from itself in the sixth digit, in the same direction for every prompt."""
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.25, 0.5, 1.0))

    def value(parameters):
        return 1.0 - (1e-5 * (parameters["alpha"] >= 0.25) + 0.5 * (parameters["alpha"] >= 1.0))

    finding = describe_means(as_text(summarize_means(design, measured(design, value)))).finding
    assert finding.startswith("A number falls below the text alone from alpha 1 on: by -0.5")
