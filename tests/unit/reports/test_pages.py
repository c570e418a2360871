"""Pages of grids: what is on each, and what is said beside the images."""

import itertools

import pytest

from graftwork.core.cells import Axis
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design, Grid
from graftwork.design.pages import page_names
from graftwork.reports.grid_layout import Tile
from graftwork.reports.pages import build_page, stale_pages
from graftwork.reports.table import cell_rows, people_rows
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation


def pages_of(tmp_path, raw, finish=True, change=None):
    """Returns page name -> GridPage of an experiment whose images all exist, or none."""
    situation = Situation(tmp_path, raw)
    situation.finish() if finish else situation.condition()
    design = situation.designs[0]
    rows = cell_rows(design, situation.plan_images().cells, {}, situation.store)
    if change:
        change(rows)
    (tmp_path / "cells.csv").write_text(write_table(people_rows(design, rows, [])), encoding="utf-8")
    table = read_table(tmp_path / "cells.csv")
    return {
        name: build_page(design, page, table, tmp_path)
        for name, page in page_names(design.lengths, design.grids).items()
    }


def one_page(*arguments, **more):
    (page,) = pages_of(*arguments, **more).values()
    return page


GRID = [{"x": "alpha", "y": "hidden_layer"}]
ONE = {"prompts": [{"name": "hat", "text": "a straw hat"}]}


def strip(page, name):
    return next(strip for strip in page.companions if strip.name == name)


def test_a_page(tmp_path):
    raw = experiment(
        {"hidden_layer": [-2, -4], "alpha": [0.0, 0.5, 1.0]},
        ONE,
        grids=GRID,
        title="A title",
        question="Why?",
    )
    page = one_page(tmp_path, raw)
    assert page.title == "A title"
    assert page.x_labels == ["alpha = 0", "alpha = 0.5", "alpha = 1"]
    assert page.y_labels == ["hidden_layer = -2", "hidden_layer = -4"]
    assert set(page.tiles) == set(itertools.product(range(2), range(3)))
    assert page.subtitle.startswith("Why?\n")
    assert "a straw hat" in page.subtitle
    assert "reference = house" in page.subtitle
    assert page.footer[-1] == "experiment e0"


def test_a_grid_of_one_axis_is_one_row(tmp_path):
    page = one_page(tmp_path, experiment({"alpha": [0.5, 1.0]}, ONE, grids=[{"x": "alpha"}]))
    assert set(page.tiles) == {(0, 0), (0, 1)}
    assert page.y_labels == [""]


def test_tiles_are_where_their_labels_say(tmp_path):
    raw = experiment({"hidden_layer": [-2, -4], "alpha": [0.25, 0.5]}, ONE, grids=GRID)
    turned = {**raw, "grids": [{"x": "hidden_layer", "y": "alpha"}]}
    page, other = one_page(tmp_path / "a", raw), one_page(tmp_path / "b", turned)
    for row, column in page.tiles:
        assert page.tiles[row, column].image.name == other.tiles[column, row].image.name
    assert len({tile.image for tile in page.tiles.values()}) == 4


@pytest.mark.parametrize(
    ("x", "y", "along"),
    [
        ("alpha", "hidden_layer", "none"),
        ("reference", "alpha", "x"),
        ("alpha", "reference", "y"),
        ("alpha", None, "none"),
    ],
)
def test_references_stand_where_they_vary(tmp_path, x, y, along):
    base = {**ONE, "references": ["house"] if along == "none" else ["house", "tree"]}
    raw = experiment({"hidden_layer": [-2, -4], "alpha": [0.25, 0.5]}, base, grids=[{"x": x, "y": y}])
    for page in pages_of(tmp_path, raw).values():
        shown = strip(page, "reference")
        assert shown.along == along
        places = {"none": {(0, 0)}, "x": {(0, 0), (0, 1)}, "y": {(0, 0), (1, 0)}}[along]
        assert set(shown.tiles) == places
        names = [tile.image.stem for _, tile in sorted(shown.tiles.items())]
        assert names == (["house"] if along == "none" else ["house", "tree"])


@pytest.mark.parametrize(
    ("x", "y", "along", "count"),
    [
        ("alpha", "hidden_layer", "none", 1),
        ("prompt", "alpha", "x", 2),
        ("alpha", "prompt", "y", 2),
        ("seed", "prompt", "both", 4),
    ],
)
def test_baselines_stand_where_they_vary(tmp_path, x, y, along, count):
    raw = experiment(
        {"hidden_layer": [-2, -4], "alpha": [0.25, 0.5], "seed": [1, 2]}, grids=[{"x": x, "y": y}]
    )
    for page in pages_of(tmp_path, raw).values():
        shown = strip(page, "text alone")
        assert shown.along == along
        assert len(shown.tiles) == len({tile.image for tile in shown.tiles.values()}) == count


def test_no_companions_without_reference_and_baseline(tmp_path):
    raw = experiment(
        {"alpha": [0.25, 0.5]}, {**ONE, "references": []}, grids=[{"x": "alpha"}], baseline=False
    )
    page = one_page(tmp_path, raw)
    assert page.companions == []
    assert "reference" not in page.subtitle


def test_a_place_without_a_reference_says_so(tmp_path):
    raw = experiment(
        {"alpha": [0.25, 0.5], "reference": ["house", None]}, ONE, grids=[{"x": "reference", "y": "alpha"}]
    )
    tiles = strip(one_page(tmp_path, raw), "reference").tiles
    assert tiles[0, 0].image.stem == "house"
    assert tiles[0, 1] == Tile(None, absent="no reference")


def test_tiles_with_the_image_of_another_cell_say_of_which(tmp_path):
    raw = experiment({"hidden_layer": [-2, 7], "alpha": [0.0, 0.5]}, ONE, grids=GRID)
    page = one_page(tmp_path, raw)
    assert page.tiles[0, 0].note == page.tiles[1, 0].note == "same image as the text alone"
    assert page.tiles[0, 1].note is None
    # Layer 7 of 8 is layer -2.
    assert page.tiles[1, 1].note == "same image as hidden_layer = -2"


def test_failed_and_missing_tiles_show_why(tmp_path):
    def change(rows):
        for row in rows:
            if row["alpha"] == 0.5:
                row.update(status="failed", error="not finite", image=None)
            if row["alpha"] == 0.25:
                row.update(status="missing", error=None, image=None)

    page = one_page(
        tmp_path, experiment({"alpha": [0.25, 0.5, 0.75]}, ONE, grids=[{"x": "alpha"}]), change=change
    )
    assert [(t.image is None, t.error) for _, t in sorted(page.tiles.items())] == [
        (True, None),
        (True, "not finite"),
        (False, None),
    ]


def test_fixed_axes_are_in_the_subtitle_of_each_page(tmp_path):
    raw = experiment({"hidden_layer": [-2, -4], "alpha": [0.25, 0.5], "seed": [7, 8]}, grids=GRID)
    pages = pages_of(tmp_path, raw)
    assert len(pages) == 4
    subtitles = [page.subtitle for page in pages.values()]
    assert len(set(subtitles)) == 4
    for subtitle, (text, seed) in zip(
        subtitles, itertools.product(["a red apple", "a blue boat"], [7, 8]), strict=True
    ):
        assert text in subtitle
        assert f"seed = {seed}" in subtitle
        assert "alpha" not in subtitle


def test_constants_that_take_part_are_in_the_footer(tmp_path):
    base = {**ONE, "normalization": "global", "target_std": 61.0, "token_mode": "image_only"}
    page = one_page(tmp_path / "a", experiment({"alpha": [0.25, 0.5]}, base, grids=[{"x": "alpha"}]))
    footer = page.footer[0]
    for part in (
        "target_std = 61",
        "normalization = global",
        "token_mode = image_only",
        "seed = 42",
        "hidden_layer = -2",
    ):
        assert part in footer
    assert "alpha" not in footer
    page = one_page(tmp_path / "b", experiment({"alpha": [0.25, 0.5]}, ONE, grids=[{"x": "alpha"}]))
    assert "target_std" not in page.footer[0]


def test_what_takes_no_part_in_sampling_is_not_in_the_footer(tmp_path):
    page = one_page(tmp_path / "a", experiment({"alpha": [0.25, 0.5]}, ONE, grids=[{"x": "alpha"}]))
    for name in ("strength", "cfg_", "negative_prompt", "init_image", "alpha_schedule"):
        assert name not in page.footer[0]
    base = {**ONE, "init_image": "tree", "guidance_scale": 2.0, "alpha_schedule": {"kind": "linear"}}
    page = one_page(tmp_path / "b", experiment({"alpha": [0.25, 0.5]}, base, grids=[{"x": "alpha"}]))
    for part in (
        "strength = 0.6",
        "cfg_truncation = 1",
        "init_image = tree",
        "alpha_schedule = linear 1 to 0",
    ):
        assert part in page.footer[0]


def test_the_image_that_cells_start_from_stands_beside_them(tmp_path):
    raw = experiment({"init_image": ["reference", "tree"]}, ONE, grids=[{"x": "init_image"}])
    page = one_page(tmp_path, raw)
    assert [s.name for s in page.companions] == ["reference", "init image", "text alone"]
    tiles = strip(page, "init image").tiles
    assert [tile.image.name for _, tile in sorted(tiles.items())] == ["house.png", "tree.png"]


def test_a_start_that_is_the_reference_of_every_cell_is_not_shown_twice(tmp_path):
    raw = experiment({"reference": ["house", "tree"]}, {**ONE, "init_image": "reference"})
    page = one_page(tmp_path, {**raw, "grids": [{"x": "reference"}]})
    assert [s.name for s in page.companions] == ["reference", "text alone"]


MIXED = {
    "settings": {
        "source": {},
        "half": {"alpha": 0.5},
        "from_tree": {"init_image": "tree", "strength": 0.75},
        "text_from_tree": {"init_image": "tree", "strength": 0.75, "alpha": 0.0},
    },
    "grids": [{"x": "reference", "y": "setting"}],
}


def test_settings_that_start_from_an_image_have_it_and_their_baseline_once(tmp_path):
    base = {**ONE, "references": ["house", "tree"]}
    page = one_page(tmp_path, {**experiment({}, base), **MIXED})
    assert [(s.name, s.along, len(s.tiles)) for s in page.companions] == [
        ("reference", "x", 2),
        ("init image: from_tree, text_from_tree", "none", 1),
        ("text alone", "none", 1),
        ("text alone: from_tree, text_from_tree", "none", 1),
    ]
    assert strip(page, "init image: from_tree, text_from_tree").tiles[0, 0].image.name == "tree.png"
    tiles = [tile for s in page.companions for tile in s.tiles.values()]
    assert not any(tile.error or tile.absent for tile in tiles)


def test_rows_with_the_same_baselines_share_a_strip(tmp_path):
    base = {"prompts": [{"name": "hat", "text": "a straw hat"}, {"name": "boat", "text": "a boat"}]}
    page = one_page(tmp_path, {**experiment({}, base), **MIXED, "grids": [{"x": "prompt", "y": "setting"}]})
    named = {s.name: s for s in page.companions if s.name.startswith("text alone")}
    assert list(named) == ["text alone", "text alone: from_tree, text_from_tree"]
    assert all((s.along, set(s.tiles)) == ("x", {(0, 0), (0, 1)}) for s in named.values())
    assert len({tile.image for s in named.values() for tile in s.tiles.values()}) == 4


def test_a_page_of_the_text_alone_does_not_show_it_twice(tmp_path):
    raw = experiment({"strength": [0.5, 0.75], "alpha": [0.0, 1.0]}, {**ONE, "init_image": "tree"})
    at_zero, at_one = pages_of(tmp_path, {**raw, "grids": [{"x": "strength"}]}).values()
    assert "text alone" not in [s.name for s in at_zero.companions]
    assert {tile.note for tile in at_zero.tiles.values()} == {"same image as the text alone"}
    assert strip(at_one, "text alone").along == "x"


def test_settings_say_what_they_set(tmp_path):
    base = {**ONE, "references": ["house", "tree"]}
    page = one_page(tmp_path, {**experiment({}, base), **MIXED})
    assert page.y_labels == [
        "setting = source",
        "setting = half\nalpha = 0.5",
        "setting = from_tree\ninit_image = tree, strength = 0.75",
        "setting = text_from_tree\ninit_image = tree, strength = 0.75, alpha = 0",
    ]
    for name in ("alpha", "strength", "init_image"):
        assert f"{name} =" not in page.footer[0], "it stands in the labels"


def test_a_page_of_one_setting_has_its_parameters_in_the_footer(tmp_path):
    raw = {**experiment({}, ONE), **MIXED, "grids": [{"x": "prompt"}]}
    pages = list(pages_of(tmp_path, raw).values())
    assert [page.subtitle.rpartition(", ")[2] for page in pages][:2] == ["setting = source", "setting = half"]
    assert "alpha = 0.5" in pages[1].footer[0]
    assert "strength = 0.75" in pages[2].footer[0]
    assert "strength" not in pages[0].footer[0]


@pytest.mark.parametrize("values", [["none", "zero"], ["zero", "none"]])
def test_constants_are_those_of_all_tiles_not_of_the_first(tmp_path, values):
    base = {**ONE, "masking_threshold": 3.0}
    page = one_page(tmp_path, experiment({"masking": values}, base, grids=[{"x": "masking"}]))
    assert "masking_threshold = 3" in page.footer[0]
    assert "masking =" not in page.footer[0]


def test_what_one_tile_has_is_no_constant(tmp_path):
    raw = {**experiment({}, ONE), "settings": {"a": {}, "b": {"rope_theta": 1000.0}}}
    raw |= {"axes": {"alpha": [0.5, 1.0]}, "grids": [{"x": "alpha", "y": "setting"}]}
    assert "rope_theta" not in one_page(tmp_path, raw).footer[0]


def test_long_axes_are_cut_and_every_cell_is_on_one_page(tmp_path):
    raw = experiment(
        {"alpha": {"range": [0.0, 1.0], "count": 30}, "seed": list(range(50))},
        ONE,
        grids=[{"x": "alpha", "y": "seed"}],
    )
    pages = pages_of(tmp_path, raw, finish=False)
    assert list(pages) == [f"alpha_by_seed_00{n}" for n in range(1, 7)]
    assert [page.subtitle.partition("reference = house, ")[2] for page in pages.values()][:3] == [
        "seed 1 to 17 of 50, alpha 1 to 15 of 30",
        "seed 1 to 17 of 50, alpha 16 to 30 of 30",
        "seed 18 to 33 of 50, alpha 1 to 15 of 30",
    ]
    corners = [(page.y_labels[0], page.x_labels[0], len(page.tiles)) for page in pages.values()]
    assert corners[0] == ("seed = 0", "alpha = 0", 17 * 15)
    assert corners[3][:2] == ("seed = 17", "alpha = 0.517")
    assert sum(count for *_, count in corners) == 30 * 50


def test_stale_pages_are_those_the_design_no_longer_has(tmp_path):
    axes = [Axis("alpha", [0.0, 1.0], ["0.0", "1.0"]), Axis("seed", [1, 2], ["1", "2"])]
    design = Design("test", "", "", axes, [], [], {}, [Grid("alpha", None)])
    for name in ("alpha.png", "alpha_001.png", "alpha_002.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert stale_pages(design, tmp_path) == [tmp_path / "alpha.png"]
