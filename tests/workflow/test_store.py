"""A store that cannot be poisoned, and that several targets share; what people edit is not believed."""

import threading
import time
from pathlib import Path

import pytest

from tests.workflow.harness import Workspace

pytestmark = pytest.mark.slow

IMAGES = "images/*/*.png"
SAMPLING = "graftwork/models/generators/z_image/generator.py"


def once_there(file: Path, act) -> threading.Thread:
    """Acts as soon as a file is there, while a run goes on."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_two_targets_share_conditioning(fresh: Workspace) -> None:
    """Neither is in config.yaml, so that each is a scope of its own; what one drops the other still needs."""
    for name, seed in (("one", 1), ("two", 2)):
        fresh.experiment["base"]["seeds"] = [seed]
        fresh.save(name)
    run = fresh.run("results/one/cells.csv", "results/two/cells.csv")
    assert run.returncode == 0, run.output
    for name in ("one", "two"):
        assert {row["status"] for row in fresh.rows(name)} == {"done"}, run.output
    assert fresh.stored("conditioning/*/*") == {}
    again = fresh.run("results/one/cells.csv", "results/two/cells.csv")
    assert "Nothing to be done" in again.output
    check_collection(fresh)


def check_collection(workspace: Workspace) -> None:
    """What only an experiment that is gone has used is named, and removed where that is asked for."""
    kept = {Path(row["image"]).name for row in workspace.rows("one")}
    both = workspace.stored(IMAGES)
    (workspace.folder / "config/experiments/two.yaml").unlink()
    run = workspace.run("store_report", "gc")
    assert run.returncode == 0, run.output
    assert " one " in run.output
    assert " two " not in run.output
    assert "`snakemake gc --config gc=delete` removes them" in run.output
    assert workspace.stored(IMAGES) == both
    run = workspace.run("gc", "--config", "gc=delete")
    assert run.returncode == 0, run.output
    # small.yaml has the cells of one of the two; the other seed's images were those of `two` alone.
    assert set(workspace.stored(IMAGES)) == kept
    assert "Nothing to be done" in workspace.run("results/one/cells.csv").output


def test_code_that_is_edited_while_images_wait_makes_none(built: Workspace) -> None:
    right = built.stored(IMAGES)
    for path in (built.folder / "results/store").glob(IMAGES):
        path.unlink()
    code = (built.folder / SAMPLING).read_text()
    plan = built.folder / "results/plan/all/images.json"
    plan.unlink()
    thread = once_there(
        plan, lambda: built.edit(SAMPLING, "latents=initial_latents(", "latents=0.9 * initial_latents(")
    )
    run = built.run()
    thread.join()
    assert run.returncode == 1
    assert (
        "the code of sampling of family z_image is another one now than when this was planned" in run.output
    )
    assert built.stored(IMAGES) == {}
    (built.folder / SAMPLING).write_text(code)
    run = built.run()
    assert run.returncode == 0, run.output
    assert built.stored(IMAGES) == right


def test_what_people_did_to_the_store_and_to_tables(built: Workspace) -> None:
    table = built.folder / "results/small/cells.csv"
    right, images = table.read_text(), built.stored(IMAGES)
    # As a spreadsheet saves it, and with something edited.
    table.write_text("\ufeff" + right.replace(",", ";").replace("done", "failed"), encoding="utf-8")
    path = sorted((built.folder / "results/store").glob(IMAGES))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    run = built.run("verify_store")
    assert run.returncode == 1
    assert f"{path.relative_to(built.folder)} is damaged" in run.output
    assert "1 of 8 files in results/store are damaged" in run.output
    assert built.run("repair_store").returncode == 0
    assert not path.exists()
    path.mkdir()
    run = built.run()
    assert run.returncode == 0, run.output
    assert "results/small/cells.csv is not as it was written" in run.output
    assert "was a folder where a file belongs" in run.output
    assert table.read_text() == right
    assert built.stored(IMAGES) == images
