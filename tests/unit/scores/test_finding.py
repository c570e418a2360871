"""attributes_by_setting.csv, the sentences that are computed from it, and its plots."""

import csv
import io

import numpy as np
import pytest

from graftwork.core.tables import write_table
from graftwork.reports.charts import draw_chart
from graftwork.scenes.world import Scene, render_scene
from graftwork.scores.intervals import wilson_interval
from graftwork.scores.scene_attributes.by_setting import factors, factors_of, summarize_by_setting
from graftwork.scores.scene_attributes.finding import describe_settings, find_clearest, finding_in_words
from graftwork.scores.scene_attributes.setting_plot import setting_chart, setting_plots
from graftwork.scores.table import score_rows
from tests.unit.scores.scored import (
    CAPTIONS,
    SHOWN,
    WANTED,
    images_of,
    make_design,
    paint_table,
    plain_axes,
    save_references,
)

# Before the background of the reference: what the prompts say, and the reference's background.
ARRIVED = Scene("circle", "red", "large", "left", "yellow", "plain")
SEEDS = tuple(range(1, 6))
MODES = ["text_only", "full"]


def make_rows(folder, painter, captions=None, references=None, seeds=SEEDS, alphas=(0.0, 1.0), **axes):
    """Rows of the table, as they are read back from a file."""
    references = {"shown": SHOWN} if references is None else references
    captions = captions or {"object": CAPTIONS["object"]}
    design = make_design(captions, references, alphas=alphas, seeds=seeds, **{"token_mode": MODES, **axes})
    save_references(references, folder)

    def paint(parameters):
        pixels = painter(parameters)
        if pixels is not None:
            pixels = pixels.copy()
            pixels[0, 0] = parameters["seed"]
        return pixels

    rows = paint_table(design, folder / "images", paint)
    scored = score_rows(design.cells, images_of(rows), design.references, ["scene_attributes"], folder)
    scored = list(csv.DictReader(io.StringIO(write_table(scored))))
    return list(csv.DictReader(io.StringIO(write_table(summarize_by_setting(design, scored)))))


def open_background(parameters):
    """The reference's background arrives by text tokens alone."""
    arrives = parameters["alpha"] and parameters.get("token_mode") == "text_only"
    return render_scene(ARRIVED if arrives else WANTED)


def percents(share, n):
    return "{:.0f} to {:.0f} %".format(*(100 * end for end in wilson_interval(share, n)))


def test_settings_are_told_apart_by_what_varies():
    axes = plain_axes(
        prompt=["a", "b"],
        reference=["a", "b"],
        seed=[1, 2],
        hidden_layer=[-2],
        token_mode=MODES,
        alpha=[0, 1],
    )
    assert factors(axes) == ["token_mode"]
    assert factors([*axes, *plain_axes(normalization=["none", "global"])]) == ["token_mode", "normalization"]


def test_a_row_is_one_attribute_in_one_setting_by_what_the_prompt_says(tmp_path):
    rows = make_rows(tmp_path, open_background)
    (row,) = [
        row
        for row in rows
        if [row[name] for name in ("token_mode", "prompt_says", "attribute", "alpha")]
        == ["text_only", "open", "background", "1.0"]
    ]
    assert list(factors_of(row).items()) == [("token_mode", "text_only")]
    assert (row["reference_n"], row["follows_reference"], row["prompt_n"]) == ("5", "1.0", "0")
    assert float(row["reference_chance"]) == 1 / 8
    assert float(row["follows_reference_low"]) == pytest.approx(wilson_interval(1.0, 5)[0], abs=1e-6)
    # The prompt states shape, colour, size and place; the reference has others.
    whatever = [row for row in rows if row["prompt_says"] == "" and row["attribute"] == "all"]
    assert {row["prompt_n"] for row in whatever} == {"20"}
    assert {row["reference_n"] for row in whatever} == {"30"}


def test_the_finding_is_what_arrives_most_clearly(tmp_path):
    rows = make_rows(tmp_path, open_background)
    found = find_clearest(rows)
    assert (found.row["token_mode"], found.row["attribute"], found.row["prompt_says"]) == (
        "text_only",
        "background",
        "open",
    )
    assert found.margin == pytest.approx(wilson_interval(1.0, 5)[0] - 1 / 8, abs=1e-6)
    # Two token modes, four attributes that differ and two that are open, one alpha above 0.
    assert found.compared == 12
    arrived, none = percents(1.0, 5), percents(0.0, 5)
    assert finding_in_words(rows) == (
        "Where the prompt leaves the background open, the reference's background arrives in 5 of 5 images (95 % interval "
        f"{arrived}) at token mode text_only, alpha 1; with token mode full in 0 of 5 ({none}); the text alone in 0 of 5 "
        f"({none}). There the images keep 20 of 20 attributes ({percents(1.0, 20)}) that their prompts state. Everything "
        "that the prompts state is kept in every setting."
    )


def test_what_is_lost_of_the_prompt_is_said(tmp_path):
    def painter(parameters):
        is_lost = parameters["alpha"] and parameters.get("token_mode") == "full"
        return render_scene(SHOWN) if is_lost else open_background(parameters)

    words = finding_in_words(make_rows(tmp_path, painter))
    assert "The prompt is lost most at token mode full, alpha 1: 0 of 20 attributes" in words


def test_nothing_is_made_of_nothing(tmp_path):
    words = finding_in_words(make_rows(tmp_path, lambda p: render_scene(WANTED)))
    assert words.startswith(
        "Nothing of the reference is seen to arrive: in none of 12 comparisons is an attribute the reference's more often"
    )
    assert "There the images keep" not in words


def test_what_the_text_alone_has_too_does_not_arrive(tmp_path):
    """By accident the model paints the reference's background always."""
    found = find_clearest(make_rows(tmp_path, lambda p: render_scene(ARRIVED)))
    assert found.margin < 0


def test_what_makes_no_difference_is_no_contrast(tmp_path):
    rows = make_rows(tmp_path, lambda p: render_scene(ARRIVED if p["alpha"] else WANTED))
    found = find_clearest(rows)
    assert (found.factor, found.others) == ("token_mode", [])
    assert f"alpha 1; the text alone in 0 of 5 ({percents(0.0, 5)})." in finding_in_words(rows)
    assert len(setting_chart("finding", "A test", rows).panels[0].series) == 2


def test_a_few_images_are_no_finding(tmp_path):
    words = finding_in_words(make_rows(tmp_path, open_background, seeds=(1, 2, 3)))
    assert words.startswith("With fewer than 4 different images in each comparison nothing can be said")
    assert "3 of 3 images" in words


def test_equal_images_are_few(tmp_path):
    def painter(parameters):
        return open_background({**parameters, "seed": 1})

    design_rows = make_rows(tmp_path, painter, seeds=(1,), hidden_layer=[-2, -4, -6, -8])
    assert find_clearest(design_rows).is_too_few


def test_without_references_the_prompt_alone_is_said(tmp_path):
    rows = make_rows(tmp_path, lambda p: render_scene(WANTED), references={})
    assert find_clearest(rows) is None
    assert finding_in_words(rows) == "Everything that the prompts state is kept in every setting."
    assert (
        setting_chart("finding", "A test", rows).panels[0].remark == "no image is compared with a reference"
    )
    assert finding_in_words(make_rows(tmp_path / "none", lambda p: None)) == ""


def test_the_section_of_the_summary(tmp_path):
    rows = make_rows(tmp_path, open_background)
    section = describe_settings(rows)
    assert section.finding == finding_in_words(rows)
    assert section.columns == ("token mode", "alpha", "background", "texture")
    assert list(section.rows) == [("text_only", "1", "5 of 5", "0 of 5"), ("full", "1", "0 of 5", "0 of 5")]
    assert "above chance and the text alone of 12 comparisons" in section.text


def test_the_first_plot_is_the_finding(tmp_path):
    rows = make_rows(tmp_path, open_background, hidden_layer=[-2, -4])
    assert list(setting_plots([], [])) == ["finding", "reference_by_setting"]
    chart = setting_chart("finding", "A test", rows)
    assert chart.title == "Is the background the reference's where the prompt leaves it open?"
    assert finding_in_words(rows).startswith(chart.subtitle[1])
    assert [panel.title for panel in chart.panels] == ["hidden layer -2", "hidden layer -4"]
    for panel in chart.panels:
        assert [series.label for series in panel.series] == ["token mode text_only", "token mode full"]
        assert [series.points for series in panel.series] == [
            [(0.0, 0.0), (1.0, 1.0)],
            [(0.0, 0.0), (1.0, 0.0)],
        ]
        assert panel.note == ["n = 5"]
    everything = setting_chart("reference_by_setting", "A test", rows)
    assert [panel.title for panel in everything.panels] == ["background", "texture"]
    assert len(everything.panels[0].series) == 4


@pytest.mark.parametrize("shows", ["finding", "reference_by_setting"])
@pytest.mark.parametrize("modes", [["full"], MODES, [f"mode {number}" for number in range(70)]])
def test_every_plot_is_drawn(tmp_path, shows, modes):
    rows = make_rows(tmp_path, open_background, seeds=(1,), token_mode=modes)
    chart = setting_chart(shows, "A test", rows)
    assert all(len(panel.series) <= 6 and len(panel.y.names) <= 60 for panel in chart.panels)
    assert draw_chart(chart).dtype == np.uint8


def test_the_larger_share_is_the_finding_where_its_interval_is_wider(tmp_path):
    """With two prompts, the interval of all of 8 images (by Wilson) ends below that of 5 of 8 (by resampling)."""
    rows = make_rows(tmp_path, open_background)
    shares = {"text_only": ("1.0", "0.34"), "full": ("0.625", "0.5")}
    changed = 0
    for row in rows:
        if row["attribute"] == "background" and float(row["alpha"]):
            row["follows_reference"], row["follows_reference_low"] = shares[row["token_mode"]]
            changed += 1
    assert changed >= 2
    found = find_clearest(rows)
    assert (found.row["token_mode"], found.row["attribute"]) == ("text_only", "background")
    assert found.margin == pytest.approx(0.34 - float(found.row["reference_chance"]))
    assert [row["token_mode"] for row in found.others] == ["full"]
