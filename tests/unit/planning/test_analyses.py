"""Analyses as scopes: which targets plan them, what they plan, and what healing notices."""

import json
import shutil

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.planning.analyses import plan_analysis
from graftwork.planning.scope import Scopes, load_project

CONFIG = {"experiments": ["demo"], "statistics": ["miniature"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    monkeypatch.chdir(tmp_path)
    return load_project({**CONFIG, "defaults": {"generator": "miniature-z-image", "height": 64, "width": 64}})


@pytest.fixture
def scopes(project):
    return Scopes(project)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], ["all", "statistics.miniature"]),
        (["all"], ["all", "statistics.miniature"]),
        (["statistics"], ["statistics.miniature"]),
        (["results/statistics/miniature/summary.md"], ["statistics.miniature"]),
        (["results/plan/statistics.miniature/measured.txt"], ["statistics.miniature"]),
        (["results/demo/cells.csv"], ["all"]),
        (["export"], ["all"]),
        (["train_miniature"], []),
    ],
)
def test_targets_belong_to_scopes(scopes, targets, expected):
    assert scopes.scopes_of(targets) == expected


def test_layers_of_one_input_are_one_extraction(project, scopes):
    hardware, sharding = project.settings.hardware.model_dump(), project.settings.sharding.model_dump()
    plan = plan_analysis(project.analysis("miniature"), hardware, sharding, scopes.store)
    corpus = plan["analysis"]["corpus"]
    prompts, references = corpus["prompts"], corpus["references"]
    assert len(plan["hidden_states"]) == prompts * (2 + references)
    assert {len(layers) for layers in plan["hidden_states"].values()} == {2}
    assert len(plan["statistics_keys"]) == 3 * 2
    for entry in plan["analysis"]["entries"]:
        assert {one["key"] for one in entry["inputs"]} <= set(plan["hidden_states"])
    assert "at least 144 inputs to extract, 6 layers to measure" in scopes.describe("statistics.miniature")


def test_healing_notices_what_was_taken_away(project, scopes, tmp_path):
    folder, results = (
        tmp_path / "results/plan/statistics.miniature",
        tmp_path / "results/statistics/miniature",
    )
    folder.mkdir(parents=True)
    results.mkdir(parents=True)
    plan = {"hidden_states": {}, "statistics_keys": [], "digest": scopes.analyses.plan_digest("miniature")}

    def put():
        (folder / "statistics.json").write_text(json.dumps(plan))
        (folder / "files.json").write_text(json.dumps(["a.csv"]))
        for path in (results / "summary.md", results / "a.csv", folder / "measured.txt"):
            path.write_text("x")

    put()
    targets = ["results/statistics/miniature/summary.md"]
    assert scopes._heal_analysis("miniature") == []
    (results / "a.csv").unlink()
    assert scopes._heal_analysis("miniature") == [
        "graftwork: planning statistics miniature again: 1 files of the analysis are missing"
    ]
    assert not (results / "summary.md").exists()
    assert not (folder / "statistics.json").exists()
    put()
    plan["digest"] = "of another day"
    put()
    assert "are others now" in scopes.heal(targets)[0]
    assert not (folder / "measured.txt").exists()
