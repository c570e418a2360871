"""The jobs that fit and measure maps, on hidden states that are made here."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from graftwork.core.fact_cache import FactCache
from graftwork.core.records import record_digest
from graftwork.jobs.map_study import measure_maps, write_tables
from graftwork.jobs.maps import fit_maps
from graftwork.jobs.verification import verify_store
from graftwork.maps.registry import method
from graftwork.planning.code import map_code
from graftwork.planning.maps import MapStudyTask, PairedPrompt, StudiedMap
from graftwork.planning.shards import MapShard, MapToFit
from graftwork.reports.document import Budget, write_document
from graftwork.reports.maps import (
    PLOTS,
    Findings,
    Point,
    _gap_headline,
    _image_headlines,
    _score_tables,
    card_of,
    headlines,
    read_findings,
    write_report,
)
from graftwork.scores.registry import scores
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.maps import DamagedMap, read_map, write_map
from graftwork.store.records import EncoderInput, MapParts
from tests.unit.maps.synthetic import states

LOG = logging.getLogger("test")
FITTED, HELD_OUT = range(30), range(60, 68)
CHOSEN = {"identity": {}, "ridge": {}, "low_rank": {"rank": 4}, "shuffled_pairs": {}}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with hidden states."""
    store = Store(tmp_path_factory.mktemp("store"))
    for number in (*FITTED, *HELD_OUT):
        for side in "st":
            stored = states(f"{side}{number}", 0)
            made = EncoderInput(
                dtype="float32",
                device="cpu",
                cpu_threads=1,
                encoder=side,
                prompt=str(number),
                reference=None,
                code="",
            )
            sequence = {name: getattr(stored, name) for name in ("token_ids", "roles", "positions")}
            add_layers(store.hidden_states(f"{side}{number}"), {0: stored.values}, "float32", sequence, made)
    return store


def parts_of(name, numbers=FITTED, **changes):
    plain = MapParts(
        source=tuple(f"s{number}" for number in numbers),
        layers=(0,),
        target=tuple(f"t{number}" for number in numbers),
        target_layer=0,
        normalization="rms",
        method=name,
        parameters=CHOSEN[name],
        code=map_code(name),
    )
    return replace(plain, **changes)


def shard_of(*parts):
    return MapShard(tuple(MapToFit(record_digest(one), one, "corpus", "s", "t") for one in parts), {})


def test_maps_are_fitted_once_and_verified(filled):
    shard = shard_of(parts_of("ridge"), parts_of("identity"))
    record = fit_maps(shard, filled, LOG, {})
    keys = [item.key for item in shard.maps]
    assert (record.made, record.failures) == (keys, {})
    again = fit_maps(shard, filled, LOG, {})
    assert (again.made, again.found) == ([], keys)
    assert all(FactCache(filled.verified_maps).known(filled.map(key)) for key in keys)
    assert verify_store(filled)[0] == []


def test_a_map_that_is_damaged_or_another_is_found(filled, tmp_path):
    shard = shard_of(parts_of("ridge", range(10)))
    fit_maps(shard, filled, LOG, {})
    (item,) = shard.maps
    path = filled.map(item.key)
    fitted, whole = read_map(path), path.read_bytes()
    write_map(tmp_path / "other.safetensors", fitted, item)
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    with pytest.raises(DamagedMap, match="it holds the map other"):
        read_map(path)
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DamagedMap, match="other values than were written"):
        read_map(path)
    assert len(verify_store(filled)[0]) == 1
    assert fit_maps(shard, filled, LOG, {}).made == [item.key]
    assert path.read_bytes() == whole


def test_one_map_fails_and_the_others_are_fitted(filled):
    shard = shard_of(parts_of("low_rank", range(2), parameters={"rank": 30}), parts_of("identity", range(2)))
    record = fit_maps(shard, filled, LOG, {})
    assert record.made == [shard.maps[1].key]
    (why,) = record.failures.values()
    assert "needs 31 pairs of tokens; 2 prompts of the corpus have 28 different ones" in why


def test_a_corpus_that_was_not_extracted_whole_fits_nothing(filled):
    shard = shard_of(parts_of("ridge", range(12)))
    (why,) = fit_maps(shard, filled, LOG, {"s3": "OSError: no space"}).failures.values()
    assert "1 inputs of the corpus could not be extracted, the first is s3: OSError: no space" in why


@pytest.mark.parametrize("field", [field for field in MapParts.__dataclass_fields__])
def test_every_part_of_a_map_is_in_its_name(field):
    parts = parts_of("ridge")
    other = {"layers": (1,), "target_layer": 1, "parameters": {"towards": "zero"}}.get(
        field,
        ("x",)
        if field
        in (
            "source",
            "target",
        )
        else "x",
    )
    assert record_digest(replace(parts, **{field: other})) != record_digest(parts)


def test_a_study_ranks_maps_and_its_report_says_what_was_measured(filled, tmp_path):
    every = {name: parts_of(name) for name in CHOSEN}
    sizes = {count: parts_of("ridge", range(count)) for count in (8, 20)}
    fit_maps(shard_of(*every.values()), filled, LOG, {})
    for one in sizes.values():
        fit_maps(shard_of(one), filled, LOG, {})
    maps = [
        *(
            StudiedMap(name, name, method(name).is_control, record_digest(one), (0,))
            for name, one in every.items()
        ),
        *(
            StudiedMap("ridge", "ridge", False, record_digest(one), (0,), "size", at)
            for at, one in sizes.items()
        ),
    ]
    paired = [tuple(PairedPrompt(f"p{n}", f"s{n}", f"t{n}") for n in part) for part in (FITTED, HELD_OUT)]
    task = MapStudyTask(
        name="test",
        title="A <title>",
        question="What?",
        method="ridge",
        encoder="source",
        text_encoder="target",
        hidden_layer=-2,
        text_hidden_layer=-2,
        target_layer=0,
        normalization="rms",
        corpus="small",
        held_out_corpus="other",
        fitted=paired[0],
        held_out=paired[1],
        maps=tuple(maps),
        shared=("p3",),
        experiment=None,
        velocity=None,
    )
    measured = measure_maps(task, filled, LOG, {maps[2].key: "too few"})
    assert measured.problems == ["map low_rank is left out: too few"]
    fit = {row["map"]: row for row in measured.metrics if row["measure"] == "r2"}
    assert fit["ridge"]["value"] > fit["identity"]["value"] > fit["shuffled_pairs"]["value"]
    # 13 tokens of each prompt: what both begin with is known from the corpus.
    assert (fit["ridge"]["tokens"], fit["ridge"]["prompts"]) == (8 * 13, 8)
    assert all(row["low"] <= row["value"] <= row["high"] for row in measured.metrics)
    grown = [row["value"] for row in measured.curves if row["measure"] == "r2"]
    assert grown == sorted(grown)
    write_tables(measured, tmp_path)
    findings = read_findings(task, tmp_path, [], [])
    markdown = write_report(findings)
    page = write_document(markdown, tmp_path, Budget())
    assert "Leakage: 1 of the 8 held-out prompts" in markdown
    assert "A &lt;title&gt;" in page
    assert "low_rank is left out: too few" in page
    assert (card_of(findings).title, card_of(findings).failed) == ("A <title>", 1)
    said = headlines(findings)
    assert any("On held-out tokens, ridge has R2 = " in line for line in said)
    assert " % of the error that identity leaves is gone" in said[0]
    assert all("? " in line for line in said)
    assert f"* **{said[0].partition('? ')[0]}?** " in markdown
    assert {name: bool(draw(findings).panels) for name, draw in PLOTS.items()} == dict.fromkeys(PLOTS, True)


def test_velocities_at_the_same_states_are_the_same():
    import torch

    from graftwork.jobs.map_study import _Compared
    from graftwork.planning.maps import VelocityTask
    from graftwork.planning.shards import ModelToLoad

    task = VelocityTask(ModelToLoad("g", {}), "g", {}, 1, (0.5, 0.9), 8, 8, "empty")
    compared = _Compared(task, lambda caption, latents, sigma: latents * sigma + caption.sum(), (2, 4, 4))
    native, other = torch.ones(3, 4), torch.zeros(3, 4)
    points = compared.points(native, seed=0)
    assert [point.sigma for point in points] == [0.9, 0.5]
    assert compared.distance(points, native) == {0.9: 0.0, 0.5: 0.0}
    assert compared.distance(points, other) == pytest.approx(
        {sigma: 12.0**2 * 32 for sigma in (0.9, 0.5)}, rel=1e-4
    )
    image = points[0].latents - 0.9 * points[0].native
    assert np.allclose(points[1].latents, 0.5 * points[0].latents + 0.5 * image, atol=1e-6)


def test_images_are_ranked_beside_those_of_the_text_encoder():
    quality = next(
        column
        for score in scores().values()
        for column in score.columns
        if column.better == "higher" and not column.is_detail and column.against == "prompt"
    )

    def row(by, value, mean):
        kept = {"by": by, "value": value, "column": quality.name, "mean": mean, "low": "", "high": ""}
        return kept | {"n": "8", "prompts": "8"}

    findings = Findings(
        None,
        means=[row("mapping", "none", "0.25"), row("mapping", "ridge", "0.75"), row("mapping", "lost", "")],
        text_alone={quality.name: row("role", "baseline", "1")},
    )
    (line,) = _image_headlines(findings)
    assert line == f"And the images ({quality.label})? ridge 0.75; none 0.25. The text encoder's own: 1.00."


def test_a_measure_of_no_image_is_no_column():
    first, second, *_ = (
        column for score in scores().values() for column in score.columns if not column.is_detail
    )

    def row(column, value, mean):
        kept = {"by": "mapping", "value": value, "column": column.name, "mean": mean, "low": "", "high": ""}
        return kept | {"n": "8", "prompts": "8"}

    means = [
        row(first, "none", ""),
        row(first, "ridge", ""),
        row(second, "none", "0.5"),
        row(second, "ridge", ""),
    ]
    (table,) = _score_tables(Findings(None, means=means))
    assert table.columns == ["mapping", "images", "prompts", second.label]
    assert [one[0] for one in table.rows] == ["none", "ridge"]
    assert [one[-1] for one in table.rows][1] == "-"
    assert _score_tables(Findings(None, means=means[:2])) == []


@pytest.mark.parametrize(
    ("without", "mapped", "said"),
    [
        (0.5, 0.9, "80 % of the error that plain leaves is gone"),
        (0.9990, 0.9995, "50 % of the error that plain leaves is gone"),
        (0.9990, 0.9995, "There is hardly a gap: plain alone has it."),
    ],
)
def test_a_gap_is_said_to_be_as_large_as_it_is(without, mapped, said):
    task = SimpleNamespace(method="fitted")
    points = {
        name: Point(value, value, value, 8, 80) for name, value in (("plain", without), ("fitted", mapped))
    }
    line = _gap_headline(Findings(task, controls=["plain"], measured={"r2": points}))
    assert said in line
    assert ("hardly a gap" in line) == (without > 0.99)
