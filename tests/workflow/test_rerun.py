"""A rerun makes only what is missing.

Each row of `ROWS` starts from a finished sweep (2 prompts x alpha 0 and 0.5 x 1 reference x 1 seed: 4 distinct images
in batches of 2, 2 steps each), makes one change, and says what one run of the command line then makes. The counts are
those of wrapped `from_pretrained`, `forward` and `os.replace`, not our own.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

from tests.workflow.harness import Run, Workspace

IMAGES = "images/*/*.png"
LIBRARY = "graftwork"
# What a run loads for each kind of forward pass.
LOADED = {
    "text": ["TruncatedQwen3Model"],
    "vision_language": ["TruncatedQwen3VLModel"],
    "generator": ["ZImageTransformer2DModel", "AutoencoderKL"],
}
NOTHING: dict[str, int] = {}
# What needs every stage up to the images, and shows them. Pages, the viewer and plots are asked for where they are the point.
IMAGES_SHOWN = ("results/small/cells.csv", "results/small/grids/alpha_by_prompt.png")
# The same where a grid has a page for each of several values.
PAGES_SHOWN = ("results/small/cells.csv", "results/small/grids/alpha_by_prompt_001.png")
EVERYTHING = ()
PAGES = {"write_summary_page": 1, "write_index": 1}
PRESENTATION = {"tables": 1, "grids": 1}
ONE_BATCH = {"conditioning": 2, "images": 2, "generator": 2}


@dataclass(frozen=True)
class Row:
    """One change and what is made after it.

    Attributes:
        change: Applied to the finished workspace.
        made: Counts as in `Run.made`; what is not named must not be made at all.
        check: Further assertions, given the workspace and the run.
        adds: Whether every earlier cell is still in the table, under its old name.
        targets: Targets of the run.
    """

    change: Callable[[Workspace], None]
    made: dict[str, int]
    check: Callable[[Workspace, Run], None] = lambda workspace, run: None
    adds: bool = True
    targets: tuple[str, ...] = IMAGES_SHOWN


def base(**values: object) -> Callable[[Workspace], None]:
    """Sets keys of `base`."""

    def change(workspace: Workspace) -> None:
        workspace.experiment["base"].update(values)
        workspace.save()

    return change


def axes(**values: object) -> Callable[[Workspace], None]:
    """Sets axes."""

    def change(workspace: Workspace) -> None:
        workspace.experiment["axes"].update(values)
        workspace.save()

    return change


def edit(file: str, old: str, new: str) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.edit(f"{LIBRARY}/{file}", old, new)


def in_turn(*changes: Callable[[Workspace], object]) -> Callable[[Workspace], None]:
    def change(workspace: Workspace) -> None:
        for one in changes:
            one(workspace)

    return change


def hide_models(workspace: Workspace) -> None:
    (workspace.folder / "results/models").rename(workspace.folder / "away")


def run_without_a_value(workspace: Workspace) -> None:
    before = workspace.snapshot("results/store/images")
    axes(alpha=[0.0])(workspace)
    run = workspace.run()
    assert run.returncode == 0, run.output
    assert run.made == PRESENTATION
    assert not run.loads
    assert not {"generate_images", "extract_hidden_states"} & set(run.jobs)
    assert workspace.snapshot("results/store/images") == before
    assert len(workspace.rows()) == 4


def no_gpu_job(workspace: Workspace, run: Run) -> None:
    assert "tabulate" in run.jobs, run.output
    assert not {"generate_images", "extract_hidden_states"} & set(run.jobs), run.jobs


def only_presentation(workspace: Workspace, run: Run) -> None:
    assert run.jobs, run.output
    assert set(run.jobs) <= {"tabulate", "draw_grid", "summarize_experiment", "verdict", *PAGES}, run.jobs


def nothing_to_do(workspace: Workspace, run: Run) -> None:
    assert "Nothing to be done" in run.output, run.output


def same_as_names_the_other_layer(workspace: Workspace, run: Run) -> None:
    rows = {(row["prompt"], row["alpha"], row["hidden_layer"]): row for row in workspace.rows()}
    for (prompt, alpha, layer), row in rows.items():
        if layer == "5" and alpha == "0.5":
            assert row["same_as"] == rows[prompt, alpha, "-2"]["cell"]
            assert row["image"] == rows[prompt, alpha, "-2"]["image"]
    no_gpu_job(workspace, run)
    said = (
        "small: 1 of 2 settings with alpha above 0 is a no-op (2 settings at alpha 0 are the text alone by definition and "
        "not counted): hidden_layer 5 = hidden_layer -2, at alpha 0.5"
    )
    assert said in run.output
    assert said in (workspace.folder / "logs/plan_images/all.log").read_text()
    results = workspace.folder / "results/small"
    assert f"\n{said}\n" in (results / "summary.md").read_text()
    assert (results / "no_ops.csv").read_text().split("\n")[1:] == [
        '"alpha 0.5, hidden_layer 5","alpha 0.5, hidden_layer -2",the same bytes,2,identical in 2 pairs',
        "",
    ]


def summary_and_grids(workspace: Workspace, run: Run) -> None:
    assert run.jobs == {"draw_grid": 1, "summarize_experiment": 1, "verdict": 1, **PAGES}
    assert "How it was made: " in (workspace.folder / "results/small/summary.md").read_text()


def same_as_names_the_other_matching(workspace: Workspace, run: Run) -> None:
    rows = [row for row in workspace.rows() if row["alpha"] == "0.5"]
    assert all(row["tokens"] == row["source_tokens"] for row in rows)
    truncated = {row["prompt"]: row for row in rows if row["length_matching"] == "truncate"}
    pooled = {row["prompt"]: row for row in rows if row["length_matching"] == "area"}
    for prompt, row in pooled.items():
        assert row["same_as"] == truncated[prompt]["cell"]
        assert row["conditioning"] == truncated[prompt]["conditioning"]
        assert truncated[prompt]["same_as"] == ""


def only_the_images_at_half(workspace: Workspace, run: Run) -> None:
    assert {row["status"] for row in workspace.rows()} == {"done"}
    assert len(workspace.stored(IMAGES)) == 6


def write_comments_and_touch_all(workspace: Workspace) -> None:
    for file in (
        "transforms/blending",
        "models/generator",
        "models/generators/z_image/generator",
        "models/encoders/qwen3_vl/encoder",
        "reports/grid",
        "design/sweep",
    ):
        path = workspace.folder / LIBRARY / f"{file}.py"
        path.write_text("# A comment.\n" + path.read_text() + "\n# Another.\n")
    edit("transforms/blending.py", '"""Mixes row by row.', '"""Mixes row by row, in other words.')(workspace)
    edit("models/generator.py", '"""Makes one image per row.', '"""Makes some images.')(workspace)
    for name in (
        "Snakefile",
        "rules",
        "workflow_scripts",
        "config",
        "resources",
        "profiles",
        "results/models",
    ):
        path = workspace.folder / name
        for file in [path, *path.rglob("*")]:
            os.utime(file)


def clone_beside(workspace: Workspace) -> None:
    """A fresh checkout into which the old results are moved: new file times, and no .snakemake folder."""
    old = workspace.folder.rename(workspace.folder.with_name("old"))
    shutil.copytree(old, workspace.folder, ignore=shutil.ignore_patterns("results", ".snakemake", "logs"))
    (old / "results").rename(workspace.folder / "results")
    for file in workspace.folder.rglob("*"):
        if "results" not in file.parts:
            os.utime(file)


def delete_and_truncate_images(workspace: Workspace) -> None:
    workspace.image(prompt="a red apple", alpha="0.5").unlink()
    path = workspace.image(prompt="a red apple", alpha="0.0")
    path.write_bytes(path.read_bytes()[:-7])


def states_file(workspace: Workspace) -> Path:
    """The file of hidden states of the first prompt with the reference."""
    for path in sorted((workspace.folder / "results/store/hidden_states").glob("*/*.h5")):
        with h5py.File(path, "r") as file:
            if "cartoon" not in path.name and len(file["token_ids"]) == 77:
                return path
    raise AssertionError("no such file")


def corrupt(path: Path, layer: int) -> None:
    """Flips bits inside a dataset's storage."""
    with h5py.File(path, "r") as file:
        chunk = file[f"hidden_states/{layer}"].id.get_chunk_info(0)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))


def corrupt_unnoticed(workspace: Workspace) -> None:
    """Bits rot without a change of time or size; the next use of the dataset notices it."""
    path = states_file(workspace)
    times = path.stat()
    corrupt(path, 5)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    axes(alpha=[0.0, 0.5, 1.0])(workspace)
    run = workspace.run()
    assert run.returncode == 1
    (failed,) = [row for row in workspace.rows() if row["status"] == "failed"]
    assert (failed["prompt"], failed["alpha"]) == ("a red apple", "1.0")
    assert "the next run extracts it again" in failed["error"]


def second_experiment(workspace: Workspace) -> None:
    workspace.experiment["title"] = "The same cells, and another grid"
    workspace.experiment["axes"] = {"alpha": [0.5]}
    workspace.experiment["grids"] = [{"x": "prompt"}]
    workspace.config["experiments"].append("second")
    workspace.save("second")


def second_shares_images(workspace: Workspace, run: Run) -> None:
    images = {row["cell"]: row["image"] for row in workspace.rows()}
    second = {row["cell"]: row["image"] for row in workspace.rows("second")}
    assert second == {cell: images[cell] for cell in second}
    no_gpu_job(workspace, run)


ROWS = {
    "nothing; model folders renamed away -> nothing": Row(
        hide_models, NOTHING, nothing_to_do, targets=EVERYTHING
    ),
    "one more value on an axis -> its 2 images": Row(
        axes(alpha=[0.0, 0.5, 1.0]), {**ONE_BATCH, **PRESENTATION}, targets=EVERYTHING
    ),
    "a new axis whose old value is neutral -> 2 images": Row(
        axes(normalization=["none", "global"]),
        {**ONE_BATCH, "tables": 1, "grids": 1},
        targets=PAGES_SHOWN,
    ),
    "one more prompt -> its extractions and images": Row(
        base(prompts=["a red apple", "a blue boat at sea", "a green hat"]),
        {**ONE_BATCH, "text": 1, "vision_language": 1, "vision": 1, "hidden_states": 2, **PRESENTATION},
    ),
    "one more reference -> its extractions and images": Row(
        base(references=["cartoon_house", "purple_hexagon"]),
        {**ONE_BATCH, "vision_language": 2, "vision": 1, "hidden_states": 2, "tables": 1, "grids": 1},
        targets=PAGES_SHOWN,
    ),
    "one more seed -> its 4 images, no extraction": Row(
        base(seeds=[1, 2]),
        {"conditioning": 4, "images": 4, "generator": 4, "tables": 1, "grids": 1},
        targets=PAGES_SHOWN,
    ),
    "a value removed, then restored -> tables and grids": Row(
        in_turn(run_without_a_value, axes(alpha=[0.0, 0.5])), PRESENTATION, no_gpu_job
    ),
    "a layer by another name -> no image, same_as says so": Row(
        axes(hidden_layer=[-2, 5]),
        {"tables": 1, "grids": 1},
        same_as_names_the_other_layer,
        targets=EVERYTHING,
    ),
    "another recipe of equal bytes -> one image for both, same_as says so": Row(
        in_turn(base(token_mode="text_only"), axes(length_matching=["truncate", "area"])),
        {**ONE_BATCH, "tables": 1, "grids": 1},
        same_as_names_the_other_matching,
        adds=False,
        targets=PAGES_SHOWN,
    ),
    "comments, docstrings, every file touched -> nothing": Row(
        write_comments_and_touch_all, NOTHING, nothing_to_do, targets=EVERYTHING
    ),
    "a fresh clone beside old results -> nothing": Row(
        clone_beside, NOTHING, nothing_to_do, targets=EVERYTHING
    ),
    "a fresh clone beside old results, one more value -> its images": Row(
        in_turn(clone_beside, axes(alpha=[0.0, 0.5, 1.0])), {**ONE_BATCH, **PRESENTATION}
    ),
    "an edit of a transform that changes bytes -> the images it changes": Row(
        edit("transforms/blending.py", "source[:rows], alpha)", "source[:rows], 0.9 * alpha)"),
        {**ONE_BATCH, **PRESENTATION},
        only_the_images_at_half,
    ),
    "an edit of a transform that changes no byte -> no image": Row(
        edit("transforms/blending.py", "source[:rows], alpha)", "source[:rows], 1.0 * alpha)"),
        {"conditioning": 2, **PRESENTATION},
        no_gpu_job,
    ),
    "an edit of a transform that no cell uses -> nothing": Row(
        edit(
            "transforms/length_matching.py",
            "\n    return source[:tokens]",
            "\n    return source[:tokens] * 2",
        ),
        NOTHING,
        nothing_to_do,
        targets=EVERYTHING,
    ),
    "an edit of code of grids and summaries -> only these": Row(
        in_turn(
            edit("reports/pages.py", 'f"experiment {design.', 'f"experiment: {design.'),
            edit("reports/templates/experiment.md.j2", "## How it was made", "## How it was made: "),
        ),
        {"grids": 1},
        summary_and_grids,
        targets=EVERYTHING,
    ),
    "an edit of PNG, log, progress and job code -> nothing": Row(
        in_turn(
            edit("core/png.py", "COMPRESS_LEVEL = ", "COMPRESS_LEVEL = 1 + "),
            edit("jobs/record.py", "%(asctime)s %(levelname)s", "%(levelname)s"),
            edit(
                "core/progress.py",
                "elapsed = time.monotonic() - self._start\n",
                "elapsed = time.monotonic() - self._start + 1\n",
            ),
            edit("jobs/generation.py", "loading generator %s for", "now loading generator %s for"),
        ),
        NOTHING,
        nothing_to_do,
        targets=EVERYTHING,
    ),
    "an image deleted, another truncated by hand -> these two and their grids": Row(
        delete_and_truncate_images, {**ONE_BATCH, **PRESENTATION}
    ),
    "a dataset corrupted unnoticed -> it fails one cell, which the next run mends": Row(
        corrupt_unnoticed,
        {
            "vision_language": 1,
            "vision": 1,
            "hidden_states": 1,
            "conditioning": 1,
            "images": 1,
            "generator": 2,
        }
        | PRESENTATION,
    ),
    "a second experiment that shares cells -> no image": Row(
        second_experiment, {"tables": 2, "grids": 2}, second_shares_images, targets=EVERYTHING
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rerun(built: Workspace, row: Row) -> None:
    images, states, cells = built.stored(IMAGES), built.hidden_states(), {r["cell"] for r in built.rows()}
    row.change(built)
    run = built.run(*row.targets)
    assert run.returncode == 0, run.output
    assert run.made == row.made
    assert run.loads == {name: 1 for kind, names in LOADED.items() if kind in row.made for name in names}
    row.check(built, run)
    # What was not touched, and what came back, has the same bytes.
    assert images.items() <= built.stored(IMAGES).items()
    assert states.items() <= built.hidden_states().items()
    rows = built.rows()
    assert {r["status"] for r in rows} == {"done"}
    if row.adds:
        assert cells <= {r["cell"] for r in rows}
    if row.check is not nothing_to_do:
        again = built.run(*row.targets)
        nothing_to_do(built, again)
        assert not again.made


def test_layers_and_their_files(built: Workspace) -> None:
    """A new layer; one of two layers corrupted; the file deleted. One after the other, each with its own counts."""
    images, states = built.stored(IMAGES), built.hidden_states()
    vision_language = {"TruncatedQwen3VLModel": 1}
    grids = {"tables": 1, "grids": 1}
    axes(hidden_layer=[-2, -4])(built)
    run = built.run()
    assert run.returncode == 0, run.output
    assert run.made == {**ONE_BATCH, "vision_language": 2, "vision": 1, "hidden_states": 2, **grids}
    assert run.loads == {**vision_language, "ZImageTransformer2DModel": 1, "AutoencoderKL": 1}
    after = built.hidden_states()
    assert states.items() < after.items()
    assert sorted(name for _, name in after.keys() - states.keys()) == ["hidden_states/3"] * 2
    assert images.items() < built.stored(IMAGES).items()
    images = built.stored(IMAGES)

    corrupt(states_file(built), 3)
    assert after.keys() - built.hidden_states().keys() == {(states_file(built).stem, "hidden_states/3")}
    run = built.run()
    assert run.returncode == 0, run.output
    assert run.made == {"vision_language": 1, "vision": 1, "hidden_states": 1, **grids}
    assert run.loads == vision_language
    assert built.hidden_states() == after
    (manifest,) = (built.folder / "results/plan/all/hidden_states").glob("*.json")
    shard = json.loads((built.folder / "results/store/shards" / manifest.name).read_text())
    assert [item["layers"] for part in shard["parts"] for item in part["inputs"]] == [[3]]

    states_file(built).unlink()
    run = built.run()
    assert run.returncode == 0, run.output
    assert run.made == {"vision_language": 1, "vision": 1, "hidden_states": 1, **grids}
    assert run.loads == vision_language
    assert built.hidden_states() == after
    assert built.stored(IMAGES) == images
    nothing_to_do(built, built.run())


def test_a_first_run_loads_each_model_once_and_gives_the_same_bytes_in_every_folder(
    fresh: Workspace, finished: Path
) -> None:
    # The other folder's processes were forked by a server of the tests: these are started as a user's are.
    run = fresh.run(warm=False)
    assert run.returncode == 0, run.output
    assert run.loads == {name: 1 for names in LOADED.values() for name in names}
    # 2 prompts x (text alone, alpha 0.5); alpha 0 is the text alone. Batches of 2, 2 steps. One reference, seen once.
    assert run.made == {
        "text": 2,
        "vision_language": 2,
        "vision": 1,
        "generator": 2 * 2,
        "hidden_states": 4,
        "conditioning": 4,
        "images": 4,
        **PRESENTATION,
    }
    other = Workspace.at(finished)
    assert fresh.stored(IMAGES) == other.stored(IMAGES)
    for name in ("cells.csv", "grids/alpha_by_prompt.png", "no_ops.csv"):
        assert (fresh.folder / "results/small" / name).read_bytes() == (
            finished / "results/small" / name
        ).read_bytes()


def test_a_dry_run_counts_and_leaves_nothing_behind(built: Workspace) -> None:
    before = built.snapshot()
    run = built.run("-n")
    assert run.returncode == 0, run.output
    assert "6 cells (2 baselines, 4 cells), experiments: small" in run.output
    assert "no image is missing; 4 distinct ones are in the store" in run.output
    assert (
        "  small: 0 of 1 setting with alpha above 0 are no-ops (1 setting at alpha 0 is the text alone by definition and "
        "not counted)\n"
    ) in run.output
    assert built.snapshot() == before

    built.image(prompt="a red apple", alpha="0.5").unlink()
    before = built.snapshot()
    run = built.run("-n")
    assert (
        "  1 images to make (1 known to be missing; the conditioning of 0 is not recorded yet), 3 in the store"
        in (run.output)
    )
    assert built.snapshot() == before
    axes(alpha=[0.0, 0.5, 1.0])(built)
    run = built.run("-n")
    assert "8 cells (2 baselines, 6 cells)" in run.output
    assert (
        "at most 3 images to make (1 known to be missing; the conditioning of 2 is not recorded yet)"
        in run.output
    )
    assert built.snapshot() == before
    assert not run.made
    assert not run.loads


def test_experiments_by_name(built: Workspace) -> None:
    # One that config.yaml does not list.
    built.experiment["axes"]["alpha"] = [0.5, 1.0]
    built.save("other")
    axes(alpha=[0.0, 0.5])(built)
    nothing_to_do(built, built.run())
    images, table = built.stored(IMAGES), (built.folder / "results/small/cells.csv").read_bytes()
    run = built.run("results/other/cells.csv")
    assert run.returncode == 0, run.output
    assert run.made == {**ONE_BATCH, "tables": 1}
    assert [row["status"] for row in built.rows("other")] == ["done"] * 6
    assert images.items() <= built.stored(IMAGES).items()
    nothing_to_do(built, built.run())

    # One that it does, after an image was deleted.
    built.image(prompt="a red apple", alpha="0.5").unlink()
    run = built.run("results/small/cells.csv")
    assert run.returncode == 0, run.output
    assert run.made == {"conditioning": 1, "images": 1, "generator": 2, "tables": 1}
    assert images.items() <= built.stored(IMAGES).items()
    assert (built.folder / "results/small/cells.csv").read_bytes() == table
    # What this run was not asked for is left alone, though its plan lacked the same image.
    assert [row["status"] for row in built.rows("other")] == ["done"] * 6
