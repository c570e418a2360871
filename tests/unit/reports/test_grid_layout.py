"""Geometry of a page: everything inside, nothing on top of anything else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.reports.grid_layout import Box, GridPage, Layout, Strip, Tile, layout_grid
from graftwork.reports.typography import line_height, load_font

LABELS = st.text(max_size=30) | st.sampled_from(
    ["alpha = 0.5", "hidden_layer = -2", "prompt = a house " * 20, "w" * 90]
)
TILES = st.builds(
    Tile,
    image=st.none() | st.just(Path("image.png")),
    error=st.none() | st.none() | LABELS,
    note=st.none() | st.sampled_from(["same as baseline", "a long note " * 9, ""]),
)


def make_tiles(draw, rows: int, columns: int) -> dict[tuple[int, int], Tile]:
    keys = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    return draw(st.dictionaries(keys, TILES, max_size=6))


@st.composite
def pages(draw) -> GridPage:
    x_labels = draw(st.lists(LABELS, min_size=1, max_size=4))
    y_labels = draw(st.lists(LABELS, min_size=1, max_size=4))
    rows, columns = len(y_labels), len(x_labels)
    shapes = {"none": (1, 1), "x": (1, columns), "y": (rows, 1), "both": (rows, columns)}
    companions = [
        Strip(draw(LABELS), make_tiles(draw, *shapes[along]), along)
        for along in draw(st.lists(st.sampled_from(sorted(shapes)), max_size=5))
    ]
    return GridPage(
        title=draw(LABELS),
        subtitle=draw(LABELS),
        x_labels=x_labels,
        y_labels=y_labels,
        tiles=make_tiles(draw, rows, columns),
        companions=companions,
        footer=draw(st.lists(LABELS, max_size=3)),
    )


def list_boxes(layout: Layout) -> list[tuple[str, Box]]:
    boxes = [(text.role, text.box) for text in layout.texts]
    for tile in layout.tiles:
        boxes.append((f"tile {tile.section} {tile.row} {tile.column}", tile.box))
        if tile.caption:
            boxes.append(("caption", tile.caption.box))
    return boxes


def overlap(a: Box, b: Box) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


@settings(deadline=None)
@given(pages(), st.tuples(st.integers(32, 400), st.integers(32, 400)))
def test_boxes_are_inside_and_disjoint(page, tile_size):
    layout = layout_grid(page, tile_size)
    boxes = list_boxes(layout)
    for name, box in boxes + [("rule", rule) for rule in layout.rules]:
        assert 0 <= box.left < box.right <= layout.width, name
        assert 0 <= box.top < box.bottom <= layout.height, name
    for index, (name, box) in enumerate(boxes):
        for other_name, other in boxes[:index]:
            assert not overlap(box, other), (name, other_name)
        assert not any(overlap(box, rule) for rule in layout.rules), name


@settings(deadline=None)
@given(pages(), st.tuples(st.integers(32, 400), st.integers(32, 400)))
def test_text_fits_into_its_box(page, tile_size):
    layout = layout_grid(page, tile_size)
    blocks = list(layout.texts)
    for tile in layout.tiles:
        assert (tile.message is None) == (tile.state == "image")
        for block in filter(None, (tile.message, tile.caption)):
            blocks.append(block)
            inside = tile.box if block is tile.message else block.box
            assert block.box.left >= inside.left
            assert block.box.right <= inside.right
            assert block.box.top >= inside.top
            assert block.box.bottom <= inside.bottom
    for block in blocks:
        font = load_font(block.size, block.bold)
        assert len(block.lines) * line_height(font) <= block.box.height
        assert all(len(line) == 1 or font.getlength(line) <= block.box.width for line in block.lines)


@settings(deadline=None)
@given(pages())
def test_every_cell_has_a_tile_of_the_size_asked_for(page):
    layout = layout_grid(page, (120, 80))
    assert {(tile.box.width, tile.box.height) for tile in layout.tiles} == {(120, 80)}
    main = [(tile.row, tile.column) for tile in layout.tiles if tile.section == ""]
    rows, columns = len(page.y_labels), len(page.x_labels)
    expected = {(row, column) for row in range(rows) for column in range(columns)}
    assert set(main) >= expected
    assert layout_grid(page, (120, 80)) == layout


def make_page(**changes) -> GridPage:
    defaults = {
        "title": "Title",
        "subtitle": "",
        "x_labels": ["alpha = 0", "alpha = 1"],
        "y_labels": ["layer = -2", "layer = -6", "layer = -8"],
        "tiles": {(0, 0): Tile(Path("a.png"))},
    }
    return GridPage(**(defaults | changes))


def find_tile(layout: Layout, section: str, row: int, column: int):
    (found,) = [
        tile for tile in layout.tiles if (tile.section, tile.row, tile.column) == (section, row, column)
    ]
    return found


def find_text(layout: Layout, line: str):
    (found,) = [text for text in layout.texts if text.lines[0] == line]
    return found


def test_labels_are_centred_on_their_rows_and_columns():
    layout = layout_grid(make_page(), (200, 150))
    label = find_text(layout, "alpha = 1")
    tile = find_tile(layout, "", 2, 1)
    assert (label.box.left, label.box.right, label.align) == (tile.box.left, tile.box.right, "center")
    label = find_text(layout, "layer = -8")
    assert abs((label.box.top + label.box.bottom) - (tile.box.top + tile.box.bottom)) <= 2
    assert label.box.right < find_tile(layout, "", 2, 0).box.left


def test_a_tile_without_an_image_says_why():
    page = make_page(
        tiles={
            (0, 0): Tile(Path("a.png")),
            (0, 1): Tile(None, error="out of memory"),
            (1, 0): Tile(None),
            (1, 1): Tile(Path("b.png")),
            (2, 1): Tile(Path("a.png"), error=""),
        }
    )
    layout = layout_grid(page, (300, 300), problems={Path("b.png"): "not an image"})
    found = {
        (tile.row, tile.column): (tile.state, " ".join(tile.message.lines) if tile.message else None)
        for tile in layout.tiles
    }
    assert found == {
        (0, 0): ("image", None),
        (0, 1): ("failed", "failed: out of memory"),
        (1, 0): ("missing", "missing"),
        (1, 1): ("unreadable", "unreadable: not an image"),
        (2, 0): ("missing", "missing"),
        (2, 1): ("failed", "failed: no reason given"),
    }


def test_companions_stand_where_they_vary():
    tile = Tile(Path("a.png"))
    page = make_page(
        companions=[
            Strip("whole", {(0, 0): tile}),
            Strip("top", {(0, 1): tile}, "x"),
            Strip("side", {(2, 0): tile}, "y"),
            Strip("below", {(2, 1): tile}, "both"),
        ]
    )
    layout = layout_grid(page, (100, 100))
    main = find_tile(layout, "", 2, 1).box
    top, side = find_tile(layout, "top", 0, 1).box, find_tile(layout, "side", 2, 0).box
    below = find_tile(layout, "below", 2, 1).box
    assert (top.left, side.top, below.left) == (main.left, main.top, main.left)
    assert top.bottom < find_tile(layout, "", 0, 1).box.top
    assert side.right < find_tile(layout, "", 2, 0).box.left
    assert below.top > main.bottom
    assert find_tile(layout, "whole", 0, 0).box.right < side.left
    assert {"whole", "top", "side", "below"} <= {
        text.lines[0] for text in layout.texts if text.role == "heading"
    }


def test_the_panel_is_level_with_the_first_row():
    page = make_page(x_labels=[""], y_labels=[""], companions=[Strip("a name", {(0, 0): Tile(None)})])
    layout = layout_grid(page, (100, 100))
    assert find_tile(layout, "a name", 0, 0).box.top == find_tile(layout, "", 0, 0).box.top


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_labels": []}, "0 columns and 3 rows"),
        ({"tiles": {(3, 0): Tile(None)}}, "row 3, column 0"),
        ({"companions": [Strip("a", {(0, 1): Tile(None)})]}, "companion 'a' has a tile at row 0, column 1"),
        ({"companions": [Strip("a", {}, "z")]}, "allowed are none, x, y, both"),
    ],
)
def test_malformed_pages_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        layout_grid(make_page(**changes), (100, 100))


def test_tiny_tiles_are_refused():
    with pytest.raises(ValueError, match="at least 32"):
        layout_grid(make_page(), (100, 31))
