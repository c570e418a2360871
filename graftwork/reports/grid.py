"""Draws a page of labelled images from files, labels and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from graftwork.models.images import UnreadableImage, image_size, read_image
from graftwork.reports.fonts import can_shape
from graftwork.reports.grid_layout import (
    MIN_TILE_SIDE,
    Box,
    GridPage,
    Layout,
    TextBlock,
    Tile,
    TileBox,
    layout_grid,
    make_message,
)
from graftwork.reports.typography import (
    REPLACEMENT,
    line_height,
    load_font,
    runs_right_to_left,
    undrawable,
)
from graftwork.store.images import DamagedImage, require_undamaged

# A page of photographs this large has about 75 MB as PNG; Pillow warns about images above 89 million.
MAX_PIXELS = 50_000_000
# Browsers draw no image with a longer side.
MAX_SIDE = 16_384


@dataclass(frozen=True)
class PageLimits:
    """How large a page may be, in pixels.

    Attributes:
        max_side: largest width and height of the page.
        max_pixels: largest area of the page.
        min_tile: longer side that tiles keep when they are reduced to fit; a smaller tile is taken as it is.
    """

    max_side: int = MAX_SIDE
    max_pixels: int = MAX_PIXELS
    min_tile: int = 96


_LIMITS = PageLimits()
# Scripts that a note names.
_MOST_NAMED = 4

_PREFERRED_SIDE = 512
_READABLE_SIDE = 192
_SMALL_TARGET_SIDE = 256
_DEFAULT_SIDE = 256

_BACKGROUND = "#ffffff"
_RULE = "#d4d4d4"
_MARK = "#2f6db3"
_MARK_PALE = "#e6eef8"
_TEXT_COLORS = {
    "title": "#222222",
    "subtitle": "#5f5f5f",
    "x_label": "#333333",
    "y_label": "#333333",
    "heading": "#333333",
    "caption": "#24527f",
    "footer": "#5f5f5f",
}
# Fill, border and text of tiles without an image.
_STATE_COLORS = {
    "failed": ("#fdecea", "#efb8b2", "#8a1f15"),
    "unreadable": ("#fff4df", "#e8cb92", "#75510a"),
    "missing": ("#f4f4f4", "#dcdcdc", "#7a7a7a"),
    "image": ("#f4f4f4", "#f4f4f4", "#7a7a7a"),
    "absent": ("#ffffff", "#e4e4e4", "#7a7a7a"),
}


def draw_grid(
    page: GridPage,
    *,
    tile_size: tuple[int, int] | None = None,
    limits: PageLimits = _LIMITS,
) -> Image.Image:
    """Draws a page.

    Images keep their aspect ratio: smaller ones are enlarged by an integer factor without smoothing, larger
    ones reduced with a Lanczos filter. A file that cannot be read becomes a tile that says so.

    Args:
        page: what to show.
        tile_size: preferred (width, height) of a tile in pixels. By default the largest image of the grid
            itself decides, not its companions: 192 to 512 pixels on the longer side.
        limits: largest page and smallest tiles.

    Returns:
        An RGB image; the same pixels for the same page and files.

    Raises:
        ValueError: where the page does not fit, or is malformed (see `layout_grid`).
    """
    page = with_note_on_glyphs(page)
    sizes, problems = measure_images(page)
    own = [sizes[tile.image] for tile in page.tiles.values() if tile.image in sizes] or list(sizes.values())
    layout = fit_grid(
        page,
        _choose_tile_size(own) if tile_size is None else tile_size,
        problems=problems,
        natural_side=max((max(size) for size in own), default=None),
        limits=limits,
    )
    canvas = Image.new("RGB", (layout.width, layout.height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for rule in layout.rules:
        _fill(draw, rule, _RULE)
    for tile in layout.tiles:
        _draw_tile(canvas, draw, tile, layout.scale)
    for text in layout.texts:
        _draw_text(canvas, text, _TEXT_COLORS[text.role])
    return canvas


def with_note_on_glyphs(page: GridPage) -> GridPage:
    """Returns the page with a note in its footer, where some of its text cannot be drawn."""
    notes = [text for tile in _iterate_tiles(page) for text in (tile.note, tile.error) if text]
    names = [strip.name for strip in page.companions]
    texts = [page.title, page.subtitle, *page.x_labels, *page.y_labels, *page.footer, *names, *notes]
    if not can_shape() and any(map(runs_right_to_left, texts)):
        note = "Pillow has no Raqm here: text that runs from right to left is neither ordered nor joined"
        page = replace(page, footer=[*page.footer, note])
    lacking = undrawable(texts)
    if not lacking:
        return page
    note = (
        f"{REPLACEMENT} stands for characters that no font of this machine has ({', '.join(lacking[:_MOST_NAMED])}); cells.csv has the "
        f"text. Install a font, such as the package fonts-noto-cjk or fonts-noto-color-emoji, and delete this file: the next run draws it again"
    )
    return replace(page, footer=[*page.footer, note])


def measure_images(page: GridPage) -> tuple[dict[Path, tuple[int, int]], dict[Path, str]]:
    """Reads the headers of all images of a page.

    Returns:
        The (width, height) of the readable files, and for each other file why it is not.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    problems: dict[Path, str] = {}
    for tile in _iterate_tiles(page):
        for path in tile.images if tile.error is None else ():
            if path in sizes or path in problems:
                continue
            try:
                sizes[path] = image_size(path)
            except UnreadableImage as error:
                problems[path] = str(error)
    return sizes, problems


def fit_grid(
    page: GridPage,
    tile_size: tuple[int, int],
    *,
    problems: dict[Path, str] | None = None,
    natural_side: int | None = None,
    limits: PageLimits = _LIMITS,
) -> Layout:
    """Lays a page out with the largest tiles, up to `tile_size`, for which it is not too large.

    Args:
        page: what to show.
        tile_size: preferred (width, height) of a tile in pixels.
        problems: image file that cannot be read -> the reason.
        natural_side: longer side of the images; enlarged tiles stay at a multiple of it where possible.
        limits: largest page and smallest tiles.

    Raises:
        ValueError: where even the smallest tiles do not fit, or the page is malformed.
    """

    def lay_out(side: int) -> Layout:
        return layout_grid(page, _scale_size(tile_size, side), problems)

    def fits(layout: Layout) -> bool:
        is_small = layout.width * layout.height <= limits.max_pixels
        return is_small and max(layout.width, layout.height) <= limits.max_side

    preferred = max(tile_size)
    layout = lay_out(preferred)
    if fits(layout):
        return layout
    low = min(limits.min_tile, preferred)
    layout = lay_out(low)
    if not fits(layout):
        raise ValueError(_explain_too_large(page, layout, low, limits))
    high = preferred
    while high - low > 1:
        middle = (low + high) // 2
        candidate = lay_out(middle)
        if fits(candidate):
            low, layout = middle, candidate
        else:
            high = middle
    if natural_side and low > natural_side:
        snapped = low - low % natural_side
        candidate = lay_out(snapped)
        if snapped >= min(limits.min_tile, preferred) and fits(candidate):
            layout = candidate
    return layout


def _iterate_tiles(page: GridPage) -> Iterator[Tile]:
    yield from page.tiles.values()
    for strip in page.companions:
        yield from strip.tiles.values()


def _choose_tile_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    if not sizes:
        return _DEFAULT_SIDE, _DEFAULT_SIDE
    width, height = max(width for width, _ in sizes), max(height for _, height in sizes)
    side = max(width, height)
    if side < _READABLE_SIDE:
        factor = max(_SMALL_TARGET_SIDE // side, -(-_READABLE_SIDE // side))
        return _scale_size((width, height), side * factor)
    return _scale_size((width, height), min(side, _PREFERRED_SIDE))


def _scale_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns the size with another longer side; the shorter one leaves room for a few words."""
    longer = max(size)
    shortest = max(MIN_TILE_SIDE, side // 4)
    width, height = (max(shortest, (part * side + longer // 2) // longer) for part in size)
    return width, height


def _explain_too_large(page: GridPage, layout: Layout, side: int, limits: PageLimits) -> str:
    columns, rows = len(page.x_labels), len(page.y_labels)
    first = layout.tiles[0].box
    gap = round(8 * layout.scale)
    pitch_x, pitch_y = first.width + gap, first.height + gap
    most_columns = max(0, (limits.max_side - layout.width) // pitch_x + columns)
    most_rows = max(0, (limits.max_side - layout.height) // pitch_y + rows)
    return (
        f"the grid {page.title!r} has {columns} columns and {rows} rows: with tiles of {side} pixels, the "
        f"smallest allowed, the page has {layout.width} x {layout.height} pixels; allowed are {limits.max_side} on "
        f"a side and {limits.max_pixels} in all, here at most {min(most_columns, columns)} columns and "
        f"{min(most_rows, rows)} rows, and about {limits.max_pixels // (pitch_x * pitch_y)} tiles. Split it into "
        f"several: give fewer values to x and y in the key `grids` of the experiment file"
    )


def _draw_tile(canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: TileBox, scale: float) -> None:
    box, message, state = tile.box, tile.message, tile.state
    if tile.caption:
        # The frame lies outside the image, in the gap, so that no pixel of it is hidden.
        reach = max(2, round(2 * scale))
        frame = Box(box.left - reach, box.top - reach, box.right + reach, tile.caption.box.bottom)
        _fill(draw, frame, _MARK)
        _fill(draw, Box(box.left, box.bottom, box.right, tile.caption.box.bottom - reach), _MARK_PALE)
        _draw_text(canvas, tile.caption, _TEXT_COLORS["caption"])
    if state == "image":
        try:
            image = _load_images(tile.tile.images, box)
        except UnreadableImage as error:
            state = "unreadable"
            message = make_message(f"unreadable: {error}", box, scale)
        else:
            if image.size != (box.width, box.height):
                _fill(draw, box, _STATE_COLORS["image"][0])
            left, top = (box.width - image.width) // 2, (box.height - image.height) // 2
            canvas.paste(image, (box.left + left, box.top + top))
            return
    fill, border, color = _STATE_COLORS[state]
    draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=fill, outline=border)
    _draw_text(canvas, message, color)


def _load_images(paths: Sequence[Path], box: Box) -> Image.Image:
    """Loads images as RGB and fits them into a box, several in equal parts of it, row by row."""
    if len(paths) == 1:
        return _load_image(paths[0], box)
    side = math.ceil(math.sqrt(len(paths)))
    lines = math.ceil(len(paths) / side)
    width, height = box.width // side, box.height // lines
    whole = Image.new("RGB", (box.width, box.height), _BACKGROUND)
    for number, path in enumerate(paths):
        left, top = number % side * width, number // side * height
        # A pixel between neighbours, so that they are seen to be several.
        image = _load_image(path, Box(0, 0, max(width - 1, 1), max(height - 1, 1)))
        whole.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    return whole


def _load_image(path: Path, box: Box) -> Image.Image:
    """Loads an image as models see it and fits it into a box; one of the store is compared with what was written."""
    try:
        require_undamaged(path)
    except DamagedImage as error:
        raise UnreadableImage("damaged") from error
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error
    image = read_image(path)
    factor = min(box.width // image.width, box.height // image.height)
    if factor >= 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    ratio = min(box.width / image.width, box.height / image.height)
    width, height = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    return image.resize((min(width, box.width), min(height, box.height)), Image.Resampling.LANCZOS)


def _fill(draw: ImageDraw.ImageDraw, box: Box, color: str) -> None:
    draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=color)


def _draw_text(canvas: Image.Image, block: TextBlock, color: str) -> None:
    font = load_font(block.size, block.bold)
    step = line_height(font)
    box = block.box
    top = box.top + (box.height - len(block.lines) * step) // 2
    for index, line in enumerate(block.lines):
        slack = box.width - font.getlength(line)
        shift = {"left": 0.0, "center": slack / 2, "right": slack}[block.align]
        font.draw(canvas, (box.left + int(shift), top + index * step), line, color)
