"""The reference and the JSON schemas are generated from the definition of the configuration."""

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
    reference_text,
    schema_text,
)
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
    for folder in ("config", "docs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_drift_is_named_and_mended(copied, capsys):
    reference, schema = copied / "docs/reference.md", copied / "config/schema/models.schema.json"
    edited = reference.read_text().replace("Weight of the encoder", "Wait of the encoder")
    reference.write_text(edited)
    schema.unlink()
    assert main([]) == 1
    printed = capsys.readouterr().out
    line = 1 + edited[: edited.index("Wait of")].count("\n")
    assert f"docs/reference.md differs from the definitions, first in line {line}" in printed
    assert "config/schema/models.schema.json is missing" in printed
    assert "--fix" in printed
    assert not schema.exists()
    assert main(["--fix"]) == 0
    assert main([]) == 0
    assert reference.read_text() == (REPOSITORY / "docs/reference.md").read_text()


def tables() -> list[list[dict[str, str]]]:
    """Returns the tables of the reference: rows as column -> cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", reference_text(), re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().split("\n")]
        heading = [cell.strip() for cell in lines[0]]
        found.append([dict(zip(heading, map(str.strip, line), strict=True)) for line in lines[2:]])
    return found


def test_every_parameter_is_described_with_its_default():
    rows = [row for table in tables() for row in table if "default" in row]
    for model in (CellParameters, Experiment, Settings):
        for name, info in model.model_fields.items():
            # A setting and a parameter may have one name.
            described = [
                row
                for row in rows
                if f"`{name}`" in (row.get("key"), row.get("parameter"))
                and row["meaning"] == (info.description or "").replace("|", r"\|")
            ]
            if name in ("hardware", "limits", "sharding"):
                assert any(row.get("key", "").startswith(f"`{name}.") for row in rows)
            elif name in STAGES:
                assert f"### `{name}`" in reference_text()
                assert f"The default is `{info.default}`." in reference_text()
            elif info.is_required():
                assert described[0]["default"] == "required"
            else:
                default = info.get_default(call_default_factory=True)
                plain = isinstance(default, str) and default
                assert described[0]["default"] == f"`{default if plain else json.dumps(default)}`", name


def test_every_transform_is_in_the_reference():
    for stage in STAGES:
        section = reference_text().split(f"### `{stage}`\n")[1].split("\n##")[0]
        for name, entry in transforms(stage).items():
            row = next(line for line in section.split("\n") if line.startswith(f"| `{name}` |"))
            assert entry.formula.replace("|", r"\|") in row
            assert entry.source in row
            for parameter, neutral in entry.neutral.items():
                row = next(line for line in section.split("\n") if line.startswith(f"| `{parameter}` |"))
                assert f"`{name}`" in row.split(" | ")[1]
                assert f"| `{neutral if isinstance(neutral, str) else json.dumps(neutral)}` |" in row


def test_tables_have_as_many_cells_in_every_line():
    assert len(tables()) > 20  # `zip(..., strict=True)` in `tables` refuses a line of another length.


def files(kind: str) -> list:
    return {
        "config": [REPOSITORY / "config/config.yaml"],
        "hardware": shipped("config/hardware"),
        "models": [REPOSITORY / "config/models.yaml"],
        "experiment": shipped("config/experiments"),
        "corpus": shipped("config/corpora"),
        "statistics": shipped("config/statistics"),
        "maps": shipped("config/maps"),
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


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "integer (at least 1)"),
        (
            {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**63},
            "integer (at least 0, below 2^63)",
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
        ({"$ref": "#/$defs/Small"}, "{`a`, `b`}"),
        ({"$ref": "#/$defs/Large"}, "{`b`, ...}"),
        ({"oneOf": [{"const": "prompt"}, {"$ref": "#/$defs/Small"}]}, "`prompt` or {`a`, `b`}"),
    ],
)
def test_types_in_words(schema, words):
    definitions = {
        "Small": {"type": "object", "properties": {"a": {}, "b": {}}},
        "Large": {"type": "object", "properties": {key: {} for key in "abcd"}, "required": ["b"]},
    }
    assert describe_type(schema, definitions) == words
