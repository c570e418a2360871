"""What makes a plan come back, and what does not."""

import json

import pytest

from graftwork.planning.healing import find_damage, forget
from tests.unit.planning.fake_store import Situation


@pytest.fixture
def planned(tmp_path):
    """A finished store with the plan that led to it."""
    situation = Situation(tmp_path)
    situation.extract()
    conditioning = situation.plan_conditioning()
    situation.condition()
    images = situation.plan_images()
    situation.generate()
    situation.plan = tmp_path / "plan" / "all"
    situation.write = lambda name, content: _write(situation.plan / name, content)
    situation.write("conditioning.json", conditioning)
    situation.write("images.json", images)
    for stage in ("hidden_states", "conditioning", "images"):
        situation.write(f"{stage}/0123456789abcdef.json", {"failures": {}})
    situation.damage = lambda: find_damage(situation.plan, situation.store)
    return situation


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_plan_that_holds(planned):
    assert planned.damage() is None
    planned.drop_conditioning()
    assert planned.damage() is None


def test_no_plan_is_no_damage(planned):
    (planned.plan / "conditioning.json").unlink()
    assert planned.damage() is None


def test_an_image_that_is_gone_or_cut_short(planned):
    cells = list(planned.cells.values())
    baseline, other = (next(c for c in cells if c["alpha"] == alpha) for alpha in (0.0, 0.5))
    planned.store.image(planned.image(baseline)).unlink()
    assert planned.damage() == "1 images are missing or incomplete"
    path = planned.store.image(planned.image(other))
    path.write_bytes(path.read_bytes()[:-1])
    assert planned.damage() == "2 images are missing or incomplete"


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"hidden"), lambda p: p.write_bytes(b"")]
)
def test_hidden_states_that_are_gone_or_changed(planned, change):
    key = next(iter(planned.plan_conditioning()["hidden_states"]))
    change(planned.store.hidden_states(key))
    assert planned.damage() == "1 files of hidden states are missing or changed"


def test_a_lost_record_of_what_was_read_back(planned):
    planned.store.verified.unlink()
    assert "hidden states" in planned.damage()


def test_an_interrupted_planning(planned):
    (planned.plan / "images.json").unlink()
    assert planned.damage() == "the last planning was interrupted"


@pytest.mark.parametrize("stage", ["hidden_states", "conditioning", "images"])
def test_failures_are_tried_again(planned, stage):
    planned.write(f"{stage}/fedcba9876543210.json", {"failures": {"a": "why", "b": "why"}})
    assert planned.damage() == "2 items failed last time"


def test_cells_with_an_error_are_tried_again(planned):
    images = json.loads((planned.plan / "images.json").read_text())
    first = next(iter(images["cells"].values()))
    first["error"] = "too long"
    planned.write("images.json", images)
    assert planned.damage() == "1 items failed last time"


@pytest.mark.parametrize("name", ["conditioning.json", "images.json", "images/0123456789abcdef.json"])
def test_a_damaged_file_of_the_plan_raises_nothing(planned, name):
    (planned.plan / name).write_text('{"cells": ')
    planned.damage()


def test_forgetting_removes_the_plan_and_tables_and_leaves_the_store(planned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for experiment in ("one", "other"):
        _write(tmp_path / "results" / experiment / "cells.csv", "")
    _write(planned.plan / "verdict.txt", "")
    stored = sorted(planned.store.root.rglob("*"))
    forget(planned.plan, ["one"])
    assert [path for path in planned.plan.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "results/one/cells.csv").exists()
    assert (tmp_path / "results/other/cells.csv").exists()
    assert sorted(planned.store.root.rglob("*")) == stored
    forget(planned.plan, ["one"])
