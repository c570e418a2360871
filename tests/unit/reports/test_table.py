"""The tables of cells: the full one with every parameter, the one that people open, and what is constant."""

from dataclasses import replace

import numpy as np
import pytest

from graftwork.conditioning.sketches import NUMBERS, encode_sketch
from graftwork.core.cells import Cell
from graftwork.core.tables import read_table, write_table
from graftwork.design.schema import CellParameters
from graftwork.reports.table import (
    REPORT_COLUMNS,
    cell_rows,
    constant_rows,
    parameter_columns,
    people_rows,
)
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import PNG, Situation

# What tools and tests may rely on, in cells.csv too.
STATE_COLUMNS = ("cell", "role", "image", "conditioning", "same_as", "same_up_to_scale", "status", "error")


@pytest.fixture
def finished(tmp_path):
    situation = Situation(tmp_path)
    situation.finish()
    return situation


def rows_of(situation, failures=None, plan=None):
    plan = plan or situation.plan_images()
    return cell_rows(situation.designs[0], plan.cells, failures or {}, situation.store)


def change_report(entry, **values):
    return replace(entry, report=replace(entry.report, **values))


def test_columns(finished):
    (first, *_) = rows_of(finished)
    parameters = parameter_columns(finished.designs[0].cells)
    assert tuple(first) == (*STATE_COLUMNS, *parameters, *REPORT_COLUMNS)


def test_every_parameter_is_a_column(finished):
    columns = set(parameter_columns(finished.designs[0].cells))
    assert set(CellParameters.model_fields) <= columns
    assert {"prompt", "prompt_name", "reference", "reference_sha256", "seed"} <= columns


def test_parameters_added_later_come_after_the_usual_ones():
    usual = parameter_columns([Cell("one", "cell", {}, {"alpha": 1})])
    cells = [Cell("one", "cell", {}, {"zeta": 1, "alpha": 1}), Cell("other", "cell", {}, {"beta": 1})]
    assert parameter_columns(cells) == [*usual, "beta", "zeta"]


def test_structured_parameters_are_json(tmp_path):
    raw = experiment(
        {"think_block": ["empty", {"text": "Ein Fuchs, „rot“"}]}, {"masking_dimensions": [4, 396]}
    )
    situation = Situation(tmp_path, raw)
    situation.finish()
    cells = [row for row in rows_of(situation) if row["role"] == "cell"]
    assert [row["think_block"] for row in cells] == ["empty", '{"text": "Ein Fuchs, „rot“"}'] * 2
    assert {row["masking_dimensions"] for row in cells} == {"[4, 396]"}


def test_a_row_per_cell_in_order(finished):
    rows = rows_of(finished)
    assert [row["cell"] for row in rows] == [cell.cell for cell in finished.designs[0].cells]
    assert [row["role"] for row in rows] == ["baseline"] * 2 + ["cell"] * 8


def test_finished_cells(finished):
    for row in rows_of(finished):
        cell = finished.cells[row["cell"]]
        assert row["status"] == "done"
        assert row["error"] is None
        assert row["image"] == finished.store.image(finished.image(cell)).as_posix()
        assert row["conditioning"] == finished.hash_of(cell)
        assert row["tokens"] == 20
        assert row["prompt"] == cell["prompt"]
        assert row["reference_sha256"] == cell["reference"]


def test_names_are_those_that_people_gave(finished):
    row = rows_of(finished)[-1]
    assert row["prompt_name"] == "boat"
    assert row["reference"] == "house"
    assert row["encoder"] == "vision"
    assert row["generator"] == "images"


def test_same_as_names_the_first_cell_with_the_image(finished):
    rows = rows_of(finished)
    for row in rows:
        first = next(other["cell"] for other in rows if other["image"] == row["image"])
        assert row["same_as"] == (None if first == row["cell"] else first)
    baselines = {row["cell"] for row in rows if row["role"] == "baseline"}
    assert {row["same_as"] for row in rows if row["alpha"] == 0.0 and row["role"] == "cell"} == baselines
    assert {row["same_as"] for row in rows if row["alpha"] == 0.5} == {None}


def test_same_up_to_scale_names_the_first_cell_of_other_bytes(finished):
    """Cells at alpha 0.5 of one prompt look alike, though their bytes differ; without sketches none does."""
    plan = finished.plan_images()
    assert {row["same_up_to_scale"] for row in rows_of(finished)} == {None}
    for name, cell in finished.cells.items():
        values = np.full(NUMBERS, 1.0 + cell["alpha"] + cell["prompt"].count("b"))
        plan.cells[name] = change_report(
            plan.cells[name], sketch=encode_sketch({"a": 20}, values), visible_change=0.25
        )
    rows = rows_of(finished, plan=plan)
    half = {}
    for row in rows:
        if row["alpha"] == 0.5:
            half.setdefault(row["prompt"], []).append(row)
        else:
            assert row["same_up_to_scale"] is None, "alpha 0 has the bytes of the baseline: same_as says so"
    for first, second in half.values():
        assert first["conditioning"] != second["conditioning"]
        assert (first["same_up_to_scale"], second["same_up_to_scale"]) == (None, first["cell"])
        assert second["same_as"] is None
    assert {row["visible_change"] for row in rows} == {0.25}


def test_same_as_is_known_before_the_image_is_made(finished):
    for file in finished.store.root.glob("images/*/*"):
        file.unlink()
    assert sum(row["same_as"] is not None for row in rows_of(finished)) == 4


def test_states(finished):
    plan = finished.plan_images()
    half = [cell for cell in finished.cells.values() if cell["alpha"] == 0.5]
    failed, missing, cut, stale = (finished.image(cell) for cell in half)
    for image in (failed, missing):
        finished.store.image(image).unlink()
    finished.store.image(cut).write_bytes(PNG[:-1])
    # An error of an earlier shard is not that of an image that exists.
    failures = {failed: "the generator gave values that are not finite", stale: "out of memory"}
    by_image = {plan.cells[row["cell"]].image: row for row in rows_of(finished, failures, plan)}
    assert by_image[failed]["status"] == "failed"
    assert by_image[failed]["error"] == "the generator gave values that are not finite"
    assert by_image[missing]["status"] == by_image[cut]["status"] == "missing"
    assert by_image[stale]["status"] == "done"
    assert by_image[stale]["error"] is None
    for image in (failed, missing, cut):
        assert by_image[image]["image"] is None


def test_a_cell_without_conditioning_is_failed(tmp_path):
    situation = Situation(tmp_path)
    for row in rows_of(situation):
        assert (row["status"], row["error"]) == ("failed", "its conditioning was not built")
        assert row["conditioning"] is row["image"] is row["same_as"] is row["tokens"] is None


def test_what_is_written_can_be_read(tmp_path):
    texts = [
        'a "red" apple, on a table',
        "two\nlines",
        "雪の狐 \U0001f98a",
        "=1+1",
        " spaces ",
        "semi; colon",
    ]
    situation = Situation(tmp_path, experiment({}, {"prompts": texts}, baseline=False))
    situation.finish()
    rows = rows_of(situation)
    path = tmp_path / "cells.csv"
    path.write_bytes(write_table(rows).encode())
    read = read_table(path)
    assert [row["prompt"] for row in read] == texts
    for row, written in zip(read, rows, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in written.items()}
    assert b"\r" not in path.read_bytes()


def test_warnings_are_joined(finished):
    plan = finished.plan_images()
    for name, entry in plan.cells.items():
        plan.cells[name] = change_report(entry, warnings=("one", "two"))
    assert {row["warnings"] for row in rows_of(finished, plan=plan)} == {"one; two"}


def test_people_see_what_varies_and_what_came_of_it(tmp_path):
    prompts = ["a red apple", {"name": "boat", "text": "a blue boat"}]
    situation = Situation(
        tmp_path, experiment({"alpha": [0.0, 0.5], "target_std": [50.0]}, {"prompts": prompts})
    )
    situation.finish()
    full = [{**row, "brightness": 7, "detail": 8} for row in rows_of(situation)]
    rows = people_rows(situation.designs[0], full, ["brightness"])
    assert list(rows[0]) == [
        "cell",
        "role",
        "prompt",
        "alpha",
        "image",
        "status",
        "error",
        "same_as",
        "same_up_to_scale",
        "conditioning",
        "tokens",
        "visible_change",
        "brightness",
        "warnings",
    ]
    assert set(STATE_COLUMNS) <= set(rows[0])
    assert [row["cell"] for row in rows] == [row["cell"] for row in full]
    assert {row["prompt"] for row in rows} == {"a red apple", "boat"}
    assert [row["alpha"] for row in rows if row["role"] == "cell"] == [0.0, 0.5] * 2


def test_settings_are_a_column_that_people_see(tmp_path):
    raw = experiment({}, {"prompts": ["a red apple"]})
    raw["settings"] = {"plain": {}, "half": {"alpha": 0.5}}
    situation = Situation(tmp_path, raw)
    situation.finish()
    rows = people_rows(situation.designs[0], rows_of(situation), [])
    assert [row["setting"] for row in rows] == [None, "plain", "half"]
    assert "prompt" not in rows[0]


def test_constants_are_listed_once_with_their_meaning(tmp_path):
    base = {"prompts": ["a red apple"], "normalization": "global", "target_std": 61.0}
    situation = Situation(tmp_path, experiment({"alpha": [0.0, 0.5]}, base))
    situation.finish()
    full = rows_of(situation)
    found = {row["parameter"]: row for row in constant_rows(situation.designs[0], full)}
    assert found["prompt"]["value"] == "a red apple"
    assert found["target_std"]["value"] == 61.0
    assert found["hidden_layer"]["meaning"] == CellParameters.model_fields["hidden_layer"].description
    assert found["seed"]["meaning"]
    assert "alpha" not in found, "it varies"
    assert {"strength", "clip_sigma"} & set(found) == set(), "what they belong to is not chosen"
    together = {**{name: row["value"] for name, row in found.items()}, "alpha": 0.5}
    row = next(row for row in full if row["alpha"] == 0.5)
    assert {name: row[name] for name in together} == together


def test_experiments_without_cells_have_no_constants(finished):
    assert constant_rows(replace(finished.designs[0], cells=[]), []) == []
