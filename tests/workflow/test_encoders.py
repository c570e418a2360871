"""Encoders and what they are shown, through the command line: each option extracts only what it changes."""

import json
import shutil

import pytest
import yaml
from safetensors import safe_open

from tests.workflow.harness import Run, Workspace

pytestmark = pytest.mark.slow

TABLE = "results/small/cells.csv"
ONE_BATCH = {"conditioning": 2, "images": 2, "generator": 2, "tables": 1}


def run_with(workspace: Workspace, base=None, **axes) -> tuple[Run, dict[str, int]]:
    """Runs with other axes up to the table; returns the run and what it made."""
    workspace.experiment["base"].update(base or {})
    workspace.experiment["axes"] = {"alpha": [0.0, 0.5], **axes}
    workspace.save()
    run = workspace.run(TABLE)
    assert run.returncode == 0, run.output
    assert {row["status"] for row in workspace.rows()} == {"done"}
    return run, run.made


def test_an_option_extracts_what_it_changes_and_nothing_else(built: Workspace) -> None:
    states = built.hidden_states()
    extracted = {"vision_language": 2, "vision": 1, "hidden_states": 2}
    _, made = run_with(built, rope_theta=[None, 1000000])
    assert made == {**ONE_BATCH, **extracted}

    # What the checkpoint does anyway is the same input, and the same image, which the table says.
    _, made = run_with(built, rope_theta=[None, 1000000, 5000000])
    assert made == {"tables": 1}
    rows = [row for row in built.rows() if row["role"] == "cell" and row["alpha"] == "0.5"]
    assert [bool(row["same_as"]) for row in rows] == [row["rope_theta"] == "5000000.0" for row in rows]

    # Both prompts have the same source: one image of the vision tower, of which no language model knows.
    _, made = run_with(built, source=["hidden_states", "vision_tower"])
    assert made == {**ONE_BATCH, "vision": 1, "hidden_states": 1}

    _, made = run_with(built, source_text=["prompt", "none"])
    assert made == {**ONE_BATCH, "vision_language": 1, "vision": 1, "hidden_states": 1}

    # Of the generator's own text encoder: other baselines, too. The encoder's states are there.
    _, made = run_with(built, text_think_block=["template", {"text": "A painting."}])
    assert made == {
        "text": 2,
        "hidden_states": 2,
        "conditioning": 4,
        "images": 4,
        "generator": 4,
        "tables": 1,
    }
    assert {row["text_think_block"] for row in built.rows()} == {"template", '{"text": "A painting."}'}
    assert states.items() <= built.hidden_states().items()


def add_encoder(workspace: Workspace, name: str, entry: dict[str, str]) -> None:
    file = workspace.folder / "config/models.yaml"
    models = yaml.safe_load(file.read_text())
    models["encoders"][name] = entry
    file.write_text(yaml.safe_dump(models))


def test_encoders_on_an_axis(built: Workspace) -> None:
    """The second of them is a folder that a user has: one entry of models.yaml, and no code."""
    shutil.copytree(
        built.folder / "results/models/small/qwen3-vl-thinking", built.folder / "results/models/mine"
    )
    add_encoder(built, "mine", {"family": "qwen3_vl", "path": "results/models/mine"})
    built.experiment["axes"]["encoder"] = ["small-qwen3-vl-instruct", "mine"]
    built.save()
    planned = built.run("-n")
    assert planned.returncode == 0, planned.output
    assert "2 images" in planned.output, planned.output
    run, made = run_with(built, encoder=["small-qwen3-vl-instruct", "mine"])
    assert run.loads["TruncatedQwen3VLModel"] == 1
    assert made == {**ONE_BATCH, "vision_language": 2, "vision": 1, "hidden_states": 2}
    text = {"references": [], "token_mode": "prompt_only"}
    run, made = run_with(built, text, encoder=["small-qwen3-vl-instruct", "small-qwen3-embedding"])
    assert (run.loads["TruncatedQwen3VLModel"], run.loads["TruncatedQwen3Model"]) == (1, 1)
    assert (made["vision_language"], made["text"], made["hidden_states"]) == (2, 2, 4)
    formats = {row["encoder"]: row["prompt_format"] for row in built.rows() if row["role"] == "cell"}
    assert formats == {"small-qwen3-vl-instruct": "chat", "small-qwen3-embedding": "raw"}


def test_two_names_for_the_same_weights_are_reported(built: Workspace) -> None:
    models = yaml.safe_load((built.folder / "config/models.yaml").read_text())
    add_encoder(built, "twin", models["encoders"]["small-qwen3-vl-instruct"])
    built.experiment["axes"]["encoder"] = ["small-qwen3-vl-instruct", "twin"]
    built.save()
    note = "encoders 'small-qwen3-vl-instruct' and 'twin' of config/models.yaml are the same model"
    run = built.run("-n")
    assert f"  note: {note}" in run.output
    run = built.run(TABLE)
    assert run.returncode == 0, run.output
    assert "images" not in run.made
    assert not run.loads
    design = json.loads((built.folder / "results/small/design.json").read_text())
    assert [line.startswith(note) for line in design["notes"]] == [True]
    assert note in (built.folder / "logs/expand_experiment/small.log").read_text()


def test_exported_states_take_the_place_of_their_encoder(built: Workspace) -> None:
    """What `export_states` writes is an encoder: the same conditioning, byte for byte, and so no image is made again."""
    run = built.run("export_states")
    assert run.returncode == 0, run.output
    assert not [row for row in built.table("states/index") if row["error"]]
    written = built.folder / "results/models/written"
    shutil.copytree(built.folder / "results/small/states/small-qwen3-vl-instruct", written)
    add_encoder(built, "written", {"family": "safetensors", "path": "results/models/written"})
    encoders = ["small-qwen3-vl-instruct", "written"]
    run, made = run_with(built, encoder=encoders)
    assert made == {"hidden_states": 2, "conditioning": 2, "tables": 1}
    assert not run.loads
    same = {row["encoder"]: row["same_as"] for row in built.rows() if row["alpha"] == "0.5"}
    assert set(same) == set(encoders)
    assert [bool(same[name]) for name in encoders] == [False, True]

    # Another layer and another prompt than the files have are refused before a job begins.
    for base, message in (
        ({"hidden_layer": -3}, "encoders.written: results/models/written/"),
        (
            {"hidden_layer": -2, "prompts": ["a pear"]},
            "results/models/written has no file of prompt 'a pear'",
        ),
    ):
        built.experiment["base"].update(base)
        built.save()
        for arguments in (("-n",), ()):
            refused = built.run(*arguments)
            assert refused.returncode != 0
            assert message in refused.output, refused.output
            assert "Traceback" not in refused.output
            assert not refused.jobs

    # A byte of one file: its states are others now, and those of the models stay.
    built.experiment["base"]["prompts"] = ["a red apple", "a blue boat at sea"]
    built.save()
    assert built.run("-n").returncode == 0
    file = next(written.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    with safe_open(file, "np") as opened:
        states = opened.get_tensor(next(name for name in opened.offset_keys() if name.startswith("layer_")))
    place = content.find(states.tobytes())
    content[place + 2] ^= 1
    file.write_bytes(bytes(content))
    _, made = run_with(built, encoder=encoders)
    assert made == {"hidden_states": 2, "conditioning": 2, "images": 1, "generator": 2, "tables": 1}
