"""Controls by generators that were trained to take a reference: their cells, what they are compared with, what is refused."""

import numpy as np
import pytest
from PIL import Image

from graftwork.core.errors import DesignError
from graftwork.design.controls import keys_of, reference_scale_of, references_of
from graftwork.models.catalog import Model
from graftwork.models.families import GeneratorFacts
from tests.unit.design.designs import GENERATOR, expand, experiment, some_models

AXES = {"alpha": [0.0, 0.5, 1.0], "hidden_layer": [-2, -4]}
EDIT = {"generator": "editor", "num_inference_steps": 4}


def models():
    facts = {**GENERATOR, "family": "flux2_klein", "conditioning_layers": (2, 4, 6), "caption_padding": 96}
    entry = {"family": "flux2_klein", "path": "/nowhere/editor", "text_encoder": "text"}
    return [*some_models(), Model("editor", "generator", entry, "content:editor", GeneratorFacts(**facts))]


@pytest.fixture(autouse=True)
def large_reference(tmp_path):
    folder = tmp_path / "config" / "references"
    folder.mkdir(parents=True)
    for name, grey in (("barn", 10), ("lake", 20)):
        Image.fromarray(np.full((64, 80, 3), grey, dtype=np.uint8)).save(folder / f"{name}.png")


def edited(tmp_path, raw=None, **more):
    raw = raw or experiment(AXES, {"references": ["barn", "lake"]})
    return expand(tmp_path, {**raw, "controls": ["edit"], "edit": EDIT, **more}, models=models())


def test_controls_are_shared_and_compared_with_their_own_generator(tmp_path):
    design = edited(tmp_path)
    by_name = {cell.cell: cell for cell in design.cells}
    controls = [cell for cell in design.cells if cell.role == "control"]
    # One for each prompt, reference and seed.
    assert len(controls) == 2 * 2
    for cell in controls:
        assert cell.parameters["generator"] == "content:editor"
        assert cell.parameters["num_inference_steps"] == 4
        assert cell.parameters["text_hidden_layer"] == [2, 4, 6]
        assert cell.parameters["encoder"] is None
        assert references_of(cell.parameters) == (cell.parameters["reference"],)
        assert reference_scale_of(cell.parameters) is None
        text = by_name[design.baselines[cell.cell]]
        assert (text.role, text.parameters.get("reference")) == ("baseline", None)
        same = {
            name: text.parameters[name] for name in ("generator", "prompt", "seed", "num_inference_steps")
        }
        assert same == {name: cell.parameters[name] for name in same}
    cell = next(cell for cell in design.cells if cell.role == "cell")
    assert by_name[design.baselines[cell.cell]].parameters["generator"] == "content:images"
    assert references_of(cell.parameters) == ()
    assert set(design.models) >= {"content:editor", "content:images"}


def test_they_rename_no_cell(tmp_path):
    raw = experiment(AXES, {"references": ["barn"]})
    plain = expand(tmp_path, raw, models=models())
    design = edited(tmp_path, raw)
    assert [cell.cell for cell in design.cells if cell.role == "cell"] == [
        cell.cell for cell in plain.cells if cell.role == "cell"
    ]
    plain_baselines = {cell.cell for cell in plain.cells if cell.role == "baseline"}
    own = {cell.cell for cell in design.cells if cell.role == "baseline"}
    assert plain_baselines < own
    assert len(own - plain_baselines) == 2


def test_a_control_that_is_written_down_is_the_same_cell(tmp_path):
    design = edited(tmp_path)
    control = next(cell for cell in design.cells if cell.role == "control")
    assert keys_of(control.parameters) == {"controls": ["edit"]}
    base = {
        "prompts": [{"name": "apple", "text": "a red apple"}],
        "references": ["barn"],
        "generator": "editor",
        "num_inference_steps": 4,
        "encoder": None,
        "alpha": 0.0,
    }
    own = expand(tmp_path, experiment({}, base, controls=["edit"]), models=models())
    assert control.cell in {cell.cell for cell in own.cells if cell.role == "control"}


def test_without_a_reference_it_is_the_text_alone(tmp_path):
    design = edited(tmp_path, experiment({"alpha": [0.5]}, {"references": [None, "barn"]}))
    role_of = {cell.cell: cell.role for cell in design.cells}
    assert {role_of[name] for indices, name in design.positions if indices[-1]} == {"baseline", "control"}


@pytest.mark.parametrize(
    ("raw", "more", "said"),
    [
        (
            {"references": ["barn"]},
            {"edit": {}},
            "cannot be made by generator 'images' of family z_image; set edit.generator",
        ),
        ({"references": ["house"]}, {}, "a side of it is below 64 pixels"),
        ({"references": []}, {}, "edit needs a reference to show"),
        ({"references": ["barn"]}, {"edit": {"generator": "nobody"}}, "nobody"),
        ({"references": ["barn"]}, {"edit": {"scale": 1}}, "scale"),
    ],
)
def test_what_is_refused(tmp_path, raw, more, said):
    with pytest.raises(DesignError) as refused:
        edited(tmp_path, experiment({"alpha": [0.5]}, raw), **more)
    assert said in str(refused.value)
