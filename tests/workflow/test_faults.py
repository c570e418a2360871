"""Faults, injected for real: after each a message that says what happened, nothing lost, and a next run that gives what an
undisturbed one gives, byte for byte."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow.harness import Workspace
from tests.workflow.inspection import inspect, outcome

pytestmark = pytest.mark.slow

IMAGES = "images/*/*.png"
MODELS = "results/models/small"
# What needs every stage that stores something; the viewer would take longer than all of them.
TARGETS = ("results/small/cells.csv", "results/small/grids/alpha_by_prompt.png")


def drop_images(workspace: Workspace) -> dict[str, bytes]:
    images = workspace.stored(IMAGES)
    for path in (workspace.folder / "results/store").glob(IMAGES):
        path.unlink()
    return images


def wait_until(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 900
    while not is_there():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)


def start_held(workspace: Workspace) -> tuple[subprocess.Popen[str], Path]:
    """Starts a run whose generator waits before its first step; returns it and the file that it waits for to go."""
    hold, log = workspace.folder / "hold", workspace.folder / "held.log"
    hold.touch()
    process = workspace.start(*TARGETS, PROBE_LOG=str(log), PROBE_HOLD=str(hold))
    wait_until(
        lambda: log.exists() and "forward ZImageTransformer2DModel" in log.read_text(),
        process,
    )
    return process, hold


def test_a_second_run_a_model_that_vanishes_and_a_worker_that_is_killed(built: Workspace) -> None:
    expected = outcome(built)
    images = drop_images(built)
    process, hold = start_held(built)
    second = built.run(*TARGETS)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.output

    folder = built.folder / MODELS / "z-image"
    folder.rename(built.folder / "elsewhere")
    hold.unlink()
    output, _ = process.communicate(timeout=900)
    (built.folder / "elsewhere").rename(folder)
    assert process.returncode == 1
    assert "z-image" in output
    assert "Traceback" not in output
    assert built.stored(IMAGES) == {}

    # As when memory runs out: two of four images are there.
    run = built.run(*TARGETS, kill="alone-after-replace-images:2")
    assert run.returncode == 1
    assert "generate_images" in run.output
    made = built.stored(IMAGES)
    assert 2 <= len(made) < len(images)
    assert made.items() <= images.items()

    run = built.run(*TARGETS)
    assert run.returncode == 0, run.output
    assert run.made["images"] == len(images) - len(made)
    # The verdict on all experiments went with the plan that it was about, and no target here asks for another.
    got, not_asked_for = outcome(built), "plan/all/verdict.txt"
    assert {name for name in expected if got.get(name) != expected[name]} == {not_asked_for}


def test_two_checkouts_side_by_side_on_one_store(built: Workspace, tmp_path: Path) -> None:
    """Both need the same conditioning, and each drops it when its own images are made."""
    store = tmp_path / "store"
    (built.folder / "results/store").rename(store)
    (built.folder / "results/store").symlink_to(store)
    images = drop_images(built)
    other_folder = tmp_path / "other"
    shutil.copytree(built.folder, other_folder, symlinks=True)
    others = (built, Workspace.at(other_folder))
    for seed, workspace in zip((7, 8), others, strict=True):
        workspace.experiment["base"]["seeds"] = [seed]
        workspace.save()
    processes = [workspace.start(*TARGETS, cores=1) for workspace in others]
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for workspace in others:
        rows = workspace.rows()
        assert {row["status"] for row in rows} == {"done"}
        assert inspect(workspace).damage == []
        again = workspace.run(*TARGETS)
        assert "Nothing to be done" in again.output, again.output
    assert len(built.stored(IMAGES)) == 2 * len(images)
    assert not list(store.glob("conditioning/*/*"))


# For root nothing is read-only, unless it gives that right away (setpriv is part of util-linux).
AS_IF_NOT_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.fixture
def read_only(built: Workspace) -> Iterator[Workspace]:
    """A workspace whose results cannot be written."""
    folders = [path for path in (built.folder / "results").rglob("*") if path.is_dir()]
    folders.append(built.folder / "results")
    for folder in folders:
        folder.chmod(0o555)
    yield built
    for folder in folders:
        folder.chmod(0o755)


def test_results_that_cannot_be_written(read_only: Workspace) -> None:
    before = read_only.snapshot()
    run = read_only.run(*TARGETS, through=AS_IF_NOT_ROOT)
    assert run.returncode == 0, run.output
    assert "Nothing to be done" in run.output

    read_only.experiment["base"]["seeds"] = [5]
    read_only.save()
    run = read_only.run(*TARGETS, through=AS_IF_NOT_ROOT)
    assert run.returncode == 1
    assert (
        "results cannot be written: it is on a read-only file system, or belongs to another user"
        in run.output
    )
    assert "Traceback" not in run.output, run.output
    assert read_only.snapshot() == before
