"""Drawing: images at their places, damaged files, the size guard, determinism."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftwork.core.png import encode_png
from graftwork.design.pages import MOST_COLUMNS, MOST_ROWS
from graftwork.models.images import read_image
from graftwork.reports import typography
from graftwork.reports.grid import PageLimits, draw_grid, fit_grid, measure_images, with_note_on_glyphs
from graftwork.reports.grid_layout import GridPage, Strip, Tile, layout_grid
from graftwork.store.images import DigestWriter
from graftwork.store.layout import Store
from tests.unit.models.test_images import srgb_with_red_and_blue_exchanged

RED = (200, 30, 40)


def write_image(path: Path, size: tuple[int, int], color: tuple[int, int, int] = RED) -> Path:
    path.write_bytes(encode_png(np.full((size[1], size[0], 3), color, np.uint8)))
    return path


def make_page(columns: int, rows: int, tiles: dict, **changes) -> GridPage:
    return GridPage(
        "Title",
        "subtitle",
        [f"alpha = {column}" for column in range(columns)],
        [f"layer = {-row}" for row in range(rows)],
        tiles,
        **changes,
    )


def get_main_box(page: GridPage, tile_size: tuple[int, int], row: int = 0, column: int = 0):
    layout = layout_grid(page, tile_size)
    return next(
        tile.box for tile in layout.tiles if (tile.section, tile.row, tile.column) == ("", row, column)
    )


def crop(image: Image.Image, box) -> np.ndarray:
    return np.asarray(image)[box.top : box.bottom, box.left : box.right]


def test_small_images_are_enlarged_without_smoothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(pixels))
    page = make_page(1, 1, {(0, 0): Tile(path)})
    drawn = crop(draw_grid(page), get_main_box(page, (256, 256)))
    assert np.array_equal(drawn, pixels.repeat(4, axis=0).repeat(4, axis=1))


def test_large_images_are_reduced(tmp_path):
    page = make_page(1, 1, {(0, 0): Tile(write_image(tmp_path / "a.png", (1024, 768)))})
    assert (crop(draw_grid(page), get_main_box(page, (512, 384))) == RED).all()


def test_images_of_other_sizes_keep_their_shape(tmp_path):
    wide, tall = write_image(tmp_path / "a.png", (200, 100)), write_image(tmp_path / "b.png", (100, 200))
    page = make_page(2, 1, {(0, 0): Tile(wide), (0, 1): Tile(tall)})
    image = draw_grid(page)
    for column, shape in ((0, (100, 200)), (1, (200, 100))):
        red = (crop(image, get_main_box(page, (200, 200), column=column)) == RED).all(axis=-1)
        assert (red.any(axis=1).sum(), red.any(axis=0).sum()) == shape


def test_a_frame_marks_a_note_and_hides_no_pixel(tmp_path):
    path = write_image(tmp_path / "a.png", (256, 256))
    plain = make_page(1, 1, {(0, 0): Tile(path)})
    noted = make_page(1, 1, {(0, 0): Tile(path, note="same as baseline")})
    box = get_main_box(noted, (256, 256))
    image = draw_grid(noted)
    assert (crop(image, box) == RED).all()
    assert draw_grid(plain).getpixel((box.left - 1, box.top)) == (255, 255, 255)
    assert image.getpixel((box.left - 1, box.top)) != (255, 255, 255)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "absent", "empty", "folder", "middle"])
def test_damaged_files_become_tiles_that_say_so(tmp_path, damage):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode_png(pixels)
    contents = {
        "truncated": data[:3000],
        "foreign": b"hello",
        "empty": b"",
        "middle": data[:2000] + bytes(500) + data[2500:],
    }
    if damage in contents:
        path.write_bytes(contents[damage])
    elif damage == "folder":
        path.mkdir()
    page = make_page(2, 1, {(0, 0): Tile(path), (0, 1): Tile(write_image(tmp_path / "b.png", (64, 64)))})
    image = draw_grid(page)
    assert (crop(image, get_main_box(page, (256, 256), column=1)) == RED).all()
    corner = crop(image, get_main_box(page, (256, 256)))[2, 2]
    assert tuple(corner) == (255, 244, 223)
    assert str(tmp_path) not in "".join(measure_images(page)[1].values())


def test_another_image_under_the_name_of_one_of_the_store_is_not_drawn(tmp_path):
    store, key = Store(tmp_path), "aa" * 16
    path = store.image(key)
    path.parent.mkdir(parents=True)
    DigestWriter(store, "job").note(key, write_image(path, (64, 64)).read_bytes())
    page = make_page(1, 1, {(0, 0): Tile(path)})
    box = get_main_box(page, (256, 256))
    assert (crop(draw_grid(page), box) == RED).all()
    write_image(path, (64, 64), (30, 200, 40))
    assert tuple(crop(draw_grid(page), box)[2, 2]) == (255, 244, 223)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "LA", "1", "CMYK", "I;16"])
def test_images_of_all_modes_are_drawn(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (64, 64)).save(path)
    draw_grid(make_page(1, 1, {(0, 0): Tile(path)}))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (20, 20)])
def test_the_same_page_gives_the_same_bytes(tmp_path, shape):
    columns, rows = shape
    path = write_image(tmp_path / "a.png", (64, 64))
    tiles = {(row, column): Tile(path) for row in range(rows) for column in range(columns)}
    page = make_page(columns, rows, tiles, companions=[Strip("baseline", {(0, 0): Tile(path)}, "x")])
    digests = {
        hashlib.sha256(encode_png(np.asarray(draw_grid(page, tile_size=(64, 64))))).hexdigest()
        for _ in range(2)
    }
    assert len(digests) == 1


def test_tiles_shrink_until_the_page_fits():
    page = make_page(10, 3, {})
    layout = fit_grid(page, (512, 256), limits=PageLimits(max_side=3000))
    assert layout.width <= 3000
    side = layout.tiles[0].box.width
    assert 200 < side < 512
    assert layout.tiles[0].box.height == pytest.approx(side / 2, abs=1)
    assert fit_grid(page, (512, 256), limits=PageLimits(max_pixels=1_000_000)).width < 2200


def test_shrunk_tiles_stay_at_a_multiple_of_small_images():
    layout = fit_grid(make_page(10, 3, {}), (256, 256), natural_side=64, limits=PageLimits(max_side=2500))
    assert layout.tiles[0].box.width == 192


def test_every_page_of_a_design_can_be_drawn():
    """Pages are cut before there is an image: the largest has to fit whatever its labels and companions are."""
    text = "a prompt of many words " * 5
    tile = Tile(None, note=text)
    places = {(row, column): tile for row in range(MOST_ROWS) for column in range(MOST_COLUMNS)}
    page = GridPage(
        text,
        text,
        [f"{column} {text}" for column in range(MOST_COLUMNS)],
        [f"{row} {text}" for row in range(MOST_ROWS)],
        places,
        [Strip(f"{name} {text}", places, "both") for name in ("reference", "init image", "text alone")],
        [text] * 30,
    )
    limits = PageLimits()
    layout = layout_grid(page, (limits.min_tile, limits.min_tile))
    assert max(layout.width, layout.height) <= limits.max_side
    assert layout.width * layout.height <= limits.max_pixels


@pytest.mark.parametrize("limit", [{"max_side": 1500}, {"max_pixels": 300_000}])
def test_a_page_that_cannot_fit_is_refused(limit):
    with pytest.raises(ValueError, match=r"40 columns and 2 rows.*key `grids`"):
        draw_grid(make_page(40, 2, {}), limits=PageLimits(**limit))


def test_any_text_can_be_drawn():
    text = (
        "\u65e5\u672c \u05e2\u05d1\u05e8 \u0639\u0631\u0628 \U0001f600\u200d \x00\x07\ud800\t z\u0337\u0354 "
        + "w" * 500
    )
    tile = Tile(None, error=text, note=text)
    page = GridPage(text, text, [text], [text], {(0, 0): tile}, [Strip(text, {(0, 0): tile})], [text] * 30)
    image = draw_grid(page)
    margin = np.asarray(image)[:, -20:]
    assert (margin == 255).all()


def test_a_tile_shows_the_pixels_that_the_encoder_sees(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.png"
    Image.fromarray(pixels).save(path, exif=exif, icc_profile=srgb_with_red_and_blue_exchanged())
    page = make_page(1, 1, {(0, 0): Tile(path)})
    seen = np.asarray(read_image(path))
    assert seen.shape == (64, 32, 3)
    assert measure_images(page)[0] == {path: (32, 64)}
    box = get_main_box(page, (32, 64))
    assert np.array_equal(crop(draw_grid(page, tile_size=(32, 64)), box), seen)


def test_a_pipe_in_the_place_of_an_image_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    page = make_page(1, 1, {(0, 0): Tile(tmp_path / "pipe.png")})
    assert "no regular file" in measure_images(page)[1][tmp_path / "pipe.png"]
    assert draw_grid(page).size


def test_a_grid_says_what_it_cannot_draw(tmp_path, monkeypatch):
    monkeypatch.setattr(typography, "font_for", lambda char: None)
    path = write_image(tmp_path / "a.png", (8, 8))
    plain = make_page(2, 1, {(0, 0): Tile(path), (0, 1): Tile(path)}, footer=["seed = 1"])
    chinese = replace(plain, x_labels=["\u7ea2\u8272", "\u84dd\u8272"])
    assert draw_grid(chinese).height > draw_grid(replace(plain, x_labels=["a", "b"])).height
    assert with_note_on_glyphs(plain) is plain
    note = with_note_on_glyphs(chinese).footer[-1]
    assert "characters that no font of this machine has (CJK)" in note
    assert "fonts-noto-cjk" in note
    labels = [text for text in layout_grid(chinese, (64, 64)).texts if text.role == "x_label"]
    assert labels[0].lines != labels[1].lines
