"""The registry: every entry is tested, documented, and callable with its parameters."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import Field, create_model

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.parameters import ALWAYS, parameter
from graftwork.design.schema import CellParameters
from graftwork.transforms import registry
from graftwork.transforms.registry import (
    STAGES,
    TransformParameters,
    fill_in_defaults,
    register,
    transform,
    transforms,
)
from tests.unit import transforms as tests_of_transforms
from tests.unit.transforms.samples import defaults

# Each module of tests says which transforms it tests: TESTED, stage -> names.
MODULES = [
    importlib.import_module(f"{tests_of_transforms.__name__}.{module.name}")
    for module in pkgutil.iter_modules(tests_of_transforms.__path__)
    if f"{tests_of_transforms.__name__}.{module.name}" != __name__
]
TESTED = [
    (module, stage, name)
    for module in MODULES
    for stage, names in getattr(module, "TESTED", {}).items()
    for name in sorted(names)
]
ENTRIES = [(stage, name) for stage in STAGES for name in transforms(stage)]


def test_every_transform_is_tested_in_one_module():
    assert sorted((stage, name) for _, stage, name in TESTED) == sorted(ENTRIES)


@pytest.mark.parametrize(("module", "stage", "name"), TESTED)
def test_what_is_said_to_be_tested_occurs_in_a_test(module, stage, name):
    source = inspect.getsource(module)
    assert source.count(f'"{name}"') + len(re.findall(rf"def test_{name}_", source)) >= 2


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
def test_parameters_have_descriptions_defaults_and_neutral_values(stage, name):
    entry = transform(stage, name)
    assert all(info.description for info in entry.parameters.model_fields.values())
    if (
        entry.is_mapping
    ):  # Its parameters stand in the choice itself, and its own name is the one that has to be there.
        assert entry.declarations == {}
        required = {field for field, info in entry.parameters.model_fields.items() if info.is_required()}
        assert required == {name}
        return
    assert set(entry.declarations) == set(entry.parameters.model_fields)
    for field, info in entry.parameters.model_fields.items():
        assert not info.is_required()
        assert field in CellParameters.model_fields


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_functions_of_a_stage_are_called_alike(stage, name):
    arguments = inspect.signature(transform(stage, name).function).parameters.values()
    assert tuple(argument.name for argument in arguments) == STAGES[stage].arguments
    assert {argument.kind for argument in arguments} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_an_entry_has_a_label_a_line_and_neutral_values(stage, name):
    entry = transform(stage, name)
    assert entry.label == f"{stage} = {name}"
    assert entry.summary.endswith(".")
    assert set(entry.neutral) == (set() if entry.is_mapping else set(defaults(entry)))


@pytest.mark.parametrize(("stage", "name"), ENTRIES)
def test_parameters_have_bounds(stage, name):
    """A number without bounds lets a slip of the finger through."""
    entry = transform(stage, name)
    schema = entry.parameters.model_json_schema()
    for field, description in schema["properties"].items():
        for part in description.get("anyOf", [description]):
            if part.get("type") == "array":
                assert part["minItems"] >= 1
                part = part["items"]
            if part.get("type") in ("number", "integer"):
                assert {"minimum", "exclusiveMinimum"} & set(part), field


def test_a_cell_may_have_every_value_that_some_transform_takes():
    for stage, name in ENTRIES:
        entry = transform(stage, name)
        chosen = {stage: {name: "any"}} if entry.is_mapping else {stage: name, **defaults(entry)}
        for field, value in {**chosen, "target_std": 61.0}.items():
            CellParameters.model_validate({field: value})


def test_what_was_left_to_the_transforms_is_filled_in():
    assert CellParameters().target_std is None
    for normalization, filled in (("none", "prompt"), ("global", "prompt"), ("per_dim", None)):
        cell = {**CellParameters().model_dump(), "normalization": normalization}
        assert fill_in_defaults(cell) == {**cell, "target_std": filled}
        assert fill_in_defaults({**cell, "target_std": 61.0})["target_std"] == 61.0
    assert fill_in_defaults({"reference": None, "alpha": 0.0}) == {"reference": None, "alpha": 0.0}


def test_null_stays_where_it_is_a_value_of_its_own():
    """No clipping is not the default clipping."""
    cell = {**CellParameters().model_dump(), "normalization": "per_dim", "clip_sigma": None}
    assert fill_in_defaults(cell)["clip_sigma"] is None


def test_transforms_have_digests_of_their_own():
    digests = [transform(stage, name).digest for stage, name in ENTRIES]
    assert len(set(digests)) == len(digests)


def test_every_stage_has_a_default_and_a_neutral_transform_unless_every_name_has_it():
    for stage in STAGES.values():
        assert stage.default in transforms(stage.name)
        assert (stage.neutral is ALWAYS) == stage.in_every_name
        assert stage.in_every_name or stage.neutral in transforms(stage.name)


@pytest.fixture
def apart(monkeypatch):
    """A registry in which nothing that is registered stays."""
    for stage in STAGES:
        monkeypatch.setitem(registry._TRANSFORMS, stage, dict(registry._TRANSFORMS[stage]))


def midpoint(text, source, alpha, parameters, context):
    """Half of both."""


SAID = {"formula": "t", "source": "here", "examples": {"midpoint": {}}}


def with_fields(**fields):
    return create_model("Parameters", __base__=TransformParameters, **fields)


@pytest.mark.parametrize(
    ("about", "error", "words"),
    [
        ({"parameters": with_fields(reach=(float, 1.0))}, TypeError, "parameter reach has no neutral value"),
        (
            {"parameters": with_fields(reach=(float, Field(1.0, description="How far.")))},
            TypeError,
            "parameter reach has no neutral value",
        ),
        (
            {"parameters": with_fields(reach=(float, parameter(1.0, description="How far.")))},
            TypeError,
            "parameter reach has no neutral value",
        ),
        (
            {"parameters": with_fields(reach=(float, parameter(1.0, neutral=1.0)))},
            TypeError,
            "parameter reach has no description",
        ),
        (
            {"parameters": with_fields(reach=(float, parameter(1.0, neutral=ALWAYS, description="Far.")))},
            TypeError,
            "parameter reach has the neutral value ALWAYS",
        ),
        (
            {"parameters": with_fields(noise_seed=(int, parameter(3, neutral=3, description="Seed.")))},
            ValueError,
            "parameter noise_seed has the neutral value 3, but 0 in blend 'noise'",
        ),
        ({"needs": ("clock",)}, TypeError, "needs 'clock', which nothing gives; allowed: statistics, "),
        ({"needs": ("covariance",)}, TypeError, "no parameter statistics"),
        (
            {
                "parameters": with_fields(
                    statistics=(str, parameter("prompt", neutral="prompt", description="Of."))
                )
            },
            TypeError,
            "it has parameter statistics",
        ),
        ({"examples": {}}, TypeError, "no setting shows what it does"),
    ],
)
def test_what_a_registration_lacks_is_said_with_its_name(apart, about, error, words):
    with pytest.raises(error) as raised:
        register("blend", "midpoint", **{**SAID, **about})(midpoint)
    assert str(raised.value).startswith("blend 'midpoint'")
    assert words in str(raised.value)
    assert "midpoint" not in transforms("blend")


def test_a_function_that_its_stage_could_not_call_is_refused(apart):
    with pytest.raises(
        TypeError, match=r"blend 'midpoint': the function takes \(text, source\); .*\(text, source, alpha"
    ):
        register("blend", "midpoint", **SAID)(lambda text, source: text)


def test_a_registration_without_formula_is_refused(apart):
    with pytest.raises(TypeError, match="formula"):
        register("blend", "midpoint", source="here")(midpoint)


def test_a_second_default_is_refused(apart):
    register("blend", "midpoint", **SAID, is_default=True)(midpoint)
    with pytest.raises(TypeError, match="blend: linear, midpoint registered with is_default=True; 1 must be"):
        registry._load_all.__wrapped__()


def test_a_default_that_is_not_neutral_renames_no_cell_that_does_not_take_it(apart):
    fields = with_fields(reach=(float, parameter(2.0, neutral=1.0, description="How far.")))
    register("blend", "midpoint", **SAID, parameters=fields)(midpoint)
    for cached in (registry._not_neutral_by_default, registry.owners_of):
        cached.cache_clear()
    try:
        for blend, given, filled in [
            ("linear", 2.0, 1.0),
            ("linear", 3.0, 3.0),
            ("midpoint", 2.0, 2.0),
            ("midpoint", 1.0, 1.0),
        ]:
            assert fill_in_defaults({"blend": blend, "reach": given})["reach"] == filled
    finally:
        for cached in (registry._not_neutral_by_default, registry.owners_of):
            cached.cache_clear()


# Names of transforms that are quoted for other reasons too. That no choice is compared with one of them is tested below.
ENGLISH = {
    "none",
    "mean",
    "roles",
    "scale",
    "linear",
    "noise",
    "pad",
    "mask",
    "clamp",
    "full",
    "global",
    "zero",
    # What a table of maps calls its first column, and the key that names one.
    "map",
    # A family of models that scores images.
    "clip",
    # What a map does to a token before it is applied.
    "rms",
}


def quoted_words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields (line, word) of everything between quotes in the texts of a module, and texts that are one word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"\w+", node.value):
                yield node.lineno, node.value
            yield from ((node.lineno, word) for word in re.findall(r"['`\"](\w+)['`\"]", node.value))


def test_no_transform_is_named_outside_its_module():
    """Whatever depends on a transform asks its registration: needs, defaults, what it combines."""
    home = {name: set() for _, name in ENTRIES}
    for stage, name in ENTRIES:
        home[name].add(transform(stage, name).function.__module__)
    found = []
    for file in sorted((REPOSITORY / "graftwork").rglob("*.py")):
        module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        for line, word in quoted_words(ast.parse(file.read_text(encoding="utf-8"))):
            if word in home and word not in ENGLISH and module not in home[word]:
                found.append(f"{module}:{line}: {word}")
    assert not found


def test_no_choice_is_compared_with_a_name():
    """Also for names that are English words: a choice is looked up, not compared."""
    stages, names = "|".join(STAGES), "|".join(sorted({name for _, name in ENTRIES}))
    compared = re.compile(
        rf"""(?:["'](?:{stages})["'](?:\]|\)|, ["']\w+["']\))(?:\["name"\])?|\.name) (?:==|!=|in|not in) \(?["'](?:{names})["']"""
    )
    found = []
    for file in sorted((REPOSITORY / "graftwork").rglob("*.py")):
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
            if compared.search(line):
                found.append(f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()}")
    assert not found


def test_a_name_is_given_once(apart):
    before = {entry: transform(*entry).digest for entry in ENTRIES}
    register("blend", "midpoint", **SAID)(midpoint)
    with pytest.raises(ValueError, match="'midpoint' is registered twice"):
        register("blend", "midpoint", **SAID)(midpoint)
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
