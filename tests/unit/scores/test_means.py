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
    assert {row["by"] for row in summary} == {"", "role", "prompt", "seed", "alpha"}
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
