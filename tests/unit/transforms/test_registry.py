"""The registry: every entry is tested, documented, and callable with its parameters."""

import inspect
import re
import subprocess
import sys

import pytest

from graftwork.design.schema import DEFAULT_TRANSFORMS, CellParameters
from graftwork.transforms import registry
from graftwork.transforms.registry import STAGES, register, transform, transforms
from tests.unit.transforms import (
    test_blending,
    test_combination,
    test_composition,
    test_dimension_fixes,
    test_length_matching,
    test_masking,
    test_normalization,
    test_reference_normalization,
    test_row_blending,
    test_token_modes,
)
from tests.unit.transforms.samples import defaults

TESTED = {
    "token_mode": set(test_token_modes.SELECTED),
    "masking": test_masking.COVERED,
    "dimension_fix": test_dimension_fixes.COVERED,
    "normalization": test_normalization.COVERED | test_reference_normalization.COVERED,
    "length_matching": test_length_matching.COVERED,
    "combination": test_combination.COVERED,
    "blend": test_blending.COVERED
    | test_row_blending.COVERED
    | test_composition.COVERED
    | test_combination.COVERED_BLENDS,
}
ENTRIES = [(stage, name) for stage in STAGES for name in transforms(stage)]


def test_every_transform_is_tested():
    assert {stage: set(transforms(stage)) for stage in STAGES} == TESTED


@pytest.mark.parametrize(
    "module",
    [
        test_masking,
        test_dimension_fixes,
        test_normalization,
        test_reference_normalization,
        test_length_matching,
        test_blending,
        test_row_blending,
        test_composition,
        test_combination,
    ],
)
def test_what_is_said_to_be_covered_occurs_in_a_test(module):
    source = inspect.getsource(module)
    for name in module.COVERED:
        assert source.count(f'"{name}"') + len(re.findall(rf"def test_{name}_", source)) >= 2, name


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_an_entry_says_what_it_does_and_where_that_is_from(stage, name):
    entry = transform(stage, name)
    assert entry.stage == stage
    assert entry.name == name
    assert entry.formula
    assert entry.source
    assert entry.function.__doc__
    assert re.fullmatch("[0-9a-f]{32}", entry.digest)


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_parameters_are_keyword_arguments_with_descriptions_and_defaults(stage, name):
    entry = transform(stage, name)
    arguments = inspect.signature(entry.function).parameters
    for field, info in (entry.parameters.model_fields if entry.parameters else {}).items():
        assert arguments[field].kind is inspect.Parameter.KEYWORD_ONLY
        assert info.description
        assert not info.is_required()
        assert field in CellParameters.model_fields


@pytest.mark.parametrize("stage", STAGES)
def test_functions_of_a_stage_are_called_alike(stage):
    signatures = set()
    for entry in transforms(stage).values():
        own = entry.parameters.model_fields if entry.parameters else {}
        arguments = inspect.signature(entry.function).parameters.values()
        signatures.add(
            tuple((p.name, p.kind) for p in arguments if p.name not in own and p.name not in entry.inputs)
        )
    assert len(signatures) == 1


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_an_entry_has_a_label_a_line_and_neutral_values(stage, name):
    entry = transform(stage, name)
    assert entry.label == f"{stage} = {name}"
    assert entry.summary.endswith(".")
    assert set(entry.neutral) == set(defaults(entry))


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_parameters_have_bounds(stage, name):
    """A number without bounds lets a slip of the finger through."""
    entry = transform(stage, name)
    schema = entry.parameters.model_json_schema() if entry.parameters else {"properties": {}}
    for field, description in schema["properties"].items():
        for part in description.get("anyOf", [description]):
            if part.get("type") == "array":
                assert part["minItems"] >= 1
                part = part["items"]
            if part.get("type") in ("number", "integer"):
                assert {"minimum", "exclusiveMinimum"} & set(part), field


def test_a_cell_may_have_every_value_that_some_transform_takes():
    for stage, name in ENTRIES:
        for field, value in {**defaults(transform(stage, name)), "target_std": 61.0}.items():
            CellParameters.model_validate({field: value})


def test_what_was_left_to_the_transforms_is_filled_in():
    assert CellParameters().target_std is None
    for normalization, filled in (("none", "prompt"), ("global", "prompt"), ("per_dim", None)):
        cell = {**CellParameters().model_dump(), "normalization": normalization}
        assert registry.fill_in_defaults(cell) == {**cell, "target_std": filled}
        assert registry.fill_in_defaults({**cell, "target_std": 61.0})["target_std"] == 61.0
    assert registry.fill_in_defaults({"reference": None, "alpha": 0.0}) == {"reference": None, "alpha": 0.0}


def test_null_stays_where_it_is_a_value_of_its_own():
    """No clipping is not the default clipping."""
    cell = {**CellParameters().model_dump(), "normalization": "per_dim", "clip_sigma": None}
    assert registry.fill_in_defaults(cell)["clip_sigma"] is None


def test_transforms_have_digests_of_their_own():
    digests = [transform(stage, name).digest for stage, name in ENTRIES]
    assert len(set(digests)) == len(digests)


def test_defaults_are_registered():
    assert set(DEFAULT_TRANSFORMS) == set(STAGES)
    for stage, name in DEFAULT_TRANSFORMS.items():
        assert name in transforms(stage)


def test_a_name_is_given_once(monkeypatch):
    for stage in STAGES:
        monkeypatch.setitem(registry._TRANSFORMS, stage, dict(registry._TRANSFORMS[stage]))
    before = {entry: transform(*entry).digest for entry in ENTRIES}
    register("blend", "new", formula="t", source="here")(test_blending.blend)
    with pytest.raises(ValueError, match="'new' is registered twice"):
        register("blend", "new", formula="t", source="here")(test_blending.states)
    assert {entry: transform(*entry).digest for entry in ENTRIES} == before


def test_reading_the_registry_imports_no_torch():
    program = (
        "import sys\n"
        "from graftwork.transforms.registry import STAGES, transforms\n"
        "assert all(transforms(stage) for stage in STAGES)\n"
        "assert all(entry.digest for stage in STAGES for entry in transforms(stage).values())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
