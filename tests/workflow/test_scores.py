"""Scores: added to a finished experiment, kept up to date, taken away, without an image being made again.

The small models have random weights, so that every image is noise: it is read all the same, with little confidence.
"""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from graftwork.core.png import is_complete_png
from graftwork.scenes.world import ATTRIBUTES, render_scene
from graftwork.scores.registry import scores
from tests.unit.scores.scored import CAPTIONS, SHOWN, save_picture
from tests.workflow.harness import Run, Workspace, results_of_report

pytestmark = pytest.mark.slow

PLOTS = {
    "finding",
    "reference_by_setting",
    *(f"following{by}" for by in ("", "_by_attribute", "_by_prompt_says")),
    "least_confidence",
    "prompt_kept",
    "reference_arrived",
}


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def finished_jobs(run: Run) -> Counter:
    """Rule -> how many jobs of it were finished, `all` left out."""
    rules = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", run.log, re.MULTILINE)
    return Counter(rule for rule in rules if rule != "all")


def on_the_miniature_world(workspace: Workspace) -> Path:
    """Gives the workspace an experiment that can be scored; returns the folder of its results."""
    save_picture(workspace.folder / "config/references/shown.png", render_scene(SHOWN, 128))
    prompts = [{"name": name, "text": CAPTIONS[name]} for name in ("full", "object")]
    workspace.experiment["base"] |= {"prompts": prompts, "references": ["shown"], "height": 64, "width": 64}
    workspace.experiment["axes"] = {"alpha": [0.5, 1.0]}
    workspace.save()
    return workspace.folder / "results" / "small"


def test_scores_come_and_go_without_an_image_being_made(fresh: Workspace) -> None:
    results = on_the_miniature_world(fresh)
    run = fresh.run()
    assert run.returncode == 0, run.output
    assert not (results / "scores.csv").exists()
    assert "## Scores" not in (results / "summary.md").read_text()
    # The digests of code are kept beside what was made: a score brings code of its own.
    store = fresh.snapshot("results/store")
    del store["results/store/facts/code.json"]
    plain, plan = fresh.rows(), fresh.snapshot("results/plan")
    design = (results / "design.json").read_bytes()
    assert len(plain) == 2 * 2 + 2
    people = fresh.table("cells")

    fresh.experiment["scores"] = ["scene_attributes"]
    fresh.save()
    run = fresh.run()
    assert run.returncode == 0, run.output
    assert not run.loads
    assert not {"images", "conditioning", "hidden_states"} & set(run.made)
    assert finished_jobs(run) == {
        "score_images": 1,
        "summarize_scores": 3,
        "plot_scores": 1,
        "tabulate": 1,
        "draw_grid": 1,
        "summarize_experiment": 1,
        "make_thumbnails": 1,
        "build_viewer": 1,
        "write_summary_page": 1,
        "write_index": 1,
        "verdict": 1,
    }
    scored, rows = read_table(results / "scores.csv"), fresh.rows()
    assert [row["cell"] for row in scored] == [row["cell"] for row in rows] == [row["cell"] for row in plain]
    assert [{name: row[name] for name in plain[0]} for row in rows] == plain
    assert list(rows[0]) == [*plain[0], *(name for name in scored[0] if name not in ("cell", "image"))]
    shown = fresh.table("cells")
    assert [{name: row[name] for name in people[0]} for row in shown] == people
    assert [name for name in shown[0] if name not in people[0]] == [
        "unscored",
        *(f"read_{attribute}" for attribute in ATTRIBUTES),
        "least_confidence",
        "prompt_kept",
        "reference_arrived",
    ]
    for row in scored:
        assert all(row[f"read_{attribute}"] for attribute in ATTRIBUTES)
        assert 0 <= float(row["least_confidence"]) < 0.2
        assert row["prompt_shape"] == "circle"
    summary = read_table(results / "attributes.csv")
    assert {row["alpha"] for row in summary} == {"0.0", "0.5", "1.0"}
    assert {row["by"] for row in summary} == {"", "hidden_layer", "token_mode", "reference", "prompt_says"}
    means = read_table(results / "score_means.csv")
    assert {row["by"] for row in means} == {"", "role", "prompt", "alpha"}
    shown = (results / "summary.md").read_text()
    assert "| alpha | follows the prompt |" in shown
    assert "| least confidence of a reading |" in shown
    assert all((results / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", shown))
    assert {f"plots/{plot}.png" for plot in PLOTS} <= set(re.findall(r"\]\(([^)]+)\)", shown))
    assert {path.stem for path in (results / "plots").glob("*.png") if is_complete_png(path)} == PLOTS
    # No identity, no image, no plan has changed, nor has anything of them been written again.
    assert (results / "design.json").read_bytes() == design
    assert {path: time for path, (time, _) in fresh.snapshot("results/store").items() if path in store} == {
        path: time for path, (time, _) in store.items()
    }
    for path, (_, content) in plan.items():
        assert (fresh.folder / path).read_bytes() == content

    before = fresh.snapshot("results/small")
    run = fresh.run()
    assert (run.returncode, finished_jobs(run)) == (0, {}), run.output
    assert fresh.snapshot("results/small") == before

    run = fresh.run("--report", "report.html")
    assert run.returncode == 0, run.output
    found = results_of_report((fresh.folder / "report.html").read_text(encoding="utf-8"))
    shown = {path: result["labels"]["what"] for path, result in found.items() if "/plots/" in path}
    assert shown == {f"results/small/plots/{plot}.png": plot for plot in PLOTS}
    assert all(plot in found[path]["caption"] for path, plot in shown.items())
    assert "results/small/score_means.csv" in found["results/small/plots/least_confidence.png"]["caption"]

    (results / "plots" / f"{min(PLOTS)}.png").unlink()
    run = fresh.run()
    assert finished_jobs(run)["plot_scores"] == 1, run.output
    assert {path.stem for path in (results / "plots").glob("*.png")} == PLOTS

    del fresh.experiment["scores"]
    fresh.save()
    run = fresh.run()
    assert run.returncode == 0, run.output
    assert not run.loads
    assert fresh.rows() == plain
    assert fresh.table("cells") == people
    tables = {"cells.csv", "cells_full.csv", "constants.csv", "no_ops.csv"}
    assert {path.name for path in results.rglob("*.csv")} == tables
    assert "## Scores" not in (results / "summary.md").read_text()
    assert not (results / "plots").exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_made(fresh: Workspace) -> None:
    fresh.experiment["scores"] = ["scene_attributes"]
    fresh.save()
    run = fresh.run()
    assert run.returncode == 1
    assert not run.loads
    assert "config/experiments/small.yaml: scores: scene_attributes: prompt 'a red apple'" in run.output
    assert "Traceback" not in run.output

    del fresh.experiment["scores"]
    fresh.save()
    run = fresh.run("results/small/scores.csv")
    assert run.returncode == 1
    assert "config/experiments/small.yaml: scores is missing or empty" in run.output
    assert f"allowed: a list of {', '.join(scores())}" in run.output
