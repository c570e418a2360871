"""The shipped weights against the shipped table: a part of every measure, taken again."""

from pathlib import Path

import pytest

from graftwork.models.hardware import configure_torch
from lab.miniature.evaluation import (
    Family,
    measure_flux2_prompt_following,
    measure_prompt_following,
    measure_sink,
)
from lab.miniature.measure import (
    LIMIT_BYTES,
    PROMPT_FOLLOWING_LIMITS,
    Measure,
    format_table,
    measure_vae,
    read_measures,
    write_measures,
)
from lab.miniature.recipes import STAGE_NEEDS, read_plan, recipe_values

MINIATURE = Path(__file__).resolve().parents[3] / "resources/miniature"
FAMILY = MINIATURE / "family"


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, str], Measure]:
    return {(row.model, row.name): row for row in read_measures(MINIATURE / "measured.json")}


@pytest.fixture(scope="module")
def family() -> Family:
    configure_torch({"device": "cpu", "dtype": "float32"})
    return Family(FAMILY)


def test_every_promise_is_kept(table):
    assert [row for row in table.values() if not row.kept] == []
    promised = {name for (model, name), row in table.items() if row.promised is not None}
    assert {f"{attribute}_follows_prompt" for attribute in PROMPT_FOLLOWING_LIMITS} <= promised
    assert {"psnr_mean_db", "repeat", "position", "parent_cosine", "retrieval", "megabytes"} <= promised


def test_the_table_for_people_is_the_one_for_programs(table):
    assert (MINIATURE / "measured.md").read_text(encoding="utf-8") == format_table(table.values())


def test_the_weights_are_small_enough(table):
    size = sum(path.stat().st_size for path in FAMILY.rglob("*") if path.is_file())
    assert size <= LIMIT_BYTES
    assert size / 1e6 == pytest.approx(table["family", "megabytes"].value, rel=0.01)


def test_there_is_a_curve_and_a_recipe_of_every_stage():
    import json

    plan = read_plan(MINIATURE / "recipes.yaml")
    for stage in STAGE_NEEDS:
        recorded = json.loads((MINIATURE / "curves" / f"{stage}.json").read_text())
        assert recorded["recipe"] == recipe_values(plan.stages[stage])
        assert recorded["missed"] == []
        last = (MINIATURE / "curves" / f"{stage}.csv").read_text().splitlines()[-1]
        # Where training was stopped before the recipe's last step, the record says so.
        assert int(last.split(",")[0]) == recorded.get("stopped_at", plan.stages[stage].steps)


def test_pictures_survive_the_autoencoder(table):
    mean, _ = measure_vae(FAMILY, 64)
    assert mean.value == pytest.approx(table["vae", "psnr_mean_db"].value, abs=1.0)


def test_pictures_follow_held_out_captions(table, family):
    """Of 64 captions in place of 256: a share may fall short by what the smaller sample explains."""
    for attribute, share in measure_prompt_following(family, "qwen3", 64).items():
        promised = PROMPT_FOLLOWING_LIMITS[attribute]
        assert share >= promised - 0.05
        assert share == pytest.approx(
            table["z-image after qwen3", f"{attribute}_follows_prompt"].value, abs=0.1
        )


def test_pictures_of_the_second_generator_follow_held_out_captions(table):
    for attribute, share in measure_flux2_prompt_following(FAMILY, 64).items():
        row = table["flux2-klein, 8 steps", f"{attribute}_follows_prompt"]
        assert share == pytest.approx(row.value, abs=0.1)


def test_position_0_is_an_attention_sink(table, family):
    for encoder in ("qwen3", "qwen3-vl-instruct"):
        for row in measure_sink(family, encoder, 4):
            ratio = row["largest_at_position_0"] / row["std_elsewhere"]
            assert ratio == pytest.approx(table[encoder, f"sink_ratio_layer_{row['layer']}"].value, rel=0.25)


def test_measures_round_trip(tmp_path):
    rows = [
        Measure("a", "b", 0.5, 0.4, n=3),
        Measure("a", "c", 2.0, 1.0, at_most=True),
        Measure("a", "d", 1.0),
    ]
    write_measures(rows, tmp_path / "m.json")
    assert read_measures(tmp_path / "m.json") == rows
    assert [row.kept for row in rows] == [True, False, True]
    assert "2 (missed) | at most 1" in format_table(rows)
