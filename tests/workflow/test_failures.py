"""A failed cell is a result: the others finish, table and grid say why, and the next run tries it again and no other."""

import json

import pytest
from PIL import Image

from tests.workflow.harness import Run, Workspace

pytestmark = pytest.mark.slow

IMAGES = "images/*/*.png"
GRID = "results/small/grids/alpha_by_prompt.png"
PRESENTATION = {"tables": 1, "grids": 1}


def results(workspace: Workspace) -> dict[str, bytes]:
    """Everything that a finished sweep shows."""
    files = [workspace.folder / "results/small/cells.csv", workspace.folder / GRID]
    return {**workspace.stored(IMAGES), **{file.name: file.read_bytes() for file in files}}


def failed_cell(workspace: Workspace, run: Run) -> dict[str, str]:
    """The one cell that failed, after a check that everything says so."""
    assert run.returncode == 1
    rows = workspace.rows()
    (failed,) = [row for row in rows if row["status"] != "done"]
    assert {row["status"] for row in rows} == {"done", "failed"}
    assert not failed["image"]
    assert failed["error"]
    for row in rows:
        assert (row["status"] == "done") == (row["error"] == ""), row
    said = run.output.partition("graftwork: 1 of ")[2].splitlines()
    assert said[:2] == [f"{len(rows)} cells of small failed:", f"  1 x {failed['error']}"], run.output
    verdict = (workspace.folder / "results/plan/all/verdict.txt").read_text().splitlines()
    assert verdict[0] == f"1 of {len(rows)} cells are not done"
    assert verdict[1].endswith(f"cell {failed['cell']} failed: {failed['error']}")
    return failed


def generate_all_again(workspace: Workspace, kind: str) -> tuple[str, Run]:
    """Deletes every image and makes them again, while one row of a batch of two fails."""
    conditioning = next(
        row["conditioning"]
        for row in workspace.rows()
        if (row["prompt"], row["alpha"]) == ("a red apple", "0.5")
    )
    for path in (workspace.folder / "results/store").glob(IMAGES):
        path.unlink()
    return conditioning, workspace.run(fail=f"{kind}:{conditioning}")


def test_a_row_that_always_raises(built: Workspace) -> None:
    before = results(built)
    conditioning, run = generate_all_again(built, "raise-row")
    failed = failed_cell(built, run)
    assert failed["conditioning"] == conditioning
    assert failed["error"] == "ArithmeticError: PROBE_FAIL: this row always fails"
    # One batch of 2 steps; one that raises; its rows alone, of which one raises and the other takes 2 steps.
    assert run.made == {"conditioning": 4, "images": 3, "generator": 2 + 1 + 1 + 2, **PRESENTATION}
    # The row beside it has the bytes that it has in an undisturbed batch.
    made = built.stored(IMAGES)
    assert made.items() < before.items()
    assert (built.folder / GRID).read_bytes() != before["alpha_by_prompt.png"]

    again = built.run(fail=f"raise-row:{conditioning}")
    assert failed_cell(built, again) == failed
    assert again.made == {"generator": 1, **PRESENTATION}
    assert again.loads == {"ZImageTransformer2DModel": 1, "AutoencoderKL": 1}
    assert built.stored(IMAGES) == made

    mended = built.run()
    assert mended.returncode == 0, mended.output
    assert mended.made == {"images": 1, "generator": 2, **PRESENTATION}
    assert mended.loads == {"ZImageTransformer2DModel": 1, "AutoencoderKL": 1}
    assert results(built) == before
    assert "Nothing to be done" in built.run().output


def test_a_row_that_is_not_finite(built: Workspace) -> None:
    before = results(built)
    _, run = generate_all_again(built, "nan-row")
    assert failed_cell(built, run)["error"] == "the generator gave values that are not finite"
    assert run.made == {"conditioning": 4, "images": 3, "generator": 4, **PRESENTATION}
    assert built.stored(IMAGES).items() < before.items()


def test_hidden_states_that_are_not_finite(built: Workspace) -> None:
    images, cells = built.stored(IMAGES), {row["cell"] for row in built.rows()}
    built.experiment["base"]["prompts"] += ["a green hat", "two dogs"]
    built.save()
    run = built.run(fail="nan-states:Qwen3VLModel:1")
    failed = failed_cell(built, run)
    assert failed["cell"] not in cells
    assert failed["alpha"] == "0.5"
    assert "its hidden states could not be extracted: FloatingPointError: " in failed["error"]
    # The text alone of both prompts, and alpha 0.5 of the other one.
    assert run.made == {
        "text": 2,
        "vision_language": 2,
        "vision": 1,
        "hidden_states": 3,
        "conditioning": 3,
        "images": 3,
        "generator": 4,
        **PRESENTATION,
    }
    mended = built.run()
    assert mended.returncode == 0, mended.output
    assert mended.made == {
        "vision_language": 1,
        "vision": 1,
        "hidden_states": 1,
        "conditioning": 1,
        "images": 1,
        "generator": 2,
        **PRESENTATION,
    }
    assert images.items() < built.stored(IMAGES).items()
    assert {row["status"] for row in built.rows()} == {"done"}


def test_conditioning_that_the_generator_cannot_take(built: Workspace) -> None:
    """1728 image tokens at their own length, where the generator takes 1504: refused before a model is loaded."""
    Image.new("RGB", (1536, 1152), "teal").save(built.folder / "config/large.png")
    processor = built.folder / "results/models/small/qwen3-vl-instruct/preprocessor_config.json"
    values = json.loads(processor.read_text())
    values["size"]["longest_edge"] = 4096 * 4096  # The small model would scale it down.
    processor.write_text(json.dumps(values))
    built.experiment["base"] |= {
        "prompts": ["a red apple"],
        "references": ["cartoon_house", "config/large.png"],
        "length_matching": "none",
    }
    built.experiment["axes"]["alpha"] = [0.0, 1.0]
    built.save()
    run = built.run()
    assert run.returncode == 1
    assert "(1536 x 1152 pixels) becomes 1728 tokens, but generator" in run.output
    assert "takes 1504; set another length_matching than 'none', or take a smaller image" in run.output
    assert not run.loads
