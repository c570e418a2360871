"""Sums of the attributes: who is counted where, and what perfect and missing images give."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from graftwork.core.tables import write_table
from graftwork.scenes.captions import write_caption, write_partial
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, Scene, all_scenes, render_scene
from graftwork.scores.intervals import wilson_interval
from graftwork.scores.scene_attributes.summary import breakdowns, describe_attributes, summarize_attributes
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

SCENES = st.sampled_from(all_scenes())
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ALL = len(ATTRIBUTES)


def as_text(rows):
    """Rows as they are read back from a file."""
    return list(csv.DictReader(io.StringIO(write_table(rows))))


def summarize(design, references, folder: Path, painter):
    save_references(references, folder)
    rows = paint_table(design, folder / "images", painter)
    scored = as_text(
        score_rows(design.cells, images_of(rows), design.references, ["scene_attributes"], folder)
    )
    return summarize_attributes(design, scored)


def pick(summary, alpha=1.0, attribute="all", by="", value=""):
    (row,) = [
        row
        for row in summary
        if (row["by"], row["value"], row["attribute"], row["alpha"]) == (by, value, attribute, alpha)
    ]
    return row


def shares(row):
    return row["follows_prompt"], row["follows_reference"]


@SLOW
@given(prompt=SCENES, reference=SCENES, about=st.sampled_from(["everything", "object", "setting"]))
def test_images_of_the_prompt_follow_it_alone(tmp_path, prompt, reference, about):
    caption = write_partial(prompt, about, 0)
    design = make_design({"p": caption}, {"r": reference}, alphas=(1.0,), baseline=False)
    summary = summarize(design, {"r": reference}, tmp_path, lambda p: render_scene(prompt))
    assert pick(summary)["follows_prompt"] == 1
    for row in summary:
        if (row["by"], row["value"]) == ("prompt_says", "differs"):
            assert shares(row) == (1, 0)


@SLOW
@given(one=SCENES, other=SCENES, image=SCENES)
def test_swapping_prompt_and_reference_swaps_the_shares_where_they_differ(tmp_path, one, other, image):
    assume(one != other)
    found = []
    for prompt, reference in ((one, other), (other, one)):
        caption = {"p": write_caption(prompt)}
        design = make_design(caption, {"r": reference}, alphas=(1.0,), baseline=False)
        summary = summarize(design, {"r": reference}, tmp_path, lambda p: render_scene(image))
        found.append(pick(summary, by="prompt_says", value="differs"))
    assert shares(found[0]) == shares(found[1])[::-1]
    assert found[0]["prompt_n"] == found[0]["reference_n"] == found[1]["prompt_n"]
    assert found[0]["prompt_chance"] == found[1]["reference_chance"]


def test_images_of_the_reference_follow_it_alone(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(1.0,))
    summary = summarize(
        design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(SHOWN if p["alpha"] else WANTED)
    )
    assert shares(pick(summary, alpha=1.0)) == (0, 1)
    # The baselines stand in at alpha 0: their prompts leave something open, but nothing of the reference is there.
    assert shares(pick(summary, alpha=0.0)) == (1, 0)
    for attribute in ATTRIBUTES:
        assert shares(pick(summary, attribute=attribute)) == (0, 1)


def test_what_is_counted(tmp_path):
    """Captions state 6, 4 and 2 attributes; prompt and reference differ in all."""
    design = make_design(CAPTIONS, {"shown": SHOWN}, seeds=(1, 2))
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    row = pick(summary)
    assert (row["prompt_n"], row["reference_n"]) == (2 * (6 + 4 + 2), 2 * 18)
    assert (row["readings"], row["unscored"]) == (2 * 18, 0)
    assert pick(summary, attribute="shape")["prompt_n"] == 2 * 2
    says = {value: pick(summary, by="prompt_says", value=value) for value in ("differs", "open")}
    assert (says["differs"]["prompt_n"], says["differs"]["reference_n"]) == (24, 24)
    assert (says["open"]["prompt_n"], says["open"]["reference_n"]) == (0, 12)
    assert says["open"]["follows_prompt"] is None
    assert says["open"]["prompt_chance"] is None


def test_where_prompt_and_reference_agree_the_reference_is_not_counted(tmp_path):
    design = make_design({"full": CAPTIONS["full"]}, {"same": WANTED}, alphas=(1.0,))
    summary = summarize(design, {"same": WANTED}, tmp_path, lambda p: render_scene(WANTED))
    row = pick(summary, by="prompt_says", value="agrees")
    assert (row["prompt_n"], row["reference_n"]) == (ALL, 0)
    assert shares(row) == (1, None)
    assert shares(pick(summary)) == (1, None)


def test_without_references_only_the_prompt_counts(tmp_path):
    design = make_design(CAPTIONS, {}, alphas=(0.0,), baseline=False)
    summary = summarize(design, {}, tmp_path, lambda p: render_scene(WANTED))
    assert shares(pick(summary, alpha=0.0)) == (1, None)
    assert pick(summary, alpha=0.0, by="prompt_says", value="no_reference")["prompt_n"] == 12
    assert pick(summary, alpha=0.0, by="reference", value="none")["prompt_n"] == 12


def test_baselines_stand_in_once_for_every_combination_where_there_is_no_alpha_0(tmp_path):
    axes = {"hidden_layer": [-2, -4], "token_mode": ["full", "text_only"]}
    references = {"shown": SHOWN, "same": WANTED}
    with_zero = make_design(CAPTIONS, references, alphas=(0.0, 0.5, 1.0), **axes)
    without = make_design(CAPTIONS, references, alphas=(0.5, 1.0), **axes)

    def painter(parameters):
        return render_scene(SHOWN if parameters["alpha"] else WANTED)

    summaries = [summarize(design, references, tmp_path, painter) for design in (with_zero, without)]
    counted = [[{**row, "stand_ins": 0} for row in summary] for summary in summaries]
    assert counted[0] == counted[1]
    assert {row["stand_ins"] for row in summaries[0]} == {0}
    # 3 prompts x 2 references x 2 layers x 2 token modes, of which each has six attributes.
    assert pick(summaries[1], alpha=0.0)["stand_ins"] == 24 * ALL
    assert pick(summaries[1], alpha=0.5)["stand_ins"] == 0
    for by, values in (
        ("hidden_layer", ("-2", "-4")),
        ("token_mode", axes["token_mode"]),
        ("reference", references),
    ):
        for value in values:
            row = pick(summaries[0], alpha=0.0, by=by, value=value)
            assert row["readings"] == pick(summaries[0], alpha=1.0, by=by, value=value)["readings"] > 0
            assert row["follows_prompt"] == 1


def test_settings_that_differ_in_alpha_alone_both_have_the_text_alone(tmp_path):
    """Without an axis alpha, `half` and `whole` are one recipe with two alphas."""
    design = make_design({"full": CAPTIONS["full"]}, {"shown": SHOWN}, alphas=(0.5, 1.0))
    names = {0.5: "half", 1.0: "whole"}
    design.axes[-1] = replace(design.axes[-1], name="setting", labels=list(names.values()))
    design.cells = [
        replace(cell, shown={**cell.shown, "setting": names[cell.parameters["alpha"]]})
        if cell.role == "cell"
        else cell
        for cell in design.cells
    ]
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    found = {
        (row["value"], row["alpha"]): row["stand_ins"]
        for row in summary
        if row["by"] == "setting" and row["attribute"] == "all"
    }
    assert found == {("half", 0.0): ALL, ("half", 0.5): 0, ("whole", 0.0): ALL, ("whole", 1.0): 0}


def test_without_baselines_there_is_no_alpha_0(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.5, 1.0), baseline=False)
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    assert {row["alpha"] for row in summary} == {0.5, 1.0}


def test_equal_images_count_each_but_make_no_interval_narrower(tmp_path):
    layers = list(range(-8, 0))
    design = make_design(CAPTIONS, {"shown": SHOWN}, alphas=(0.0,), baseline=False, hidden_layer=layers)
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    row, one = pick(summary, alpha=0.0), pick(summary, alpha=0.0, by="hidden_layer", value="-2")
    assert (row["prompt_n"], one["prompt_n"]) == (8 * 12, 12)
    # One image, six attributes: what it says of one attribute for three prompts and eight layers is one observation.
    assert row["prompt_n_effective"] == one["prompt_n_effective"] == pytest.approx(ALL)
    ends = [row["follows_prompt_low"], row["follows_prompt_high"]]
    # All prompts agree, so that resampling them says nothing: three prompts are three observations.
    assert ends == pytest.approx(wilson_interval(1.0, 3), abs=1e-6)
    assert row["prompt_prompts"] == one["prompt_prompts"] == 3


def test_attributes_of_one_image_are_not_independent(tmp_path):
    """Two prompts of which one is followed in everything and one in nothing: all that is known is that they differ."""
    captions = {"one": write_caption(WANTED), "other": write_caption(SHOWN)}
    design = make_design(captions, {}, alphas=(0.0,), seeds=tuple(range(20)), baseline=False)
    row = pick(summarize(design, {}, tmp_path, lambda p: render_scene(WANTED)), alpha=0.0)
    assert (row["prompt_n"], row["prompt_prompts"], row["follows_prompt"]) == (40 * ALL, 2, 0.5)
    assert (row["follows_prompt_low"], row["follows_prompt_high"]) == (0.0, 1.0)


def test_distinct_images_count_in_full(tmp_path):
    design = make_design({"full": CAPTIONS["full"]}, {}, alphas=(0.0,), seeds=tuple(range(5)), baseline=False)

    def painter(parameters):
        pixels = render_scene(WANTED).copy()
        pixels[0, 0] = parameters["seed"]
        return pixels

    row = pick(summarize(design, {}, tmp_path, painter), alpha=0.0)
    assert row["prompt_n_effective"] == row["prompt_n"] == 5 * ALL


def test_missing_images_are_not_counted_but_said(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN}, hidden_layer=[-2, -4])
    summary = summarize(
        design,
        {"shown": SHOWN},
        tmp_path,
        lambda p: None if p["alpha"] == 1.0 or p.get("hidden_layer") == -4 else render_scene(WANTED),
    )
    row = pick(summary, alpha=1.0)
    assert (row["prompt_n"], row["readings"], row["unscored"]) == (0, 0, 2 * 3 * ALL)
    assert {key for key, value in row.items() if value is None} >= {
        "follows_prompt",
        "confidence",
        "prompt_chance",
    }
    assert pick(summary, alpha=0.5)["unscored"] == 3 * ALL
    assert pick(summary, alpha=0.5, by="hidden_layer", value="-4")["readings"] == 0
    assert write_table(summary)


def test_chance_is_the_mean_over_what_is_counted(tmp_path):
    design = make_design({"setting": CAPTIONS["setting"]}, {"shown": SHOWN}, alphas=(1.0,))
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    assert pick(summary)["prompt_chance"] == pytest.approx((1 / 8 + 1 / 4) / 2)
    assert pick(summary)["reference_chance"] == pytest.approx(
        sum(1 / len(values) for values in VOCABULARY.values()) / ALL, abs=1e-6
    )
    for attribute, values in VOCABULARY.items():
        assert pick(summary, attribute=attribute)["reference_chance"] == pytest.approx(1 / len(values))


def test_random_scenes_meet_chance(tmp_path):
    rng = np.random.default_rng(0)
    scenes = all_scenes()
    prompts = {str(i): write_caption(scenes[rng.integers(len(scenes))]) for i in range(20)}
    references = {f"r{i}": scenes[rng.integers(len(scenes))] for i in range(10)}
    design = make_design(prompts, references, alphas=(1.0,), baseline=False)
    summary = summarize(
        design, references, tmp_path, lambda p: render_scene(scenes[rng.integers(len(scenes))])
    )
    for attribute in ("all", *ATTRIBUTES):
        row = pick(summary, attribute=attribute)
        for measure in ("prompt", "reference"):
            error = 4 * (row[f"{measure}_chance"] / row[f"{measure}_n"]) ** 0.5
            assert row[f"follows_{measure}"] == pytest.approx(row[f"{measure}_chance"], abs=error)


def test_references_of_one_name_are_told_apart(tmp_path):
    design = make_design(CAPTIONS, {"a" * 64: SHOWN, "b" * 64: WANTED}, alphas=(1.0,), baseline=False)
    design.cells = [replace(cell, shown={**cell.shown, "reference": "picture"}) for cell in design.cells]
    summary = summarize(design, {"a" * 64: SHOWN, "b" * 64: WANTED}, tmp_path, lambda p: render_scene(WANTED))
    assert {row["value"] for row in summary if row["by"] == "reference"} == {
        "picture aaaaaaaa",
        "picture bbbbbbbb",
    }


def test_tables_are_broken_down_by_what_varies():
    axes = plain_axes(prompt=["a", "b"], reference=["r"], seed=[1, 2], alpha=[0.0, 1.0], blend=["linear"])
    assert breakdowns(axes) == ["hidden_layer", "token_mode", "reference", "prompt_says"]
    axes += plain_axes(normalization=["none", "global"], token_mode=["full", "text_only"])
    assert breakdowns(axes)[3:] == ["normalization", "prompt_says"]


def test_rows_have_one_order(tmp_path):
    design = make_design(CAPTIONS, {"shown": SHOWN}, hidden_layer=[-2, -4], alphas=(1.0, 0.0, 0.5))
    summary = summarize(design, {"shown": SHOWN}, tmp_path, lambda p: render_scene(WANTED))
    keys = [(row["by"], row["value"], row["attribute"], row["alpha"]) for row in summary]
    assert len(set(keys)) == len(keys)
    assert keys[:4] == [
        ("", "", "all", 0.0),
        ("", "", "all", 0.5),
        ("", "", "all", 1.0),
        ("", "", "shape", 0.0),
    ]
    assert [
        value
        for by, value, attribute, alpha in keys
        if (by, attribute, alpha) == ("hidden_layer", "all", 0.0)
    ] == [
        "-2",
        "-4",
    ]
    assert list(dict.fromkeys(key[2] for key in keys)) == ["all", *ATTRIBUTES]


def test_scenes_differ_in_everything():
    """What the other tests count relies on it."""
    assert all(getattr(WANTED, a) != getattr(SHOWN, a) for a in ATTRIBUTES)
    assert isinstance(WANTED, Scene)


def row(alpha: str, by: str = "", attribute: str = "all", **columns: str) -> dict[str, str]:
    names = ("follows_prompt", "follows_reference")
    plain = {f"{name}{end}": "" for name in names for end in ("", "_low", "_high")}
    plain |= {"prompt_prompts": "12", "reference_prompts": "12"}
    chance = {"prompt_chance": "0.2", "reference_chance": ""}
    return {"by": by, "attribute": attribute, "alpha": alpha, **plain, **chance, **columns}


def test_the_summary_has_one_line_for_each_alpha():
    shares = {"follows_prompt": "0.555", "follows_prompt_low": "0.25", "follows_prompt_high": "0.75"}
    rows = [
        row("0.0", **shares),
        row("0.0", attribute="shape", **shares),
        row("0.5", by="hidden_layer", **shares),
        row("1.0", **{name.replace("prompt", "reference"): value for name, value in shares.items()}),
    ]
    section = describe_attributes(rows)
    assert len(section.columns) == 5
    assert section.rows == [
        ("0.0", "56 % (25 % to 75 %)", "20 %", "not counted", ""),
        ("1.0", "not counted", "20 %", "56 % (25 % to 75 %)", ""),
    ]
