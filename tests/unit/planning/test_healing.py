"""What makes a plan come back, and what does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from graftwork.core.derived import write_derived
from graftwork.core.records import read_record, write_record
from graftwork.planning.plan import ImagePlan
from tests.unit.planning.fake_store import Situation, some_manifest


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A finished store with the plan that led to it."""
    situation = Situation(tmp_path)
    situation.extract()
    conditioning = situation.plan_conditioning()
    situation.condition()
    images = situation.plan_images()
    situation.generate()
    monkeypatch.chdir(tmp_path)
    scope = situation.scope()
    situation.plan = scope.folder
    situation.write = lambda name, record: write_record(situation.plan / name, record)
    situation.write("conditioning.json", replace(conditioning, digest=scope.digest))
    situation.write("images.json", images)
    for stage in ("hidden_states", "conditioning", "images"):
        situation.write(f"{stage}/0123456789abcdef.json", some_manifest())
    situation.damage = lambda: scope.damage(scope.plan())
    situation.heal = lambda: situation.scope().heal()
    return situation


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_plan_that_holds(planned):
    assert planned.damage() is None
    planned.drop_conditioning()
    assert planned.damage() is None


def test_no_plan_is_no_damage(planned):
    (planned.plan / "conditioning.json").unlink()
    assert planned.heal() is None


@pytest.mark.parametrize("text", ["", '{"digest": "of an earlier version"}'])
def test_a_plan_of_another_version_is_made_again(planned, tmp_path, text):
    _touch(tmp_path / "results/e0/design.json")
    (planned.plan / "conditioning.json").write_text(text)
    assert planned.heal() is None
    assert not (planned.plan / "images.json").exists()
    assert not (tmp_path / "results/e0/design.json").exists()


def test_a_plan_of_other_settings_is_made_again(planned):
    assert planned.heal() is None
    planned.hardware.generation.batch_shape += 1
    assert planned.heal() == "experiments, settings or code are others now"
    assert not (planned.plan / "conditioning.json").exists()


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
    key = next(iter(planned.plan_conditioning().hidden_states))
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
    planned.write(f"{stage}/fedcba9876543210.json", some_manifest(a="why", b="why"))
    assert planned.damage() == "2 items failed last time"


def test_cells_with_an_error_are_tried_again(planned):
    images = read_record(ImagePlan, planned.plan / "images.json")
    name, first = next(iter(images.cells.items()))
    cells = {**images.cells, name: replace(first, error="too long")}
    planned.write("images.json", replace(images, cells=cells))
    assert planned.damage() == "1 items failed last time"


@pytest.mark.parametrize("name", ["conditioning.json", "images.json", "images/0123456789abcdef.json"])
def test_a_damaged_file_of_the_plan_raises_nothing(planned, name):
    (planned.plan / name).write_text('{"cells": ')
    planned.heal()


def test_forgetting_removes_the_plan_and_tables_and_leaves_the_store(planned, tmp_path):
    for experiment in ("e0", "other"):
        _touch(tmp_path / "results" / experiment / "cells.csv")
    _touch(planned.plan / "verdict.txt")
    stored = sorted(planned.store.root.rglob("*"))
    planned.scope().forget(inputs_changed=False)
    assert [path for path in planned.plan.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "results/e0/cells.csv").exists()
    assert (tmp_path / "results/other/cells.csv").exists()
    assert sorted(planned.store.root.rglob("*")) == stored
    planned.scope().forget(inputs_changed=False)


@pytest.mark.parametrize("name", ["conditioning.json", "images.json"])
@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"shards": 3, "cells": {}, "shard_of": {}}', "\0\0"])
def test_a_plan_that_says_something_else_is_made_again(planned, name, text):
    (planned.plan / name).write_text(text)
    planned.heal()
    assert not (planned.plan / "conditioning.json").exists()
    assert not (planned.plan / "images.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"made": 1}'])
@pytest.mark.parametrize("stage", ["hidden_states", "statistics", "conditioning", "images"])
def test_a_manifest_that_cannot_be_read_is_made_again(planned, stage, text):
    path = planned.plan / stage / "0123456789abcdef.json"
    _touch(path)
    path.write_text(text)
    assert planned.heal() == "1 manifests cannot be read"
    assert not path.exists()


def _unfinished(planned):
    """The plan before its jobs, with a shard of each kind that is left to do."""
    for file in planned.plan.glob("*/*.json"):
        file.unlink()
    return planned.scope().plan().conditioning[0]


@pytest.mark.parametrize("text", ["", "{}", None, "another"])
def test_a_frozen_shard_that_is_not_what_its_name_says(planned, text):
    name = _unfinished(planned)
    path = planned.store.shards / f"{name}.json"
    if text is None:
        path.unlink()
    elif text == "another":
        other = planned.scope().plan().conditioning[1]
        path.write_bytes((planned.store.shards / f"{other}.json").read_bytes())
    else:
        path.write_text(text)
    assert planned.heal() == "1 frozen shards are missing or damaged"
    assert not (planned.plan / "conditioning.json").exists()


def test_shards_of_a_killed_run_are_no_damage(planned):
    _unfinished(planned)
    assert planned.heal() is None


def test_a_plan_of_images_of_other_cells(planned):
    images = read_record(ImagePlan, planned.plan / "images.json")
    cells = dict(list(images.cells.items())[1:])
    planned.write("images.json", replace(images, cells=cells))
    assert planned.heal() == "the plan of images is of other cells"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"work": "much", "seconds": 1}'])
def test_a_rate_that_cannot_be_read_stops_no_dry_run(planned, text):
    _touch(planned.store.rates / "a.json")
    (planned.store.rates / "a.json").write_text(text)
    next(planned.store.root.glob("images/*/*.png")).unlink()
    assert "time and disk: unknown" in planned.scope().describe()


def test_what_people_did_to_tables_is_set_aside(planned):
    folder = Path("results/e0")
    for name in ("design.json", "cells.csv", "means.csv", "plain.csv"):
        write_derived(folder / name, f"what {name} says")
    (folder / "ratings.csv").write_text("of a person")
    assert planned.scope().set_edited_aside() == {}
    (folder / "cells.csv").write_text("edited")
    (folder / "means.csv").write_text("edited too")
    (folder / "scores.csv").write_text("not from here")
    assert planned.scope().set_edited_aside() == {
        folder / f"{name}.csv": folder / f"{name}.edited.csv" for name in ("cells", "scores", "means")
    }
    assert (folder / "cells.edited.csv").read_text() == "edited"
    assert not (folder / "cells.csv").exists()
    assert (folder / "plain.csv").exists()
    assert (folder / "ratings.csv").read_text() == "of a person"
    write_derived(folder / "cells.csv", "what cells.csv says")
    assert planned.scope().set_edited_aside() == {}
