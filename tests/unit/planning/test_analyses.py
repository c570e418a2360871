"""Analyses as scopes: which targets plan them, what they plan, and what healing notices."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.core.records import write_record
from graftwork.planning.analyses import plan_analysis
from graftwork.planning.scopes import Scopes, load_project
from graftwork.store.layout import Store
from tests.unit.planning.fake_store import some_manifest

DEFAULTS = {"defaults": {"generator": "miniature-z-image", "height": 64, "width": 64}}
CONFIG = {"experiments": ["demo"], "statistics": ["miniature"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    monkeypatch.chdir(tmp_path)
    return load_project({"family": "miniature", **CONFIG, **DEFAULTS})


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
    assert [scope.name for scope in scopes.of_targets(targets)] == expected


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("results/dem/cells.csv", ["'dem' is no file in config/experiments/", "did you mean 'demo'"]),
        ("results/dem/design.json", ["results/dem/design.json: 'dem'"]),
        ("results/plan/demoo/verdict.txt", ["no scope 'demoo'", "did you mean 'demo'"]),
        ("results/statistics/miniatur/summary.md", ["no analysis 'miniatur'", "did you mean 'miniature'"]),
    ],
)
def test_a_target_of_an_experiment_that_there_is_not_is_refused(scopes, target, parts):
    for act in (scopes.describe, scopes.heal):
        with pytest.raises(DesignError) as caught:
            act([target])
        for part in parts:
            assert part in str(caught.value)


def test_an_experiment_file_of_the_wrong_ending_is_named_with_the_remedy(scopes, tmp_path):
    (tmp_path / "config/experiments/mine.yml").write_text("base: {}\n")
    with pytest.raises(
        DesignError, match=r"config/experiments/mine\.yml is not read.*rename it to mine\.yaml"
    ):
        scopes.of_targets(["results/mine/cells.csv"])
    with pytest.raises(DesignError, match=r"config/config\.yaml: experiments: .*rename it to mine\.yaml"):
        load_project({**CONFIG, "experiments": ["mine"]})


def test_layers_of_one_input_are_one_extraction(project, scopes):
    settings, store = project.settings, Store(Path("results/store"))
    plan = plan_analysis(project.analysis("miniature"), settings.hardware, settings.sharding, store)
    corpus = plan.analysis.corpus
    assert len(plan.hidden_states) == corpus.prompts * (2 + corpus.references)
    assert {len(layers) for layers in plan.hidden_states.values()} == {2}
    assert len(plan.statistics_keys) == 3 * 2
    for entry in plan.analysis.entries:
        assert {one.key for one in entry.inputs} <= set(plan.hidden_states)
    said = scopes.get("statistics.miniature").describe()
    assert "at least 144 inputs to extract, 6 layers to measure" in said


def test_healing_notices_what_was_taken_away(project, scopes, tmp_path):
    folder, results = (
        tmp_path / "results/plan/statistics.miniature",
        tmp_path / "results/statistics/miniature",
    )
    folder.mkdir(parents=True)
    results.mkdir(parents=True)
    settings, store = project.settings, Store(Path("results/store"))
    whole = plan_analysis(project.analysis("miniature"), settings.hardware, settings.sharding, store)
    plan = replace(
        whole, hidden_states={}, statistics_keys=(), digest=scopes.get("statistics.miniature").digest
    )

    def put():
        write_record(folder / "statistics.json", plan)
        (folder / "files.json").write_text(json.dumps(["a.csv"]))
        for path in (results / "summary.md", results / "a.csv", folder / "measured.txt"):
            path.write_text("x")

    put()
    targets = ["results/statistics/miniature/summary.md"]
    assert scopes.get("statistics.miniature").heal() is None
    (results / "a.csv").unlink()
    assert scopes.get("statistics.miniature").heal() == "1 files of the analysis are missing"
    assert not (results / "summary.md").exists()
    assert not (folder / "statistics.json").exists()
    put()
    plan = replace(plan, digest="of another day")
    put()
    assert scopes.heal(targets) == [
        "graftwork: planning statistics miniature again: the analysis, settings or code are others now"
    ]
    assert not (folder / "measured.txt").exists()


def test_what_a_run_is_asked_for_is_made_again_with_its_plan(scopes, tmp_path):
    """Where a plan is to be made again, a grid that is there would end a run for it alone at once, and well."""
    results = tmp_path / "results/demo"
    asked = ["grids/a.png", "summary.md", "no_ops.csv", "plots", "viewer"]
    kept = ["grids/other.png", "notes.md", "pictures/c.png", "mine/viewer/index.html"]
    derived = [
        "cells.csv",
        "cells_full.csv",
        "constants.csv",
        "scores.csv",
        "attributes.csv",
        "export/index.csv",
    ]
    for name in [*asked[:-2], *kept, *derived, "plots/b.png", "viewer/data/x.js"]:
        path = results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    scopes.heal([f"results/demo/{name}" for name in (*asked, "notes.md", "pictures/c.png")])
    left = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    # No job wrote these tables: they are moved aside.
    aside = {f"{name}.edited.csv" for name in ("cells", "cells_full", "scores")}
    assert left == set(kept) | aside
    assert not (results / "viewer").exists()
    assert not (results / "plots").exists()


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ([], ["demo"]),
        (["export"], ["demo"]),
        (["results/demo/grids/a.png", "results/demo/cells.csv"], ["demo"]),
        (["results/open_background/viewer"], ["open_background"]),
        (["results/plan/transforms/images.json", "results/demo/scores.csv"], ["demo", "transforms"]),
        (["results/statistics/miniature/summary.md"], ["analysis miniature"]),
        (["statistics"], ["analysis miniature"]),
        (["train_miniature"], []),
    ],
)
def test_what_targets_are_judged_by(scopes, targets, names):
    """Every experiment has a failure on record: which of them a run with these targets ends with."""
    for scope in scopes.names():
        write_record(scopes.get(scope).folder / "hidden_states/ab.json", some_manifest(a="why"))
    found = scopes.judge(targets)
    expected = names + (["analysis miniature"] if targets == [] else [])
    assert sorted(outcome.name for outcome in found) == sorted(expected)
    assert all(outcome.failures == {"a": "why"} for outcome in found)


def test_an_experiment_is_not_judged_by_another_one_of_its_scope(project):
    scopes = Scopes(
        load_project({"family": "miniature", **CONFIG, **DEFAULTS, "experiments": ["demo", "transforms"]})
    )
    write_record(scopes.get("all").folder / "hidden_states/ab.json", some_manifest(a="why"))
    assert [outcome.name for outcome in scopes.judge(["results/transforms/cells.csv"])] == ["transforms"]
    assert [outcome.name for outcome in scopes.judge(["results/plan/all/verdict.txt"])] == [
        "demo",
        "transforms",
    ]
