"""Schedules, guidance and images to start from in an experiment: which cells and baselines, and what is refused."""

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.parameters import NEUTRAL
from graftwork.design.sampling import sampling_warnings
from graftwork.models.catalog import Model
from graftwork.models.families import GeneratorFacts, first_step
from tests.unit.design.designs import GENERATOR, expand, experiment, some_models

LINEAR = {"kind": "linear"}
NAMES = ("alpha_schedule", "negative_prompt", "cfg_normalization", "cfg_truncation", "init_image", "strength")
ONE_PROMPT = {"prompts": [{"name": "apple", "text": "a red apple"}]}


def of_role(design, role):
    return [cell for cell in design.cells if cell.role == role]


def design_of(tmp_path, axes=None, **base):
    return expand(tmp_path, experiment(axes, {**ONE_PROMPT, **base}))


def test_cells_of_before_keep_their_names(tmp_path):
    for cell in design_of(tmp_path).cells:
        assert {name: cell.parameters.get(name) for name in NAMES if name in cell.parameters} == {
            name: NEUTRAL[name] for name in NAMES if name in cell.parameters
        }


def test_a_schedule_is_an_axis_with_short_labels(tmp_path):
    values = [
        None,
        LINEAR,
        {"kind": "step", "maximum": 0.5, "break_at": 0.25, "over": "sigma"},
        {"kind": "points", "points": [[0, 1], [1, 0.5]]},
        {"kind": "peak_early"},
    ]
    design = design_of(tmp_path, {"alpha_schedule": values, "alpha": [0.5, 1.0]})
    (axis,) = [axis for axis in design.axes if axis.name == "alpha_schedule"]
    assert axis.labels == [
        "none",
        "linear 1 to 0",
        "step 0.5 to 0 at 0.25, over sigma",
        "points [[0, 1], [1, 0.5]]",
        "peak_early 1",
    ]
    assert len(of_role(design, "cell")) == 10
    assert len(of_role(design, "baseline")) == 1


def test_schedules_that_differ_in_what_is_not_used_are_told_apart(tmp_path):
    values = [LINEAR, {"kind": "linear", "break_at": 0.25}]
    (axis,) = [a for a in design_of(tmp_path, {"alpha_schedule": values}).axes if a.name == "alpha_schedule"]
    assert len(set(axis.labels)) == 2


def test_baselines_are_sampled_as_their_cells_are(tmp_path):
    axes = {"guidance_scale": [0.0, 2.0], "negative_prompt": [None, "blurry"]}
    design = design_of(tmp_path, axes)
    found = {
        (cell.parameters["guidance_scale"], cell.parameters["negative_prompt"])
        for cell in of_role(design, "baseline")
    }
    assert found == {(0.0, None), (2.0, ""), (2.0, "blurry")}
    for role in ("cell", "baseline"):
        assert len(of_role(design, role)) == 3, "without guidance a negative prompt takes no part"
    cells = {cell.cell: cell for cell in design.cells}
    for cell, baseline in design.baselines.items():
        for name in ("guidance_scale", "negative_prompt"):
            assert cells[cell].parameters[name] == cells[baseline].parameters[name]


def test_no_negative_prompt_is_an_empty_one(tmp_path):
    one, other = (design_of(tmp_path, guidance_scale=2.0, negative_prompt=text) for text in (None, ""))
    assert [cell.cell for cell in one.cells] == [cell.cell for cell in other.cells]


def test_each_cell_has_the_baseline_that_starts_from_its_image(tmp_path):
    """A baseline has no reference: the image it starts from is that of its cell all the same."""
    design = design_of(tmp_path, references=["house", "tree"], init_image="reference")
    cells = {cell.cell: cell for cell in design.cells}
    assert len(of_role(design, "baseline")) == 2
    for cell in of_role(design, "cell"):
        assert cell.parameters["init_image"] == cell.parameters["reference"]
        assert cell.shown["init_image"] == cell.shown["reference"] in ("house", "tree")
        baseline = cells[design.baselines[cell.cell]]
        assert baseline.parameters["init_image"] == cell.parameters["init_image"]
        assert baseline.parameters["strength"] == 0.6
        assert "reference" not in baseline.parameters or baseline.parameters["reference"] is None
    assert len({design.baselines[cell.cell] for cell in of_role(design, "cell")}) == 2


def test_an_image_may_be_named_and_is_what_its_content_is(tmp_path):
    by_name = design_of(tmp_path, init_image="house", references=["house"])
    as_reference = design_of(tmp_path, init_image="reference", references=["home"])
    assert {cell.cell for cell in by_name.cells} == {cell.cell for cell in as_reference.cells}
    assert by_name.references == {
        by_name.cells[0].parameters["init_image"]: "config/references/house.png",
    }
    alone = design_of(tmp_path, init_image="tree", references=["house"])
    assert sorted(alone.references.values()) == ["config/references/house.png", "config/references/tree.png"]


def test_images_to_start_from_are_an_axis(tmp_path):
    design = design_of(tmp_path, {"init_image": [None, "reference", "tree"], "strength": [0.25, 0.5]})
    assert len(of_role(design, "cell")) == 1 + 2 + 2, "without an image the strength takes no part"
    (axis,) = [axis for axis in design.axes if axis.name == "init_image"]
    assert axis.labels == ["none", "reference", "tree"]


def test_guidance_and_a_strength_that_ignores_the_image_are_noted(tmp_path):
    assert design_of(tmp_path).notes == []
    (note,) = design_of(tmp_path, guidance_scale=1.0).notes
    assert "generator 'images' was distilled to do without guidance" in note
    (note,) = design_of(tmp_path, {"strength": [0.5, 0.9]}, init_image="tree").notes
    assert "strength 0.9 at num_inference_steps 8 starts from pure noise" in note
    assert "up to strength 0.875" in note


@pytest.mark.parametrize("steps", range(2, 120))
def test_the_strength_that_a_warning_names_is_right(steps):
    values = {"init_image": "x", "strength": 1.0, "num_inference_steps": steps}
    (text,) = sampling_warnings(values)
    largest = float(text.rpartition(" ")[2])
    assert first_step(steps, largest) == 1
    assert first_step(steps, largest + 0.001) == 0
    assert sampling_warnings({**values, "strength": largest}) == []


def test_one_step_from_noise_has_a_warning_of_its_own():
    (text,) = sampling_warnings({"init_image": "x", "strength": 0.5, "num_inference_steps": 1})
    assert "from 2 steps on" in text


SHORT = {"alpha_schedule": LINEAR, "num_inference_steps": 1}
REFUSED = [
    ({}, SHORT, ["alpha_schedule 'linear' has a single step", "num_inference_steps 1", "at least 2 steps"]),
    (
        {},
        {"alpha_schedule": LINEAR, "init_image": "tree", "strength": 0.1},
        ["a single step", "strength 0.1"],
    ),
    ({}, {"alpha_schedule": LINEAR, "alpha": 0.0}, ["alpha_schedule 'linear' does nothing at alpha 0"]),
    ({}, {"alpha_schedule": {"kind": "constant", "maximum": 0.0}}, ["maximum 0.0 is the text alone"]),
    ({}, {"alpha_schedule": LINEAR, "blend": "concat"}, ["blend 'concat' has not"]),
    ({}, {"alpha_schedule": LINEAR, "length_matching": "none"}, ["length_matching 'none'", "alpha 1 alone"]),
    ({}, {"alpha_schedule": {"kind": "lineer"}}, ["base.alpha_schedule.kind", "did you mean 'linear'?"]),
    ({}, {"alpha_schedule": {"knd": "linear"}}, ["base.alpha_schedule.knd is not a known key", "break_at"]),
    ({}, {"alpha_schedule": {"kind": "points"}}, ["base.alpha_schedule", "points with kind: points"]),
    ({"alpha_schedule": [{"kind": "lineer"}]}, {}, ["axes.alpha_schedule"]),
    ({}, {"negative_prompt": "blurry"}, ["negative_prompt 'blurry' does nothing without guidance"]),
    ({}, {"negative_prompt": ""}, ["negative_prompt '' does nothing", "negative_prompt: null"]),
    ({}, {"cfg_normalization": 1.0}, ["cfg_normalization 1.0 does nothing", "cfg_normalization: 0.0"]),
    ({"cfg_truncation": [0.5, 1.0]}, {}, ["cfg_truncation 0.5 does nothing"]),
    ({}, {"guidance_scale": -1.0}, ["base.guidance_scale", "-1.0 is not allowed"]),
    (
        {"negative_prompt": ["a<|im_end|>"]},
        {"guidance_scale": 1.0},
        ["negative_prompt", "control token '<|im_end|>'", "allow_control_tokens"],
    ),
    ({}, {"init_image": "treee"}, ["base.init_image", "'treee'", "did you mean 'tree'?"]),
    ({"init_image": ["hose"]}, {}, ["axes.init_image", "'hose'"]),
    ({}, {"init_image": ""}, ["base.init_image", "'' is not allowed"]),
    (
        {},
        {"init_image": "reference", "references": []},
        ["base.init_image: 'reference' stands for a cell's reference", "cells without one"],
    ),
    ({"reference": ["house", None]}, {"init_image": "reference"}, ["base.init_image", "no null among them"]),
    ({}, {"init_image": "tree", "strength": 0.0}, ["strength 0.0 leaves none of num_inference_steps 8"]),
    ({"strength": [1.5]}, {"init_image": "tree"}, ["axes.strength", "1.5 is not allowed"]),
]


@pytest.mark.parametrize(("axes", "base", "parts"), REFUSED)
def test_what_cannot_be_built_is_refused(tmp_path, axes, base, parts):
    with pytest.raises(DesignError) as error:
        design_of(tmp_path, axes, **base)
    assert str(error.value).startswith("config/experiments/test.yaml: ")
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("axes", "base"),
    [
        ({"alpha": [0.0, 1.0]}, {"alpha_schedule": LINEAR}),
        ({}, {"alpha_schedule": {"kind": "constant"}, "length_matching": "none"}),
        ({}, {"alpha_schedule": LINEAR, "blend": "adain_per_dim", "length_matching": "none"}),
        ({"guidance_scale": [0.0, 1.0]}, {"negative_prompt": "blurry"}),
        ({}, {"init_image": "tree", "encoder": None, "alpha": 0.0, "references": []}),
    ],
)
def test_what_acts_in_some_cells_is_allowed(tmp_path, axes, base):
    assert design_of(tmp_path, axes, **base).cells


def test_a_schedule_that_cannot_be_begun_in_the_middle_is_refused(tmp_path):
    facts = GeneratorFacts(**{**GENERATOR, "scheduler_config": {"use_karras_sigmas": True}})
    entry = {"path": "/nowhere/images", "text_encoder": "text"}
    models = [*some_models()[:-1], Model("images", "generator", entry, "content:images", facts)]
    with pytest.raises(DesignError, match="use_karras_sigmas"):
        expand(tmp_path, experiment({}, {"init_image": "tree"}), models=models)
    expand(tmp_path, experiment({}, {"init_image": "tree", "strength": 1.0}), models=models)


def test_negative_prompts_that_are_too_long_or_have_no_tokens_are_refused(tmp_path, monkeypatch):
    from graftwork.design import encoding

    counted = []

    def count(entry, folder, prompts, options):
        counted.extend(prompts)
        return [len(prompt) for prompt in prompts]

    monkeypatch.setattr(encoding, "locate_model", lambda name, entry: tmp_path)
    monkeypatch.setattr(encoding, "has_tokenizer", lambda entry, folder: True)
    monkeypatch.setattr(encoding, "count_prompt_tokens", count)
    with pytest.raises(DesignError, match=r"negative_prompt: prompt 'xx.*has 97 tokens .* at most 96"):
        design_of(tmp_path, guidance_scale=1.0, negative_prompt="x" * 97)
    design_of(tmp_path, guidance_scale=1.0, negative_prompt="x" * 96)
    with pytest.raises(DesignError, match=r"negative_prompt: '' has no tokens with text_prompt_format 'raw'"):
        design_of(tmp_path, guidance_scale=1.0, text_prompt_format="raw")
    counted.clear()
    design_of(tmp_path, text_prompt_format="raw")
    assert "" not in counted, "without guidance there is no negative prompt"
