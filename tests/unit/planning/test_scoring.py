"""Scoring from plan to table without the workflow manager: what is asked, what is kept, and what is said of failures."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graftwork.core.fact_cache import FactCache
from graftwork.core.png import encode_png
from graftwork.core.records import write_record
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs import scoring as job
from graftwork.jobs.planned import ChangedSincePlanning
from graftwork.models.catalog import identity_of
from graftwork.planning.cells import CellsScope
from graftwork.planning.plan import ImagePlan, PlanEntry
from graftwork.planning.scope import Scope
from graftwork.planning.scoring import plan_scoring, read_answers, scoring_digest
from graftwork.planning.shards import ScoringShard, read_shard
from graftwork.planning.verdict import Verdict, judge_scores
from graftwork.scores.questions import NOT_MEASURED, ChosenScorer, Scoring
from graftwork.scores.table import Besides, score_rows
from graftwork.store.layout import Store
from tests.small_scorers import build_small_scorers
from tests.unit.scores.scored import CAPTIONS, SHOWN, make_design, save_references

LOG = logging.getLogger("test")
HARDWARE, SHARDING = Hardware(), Sharding()
NAMES = ["reference", "clip_text"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    build_small_scorers(folder)
    return folder


class Scored:
    """An experiment with an image for each cell, and the jobs that score it."""

    def __init__(self, folder: Path, models: Path):
        self.store = Store(folder / "results" / "store")
        self.folder = folder
        chosen = {}
        for role, family in (("semantic", "siglip"), ("structural", "dinov2"), ("clip", "clip")):
            entry = {"family": family, "path": str(models / family)}
            identity = identity_of("scorer", family, entry, models / family, FactCache(folder / "facts.json"))
            chosen[role] = ChosenScorer(family, entry, identity)
        self.scoring = Scoring(tuple(NAMES), chosen)
        self.design = make_design(
            {"full": CAPTIONS["full"]}, {"shown": SHOWN}, seeds=(1, 2), alphas=(0.5, 1.0)
        )
        self.design.references = {"shown": str(folder / "references" / "shown.png")}
        save_references({"shown": SHOWN}, folder)
        sha = job.hashlib.sha256((folder / "references" / "shown.png").read_bytes()).hexdigest()
        self.design.references = {sha: self.design.references["shown"]}
        self.design.cells = [
            replace(cell, parameters={**cell.parameters, "reference": sha if cell.role == "cell" else None})
            for cell in self.design.cells
        ]
        self.images = {}
        for number, cell in enumerate(self.design.cells):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            self.paint(cell.cell, np.kron(pixels, np.ones((8, 8, 1), dtype=np.uint8)))

    def paint(self, cell: str, pixels: np.ndarray) -> Path:
        key = f"{abs(hash(cell)):064d}"[:64]
        self.images[cell] = key
        path = self.store.image(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels))
        return path

    def plan(self, hardware=HARDWARE):
        entries = {cell: PlanEntry("recipe", key) for cell, key in self.images.items()}
        plan = ImagePlan((), entries, {})
        return plan_scoring([self.design], {"test": self.scoring}, plan, hardware, SHARDING, self.store)

    def run(self, plan):
        records = [
            job.measure_images(read_shard(ScoringShard, self.store.shards, name), self.store, LOG)
            for name in plan.shards
        ]
        return sum(len(record.made) for record in records), {
            key: why for record in records for key, why in record.failures.items()
        }

    def rows(self, failures=None):
        answers = read_answers(self.scoring, HARDWARE, self.store, failures or {})
        images = {cell: str(self.store.image(key)) for cell, key in self.images.items()}
        besides = Besides(self.design.baselines, self.store.values, answers)
        return score_rows(self.design.cells, images, self.design.references, NAMES, Path(), besides)


@pytest.fixture
def scope(tmp_path, models):
    return Scored(tmp_path, models)


def test_everything_is_asked_once(scope):
    """4 cells and 2 baselines. Of each cell: 3 comparisons by each of two models, one of which is of the baseline and shared by
    two alphas. Of every image: one by CLIP."""
    plan = scope.plan()
    assert len(plan.keys["test"]) == len(plan.shard_of) == 2 * (4 + 2 + 4) + 6
    assert len(plan.shards) == 1, "one job asks all models where they would wait for one device"
    assert scope.run(plan) == (26, {})
    rows = scope.rows()
    for cell, row in zip(scope.design.cells, rows, strict=True):
        assert row["unscored"] is None
        assert -1 <= row["clip_text_cosine"] <= 1
        assert row["clip_text_prompt_truncated"] == 1
        for column in ("semantic_reference", "structural_reference_text_alone", "semantic_baseline"):
            assert (row.get(column) is not None) == (cell.role == "cell")
    # The same image at both ends is as like as can be; the text alone is that of the baseline's image.
    again = scope.plan()
    assert (again.shards, again.keys) == ((), plan.keys)
    assert scope.run(again) == (0, {})


def test_with_more_gpus_each_scorer_has_a_job(scope):
    plan = scope.plan(Hardware.model_validate({"gpus": 2}))
    shards = [read_shard(ScoringShard, scope.store.shards, name) for name in plan.shards]
    assert len({part.scorer.name for shard in shards for part in shard.parts}) == 3
    assert all(len(shard.parts) == 1 for shard in shards)
    assert plan.keys == scope.plan().keys
    assert scope.run(plan) == (26, {})


def test_one_more_image_is_one_more_measurement(scope):
    scope.run(scope.plan())
    scope.paint("cell 0", np.full((64, 64, 3), 77, dtype=np.uint8))
    plan = scope.plan()
    # Its own comparisons with reference and baseline by two models, and one by CLIP; what is of the baseline is known.
    assert scope.run(plan) == (2 * 2 + 1, {})
    # An image under another name is known by its bytes.
    scope.images["cell 1"] = scope.images["cell 0"]
    assert len(scope.plan().shard_of) == 2 * (
        scope.design.baselines["cell 1"] != scope.design.baselines["cell 0"]
    )


def test_another_scorer_or_arithmetic_is_another_value(scope):
    scope.run(scope.plan())
    other = ChosenScorer("x", scope.scoring.scorers["clip"].entry, "content:other")
    before = scoring_digest({"test": scope.scoring}, HARDWARE)
    scope.scoring = replace(scope.scoring, scorers={**scope.scoring.scorers, "clip": other})
    assert len(scope.plan().shard_of) == 6
    assert scoring_digest({"test": scope.scoring}, HARDWARE) != before
    threads = Hardware.model_validate({"scoring": {"cpu_threads": 1}})
    assert scoring_digest({"test": scope.scoring}, threads) != scoring_digest(
        {"test": scope.scoring}, HARDWARE
    )


def test_a_job_that_is_killed_loses_what_it_was_measuring(scope, monkeypatch):
    monkeypatch.setattr(job, "_BATCH", 2)
    measure, count = job._measure, []

    def until_killed(scorer, item):
        count.append(item.key)
        if len(count) == 6:
            raise KeyboardInterrupt
        return measure(scorer, item)

    monkeypatch.setattr(job, "_measure", until_killed)
    plan = scope.plan()
    with pytest.raises(KeyboardInterrupt):
        scope.run(plan)
    monkeypatch.setattr(job, "_measure", measure)
    left = len(scope.plan().shard_of)
    assert left == 26 - 4
    assert scope.run(scope.plan()) == (22, {})


def test_an_image_that_cannot_be_measured_is_unscored_with_its_reason(scope):
    plan = scope.plan()
    path = scope.store.image(scope.images["cell 0"])
    sound = path.read_bytes()
    path.write_bytes(encode_png(np.zeros((64, 64, 3), dtype=np.uint8)))
    made, failures = scope.run(plan)
    assert made == 26 - 5
    assert len(failures) == 5
    assert all("has changed since this run was planned" in why for why in failures.values())
    path.write_bytes(sound)
    rows = {row["cell"]: row for row in scope.rows(failures)}
    assert "has changed" in rows["cell 0"]["unscored"]
    assert rows["cell 0"]["clip_text_cosine"] is None
    assert rows["cell 1"]["unscored"] is None
    # Without a manifest that says why, the job has not ended well.
    assert {row["cell"]: row for row in scope.rows()}["cell 0"]["unscored"] == NOT_MEASURED
    assert scope.run(scope.plan()) == (5, {})


def test_another_model_than_planned_stores_nothing(scope, tmp_path):
    entry = {"family": "clip", "path": scope.scoring.scorers["clip"].entry["path"]}
    other = ChosenScorer("clip", entry, "content:other")
    scope.scoring = replace(scope.scoring, scores=("clip_text",), scorers={"clip": other})
    with pytest.raises(ChangedSincePlanning, match="scorer 'clip'"):
        scope.run(scope.plan())
    assert not scope.store.values.exists()


class PlannedScope(CellsScope):
    """A scope of which only what scorers were asked is looked at."""

    _designs = ()

    def __init__(self, folder: Path, store: Store):
        self.name, self.folder, self._store = "all", folder, store
        self.experiments, self.has_forgotten = ["test"], False
        self.asked = ""

    def _scoring_digest(self):
        return self.asked


@pytest.fixture
def planned(scope, tmp_path, monkeypatch):
    """A scope whose plan and manifests are in files, with one comparison that has failed."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/plan/all"
    path = scope.store.image(scope.images["cell 0"])
    sound = path.read_bytes()

    def run(is_sound):
        path.write_bytes(sound)
        plan = scope.plan()
        path.write_bytes(sound if is_sound else encode_png(np.zeros((64, 64, 3), dtype=np.uint8)))
        planned.asked = plan.digest
        write_record(folder / "scores.json", plan)
        for name in plan.shards:
            shard = read_shard(ScoringShard, scope.store.shards, name)
            job.measure_images(shard, scope.store, LOG).write(folder / "scores" / f"{name}.json")

    planned = PlannedScope(folder, scope.store)
    return planned, run


def test_the_run_is_judged_by_what_failed(planned):
    scope, run = planned
    run(is_sound=False)
    outcome = judge_scores(scope, "test")
    assert (outcome.name, outcome.what, outcome.total, len(outcome.failures)) == (
        "scores of test",
        "comparison",
        26,
        5,
    )
    verdict = Verdict([outcome], made=[], current=[])
    assert not verdict.is_good
    assert "5 of 26 comparisons of scores of test failed" in "\n".join(verdict.lines())
    assert judge_scores(scope, "other") is None


def test_what_failed_or_is_gone_is_planned_again(planned, monkeypatch):
    scope, run = planned
    monkeypatch.setattr(Scope, "heal", lambda self: None)
    run(is_sound=False)
    table = Path("results/test/scores.csv")
    table.parent.mkdir()
    table.touch()
    assert scope.heal() == "5 comparisons by scorers failed last time"
    assert scope.has_forgotten
    assert not table.exists()
    assert not list(scope.folder.rglob("*.json"))
    assert scope.heal() is None
    run(is_sound=True)
    assert (scope.heal(), judge_scores(scope, "test")) == (None, None)
    (file, *_) = sorted(scope._store.values.glob("*.jsonl"))
    file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines()[2:]))
    assert scope.heal() == "2 values that scorers gave are missing"
    run(is_sound=True)
    scope.asked = "another scorer"
    assert scope.heal() == "what scorers are asked, their settings or their code are others now"
