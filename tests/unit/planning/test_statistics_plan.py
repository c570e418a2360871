"""Plans of statistics, and what of them healing notices."""

import json

import pytest

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.planning.healing import find_damage, forget
from graftwork.planning.keys import Keys
from graftwork.planning.plan import merged
from graftwork.planning.shards import read_shard
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation

TAKEN = {"normalization": "whiten", "masking": "zero", "statistics": {"corpus": "world"}}


@pytest.fixture
def situation(tmp_path):
    folder = tmp_path / "config/corpora"
    folder.mkdir(parents=True)
    (folder / "world.yaml").write_text("prompts: [a hat, a red apple]\nreferences: [house, tree]\n")
    return Situation(
        tmp_path, experiment({"dimension_fix": ["none", "full"]}, {**TAKEN, "fix_corpus": "world"})
    )


def keys(situation):
    return Keys(merged(situation.designs, "models"), situation.hardware, merged(situation.designs, "corpora"))


def items(situation, plan):
    return [i for name in plan["statistics"] for i in read_shard(situation.store.shards, name)["statistics"]]


def measure(situation):
    """Pretends that every statistic was measured and read back."""
    verified = FactCache(situation.store.verified_statistics)
    for key in situation.plan_conditioning()["statistics_keys"]:
        path = situation.store.statistics(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"statistics")
        verified.put(path, True, stat_signature(path))
    verified.save()


def test_inputs_of_a_corpus_are_extracted_with_those_of_cells(situation):
    plan = situation.plan_conditioning()
    # Text: two prompts and the corpus' two, one of which is the same; vision: those two, and two with two pictures,
    # one of which ("a red apple" with house) is a cell's.
    assert plan["missing_hidden_states"] == 3 + 2 + 4 - 1
    inputs = [i for name in plan["extraction"] for i in read_shard(situation.store.shards, name)["inputs"]]
    assert {i["path"] for i in inputs} == {None, "config/references/house.png", "config/references/tree.png"}
    assert len({i["key"] for i in inputs}) == len(inputs) == 8


def test_statistics_are_planned_once_and_with_a_covariance_where_it_is_needed(situation):
    found = items(situation, situation.plan_conditioning())
    # Masking and the fix's host share one file; whitening has its own, and the fix's donor.
    assert len(found) == len({i["key"] for i in found}) == 3
    assert sorted(str(i["covariance_of"]) for i in found) == ["None", "None", "non_sink"]
    assert sorted(len(i["inputs"]) for i in found) == [2, 2, 4]


def test_measured_statistics_are_not_planned_again(situation):
    measure(situation)
    plan = situation.plan_conditioning()
    assert plan["statistics"] == []
    assert plan["missing_statistics"] == 0
    assert len(plan["statistics_keys"]) == 3


def test_a_file_whose_record_is_lost_is_read_again(situation):
    measure(situation)
    situation.store.verified_statistics.unlink()
    # What was pretended cannot be read back as statistics.
    assert situation.plan_conditioning()["missing_statistics"] == 3


def test_cells_without_statistics_plan_none(tmp_path):
    plan = Situation(tmp_path).plan_conditioning()
    assert plan["statistics"] == plan["statistics_keys"] == []


def test_a_recipe_in_a_shard_names_what_is_planned(situation):
    plan = situation.plan_conditioning()
    recipes = [
        r
        for name in plan["conditioning"]
        for r in read_shard(situation.store.shards, name)["recipes"].values()
    ]
    named = set()
    for recipe in recipes:
        if "sources" in recipe:
            for stage in ("masking", "normalization"):
                named.add(recipe[stage]["parameters"]["statistics"]["key"])
            pair = recipe["dimension_fix"]["parameters"].get("fix_corpus", {})
            named |= {side["key"] for side in pair.values()}
    assert named == set(plan["statistics_keys"])


@pytest.mark.parametrize("change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"cut")])
def test_healing_notices_a_file_that_is_gone_or_changed(situation, tmp_path, change):
    situation.extract()
    measure(situation)
    plan, folder = situation.plan_conditioning(), tmp_path / "plan"
    folder.mkdir()
    (folder / "conditioning.json").write_text(json.dumps(plan))
    (folder / "images.json").write_text(json.dumps({"cells": {}}))
    assert find_damage(folder, situation.store) is None
    change(situation.store.statistics(plan["statistics_keys"][0]))
    assert find_damage(folder, situation.store) == "1 files of statistics are missing or changed"
    assert situation.plan_conditioning()["missing_statistics"] == 1


def test_manifests_of_statistics_are_forgotten_and_their_failures_retried(situation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    situation.extract()
    measure(situation)
    folder = tmp_path / "plan"
    (folder / "statistics").mkdir(parents=True)
    (folder / "conditioning.json").write_text(json.dumps(situation.plan_conditioning()))
    (folder / "images.json").write_text(json.dumps({"cells": {}}))
    manifest = folder / "statistics" / "0123456789abcdef.json"
    manifest.write_text(json.dumps({"failures": {"a": "why"}}))
    assert find_damage(folder, situation.store) == "1 items failed last time"
    forget(folder, [])
    assert not manifest.exists()
