"""Scores that ask models: planned, sharded and kept like images."""

import csv
from pathlib import Path

import pytest
import yaml

from tests.workflow.harness import Run, Workspace

pytestmark = pytest.mark.slow

# What was measured; pages with its plots are asked for once.
TABLE = "results/small/scores.csv"
SUMMARY = "results/small/summary.md"
ASKED = ["adherence", "reference", "clip_text", "csd", "artifacts"]


@pytest.fixture
def asking(built: Workspace) -> Workspace:
    """A finished workspace whose experiment asks small scorers of all families but one, and that has a small judge."""
    from tests.small_scorers import build_small_scorers, make_small_judge

    folder = built.folder / "results/models/scorers"
    build_small_scorers(folder)
    make_small_judge(folder / "vqa")
    models = yaml.safe_load((built.folder / "config/models.yaml").read_text())
    models["scorers"] = {
        name: {"family": name, "path": f"results/models/scorers/{name}"}
        for name in ("vqa", "siglip", "dinov2", "clip", "csd")
    }
    (built.folder / "config/models.yaml").write_text(yaml.safe_dump(models))
    built.experiment["scores"] = ASKED
    built.experiment["scorers"] = {
        "judge": "vqa",
        "semantic": "siglip",
        "structural": "dinov2",
        "clip": "clip",
        "style": "csd",
    }
    built.experiment["reference_captions"] = {"cartoon_house": "a house"}
    built.save()
    return built


def scores(workspace: Workspace) -> list[dict[str, str]]:
    with open(workspace.folder / "results/small/scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def kept(workspace: Workspace) -> int:
    files = (workspace.folder / "results/store/values").glob("*.jsonl")
    return sum(len(file.read_text().splitlines()) for file in files)


def jobs(run: Run, rule: str) -> int:
    return run.jobs[rule]


def test_scorers_are_asked_once(asking: Workspace) -> None:
    """Measured once; again nothing; one more cell asks about one more image; what failed is said, and tried again."""
    run = asking.run(SUMMARY)
    assert run.returncode == 0, run.output
    assert jobs(run, "measure_images") == 1, "one job for all scorers, which would wait for one device"
    assert jobs(run, "generate_images") == 0
    rows = scores(asking)
    for row in rows:
        assert row["unscored"] == ""
        assert 0 <= float(row["adherence"]) <= 1
        assert row["clip_text_prompt_truncated"] in ("0", "1")
        is_cell = row["cell"] in {one["cell"] for one in asking.rows() if one["reference"]}
        for column in (
            "semantic_reference",
            "structural_baseline",
            "style_reference",
            "content_override",
            "moved",
        ):
            assert bool(row[column]) == is_cell, column
    assert "P(yes) for the prompt" in (asking.folder / "results/small/summary.md").read_text()
    first = kept(asking)

    run = asking.run(SUMMARY)
    assert (run.returncode, sum(run.jobs.values())) == (0, 0), run.output

    asking.experiment["axes"]["alpha"] = [0.0, 0.5, 1.0]
    asking.save()
    run = asking.run(TABLE)
    assert run.returncode == 0, run.output
    assert len(scores(asking)) == len(rows) + 2
    # Two images: for each adherence 2, reference 4, CLIP 1, CSD 1, and the row of artifacts. The text alone is known.
    assert kept(asking) == first + 2 * 9

    # Values that are gone are measured again, and images are not.
    for file in (asking.folder / "results/store/values").glob("*.jsonl"):
        file.write_text("\n".join(file.read_text().splitlines()[1:]) + "\n")
    before = scores(asking)
    run = asking.run(TABLE)
    assert run.returncode == 0, run.output
    assert "values that scorers gave are missing" in run.output
    assert jobs(run, "generate_images") == 0
    assert scores(asking) == before


def test_a_scorer_that_breaks_ends_the_run_with_1(asking: Workspace) -> None:
    """Values that are not finite: every cell has its reason, the rest is there, and the next run tries again."""
    path = asking.folder / "graftwork/models/scorers/clip.py"
    sound = path.read_text()
    broken = sound.replace("return features, len(whole)", "return features * float('nan'), len(whole)")
    assert broken != sound
    path.write_text(broken)
    run = asking.run(TABLE)
    assert run.returncode == 1, run.output
    assert "comparisons of scores of small failed" in run.output
    assert "hardware.scoring.dtype" in run.output
    for row in scores(asking):
        assert row["clip_text_cosine"] == ""
        assert "the value is nan" in row["unscored"]
        assert row["adherence"]
    path.write_text(sound)
    run = asking.run(TABLE)
    assert run.returncode == 0, run.output
    assert all(row["clip_text_cosine"] for row in scores(asking))


def test_nothing_measured_is_lost_by_a_kill(asking: Workspace) -> None:
    whole = Workspace.at(asking.folder)
    run = asking.run("results/plan/all/scores.json")
    assert run.returncode == 0, run.output
    edited = asking.folder / "graftwork/jobs/scoring.py"
    sound = edited.read_text()
    edited.write_text(
        sound.replace("_BATCH = 16", "_BATCH = 1").replace(
            "        record.made += made\n",
            "        record.made += made\n        import os\n        if len(record.made) == 2:\n            os.kill(os.getpid(), 9)\n",
        )
    )
    run = asking.run("--keep-going", TABLE)
    assert run.returncode == 1, run.output
    survived = kept(asking)
    assert survived >= 2
    edited.write_text(sound)
    run = whole.run(TABLE)
    assert run.returncode == 0, run.output
    keys = [
        line.split('"key": "')[1][:64]
        for file in Path(asking.folder / "results/store/values").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(keys) == len(set(keys)), "nothing was measured twice"
    assert all(not row["unscored"] for row in scores(asking))
