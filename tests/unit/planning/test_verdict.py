"""What is said at the end of a run: every failed cell is counted, and no other."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from graftwork.core.records import write_record
from graftwork.planning.shards import Manifest
from graftwork.planning.verdict import GONE, LOGS, NOT_MADE, Outcome, Verdict, judge_analysis, judge_cells
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation, some_manifest

SWEEP = experiment({"hidden_layer": [-2, -4], "alpha": [0.0, 0.5]})
OTHER = experiment({"hidden_layer": [-6], "alpha": [0.5]})


@pytest.fixture
def situation(tmp_path, monkeypatch):
    """Two experiments with all conditioning, a plan of images, and no image."""
    monkeypatch.chdir(tmp_path)
    situation = Situation(tmp_path, SWEEP, OTHER)
    situation.extract()
    situation.condition()
    return situation


def plan(situation, failures=None):
    planned = situation.plan_images(failures)
    write_record(situation.scope().folder / "images.json", planned)
    return planned


def judge(situation, number=0, is_over=True):
    return judge_cells(situation.scope(), situation.designs[number], situation.store, is_over)


def cells_of(situation, planned, number=0):
    """Image -> its cells, of one design."""
    found = defaultdict(list)
    for cell in situation.designs[number].cells:
        found[planned.cells[cell.cell].image].append(cell.cell)
    return found


def test_nothing_was_planned(situation):
    assert judge(situation) is None
    assert judge_analysis(situation.scope(), "a") is None


def test_all_is_done(situation):
    plan(situation)
    situation.generate()
    outcome = judge(situation)
    assert (outcome.total, outcome.failures, outcome.left) == (len(situation.designs[0].cells), {}, 0)


def test_cells_are_counted_not_images_and_only_those_of_the_experiment(situation):
    planned = plan(situation)
    situation.generate()
    others = cells_of(situation, planned, 1)
    image, cells = max(cells_of(situation, planned).items(), key=lambda item: len(item[1]))
    assert len(cells) > 1
    assert image in others
    situation.store.image(image).unlink()
    shard = planned.shard_of[image]
    write_record(situation.scope().folder / f"images/{shard}.json", some_manifest(**{image: "why"}))
    outcome = judge(situation)
    assert outcome.failures == dict.fromkeys(cells, "why")
    assert outcome.logs == (f"logs/generate_images/all/{shard}.log",)
    assert judge(situation, 1).failures == dict.fromkeys(others[image], "why")
    # Another image of the first experiment is no concern of the second.
    mine = next(image for image in cells_of(situation, planned) if image not in others)
    situation.store.image(mine).unlink()
    failures = {image: "why", mine: "another"}
    write_record(situation.scope().folder / f"images/{shard}.json", some_manifest(**failures))
    assert set(judge(situation, 1).failures.values()) == {"why"}
    assert set(judge(situation).failures.values()) == {"why", "another"}


def test_a_cell_without_conditioning_has_its_reason_and_the_log_of_its_job(situation):
    recipe = situation.recipe(next(iter(situation.cells.values())))
    planned = plan(situation, {recipe: "its hidden states could not be extracted: OSError"})
    situation.generate()
    cells = {name for name, entry in planned.cells.items() if entry.recipe == recipe}
    for stage in ("hidden_states", "conditioning"):
        write_record(situation.scope().folder / f"{stage}/ab.json", some_manifest(**{recipe: "OSError"}))
    outcome = judge(situation)
    assert set(outcome.failures) == cells & {cell.cell for cell in situation.designs[0].cells}
    assert set(outcome.failures.values()) == {"its hidden states could not be extracted: OSError"}
    assert outcome.logs == ("logs/extract_hidden_states/all/ab.log", "logs/condition/all/ab.log")


def test_what_was_not_asked_for_has_not_failed_but_what_a_broken_job_left_out_has(situation):
    plan(situation)
    total = len(situation.designs[0].cells)
    assert (judge(situation).failures, judge(situation).left) == ({}, total)
    broken = judge(situation, is_over=False)
    assert (set(broken.failures.values()), len(broken.failures)) == ({NOT_MADE}, total)


def test_an_image_that_its_job_has_made_and_that_is_gone(situation):
    planned = plan(situation)
    situation.generate()
    image, cells = next(iter(cells_of(situation, planned).items()))
    write_record(situation.scope().folder / f"images/{planned.shard_of[image]}.json", some_manifest())
    situation.store.image(image).write_bytes(b"cut short")
    assert judge(situation).failures == dict.fromkeys(cells, GONE)


def test_failures_before_the_images_are_planned_count(situation):
    write_record(situation.scope().folder / "conditioning/ab.json", some_manifest(a="why", b="why"))
    outcome = judge(situation)
    assert (outcome.what, outcome.failures) == ("item", {"a": "why", "b": "why"})
    assert judge_analysis(situation.scope(), "a").failures == {"a": "why", "b": "why"}


CELLS = Path("results/small")


def lines(*outcomes, **rest):
    verdict = Verdict(outcomes, **{"made": [], "current": [], **rest})
    return verdict.is_good, verdict.lines()


def test_reasons_are_grouped_the_most_frequent_first():
    failures = {f"c{n}": "out of\n  luck" if n < 7 else f"reason {n}" for n in range(14)}
    is_good, said = lines(Outcome("small", "cell", CELLS, 40, failures), Outcome("b", "cell", CELLS, 9))
    assert not is_good
    assert said[:2] == ["graftwork: 14 of 40 cells of small failed:", "  7 x out of luck"]
    assert said[2:7] == [*(f"  1 x reason {n}" for n in range(7, 11)), "  and 3 more reasons"]
    assert said[7].startswith("  this run made no new image, grid or plot; the next run tries again")


def test_success_says_what_was_made_and_where_to_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = Manifest(("a", "b"), ("c",), {}, 1.0, {})
    write_record(Path("results/plan/all/images/ab.json"), manifest)
    Path("results/small/plots").mkdir(parents=True)
    Path("results/small/plots/y.png").touch()
    made = ["results/plan/all/images/ab.json", "results/small/grids/x.png", "results/small/plots"]
    current = [*made, "results/small/summary.md", "results/small/viewer", "results/other/summary.md"]
    is_good, said = lines(Outcome("small", "cell", CELLS, 6), made=made, current=current, log="full.log")
    assert is_good
    assert said == [
        "graftwork: all 6 cells of small are done; this run made 2 images, 1 grid page and 1 plot",
        "  look first at results/small/summary.md",
        "  then results/small/viewer/index.html",
        "  then results/small/grids",
        "  then results/small/plots",
        "  the whole log: full.log",
    ]
    _, both = lines(
        Outcome("small", "cell", CELLS, 6),
        Outcome("other", "cell", Path("results/other"), 4, left=3),
        current=current,
    )
    assert both == [
        "graftwork: 7 of 10 cells of small, other are done, the others were not asked for; this run made no new image, "
        "grid or plot",
        "  look first at results/small/summary.md",
        "  look first at results/other/summary.md",
    ]


def test_the_report_of_a_study_is_named_before_what_it_reads():
    current = [
        "results/studies/mine/report.md",
        "results/studies/mine/report.html",
        "results/small/cells.csv",
    ]
    made = "this run made no new image, grid or plot"
    assert lines(Outcome("small", "cell", CELLS, 6), current=current)[1] == [
        f"graftwork: all 6 cells of small are done; {made}",
        "  look first at results/studies/mine/report.html",
        "  then results/small/cells.csv",
    ]
    # A study that reads files of models alone.
    assert lines(current=current[:2])[1] == [
        "graftwork: nothing failed",
        "  look first at results/studies/mine/report.html",
    ]
    assert lines(current=["results/studies/mine/plots/report.html"])[1] == []


def test_failed_jobs_are_named_with_the_logs_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.log").touch()
    is_good, said = lines(failed_jobs={"draw_grid": ["gone.log", "there.log"], "tabulate": ["gone.log"]})
    assert not is_good
    assert said[0] == "graftwork: jobs failed: 2 draw grids and 1 tabulate; their errors are above"
    assert said[1] == "  log: there.log"


def test_analyses_are_counted_apart():
    analysis = Outcome("analysis a", "part", Path("results/statistics/a"))
    _, said = lines(Outcome("small", "cell", CELLS, 6), analysis)
    assert said == [
        "graftwork: all 6 cells of small are done; nothing of analysis a failed; this run made no new image, grid or plot"
    ]
    is_good, said = lines(
        replace(analysis, failures={"k": "why"}), Outcome("b", "cell", CELLS, 1, {"c": "why"})
    )
    assert not is_good
    assert said[:4] == [
        "graftwork: 1 part of analysis a failed:",
        "  1 x why",
        "graftwork: 1 of 1 cell of b failed:",
        "  1 x why",
    ]


def test_a_run_without_cells_says_nothing():
    assert lines() == (True, [])


def test_logs_are_those_of_the_rules():
    rules = "".join(path.read_text() for path in Path(__file__).resolve().parents[3].glob("rules/*.smk"))
    for folder in LOGS.values():
        assert f'"logs/{folder}/{{scope}}/{{shard}}.log"' in rules
