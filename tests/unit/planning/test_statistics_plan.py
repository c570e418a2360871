"""Plans of statistics, and what of them healing notices."""

import pytest

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.records import write_record
from graftwork.planning.shards import ConditioningShard, ExtractionShard, StatisticsShard, read_shard
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation, some_manifest

TAKEN = {"normalization": "whiten", "masking": "zero", "statistics": {"corpus": "world"}}


@pytest.fixture
def situation(tmp_path):
    folder = tmp_path / "config/corpora"
    folder.mkdir(parents=True)
    (folder / "world.yaml").write_text("prompts: [a hat, a red apple]\nreferences: [house, tree]\n")
    return Situation(
        tmp_path, experiment({"dimension_fix": ["none", "full"]}, {**TAKEN, "fix_corpus": "world"})
    )


def items(situation, plan):
    folder = situation.store.shards
    return [i for name in plan.statistics for i in read_shard(StatisticsShard, folder, name).statistics]


def measure(situation):
    """Pretends that every statistic was measured and read back."""
    verified = FactCache(situation.store.verified_statistics)
    for key in situation.plan_conditioning().statistics_keys:
        path = situation.store.statistics(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"statistics")
        verified.put(path, True, stat_signature(path))
    verified.save()


def test_inputs_of_a_corpus_are_extracted_with_those_of_cells(situation):
    plan = situation.plan_conditioning()
    # Text: two prompts and the corpus' two, one of which is the same; vision: those two, and two with two pictures,
    # one of which ("a red apple" with house) is a cell's.
    assert plan.missing_hidden_states == 3 + 2 + 4 - 1
    folder = situation.store.shards
    inputs = [i for name in plan.extraction for i in read_shard(ExtractionShard, folder, name).inputs]
    assert {i.path for i in inputs} == {None, "config/references/house.png", "config/references/tree.png"}
    assert len({i.key for i in inputs}) == len(inputs) == 8


def test_statistics_are_planned_once_and_with_a_covariance_where_it_is_needed(situation):
    found = items(situation, situation.plan_conditioning())
    # Masking and the fix's host share one file; whitening has its own, and the fix's donor.
    assert len(found) == len({i.key for i in found}) == 3
    assert sorted(str(i.parts.covariance_of) for i in found) == ["None", "None", "non_sink"]
    assert sorted(len(i.parts.inputs) for i in found) == [2, 2, 4]


def test_measured_statistics_are_not_planned_again(situation):
    measure(situation)
    plan = situation.plan_conditioning()
    assert plan.statistics == ()
    assert plan.missing_statistics == 0
    assert len(plan.statistics_keys) == 3


def test_a_file_whose_record_is_lost_is_read_again(situation):
    measure(situation)
    situation.store.verified_statistics.unlink()
    # What was pretended cannot be read back as statistics.
    assert situation.plan_conditioning().missing_statistics == 3


def test_cells_without_statistics_plan_none(tmp_path):
    plan = Situation(tmp_path).plan_conditioning()
    assert plan.statistics == plan.statistics_keys == ()


def test_a_recipe_in_a_shard_names_what_is_planned(situation):
    plan = situation.plan_conditioning()
    recipes = [
        r
        for name in plan.conditioning
        for r in read_shard(ConditioningShard, situation.store.shards, name).recipes.values()
    ]
    named = set()
    for recipe in recipes:
        if recipe.sources:
            for choice in recipe.stages.values():
                named |= {one.key for one in choice.corpus_statistics.values()}
    assert named == set(plan.statistics_keys)


@pytest.fixture
def scope(situation, tmp_path, monkeypatch):
    """The situation as a scope of cells, with the plan that led to it."""
    monkeypatch.chdir(tmp_path)
    situation.extract()
    measure(situation)
    made = situation.scope()
    write_record(made.folder / "conditioning.json", situation.plan_conditioning())
    situation.condition()
    situation.generate()
    write_record(made.folder / "images.json", situation.plan_images())
    return made


@pytest.mark.parametrize("change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"cut")])
def test_healing_notices_a_file_that_is_gone_or_changed(situation, scope, change):
    plan = scope.plan()
    assert scope.damage(plan) is None
    change(situation.store.statistics(plan.statistics_keys[0]))
    assert scope.damage(plan) == "1 files of statistics are missing or changed"
    assert situation.plan_conditioning().missing_statistics == 1


def test_manifests_of_statistics_are_forgotten_and_their_failures_retried(scope):
    manifest = scope.folder / "statistics" / "0123456789abcdef.json"
    write_record(manifest, some_manifest(a="why"))
    assert scope.damage(scope.plan()) == "1 items failed last time"
    scope.forget(inputs_changed=False)
    assert not manifest.exists()
