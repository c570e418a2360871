"""Sets of references on grids: all of their images in one tile."""

import numpy as np
import pytest
from PIL import Image

from graftwork.core.tables import read_table, write_table
from graftwork.design.pages import Page
from graftwork.planning.plan import PlanEntry
from graftwork.reports.grid import draw_grid, measure_images
from graftwork.reports.grid_layout import GridPage, Strip, Tile, layout_grid
from graftwork.reports.pages import build_page
from graftwork.reports.table import cell_rows
from graftwork.store.layout import Store
from tests.unit.design.designs import expand, experiment

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, colour in enumerate(COLOURS):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (8, 8), colour).save(paths[-1])
    return paths


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_image_of_a_tile_is_drawn(files, count):
    tile = Tile(files[0] if count == 1 else tuple(files[:count]))
    page = GridPage("t", "", ["x"], ["y"], {(0, 0): Tile(files[0])}, [Strip("reference", {(0, 0): tile})])
    seen = {tuple(colour) for colour in np.asarray(draw_grid(page)).reshape(-1, 3)}
    assert seen >= set(COLOURS[:count])
    assert not seen & set(COLOURS[count:])


def test_an_image_of_a_set_that_cannot_be_read_is_said(files):
    files[1].write_bytes(b"no image")
    tile = Tile(tuple(files[:2]))
    page = GridPage("t", "", ["x"], ["y"], {(0, 0): Tile(files[0])}, [Strip("reference", {(0, 0): tile})])
    _, problems = measure_images(page)
    assert set(problems) == {files[1]}
    layout = layout_grid(page, (64, 64), problems)
    assert [box.state for box in layout.tiles if box.section == "reference"] == ["unreadable"]


def test_a_page_shows_the_images_of_the_set(tmp_path):
    base = {
        "prompts": ["a hat"],
        "references": ["house", ["house", "tree"]],
        "combination": "multi_reference",
    }
    raw = experiment({"alpha": [0.5]}, base, grids=[{"x": "alpha", "y": "reference"}])
    design = expand(tmp_path, raw)
    nothing = PlanEntry("recipe")
    rows = cell_rows(design, {cell.cell: nothing for cell in design.cells}, {}, Store(tmp_path / "store"))
    (tmp_path / "cells.csv").write_text(write_table(rows))
    page = build_page(
        design,
        Page("alpha", "reference", {"prompt": 0, "seed": 0}, (0, 1), (0, 2)),
        read_table(tmp_path / "cells.csv"),
        tmp_path,
    )
    assert page.y_labels == ["reference = house", "reference = house + tree"]
    tiles = page.companions[0].tiles
    assert [len(tile.images) for tile in tiles.values()] == [1, 2]
    assert all(path.is_file() for tile in tiles.values() for path in tile.images)
