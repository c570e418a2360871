"""Encoders and what they are shown, through the command line: each option extracts only what it changes."""

import json

import pytest
import yaml

from tests.workflow.harness import Run, Workspace

pytestmark = pytest.mark.slow

ONE_BATCH = {"conditioning": 2, "images": 2, "generator": 2, "tables": 1}


def run_with(workspace: Workspace, base=None, **axes) -> tuple[Run, dict[str, int]]:
    """Runs with other axes; returns the run and what it made, grids aside."""
    workspace.experiment["base"].update(base or {})
    workspace.experiment["axes"] = {"alpha": [0.0, 0.5], **axes}
    workspace.save()
    run = workspace.run()
    assert run.returncode == 0, run.output
    assert {row["status"] for row in workspace.rows()} == {"done"}
    return run, {what: count for what, count in run.made.items() if what != "grids"}


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


def test_encoders_on_an_axis(built: Workspace) -> None:
    run, made = run_with(built, encoder=["small-qwen3-vl-instruct", "small-qwen3-vl-thinking"])
    assert run.loads["TruncatedQwen3VLModel"] == 1
    assert made == {**ONE_BATCH, "vision_language": 2, "vision": 1, "hidden_states": 2}
    text = {"references": [], "token_mode": "prompt_only"}
    run, made = run_with(built, text, encoder=["small-qwen3-vl-instruct", "small-qwen3-embedding"])
    assert (run.loads["TruncatedQwen3VLModel"], run.loads["TruncatedQwen3Model"]) == (1, 1)
    assert (made["vision_language"], made["text"], made["hidden_states"]) == (2, 2, 4)
    formats = {row["encoder"]: row["prompt_format"] for row in built.rows() if row["role"] == "cell"}
    assert formats == {"small-qwen3-vl-instruct": "chat", "small-qwen3-embedding": "raw"}


def test_two_names_for_the_same_weights_are_reported(built: Workspace) -> None:
    file = built.folder / "config/models.yaml"
    models = yaml.safe_load(file.read_text())
    models["encoders"]["twin"] = dict(models["encoders"]["small-qwen3-vl-instruct"])
    file.write_text(yaml.safe_dump(models))
    built.experiment["axes"]["encoder"] = ["small-qwen3-vl-instruct", "twin"]
    built.save()
    note = "encoders 'small-qwen3-vl-instruct' and 'twin' of config/models.yaml are the same model"
    run = built.run("-n")
    assert f"  note: {note}" in run.output
    run = built.run()
    assert run.returncode == 0, run.output
    assert "images" not in run.made
    assert not run.loads
    design = json.loads((built.folder / "results/small/design.json").read_text())
    assert [line.startswith(note) for line in design["notes"]] == [True]
    assert note in (built.folder / "logs/expand_experiment/small.log").read_text()
