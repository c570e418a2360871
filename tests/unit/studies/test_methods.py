"""Studies of several methods: what is said of planted fidelity and likeness, and what is said where nothing was measured."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftwork.core.records import write_record
from graftwork.core.tables import write_table
from graftwork.store.layout import Store
from graftwork.studies import baselines, generalize
from graftwork.studies.material import Material
from graftwork.studies.strengths import pair_of, point_of
from tests.unit.design.designs import expand, experiment
from tests.unit.design.test_reference_controls import models

PROMPTS = [{"name": name, "text": f"a {name}"} for name in ("boat", "cat", "dog", "elk", "fox", "gnu")]


def material_of(folder: Path, study, raw, measure, family="miniature") -> Material:
    """Material of an experiment whose images have the (fidelity, likeness) that `measure(cell)` says.

    The text alone has fidelity 1, and likeness 0.1 to every reference.
    """
    shown = folder / "config" / "references"
    shown.mkdir(parents=True, exist_ok=True)
    for name, grey in (("barn", 10), ("lake", 20)):
        Image.fromarray(np.full((64, 80, 3), grey, dtype=np.uint8)).save(shown / f"{name}.png")
    design = expand(folder, raw, study.EXPERIMENT, models=models())
    results = folder / "results" / study.EXPERIMENT
    write_record(results / "design.json", design.written)
    rows = []
    for number, cell in enumerate(design.cells):
        fidelity, likeness = (1.0, None) if cell.role == "baseline" else measure(cell)
        # Prompts differ a little, so that intervals have a width.
        shift = 0.01 * (number % 3)
        rows.append(
            {
                "cell": cell.cell,
                "role": cell.role,
                "status": "done",
                "image": f"{cell.cell}.png",
                **{
                    name: cell.shown.get(name)
                    for name in ("prompt", "reference", "seed", "setting", "token_mode", "alpha")
                },
                "prompt_kept": None if fidelity is None else fidelity - shift * (cell.role != "baseline"),
                "reference_arrived": None if likeness is None else likeness + shift,
                "reference_arrived_text_alone": None if likeness is None else 0.1,
            }
        )
    (results / "cells_full.csv").write_text(write_table(rows))
    return Material(folder / "results", family, Store(folder / "store"), (), (study.EXPERIMENT,))


def two_generators() -> dict:
    axes = {"token_mode": ["full", "text_only"], "alpha": [0.5, 1.0]}
    return experiment(
        axes,
        {"prompts": PROMPTS, "references": ["barn", "lake"]},
        settings={"one": {"generator": "images"}, "two": {"generator": "editor"}},
    )


def full_at_one(cell) -> bool:
    return cell.shown["token_mode"] == "full" and cell.shown["alpha"] == 1.0


def test_what_holds_in_both_generators_is_said_to(tmp_path):
    material = material_of(
        tmp_path,
        generalize,
        two_generators(),
        lambda cell: (0.4, 0.5) if full_at_one(cell) else (1.03, 0.08),
    )
    report = generalize.write(material)
    text = " ".join(report.answers)
    assert "With tokens full, is the prompt lost in both generators? Yes: one at alpha 1 (most -0.6" in text
    assert (
        "With tokens full, does something of the reference arrive in both generators? Yes: one at alpha 1 (most +0.4"
        in text
    )
    assert "With tokens text_only, is the prompt lost in both generators? No, in none of them" in text
    assert "two at no alpha" in text
    assert report.answers[0].endswith(
        "4 of the 4 questions below have the same answer, yes or no, in every generator."
    )
    assert report.tables["points"]
    assert {row["pairs"] for row in report.tables["apart"]} == {12}
    assert set(report.plots) == {"by_alpha"}


def test_what_holds_in_one_generator_alone_is_said_to(tmp_path):
    material = material_of(
        tmp_path,
        generalize,
        two_generators(),
        lambda cell: (0.4, 0.5) if full_at_one(cell) and cell.shown["setting"] == "two" else (1.03, 0.08),
    )
    text = " ".join(generalize.write(material).answers)
    assert "hold for the other? In part: 2 of the 4" in text
    assert "is the prompt lost in both generators? Only in two" in text
    assert "one shape? Not everywhere" in text


def with_controls() -> dict:
    return experiment(
        {"alpha": [0.5, 1.0]},
        {"prompts": PROMPTS, "references": ["barn", "lake"]},
        settings={"all_tokens": {"token_mode": "full"}},
        controls=["words", "edit"],
        edit={"generator": "editor"},
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [((0.95, 0.2), "Yes"), ((0.95, 0.9), "No"), ((1.1, 0.2), "No"), ((0.7, 0.5), "It cannot be told")],
)
def test_a_graft_is_held_against_words_and_a_trained_editor(tmp_path, words, said):
    def measure(cell):
        if cell.role == "cell":
            return (0.97, 0.5) if cell.shown["alpha"] == 0.5 else (0.5, 0.8)
        return words if "words" in cell.parameters["control"] else (0.6, 0.9)

    report = baselines.write(material_of(tmp_path, baselines, with_controls(), measure, "published"))
    text = " ".join(report.answers)
    assert f"Is a graft of images worth more than words? {said}: " in text
    # The editor is held against the text alone of its own generator, and against grafts of another one.
    assert "Is a graft of any generator worth more than edit? No" in text
    assert "edit: not measured" not in text
    assert "ip_adapter: not measured; it is not among the controls" in text
    found = {(row["generator"], row["method"], row["strength"]): row for row in report.tables["points"]}
    assert set(found) == {
        ("images", "graft all_tokens", 0.5),
        ("images", "graft all_tokens", 1.0),
        ("images", "words", None),
        ("editor", "edit", None),
    }
    edit = found["editor", "edit", None]
    assert (edit["images"], edit["prompts"]) == (12, 6)
    assert edit["fidelity"] == pytest.approx(-0.41, abs=0.02)
    assert edit["likeness"] == pytest.approx(0.81, abs=0.02)
    assert edit["likeness_low"] < edit["likeness"] < edit["likeness_high"]


def test_grafts_of_a_kind_have_one_name_on_the_plots_of_all_generators(tmp_path):
    settings = {
        f"{name}_{tokens}_tokens": {"generator": generator, "token_mode": mode}
        for name, generator in (("one", "images"), ("one_two", "editor"))
        for tokens, mode in (("text", "text_only"), ("all", "full"))
    }
    raw = {**with_controls(), "settings": settings, "controls": []}
    report = baselines.write(material_of(tmp_path, baselines, raw, lambda cell: (0.9, 0.5)))
    for chart in report.plots.values():
        names = [{series.label for series in panel.series} for panel in chart.panels]
        assert names == [{"graft text_tokens", "graft all_tokens"}] * len(chart.panels)
    assert {row["method"] for row in report.tables["points"]} == {f"graft {name}" for name in settings}
    # The page has each number with its interval; the CSV file has a column for each.
    (part,) = (part for part in report.parts if part.table)
    assert part.table.columns == ["generator", "method", "strength", "fidelity", "likeness"]
    assert len(part.table.rows) == len(report.tables["points"])
    assert part.table.rows[0][:3] == ["images", "graft one_text_tokens", "0.5"]
    assert part.table.rows[0][4].startswith("+0.41")
    assert part.table.rows[0][4].endswith(", 12 pairs)")


@pytest.mark.parametrize(("study", "raw"), [(baselines, with_controls), (generalize, two_generators)])
def test_words_of_a_report_are_explained_before_they_are_used(tmp_path, study, raw):
    about = study.write(material_of(tmp_path, study, raw(), lambda cell: (0.9, 0.5))).about
    assert about.startswith("6 prompts, each beside 2 reference pictures. Alpha is")
    for word in ("Fidelity: share of the prompt's", "Likeness: share of the reference's", "the text alone"):
        assert word in about
    assert "full (every token)" in about


def test_methods_are_compared_prompt_by_prompt(tmp_path):
    """What prompts have in common is no doubt about the difference of two methods."""

    def measure(cell):
        easy = PROMPTS.index(next(one for one in PROMPTS if one["text"] == cell.parameters["prompt"])) / 10
        return (0.9, 0.3 + easy) if cell.role == "cell" else (0.8, 0.36 + easy)

    raw = {**with_controls(), "controls": ["words"]}
    report = baselines.write(material_of(tmp_path, baselines, raw, measure))
    (answer,) = (line for line in report.answers if "worth more than words?" in line)
    rows = {(row["method"], row["strength"]): row for row in report.tables["points"]}
    assert rows["graft all_tokens", 0.5]["likeness_high"] > rows["words", None]["likeness_low"]
    assert "worth more than words? No: " in answer
    assert ", 12 pairs) beside words at the same prompts." in answer


def test_methods_that_were_not_run_are_named(tmp_path):
    raw = {**with_controls(), "controls": ["words"]}
    report = baselines.write(material_of(tmp_path, baselines, raw, lambda cell: (0.9, 0.5)))
    assert any(
        line.startswith("edit: not measured; no generator of the miniature") for line in report.answers
    )


@pytest.mark.parametrize(("study", "raw"), [(baselines, with_controls), (generalize, two_generators)])
def test_without_measures_nothing_is_answered(tmp_path, study, raw):
    report = study.write(material_of(tmp_path, study, raw(), lambda cell: (0.9, None)))
    assert "has been measured for both" in report.answers[0]
    assert not report.plots


def test_a_value_that_is_missing_leaves_its_pair_out():
    from graftwork.scores.registry import Column
    from graftwork.studies.strengths import Measures

    measures = Measures(Column("kept", "kept"), Column("like", "like", text_alone="like_alone"))
    place = {"prompt": "p", "reference": "r", "seed": "1"}
    row = {**place, "kept": "0.5", "like": "", "like_alone": "0.1"}
    pair = pair_of(row, {**place, "kept": "0.75"}, measures)
    assert (pair.fidelity, pair.likeness) == (-0.25, None)
    point = point_of("m", None, [pair])
    assert point.likeness is None
    assert point.fidelity.n == 1
