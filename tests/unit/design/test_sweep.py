"""From experiment files to cells: how many, in which order, under which names, and what is refused."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.core.errors import DesignError
from graftwork.core.records import to_json
from graftwork.design.cells import Grid
from graftwork.design.parameters import cell_id
from graftwork.design.settings import Limits
from tests.unit.design.designs import expand, experiment, some_models


def of_role(design, role):
    return [cell for cell in design.cells if cell.role == role]


def names(design, role="cell"):
    return {cell.cell for cell in of_role(design, role)}


def test_the_example_of_the_documentation(tmp_path):
    raw = experiment(
        {"hidden_layer": [-2, -6, -8], "alpha": {"range": [0.0, 1.0], "count": 6}},
        {"references": ["house"], "seeds": [42]},
        title="How much?",
        question="At which alpha?",
        grids=[{"x": "alpha", "y": "hidden_layer"}],
    )
    design = expand(tmp_path, raw, "example")
    assert [axis.name for axis in design.axes] == ["prompt", "reference", "seed", "hidden_layer", "alpha"]
    assert [len(axis.values) for axis in design.axes] == [2, 1, 1, 3, 6]
    assert len(of_role(design, "cell")) == len(design.positions) == 36
    assert len(of_role(design, "baseline")) == 2
    assert [cell.role for cell in design.cells] == ["baseline"] * 2 + ["cell"] * 36
    assert (design.experiment, design.title, design.question) == ("example", "How much?", "At which alpha?")
    assert design.grids == [Grid("alpha", "hidden_layer")]


def test_the_last_axis_varies_fastest(tmp_path):
    design = expand(tmp_path, experiment({"hidden_layer": [-2, -4], "alpha": [0.25, 0.5, 0.75]}))
    shape = [range(len(axis.values)) for axis in design.axes]
    assert [tuple(indices) for indices, _ in design.positions] == list(itertools.product(*shape))
    cells = {cell.cell: cell for cell in design.cells}
    seen = [
        (
            cells[cell].shown["prompt_name"],
            cells[cell].parameters["hidden_layer"],
            cells[cell].parameters["alpha"],
        )
        for _, cell in design.positions
    ]
    assert seen == list(itertools.product(["apple", "boat"], [-2, -4], [0.25, 0.5, 0.75]))


def test_names_follow_from_parameters(tmp_path):
    design = expand(tmp_path, experiment({"alpha": [0.0, 1.0]}))
    for cell in design.cells:
        assert cell.cell == cell_id(cell.parameters)
        assert cell.parameters["prompt"] in ("a red apple", "a blue boat")
        assert cell.parameters["generator"] == "content:images"
        assert cell.parameters["text_encoder"] == "content:text"


def test_one_baseline_per_prompt_seed_and_sampling(tmp_path):
    raw = experiment(
        {
            "reference": ["house", "tree"],
            "seed": [1, 2, 3],
            "hidden_layer": [-2, -4],
            "alpha": [0.5, 1.0],
            "num_inference_steps": [4, 8],
            "token_mode": ["full", "image_only"],
        }
    )
    design = expand(tmp_path, raw)
    baselines = of_role(design, "baseline")
    assert len(of_role(design, "cell")) == 2 * 2 * 3 * 2 * 2 * 2 * 2
    assert len(baselines) == 2 * 3 * 2
    assert {cell.parameters["alpha"] for cell in baselines} == {0.0}
    cells = {cell.cell: cell.parameters for cell in design.cells}
    assert set(design.baselines) == names(design)
    for cell, baseline in design.baselines.items():
        for name in ("prompt", "seed", "num_inference_steps", "height", "generator", "text_encoder"):
            assert cells[cell][name] == cells[baseline][name]


@pytest.mark.parametrize(
    ("axis", "baselines"),
    [
        ({"text_hidden_layer": [-2, -3]}, 4),
        ({"height": [64, 80]}, 4),
        ({"width": [64, 80]}, 4),
        ({"seed": [1, 2]}, 4),
        ({"encoder": ["vision", "other-vision"]}, 2),
        ({"normalization": ["none", "global"]}, 2),
        ({"target_std": [1.0, 2.0]}, 2),
        ({"masking": ["none", "zero"], "masking_threshold": [2.0, 10.0]}, 2),
        ({"blend": ["linear", "slerp", "intra"]}, 2),
        ({"length_matching": ["area", "linear"]}, 2),
        ({"reference": ["house", "tree", None]}, 2),
    ],
)
def test_what_baselines_depend_on(tmp_path, axis, baselines):
    assert len(of_role(expand(tmp_path, experiment(axis)), "baseline")) == baselines


def test_baselines_are_shared_between_experiments(tmp_path):
    one = expand(tmp_path, experiment({"alpha": [0.5]}), "one")
    other = expand(tmp_path, experiment({"hidden_layer": [-4]}, {"references": ["tree"]}), "other")
    assert names(one, "baseline") == names(other, "baseline")
    assert not names(one) & names(other)


def test_baselines_can_be_left_out(tmp_path):
    design = expand(tmp_path, experiment({"alpha": [0.5]}, baseline=False))
    assert not of_role(design, "baseline")
    assert design.baselines == {}


AXES = {
    "hidden_layer": [-2, -4],
    "alpha": [0.25, 0.75],
    "normalization": ["none", "global"],
    "seed": [1, 2],
    "prompt": ["a red apple", {"name": "boat", "text": "a blue boat"}],
    "reference": ["tree", "house"],
}


@pytest.mark.parametrize("order", [list(AXES), list(reversed(AXES)), sorted(AXES)])
def test_names_do_not_depend_on_the_order_of_axes_or_values(tmp_path, order):
    axes = {name: AXES[name] for name in order}
    turned = {name: list(reversed(AXES[name])) for name in order}
    expected = names(expand(tmp_path, experiment(AXES)))
    assert len(expected) == 64
    assert names(expand(tmp_path, experiment(axes))) == expected
    assert names(expand(tmp_path, experiment(turned))) == expected


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("alpha", 0.5, "alpha"),
        ("hidden_layer", -4, "hidden_layer"),
        ("encoder", "other-vision", "encoder"),
        ("target_std", 61.0, "target_std"),
        ("length_matching", "linear", "length_matching"),
        ("height", 80, "height"),
    ],
)
def test_an_axis_of_one_value_is_a_constant(tmp_path, name, value, key):
    as_axis = expand(tmp_path, experiment({name: [value]}))
    as_constant = expand(tmp_path, experiment({}, {key: value}))
    assert {c.cell for c in as_axis.cells} == {c.cell for c in as_constant.cells}


def test_input_axes_are_the_lists_of_base(tmp_path):
    as_axes = expand(tmp_path, experiment({"seed": [3, 4], "reference": ["tree"], "prompt": ["a hat"]}))
    as_base = expand(
        tmp_path, experiment({}, {"seeds": [3, 4], "references": ["tree"], "prompts": ["a hat"]})
    )
    assert {c.cell for c in as_axes.cells} == {c.cell for c in as_base.cells}


def test_defaults_and_names_do_not_count(tmp_path):
    plain = expand(tmp_path, experiment({"alpha": [0.5]}))
    base = experiment({"alpha": [0.5]})
    del base["base"]["generator"], base["base"]["height"]
    base["title"] = "another"
    base["base"]["prompts"] = ["a blue boat", {"name": "renamed", "text": "a red apple"}]
    defaults = {"generator": "images", "height": 64, "width": 1024}
    renamed = [replace(m, name=m.name, entry={**m.entry, "path": "/moved"}) for m in some_models()]
    other = expand(tmp_path, base, "other", Limits(max_images=7), defaults, renamed)
    assert {c.cell for c in plain.cells} == {c.cell for c in other.cells}


def test_names_of_models_do_not_count(tmp_path):
    models = [
        replace(m, name=f"my-{m.name}", entry={**m.entry, "text_encoder": "my-text"}) for m in some_models()
    ]
    raw = experiment({"alpha": [0.5]}, {"encoder": "my-vision", "generator": "my-images"})
    renamed = expand(tmp_path, raw, models=models)
    plain = expand(tmp_path, experiment({"alpha": [0.5]}))
    assert {c.cell for c in plain.cells} == {c.cell for c in renamed.cells}
    assert renamed.cells[-1].shown["encoder"] == "my-vision"


@pytest.mark.parametrize("name", ["alpha", "target_std"])
def test_whole_numbers_are_floats_where_a_float_is_meant(tmp_path, name):
    one, other = (expand(tmp_path, experiment({}, {name: value})) for value in (1, 1.0))
    axis = expand(tmp_path, experiment({name: [1]}))
    assert names(one) == names(other) == names(axis)


def test_floats_are_whole_numbers_where_those_are_meant(tmp_path):
    spread = expand(tmp_path, experiment({"hidden_layer": {"range": [-2, -6], "count": 3}}))
    listed = expand(tmp_path, experiment({"hidden_layer": [-2, -4, -6]}))
    assert names(spread) == names(listed)
    assert {type(cell.parameters["hidden_layer"]) for cell in of_role(spread, "cell")} == {int}


def test_a_target_that_is_left_out_is_the_normalization_s_own(tmp_path):
    left = expand(tmp_path, experiment({"normalization": ["none", "global", "per_dim"]}))
    targets = [cell.parameters["target_std"] for cell in of_role(left, "cell")]
    assert targets == ["prompt", "prompt", None] * 2
    assert [cell.shown["target_std"] for cell in of_role(left, "cell")] == targets
    said = expand(tmp_path, experiment({"normalization": ["none", "global"]}, {"target_std": "prompt"}))
    assert names(said) < names(left)


def test_structured_values_of_transforms(tmp_path):
    one = expand(
        tmp_path, experiment({"masking_dimensions": [[396 % 64, 4], [7], None]}, {"masking": "zero"})
    )
    (axis,) = (axis for axis in one.axes if axis.name == "masking_dimensions")
    assert axis.values == [[4, 12], [7], None]
    assert axis.labels == ["[4, 12]", "[7]", "none"]
    other = expand(tmp_path, experiment({}, {"masking": "zero", "masking_dimensions": [4, 12]}))
    assert names(other) < names(one)


def test_negative_zero_is_zero(tmp_path):
    one, other = (expand(tmp_path, experiment({"alpha": [value]})) for value in (0.0, -0.0))
    assert names(one) == names(other)


@pytest.mark.parametrize(
    ("ends", "count", "values"),
    [
        ([0.0, 1.0], 11, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ([0.0, 1.0], 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([1.0, 0.0], 3, [1.0, 0.5, 0.0]),
        ([0.1, 0.7], 7, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ([0.3, 0.9], 4, [0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_a_range_gives_the_numbers_one_would_write(tmp_path, ends, count, values):
    spread = expand(tmp_path, experiment({"alpha": {"range": ends, "count": count}}))
    assert next(axis for axis in spread.axes if axis.name == "alpha").values == values
    assert names(spread) == names(expand(tmp_path, experiment({"alpha": values})))


def test_one_reference_under_two_names_is_one_cell_at_two_positions(tmp_path):
    design = expand(tmp_path, experiment({"reference": ["house", "home", "tree"]}, {"prompts": ["a hat"]}))
    assert len(design.positions) == 3
    assert len(of_role(design, "cell")) == 2
    assert design.positions[0][1] == design.positions[1][1] != design.positions[2][1]
    assert [axis.labels for axis in design.axes if axis.name == "reference"] == [["house", "home", "tree"]]
    assert len(design.references) == 2


def test_one_cell_in_two_experiments_has_one_name(tmp_path):
    one = expand(tmp_path, experiment({"alpha": [0.25, 0.5]}), "one")
    other = expand(tmp_path, experiment({"hidden_layer": [-2, -4]}, {"alpha": 0.5}), "other")
    assert len(names(one) & names(other)) == 2


def test_structured_values_are_refused_in_words_as_long_as_no_parameter_takes_them(tmp_path):
    for value in ([-2], [-2, -2], [-2, "a"], {"range": [0, 1], "count": 2}, {"a": 1}):
        with pytest.raises(DesignError, match=r"axes\.hidden_layer: .* is not allowed"):
            expand(tmp_path, experiment({"hidden_layer": [value]}))


def test_a_set_of_references_is_one_value_of_the_axis(tmp_path):
    base = {
        "prompts": ["a hat"],
        "references": ["house", ["house", "tree"]],
        "combination": "multi_reference",
    }
    design = expand(tmp_path, experiment({}, base))
    assert design.axes[1].labels == ["house", "house + tree"]
    one, two = of_role(design, "cell")
    assert two.parameters["reference"] == [one.parameters["reference"], two.parameters["reference"][1]]
    assert set(design.references) == set(two.parameters["reference"])
    assert two.shown["reference"] == "house + tree"
    turned = expand(tmp_path, experiment({}, {**base, "references": [["tree", "house"]]}))
    assert names(turned).isdisjoint(names(design))  # weights go by the order
    json.dumps(to_json(design))


def test_a_list_of_layers_is_one_value_of_the_axis(tmp_path):
    axes = {"hidden_layer": [-2, [-2, -4]]}
    design = expand(tmp_path, experiment(axes, {"prompts": ["a hat"], "combination": "layer_mix"}))
    assert [cell.parameters["hidden_layer"] for cell in of_role(design, "cell")] == [-2, [-2, -4]]
    assert design.axes[-1].labels == ["-2", "[-2, -4]"]


def test_the_neutral_image_has_the_size_of_the_reference_and_counts_for_style_delta_alone(tmp_path):
    def cells(**base):
        design = expand(tmp_path, experiment({}, {"prompts": ["a hat"], **base}))
        return design, of_role(design, "cell")[0].parameters["neutral_reference"]

    assert cells()[1] == cells(neutral_reference="tree")[1] == "grey"
    assert cells(blend="style_delta")[1] == "grey:12x8"
    sets = {"references": [["house", "tree"]], "combination": "multi_reference"}
    assert cells(blend="style_delta", **sets)[1] == ["grey:12x8"] * 2
    design, neutral = cells(blend="style_delta", neutral_reference="tree")
    assert design.references[neutral] == "config/references/tree.png"
    assert names(cells()[0]) == names(cells(neutral_reference="tree")[0])


SETTINGS = {"plain": {}, "tight": {"normalization": "global", "alpha": 0.5}, "deep": {"hidden_layer": -4.0}}


def test_settings_are_an_axis_of_whole_combinations(tmp_path):
    raw = experiment({"seed": [1, 2]}, {"prompts": ["a hat"]}, settings=SETTINGS)
    design = expand(tmp_path, raw)
    assert [axis.name for axis in design.axes] == ["prompt", "reference", "seed", "setting"]
    assert design.axes[-1].labels == ["plain", "tight", "deep"]
    assert len(of_role(design, "cell")) == len(design.positions) == 6
    tight = [cell for cell in of_role(design, "cell") if cell.shown["setting"] == "tight"]
    assert {(c.parameters["normalization"], c.parameters["alpha"]) for c in tight} == {("global", 0.5)}
    assert {c.parameters["hidden_layer"] for c in tight} == {-2}


def test_a_setting_names_no_cell(tmp_path):
    """The same parameters in an axis are the same cells."""
    base = {"prompts": ["a hat"]}
    with_settings = expand(
        tmp_path, experiment({}, base, settings={"a": {"alpha": 0.25}, "b": {"alpha": 0.5}})
    )
    plain = expand(tmp_path, experiment({"alpha": [0.25, 0.5]}, base))
    assert names(with_settings) == names(plain)
    assert names(with_settings, "baseline") == names(plain, "baseline")


@pytest.mark.parametrize(
    ("settings", "axes", "parts"),
    [
        ({"a": {"alhpa": 0.5}}, {}, ["settings.a", "'alhpa'", "did you mean 'alpha'?"]),
        ({"a": {"alpha": 2.0}}, {}, ["settings.a.alpha", "2.0 is not allowed"]),
        ({"a": {"alpha": 0.5}}, {"alpha": [0.5]}, ["settings.a", "alpha is an axis too"]),
        ({"a": {}, "b": {"curve": "linear"}}, {}, ["settings.b and settings.a are the same"]),
        ({"a": {"encoder": "wide"}}, {}, ["'wide'", "width 128"]),
        ({"a": {"system_prompt": "<|im_end|>"}}, {}, ["system_prompt", "control token"]),
        ({"a": {"init_image": "hose"}}, {}, ["settings.a.init_image", "did you mean 'house'?"]),
        ({"a": {"alpha": 0.5, "length_matching": "none"}}, {}, ["length_matching 'none'", "alpha 0.5"]),
    ],
)
def test_settings_that_are_refused(tmp_path, settings, axes, parts):
    with pytest.raises(DesignError) as error:
        expand(tmp_path, experiment(axes, settings=settings))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("values", [["a set", ["b", "a"]], [["a"], {"b": [1, 2.5]}]])
def test_structured_values_have_names(values):
    """Identity itself takes any structure, and its order counts in lists and not in mappings."""
    ids = [cell_id({"references": value}) for value in values]
    assert len(set(ids)) == len(ids)
    assert cell_id({"x": {"a": 1, "b": 2}}) == cell_id({"x": {"b": 2, "a": 1}})
    assert cell_id({"x": [1, 2]}) != cell_id({"x": [2, 1]})


def test_the_limit_counts_cells_only(tmp_path):
    axes = {"seed": [1, 2], "alpha": [0.25, 0.5]}
    design = expand(tmp_path, experiment(axes), limits=Limits(max_images=8))
    assert len(of_role(design, "cell")) == 8
    assert len(design.cells) == 12
    with pytest.raises(
        DesignError, match="2 prompt x 2 seed x 2 alpha = 8 cells, more than max_images 7"
    ) as error:
        expand(tmp_path, experiment(axes), limits=Limits(max_images=7))
    assert "max_images: 8" in str(error.value)
    assert "config/config.yaml: limits.max_images" in str(error.value)


def test_an_experiment_has_its_own_limit(tmp_path):
    assert expand(tmp_path, experiment({"seed": [1, 2]}, max_images=4), limits=Limits(max_images=1))
    with pytest.raises(DesignError, match=r"test\.yaml: max_images"):
        expand(tmp_path, experiment({"seed": [1, 2]}, max_images=3))


small_axes = st.fixed_dictionaries(
    {},
    optional={
        "alpha": st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=3, unique=True),
        "hidden_layer": st.lists(st.integers(-9, 8), min_size=1, max_size=3, unique=True),
        "token_mode": st.lists(st.sampled_from(["full", "image_only"]), min_size=1, max_size=2, unique=True),
        "seed": st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True),
        "reference": st.lists(
            st.sampled_from(["house", "home", "tree"]), min_size=1, max_size=3, unique=True
        ),
        "target_std": st.lists(st.sampled_from([1.0, 2.0, "prompt"]), min_size=1, max_size=2, unique=True),
    },
)


@settings(deadline=None, max_examples=40)
@given(axes=small_axes)
def test_positions_are_the_product_of_the_axes(tmp_path_factory, axes):
    design = expand(tmp_path_factory.getbasetemp() / "sweep", experiment(axes))
    lengths = [len(axis.values) for axis in design.axes]
    assert math.prod(lengths) == 2 * math.prod(len(values) for values in axes.values())
    assert (
        len({tuple(indices) for indices, _ in design.positions})
        == len(design.positions)
        == math.prod(lengths)
    )
    distinct = math.prod(lengths)
    if {"house", "home"} <= set(axes.get("reference", [])):
        distinct = distinct * (len(axes["reference"]) - 1) // len(axes["reference"])
    assert len(names(design)) == distinct
    assert {cell for _, cell in design.positions} == names(design)
    assert len({cell.cell for cell in design.cells}) == len(design.cells)
    for axis in design.axes:
        assert len(set(axis.labels)) == len(axis.values) == len(axis.labels)


EDITS = {
    "title": {"title": "other"},
    "question": {"question": "other"},
    "grid": {"grids": [{"x": "seed", "y": "alpha"}]},
    "no baseline": {"baseline": False},
    "prompt renamed": {
        "base": {"prompts": [{"name": n, "text": t} for n, t in [("a", "x"), ("Q", "y"), ("c", "z")]]}
    },
    "prompt rewritten": {
        "base": {"prompts": [{"name": n, "text": t} for n, t in [("a", "x"), ("b", "Y"), ("c", "z")]]}
    },
    "reference renamed": {"axes": {"reference": ["home", "tree"]}},
    "constant": {"base": {"hidden_layer": -3}},
    "constant of an unused transform": {"base": {"target_std": 5.0}},
    "axis value": {"axes": {"alpha": [0.25, 0.625]}},
    "axes turned": {"axes": {"alpha": [0.5, 0.25]}},
    "encoder": {"base": {"encoder": "other-vision"}},
}


def edited(edit=None):
    base = {"prompts": [{"name": n, "text": t} for n, t in [("a", "x"), ("b", "y"), ("c", "z")]]}
    axes = {"reference": ["house", "tree"], "alpha": [0.25, 0.5]}
    edit = edit or {}
    more = {key: value for key, value in edit.items() if key not in ("base", "axes")}
    return experiment({**axes, **edit.get("axes", {})}, {**base, **edit.get("base", {})}, **more)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_the_digest_of_a_design_follows_every_edit(tmp_path, edit):
    plain, other = expand(tmp_path, edited()), expand(tmp_path, edited(edit))
    assert plain != other
    assert plain.digest != other.digest
    assert plain.digest == expand(tmp_path, edited()).digest


def test_the_digest_of_a_design_follows_models_and_references(tmp_path):
    plain = expand(tmp_path, edited())
    renamed = [replace(m, entry={**m.entry, "path": "/moved"}) for m in some_models()]
    assert expand(tmp_path, edited(), models=renamed).digest != plain.digest
    remade = [replace(m, identity=f"{m.identity}!") for m in some_models()]
    assert expand(tmp_path, edited(), models=remade).digest != plain.digest
