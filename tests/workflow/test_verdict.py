"""Failure is never reported as success, whatever is asked for, and the last lines say what to do."""

from tests.workflow.harness import Workspace

GRID = "results/small/grids/alpha_by_prompt.png"


def test_a_failed_cell_ends_a_run_for_one_grid_and_the_next_one_mends_it(built: Workspace) -> None:
    before = (built.folder / GRID).read_bytes()
    row = next(row for row in built.rows() if (row["prompt"], row["alpha"]) == ("a red apple", "0.5"))
    (built.folder / row["image"]).unlink()

    run = built.run(GRID, fail=f"nan-row:{row['conditioning']}")
    assert run.returncode == 1, run.output
    said = run.output[run.output.index("graftwork: 1 of") :].splitlines()
    assert said[:3] == [
        "graftwork: 1 of 6 cells of small failed:",
        "  1 x the generator gave values that are not finite",
        "  they have the status failed in results/small/cells.csv",
    ]
    assert said[3].startswith("  log: logs/generate_images/all/")
    assert (built.folder / said[3].split()[-1]).is_file()
    assert said[4].startswith("  this run made 1 grid page; the next run tries again what failed")
    assert said[5:7] == ["  look first at results/small/grids", "  then results/small/cells.csv"]
    assert (built.folder / GRID).read_bytes() != before
    # One line a stage, with the failed image not among those that are made; no list of files, no control characters.
    (line,) = [line for line in run.output.splitlines() if line.startswith("generate images ")]
    assert "0 of 1 images made, 1 failed" in line
    assert "output: " not in run.output
    assert "\x1b" not in run.output
    assert "output: results/plan/all/images.json" in run.log or "Planning images (all)" in run.log

    # The grid is there, and shows a failure: that is not what was asked for.
    mended = built.run(GRID)
    assert mended.returncode == 0, mended.output
    assert "graftwork: all 6 cells of small are done; this run made 1 image and 1 grid page" in mended.output
    assert (built.folder / GRID).read_bytes() == before
