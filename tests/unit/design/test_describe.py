"""Schemas and tables are those that the definition of the configuration gives."""

import json
import re
import shutil
import subprocess
import sys

import jsonschema
import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.describe import (
    SCHEMAS,
    describe_type,
    find_drift,
    generated_files,
    generated_tables,
    schema_text,
)
from graftwork.design.parameters import NEUTRAL
from graftwork.design.schema import CellParameters, Experiment
from graftwork.design.settings import Settings
from graftwork.transforms.registry import STAGES, transforms
from tests.unit.design.designs import shipped
from workflow_scripts.describe_config import main


def test_nothing_has_drifted():
    """To mend: python -m workflow_scripts.describe_config --fix"""
    assert find_drift(REPOSITORY) == []


def test_the_command_says_that_nothing_has_drifted():
    run = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.describe_config"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_drift_is_named_and_mended(copied, capsys):
    readme, schema = copied / "config/README.md", copied / "config/schema/models.schema.json"
    edited = readme.read_text().replace("Weight of the encoder", "Wait of the encoder")
    readme.write_text(edited)
    schema.unlink()
    assert main([]) == 1
    printed = capsys.readouterr().out
    line = 1 + edited[: edited.index("Wait of")].count("\n")
    assert f"config/README.md differs from what its definition says, first in line {line}" in printed
    assert "config/schema/models.schema.json is missing" in printed
    assert "--fix" in printed
    assert not schema.exists()
    assert main(["--fix"]) == 0
    assert main([]) == 0
    assert readme.read_text() == (REPOSITORY / "config/README.md").read_text()


def test_words_written_by_hand_are_kept(copied):
    readme = copied / "config/README.md"
    readme.write_text(readme.read_text().replace("# Configuration\n", "# Another heading\n"))
    assert find_drift(copied) == []


@pytest.mark.parametrize(
    "change", [("generated: source", "generated: sauce"), ("<!-- generated: grid -->", "")]
)
def test_a_part_that_is_gone_is_an_error(copied, change):
    readme = copied / "config/README.md"
    readme.write_text(readme.read_text().replace(*change))
    with pytest.raises(ValueError, match="should have each of"):
        generated_files(copied)


def test_every_parameter_is_described_with_its_default():
    text = "".join(generated_tables().values())
    for model in (CellParameters, Experiment, Settings):
        for name, info in model.model_fields.items():
            if name in ("hardware", "limits", "sharding"):
                continue
            rows = re.findall(rf"^\| `{name}` \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
            # A setting and a parameter may have one name.
            row = next((row for row in rows if row[2] == info.description.replace("|", r"\|")), None)
            assert row, name
            default = info.get_default(call_default_factory=True)
            if not info.is_required():
                assert row[1] == ("none" if default is None else f"`{json.dumps(default)}`")


def test_every_transform_is_in_the_table():
    table = generated_tables()["transforms"]
    for stage in STAGES:
        for name, entry in transforms(stage).items():
            row = next(line for line in table.split("\n") if line.startswith(f"| `{stage}` | `{name}` |"))
            assert entry.formula.replace("|", r"\|") in row
            for parameter in entry.parameters.model_fields if entry.parameters else ():
                assert f"`{parameter}`" in row
                assert f"`{parameter}: " in row
            assert (f"`{stage}: {name}`" in row) == (NEUTRAL.get(stage) == name)


def test_tables_have_as_many_cells_in_every_line():
    for name, table in generated_tables().items():
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}
        assert len(counts) == 1, name


def files(kind: str) -> list:
    return {
        "config": [REPOSITORY / "config/config.yaml"],
        "models": [REPOSITORY / "config/models.yaml"],
        "experiment": shipped("config/experiments"),
        "corpus": shipped("config/corpora"),
        "statistics": shipped("config/statistics"),
    }[kind]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_files_that_ship_fit_the_schemas(kind):
    schema = json.loads(schema_text(SCHEMAS[kind]))
    jsonschema.Draft202012Validator.check_schema(schema)
    for file in files(kind):
        jsonschema.validate(yaml.safe_load(file.read_text()), schema)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("config", {"experiments": ["a"], "hardware": {"gpu": 1}}),
        ("config", {"experiments": "a"}),
        ("models", {"encoders": {"a": {"family": "qwen9"}}, "generators": {}}),
        ("experiment", {"base": {"prompts": "p", "alpha": 2}}),
        ("experiment", {"base": {"prompts": "p", "alhpa": 1}}),
        ("experiment", {"axes": {}}),
        ("experiment", {"base": {"prompts": "p", "statistics": "corpus"}}),
        ("experiment", {"base": {"prompts": "p", "statistics": {"corpus": "c", "npz": "f.npz"}}}),
        ("experiment", {"base": {"prompts": "p", "statistics": {"npz": "f.npz", "tokens": 1}}}),
        ("corpus", {"references": ["a"]}),
        ("statistics", {"corpus": "c", "encoders": []}),
        ("statistics", {"corpus": "c", "encoders": [{"encoder": "e", "hidden_layers": -2}]}),
        ("experiment", {"base": {"prompts": "p"}, "axes": {"alpha": {"range": [0, 1]}}}),
    ],
)
def test_schemas_refuse_what_the_workflow_refuses(kind, wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(schema_text(SCHEMAS[kind])))


def test_the_example_of_the_readme_is_an_experiment():
    text = (REPOSITORY / "config/README.md").read_text()
    example = re.search(r"## An experiment\n\n```yaml\n(.+?)```", text, re.DOTALL)[1]
    experiment = Experiment.model_validate(yaml.safe_load(example))
    assert len(example.strip().split("\n")) == 10
    assert len(experiment.axes["hidden_layer"]) == 3
    assert experiment.axes["alpha"].count == 6
    prompts = yaml.safe_load((REPOSITORY / "config/prompts/everyday.yaml").read_text())
    assert (
        f"{len(prompts)} prompts x 1 reference x 1 seed x 3 layers x 6 alphas = {len(prompts) * 18} cells"
        in text
    )


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "whole number (at least 1)"),
        (
            {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**63},
            "whole number (at least 0, below 2^63)",
        ),
        ({"type": "number", "minimum": 0, "maximum": 1}, "number (0 to 1)"),
        ({"type": "number", "minimum": 0, "maximum": 0}, "number (only 0)"),
        (
            {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "prompt"}]},
            "number (above 0) or `prompt`",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or `null`"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
        ({"const": False}, "`false`"),
        ({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}, "list of 2: number"),
        ({"type": "array", "items": {}}, "list"),
        ({"type": "object", "additionalProperties": True}, "mapping"),
        ({}, "anything"),
    ],
)
def test_types_in_words(schema, words):
    assert describe_type(schema, {}) == words
