"""Names follow from content. The names written out here are those of cells that may exist somewhere."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from graftwork.core.identity import canonical_json, digest
from graftwork.core.parameters import ALWAYS, declarations
from graftwork.design import parameters as identity
from graftwork.design.parameters import NEUTRAL, cell_id
from graftwork.design.schema import DECLARATIONS
from graftwork.transforms.registry import parameter_fields

TEXT_ALONE = {
    "alpha": 0.0,
    "encoder": None,
    "generator": "content:" + "1" * 32,
    "guidance_scale": 0.0,
    "height": 64,
    "num_inference_steps": 8,
    "prompt": "a photo of a red apple on a wooden table",
    "reference": None,
    "seed": 42,
    "text_encoder": "content:" + "2" * 32,
    "text_hidden_layer": -2,
    "width": 64,
}
GRAFTED = {
    **TEXT_ALONE,
    "alpha": 0.75,
    "blend": "linear",
    "encoder": "Qwen/Qwen3-VL-4B-Instruct@ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "hidden_layer": -4,
    "length_matching": "area",
    "normalization": "none",
    "reference": "ab" * 32,
    "target_std": "prompt",
    "token_mode": "image_no_markers",
}
# Neutral values as they were when each was declared. Append-only: a line that is changed or removed renames cells that
# exist. A new parameter gets its line here from nobody; its declaration decides, and what is not decided fails at import.
NEUTRAL_SINCE = {
    "text_hidden_layer": -2,
    "normalization": "none",
    "target_std": "prompt",
    "masking": "none",
    "masking_tokens": "image",
    "masking_direction": "both",
    "masking_threshold": 10.0,
    "masking_dimensions": None,
    "masking_sigma": 3.0,
    "statistics": "prompt",
    "clip_sigma": 3.0,
    "hybrid_weight": 0.5,
    "whiten_shrinkage": 0.01,
    "pool_temperature": 1.0,
    "style_dimensions": None,
    "curve": "linear",
    "curve_start": 0.0,
    "curve_end": 1.0,
    "token_alphas": None,
    "token_importance": None,
    "noise_seed": 0,
    "concat_tokens": None,
    "image_share": 0.5,
    "source": "hidden_states",
    "source_text": "prompt",
    "prompt_format": "chat",
    "system_prompt": None,
    "think_block": "template",
    "rope_theta": None,
    "positions": "checkpoint",
    "text_prompt_format": "chat",
    "text_system_prompt": None,
    "text_think_block": "template",
    "alpha_schedule": None,
    "negative_prompt": None,
    "cfg_normalization": 0.0,
    "cfg_truncation": 1.0,
    "init_image": None,
    "strength": 0.6,
    "token_roles": None,
    "combination": "none",
    "reference_weights": None,
    "layer_weights": None,
    "neutral_reference": "grey",
    "delta_normalize": False,
    "delta_scale_to_text": False,
    "dimension_fix": "none",
    "fix_corpus": None,
    "fix_tokens": "non_sink",
}
GOLDEN = {
    "text alone": (TEXT_ALONE, "6aea4d5e3a5e35b7"),
    "grafted": (GRAFTED, "23f023cb82b7aaa7"),
    "scaled": ({**GRAFTED, "normalization": "global", "target_std": 61.0}, "8fbc4ce4f565e6d9"),
    "scaled to the prompt": ({**GRAFTED, "normalization": "global"}, "dabfae10b52751ab"),
    "another layer of the text": ({**GRAFTED, "text_hidden_layer": -3}, "6d99b03ff77a2a1e"),
    "shown otherwise": (
        {
            **GRAFTED,
            "source_text": {"text": "an old house"},
            "prompt_format": "chat",
            "system_prompt": "Be kind.",
            "think_block": "empty",
            "rope_theta": 1000000.0,
            "positions": "sequential",
        },
        "6d724af53ae7988e",
    ),
    "vision tower": ({**GRAFTED, "source": "vision_tower"}, "6569f9227012ff8a"),
    "text shown otherwise": (
        {**TEXT_ALONE, "text_prompt_format": {"instruct": "describe"}},
        "82ddfe7ecb35f5dc",
    ),
    "unicode": (
        {**TEXT_ALONE, "prompt": 'ein Fuchs im Schnee, 雪の狐, \U0001f98a, "e\u0301"\n'},
        "c9b190bfd8bf2e08",
    ),
    "transforms added later, all at their neutral values": (
        {**GRAFTED, **NEUTRAL_SINCE},
        "23f023cb82b7aaa7",
    ),
    "per dimension": ({**GRAFTED, "normalization": "per_dim", "target_std": None}, "fce94a5f463361a7"),
    "masked": (
        {**GRAFTED, "masking": "zero", "masking_dimensions": [4, 396], "masking_threshold": 5.0},
        "a2bd626282bb4aae",
    ),
    "structured": (
        {**TEXT_ALONE, "schedule": [{"at": 0.0, "alpha": 1}, {"at": 0.5, "alpha": 0.0}]},
        "68a6f45c2e47bca2",
    ),
}


@pytest.mark.parametrize(("parameters", "name"), GOLDEN.values(), ids=GOLDEN)
def test_cells_keep_their_names(parameters, name):
    assert cell_id(parameters) == name


def test_neutral_values_never_change():
    assert {name: NEUTRAL[name] for name in NEUTRAL_SINCE} == NEUTRAL_SINCE
    for name, value in NEUTRAL_SINCE.items():
        assert type(NEUTRAL[name]) is type(value)


# Parameters that the name of every cell contains, as they were from the start.
ALWAYS_SINCE = {
    "encoder",
    "hidden_layer",
    "alpha",
    "token_mode",
    "length_matching",
    "blend",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "generator",
}


def test_every_other_parameter_is_declared_to_be_in_every_name():
    """A parameter that were added to these would rename every cell that exists."""
    assert {name for name, declared in DECLARATIONS.items() if declared.neutral is ALWAYS} == ALWAYS_SINCE


def test_a_parameter_without_a_decision_is_refused_by_name():
    class Later(BaseModel):
        sharpness: float = Field(1.0, description="How sharp.")

    with pytest.raises(TypeError, match="parameters of cells: parameter sharpness has no neutral value"):
        declarations(Later.model_fields, "parameters of cells")


def test_every_parameter_of_a_transform_has_a_neutral_value():
    """Else a transform that is added renames the cells of all others."""
    assert set(parameter_fields()) <= set(NEUTRAL)


def test_every_neutral_value_is_one_that_cells_may_have():
    from graftwork.design.schema import CellParameters, ControlParameters

    assert set(NEUTRAL) <= {*CellParameters.model_fields, *ControlParameters.model_fields}
    for name, value in NEUTRAL.items():
        model = ControlParameters if name in ControlParameters.model_fields else CellParameters
        model.model_validate({name: value})


def test_a_parameter_at_its_neutral_value_renames_nothing():
    for name, value in NEUTRAL.items():
        without = {key: other for key, other in GRAFTED.items() if key != name}
        assert cell_id({**without, name: value}) == cell_id(without)


@pytest.mark.parametrize("neutral", ["none", 0, 0.0, None, [], {"mode": "none"}])
def test_a_parameter_added_later_renames_nothing(monkeypatch, neutral):
    monkeypatch.setitem(identity.NEUTRAL, "later", neutral)
    for parameters, name in GOLDEN.values():
        assert cell_id({**parameters, "later": neutral}) == name
        assert cell_id({**parameters, "later": "something else"}) != name


def test_a_negative_zero_is_neutral_where_zero_is(monkeypatch):
    monkeypatch.setitem(identity.NEUTRAL, "shift", 0.0)
    assert cell_id({**GRAFTED, "shift": -0.0}) == cell_id(GRAFTED)


def test_defaults_are_not_left_out():
    """Else a changed default would give the old cells' images under new parameters."""
    from graftwork.design.schema import CellParameters

    for name, field in CellParameters.model_fields.items():
        if name not in NEUTRAL:
            assert cell_id({**GRAFTED, name: field.default}) != cell_id(
                {key: value for key, value in GRAFTED.items() if key != name}
            ), name


@pytest.mark.parametrize("name", GRAFTED)
def test_every_parameter_counts(name):
    assert cell_id({**GRAFTED, name: "another value"}) != cell_id(GRAFTED)


def test_golden_canonical_json():
    value = {"b": [1, 1.0, -0.0, True, None], "a": {"z": "é", "y": 1e-7}, "c": (1e22, 0.1)}
    assert canonical_json(value) == '{"a":{"y":1e-07,"z":"é"},"b":[1,1.0,0.0,true,null],"c":[1e+22,0.1]}'


def test_whole_numbers_and_floats_are_different_values():
    """Which of the two a parameter is, is settled by its type before it gets here (see test_sweep)."""
    assert canonical_json(1) != canonical_json(1.0) != canonical_json(True) != canonical_json("1")


def test_negative_zero_is_zero():
    assert canonical_json([-0.0, {"a": -0.0}]) == canonical_json([0.0, {"a": 0.0}])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [lambda x: x, lambda x: [x], lambda x: {"a": {"b": x}}])
def test_numbers_that_are_not_finite_are_refused(number, place):
    with pytest.raises(ValueError, match="only finite numbers"):
        canonical_json(place(number))


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j])
def test_types_without_a_json_form_are_refused(value):
    with pytest.raises(TypeError, match="cannot be part of an identity"):
        canonical_json({"a": value})


@pytest.mark.parametrize("key", [1, None, 1.5, True])
def test_keys_that_json_would_turn_into_text_are_refused(key):
    with pytest.raises(TypeError, match="keys must be strings"):
        canonical_json({key: 1})


def test_composed_and_decomposed_characters_are_different_prompts():
    """A tokenizer sees different bytes, so these may be different images."""
    assert digest("é") != digest("e\u0301")


def test_digests_have_their_lengths():
    assert len(digest({})) == 32
    assert len(cell_id({})) == 16
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
dictionaries = st.dictionaries(st.text(), json_values, max_size=6)


@given(dictionaries, st.randoms())
def test_the_order_of_keys_does_not_count(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)
    assert cell_id(dict(items)) == cell_id(value)


@given(json_values)
def test_canonical_json_can_be_read_back(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_exact(value):
    assert json.loads(canonical_json(value)) == value


@given(json_values, json_values)
def test_different_values_have_different_texts(one, other):
    if canonical_json(one) == canonical_json(other):
        assert one == other


def test_names_do_not_depend_on_the_process():
    """Not on hash randomisation, locale or time zone."""
    program = (
        "from graftwork.design.parameters import cell_id\n"
        "from tests.unit.design.test_identity import GOLDEN\n"
        "print([cell_id(parameters) == name for parameters, name in GOLDEN.values()])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"},
        check=True,
    )
    assert run.stdout.strip() == str([True] * len(GOLDEN))
