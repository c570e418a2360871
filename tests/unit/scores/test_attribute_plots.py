"""What is on the plots of attributes, and what they say where there is nothing."""

import numpy as np
import pytest

from graftwork.core.charts import MOST_SIDE_BY_SIDE
from graftwork.reports.charts import draw_chart
from graftwork.scenes.world import ATTRIBUTES, render_scene
from graftwork.scores.scene_attributes.plots import attribute_chart, attribute_plots
from tests.unit.scores.scored import CAPTIONS, SHOWN, WANTED, make_design, plain_axes
from tests.unit.scores.test_attribute_summary import as_text, summarize

MODES = ["full", "text_only"]


def chart(tmp_path, by, painter=None, captions=CAPTIONS, references=None, **more):
    references = {"shown": SHOWN} if references is None else references
    design = make_design(captions, references, **{"token_mode": MODES, **more})
    painter = painter or (lambda p: render_scene(SHOWN if p["alpha"] else WANTED))
    return attribute_chart(by, "A test", as_text(summarize(design, references, tmp_path, painter)))


def test_which_plots_there_are():
    axes = plain_axes(alpha=[0.0, 1.0], seed=[1, 2], reference=["a", "b"], prompt=["a", "b"])
    usual = ["following", "following_by_attribute"]
    axes += plain_axes(hidden_layer=[-2], token_mode=["full"])
    assert list(attribute_plots(axes, [])) == [*usual, "following_by_prompt_says"], (
        "axes of one value show nothing"
    )
    axes[-1:] = plain_axes(token_mode=MODES, normalization=["none", "global"])
    assert list(attribute_plots(axes, [])) == [
        *usual,
        "following_by_token_mode",
        "following_by_normalization",
        "following_by_prompt_says",
    ]
    assert attribute_plots(axes, [])["following_by_token_mode"] == "token_mode"


def test_a_plot_of_everything(tmp_path):
    found = chart(tmp_path, "")
    panel, confidence = found.panels
    prompt, reference = panel.series
    assert prompt.points == [(0.0, 1.0), (0.5, 0.0), (1.0, 0.0)]
    assert reference.points == [(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)]
    for series in panel.series:
        ends = zip(series.points, series.intervals, strict=True)
        assert all(low <= share <= high for (_, share), (low, high) in ends)
    assert [(level.label, len(level.points), level.series) for level in panel.levels] == [("chance", 1, "")]
    assert (panel.note, panel.remark) == (["n per alpha: prompt 24, reference 36"], "")
    assert found.subtitle == [
        "A test",
        f"18 cells with an image; 6 attributes together: {', '.join(ATTRIBUTES)}",
    ]
    (readings,) = confidence.series
    assert len(readings.points) == 3


def test_the_text_alone_that_stands_in_is_no_cell(tmp_path):
    found = chart(tmp_path, "", alphas=(0.5, 1.0))
    assert found.subtitle[1].startswith(
        "12 cells with an image, at alpha 0 the text alone in place of 6 cells;"
    )


def test_levels_of_chance_are_drawn_apart_where_they_differ(tmp_path):
    """Of a setting alone, prompts state the background and the texture, whose values are rarer than those of others."""
    panel = chart(tmp_path, "", captions={"setting": CAPTIONS["setting"]}).panels[0]
    assert [(level.label, len(level.points), level.series) for level in panel.levels] == [
        ("chance, prompt", 3, "follow the prompt"),
        ("chance, reference", 3, "follow the reference"),
    ]


def test_panels(tmp_path):
    assert [panel.title for panel in chart(tmp_path, "attribute").panels] == list(ATTRIBUTES)
    assert [panel.title for panel in chart(tmp_path, "token_mode").panels] == [
        f"token mode {m}" for m in MODES
    ]
    titles = ["prompt and reference differ", "prompt and reference agree", "the prompt leaves it open"]
    says = chart(tmp_path, "prompt_says")
    assert [panel.title for panel in says.panels] == titles


def test_panels_say_why_there_is_nothing(tmp_path):
    differ, agree, left_open = chart(tmp_path, "prompt_says").panels
    assert differ.remark == ""
    assert agree.remark.startswith("no cells:")
    assert agree.note == []
    assert differ.note == ["n per alpha: prompt 24, reference 24", "mean confidence 1.00"]
    assert left_open.remark == "the prompt is not counted: it states nothing here"
    alone = chart(tmp_path, "prompt_says", references={}).panels
    assert [panel.title for panel in alone][-1] == "there is no reference"
    assert alone[2].remark.startswith("nothing to count:")
    assert alone[3].remark.startswith("the reference is not counted: there is none")
    same = chart(tmp_path, "prompt_says", captions={"full": CAPTIONS["full"]}, references={"same": WANTED})
    assert same.panels[1].remark.startswith("the reference is not counted: nobody can say")


def test_panels_say_that_images_are_missing(tmp_path):
    def painter(parameters):
        failed = parameters["alpha"] and parameters["token_mode"] == "text_only"
        return None if failed else render_scene(WANTED)

    full, text_only = chart(tmp_path, "token_mode", painter).panels
    assert full.remark == ""
    assert text_only.remark == "no image at alpha 0.5, 1: the cells have failed or are missing"
    assert [len(series.points) for series in text_only.series] == [1, 1]
    nothing = chart(tmp_path, "", lambda p: None)
    assert nothing.panels[0].remark.startswith("no cells with an image")
    assert nothing.subtitle[1].startswith("0 cells with an image, 18 without")


@pytest.mark.parametrize("painter", [lambda p: render_scene(WANTED), lambda p: None])
@pytest.mark.parametrize("alphas", [(0.0,), (1.0,), (0.0, 0.5, 1.0)])
def test_every_plot_is_drawn_whatever_there_is(tmp_path, painter, alphas):
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=alphas)
    rows = as_text(summarize(design, {"shown": SHOWN}, tmp_path, painter))
    for by in attribute_plots(design.axes, []).values():
        pixels = draw_chart(attribute_chart(by, "Money: $1 and $2, _under_ ^scores^ \\frac", rows))
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) > 400


def test_many_values_make_a_dot_plot(tmp_path):
    """A panel for each of dozens of settings could not be read."""
    many = [f"setting {number}" for number in range(MOST_SIDE_BY_SIDE + 1)]
    found = chart(tmp_path, "token_mode", token_mode=many, alphas=(0.0, 1.0))
    (panel,) = found.panels
    assert panel.y.names == tuple(many)
    prompt, reference = panel.series
    assert prompt.points == [(0.0, float(place)) for place in range(len(many))]
    assert reference.points == [(1.0, float(place)) for place in range(len(many))]
    assert [level.label for level in panel.levels] == ["chance"]
    found = chart(tmp_path, "token_mode", token_mode=many)
    assert found.panels[0].y.names[:2] == ("setting 0, alpha 0.5", "setting 0, alpha 1")
