"""Pages of labelled images as data, and their geometry: where every tile and line of text goes, without drawing.

From left to right: companions of the whole page, row labels, companions by row, the tiles. From top to
bottom: title, subtitle, column labels, companions by column, the tiles, companions by tile, footer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from graftwork.reports.typography import line_height, load_font, wrap_distinct, wrap_text

MAIN = ""
MIN_TILE_SIDE = 32

_MAX_LINES = {"title": 4, "subtitle": 6, "x_label": 9, "heading": 4, "caption": 2, "footer": 14}
_FONTS = {
    "title": (25, True),
    "subtitle": (15, False),
    "x_label": (15, False),
    "y_label": (15, False),
    "heading": (14, True),
    "caption": (12, False),
    "message": (13, False),
    "footer": (13, False),
}


@dataclass(frozen=True)
class Tile:
    """One image of a page.

    Attributes:
        image: file of the image, or None; several files are shown beside each other.
        error: why there is no image; takes precedence over `image`.
        note: remark in a strip under the tile, such as "same as baseline".
        absent: what is not there, such as "no reference", where nothing is missing.
    """

    image: Path | tuple[Path, ...] | None
    error: str | None = None
    note: str | None = None
    absent: str | None = None

    @property
    def images(self) -> tuple[Path, ...]:
        """Every file of `image`."""
        if self.image is None:
            return ()
        return self.image if isinstance(self.image, tuple) else (self.image,)


@dataclass(frozen=True)
class Strip:
    """Images shown for comparison, such as the reference or the baseline.

    Attributes:
        name: heading.
        tiles: (row, column) -> tile.
        along: what the tiles vary with. "none": one tile (0, 0) in a panel left of the grid; "x": a row above the
            grid, keys (0, column); "y": a column left of the grid, keys (row, 0); "both": a second block
            under the grid.
    """

    name: str
    tiles: dict[tuple[int, int], Tile]
    along: Literal["none", "x", "y", "both"] = "none"


@dataclass(frozen=True)
class GridPage:
    """One page; `tiles` by (row, column), `footer` one paragraph each."""

    title: str
    subtitle: str
    x_labels: list[str]
    y_labels: list[str]
    tiles: dict[tuple[int, int], Tile]
    companions: list[Strip] = field(default_factory=list)
    footer: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; right and bottom are not included."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(frozen=True)
class TextBlock:
    """Lines of text, from the top of `box`.

    Attributes:
        role: "title", "subtitle", "x_label", "y_label", "heading", "caption", "message" or "footer".
        box: rectangle as wide as the room and as high as the lines.
        lines: lines that each fit into the width.
        size: size of the font in pixels.
        bold: whether the face is bold.
        align: place of the lines within the width.
    """

    role: str
    box: Box
    lines: tuple[str, ...]
    size: int
    bold: bool
    align: Literal["left", "center", "right"]


@dataclass(frozen=True)
class TileBox:
    """Where one tile goes.

    Attributes:
        section: name of the companion, or "" for the grid itself.
        row: index of the row.
        column: index of the column.
        tile: what to show, or None.
        state: "image", "failed", "unreadable", "missing" or "absent".
        box: room for the image.
        message: text within `box` where there is no image.
        caption: the note, directly under `box`.
    """

    section: str
    row: int
    column: int
    tile: Tile | None
    state: Literal["image", "failed", "unreadable", "missing", "absent"]
    box: Box
    message: TextBlock | None
    caption: TextBlock | None


@dataclass(frozen=True)
class Layout:
    """A page in pixels. Texts and tiles with their captions are disjoint; rules are thin separators."""

    width: int
    height: int
    scale: float
    texts: list[TextBlock]
    tiles: list[TileBox]
    rules: list[Box]


def find_scale(tile_size: tuple[int, int]) -> float:
    """Returns the size of text and margins for a tile (width, height), 1 at 256 pixels."""
    # Slower than the tile: text on large tiles need not be as large to be read.
    return min(max((max(tile_size) / 256) ** 0.7, 0.85), 3.0)


def make_message(text: str, box: Box, scale: float) -> TextBlock:
    """Places the text that stands for an image in the middle of its box."""
    padding = round(9 * scale)
    size, bold = _font_of("message", scale)
    font = load_font(size, bold)
    room = box.height - 2 * padding
    lines = wrap_text(text, font, box.width - 2 * padding, max(1, room // line_height(font)))
    height = len(lines) * line_height(font)
    top = box.top + (box.height - height) // 2
    inner = Box(box.left + padding, top, box.right - padding, top + height)
    return TextBlock("message", inner, tuple(lines), size, bold, "center")


def layout_grid(
    page: GridPage, tile_size: tuple[int, int], problems: Mapping[Path, str] | None = None
) -> Layout:
    """Places everything on a page.

    Args:
        page: what to show.
        tile_size: (width, height) of a tile in pixels, each at least 32.
        problems: image file that cannot be read -> the reason.

    Returns:
        The geometry; the same for the same arguments.

    Raises:
        ValueError: where there are no rows or columns, a tile is outside of them, `along` is unknown, or tiles are too small.
    """
    _check(page, tile_size)
    return _Composer(page, tile_size, problems or {}).compose()


def _check(page: GridPage, tile_size: tuple[int, int]) -> None:
    rows, columns = len(page.y_labels), len(page.x_labels)
    if not rows or not columns:
        raise ValueError(
            f"the grid {page.title!r} has {columns} columns and {rows} rows; it needs one of each"
        )
    if min(tile_size) < MIN_TILE_SIDE:
        raise ValueError(f"tile_size is {tile_size}; each side must have at least {MIN_TILE_SIDE} pixels")
    limits = {"none": (1, 1), "x": (1, columns), "y": (rows, 1), "both": (rows, columns)}
    blocks = [("the grid", "both", page.tiles)]
    blocks += [(f"the companion {strip.name!r}", strip.along, strip.tiles) for strip in page.companions]
    for what, along, tiles in blocks:
        if along not in limits:
            raise ValueError(f"{what} has along={along!r}; allowed are {', '.join(limits)}")
        last_row, last_column = limits[along]
        for row, column in tiles:
            if not (0 <= row < last_row and 0 <= column < last_column):
                raise ValueError(
                    f"{what} has a tile at row {row}, column {column}; it has {last_row} rows and "
                    f"{last_column} columns"
                )


def _font_of(role: str, scale: float) -> tuple[int, bool]:
    size, bold = _FONTS[role]
    return round(size * scale), bold


class _Composer:
    """Collects boxes from top to bottom; `_y` is where the next thing starts."""

    def __init__(self, page: GridPage, tile_size: tuple[int, int], problems: Mapping[Path, str]) -> None:
        self.page, self.problems = page, problems
        self.tile_width, self.tile_height = tile_size
        self.scale = find_scale(tile_size)
        self.margin, self.gap = round(28 * self.scale), round(8 * self.scale)
        self.section_gap = round(22 * self.scale)
        self.texts: list[TextBlock] = []
        self.tiles: list[TileBox] = []
        self.rules: list[Box] = []
        self.by_kind: dict[str, list[Strip]] = {"none": [], "x": [], "y": [], "both": []}
        for strip in page.companions:
            self.by_kind[strip.along].append(strip)
        self._y = 0

    def compose(self) -> Layout:
        self._plan_rows()
        self._plan_columns()
        body_width = self.right - self.margin
        content_width = max(body_width, round(560 * self.scale))
        # On a wide page the title has to be read when the whole page is on the screen.
        page_scale = self.scale * min(max(math.sqrt(body_width / (1400 * self.scale)), 1.0), 2.5)
        self._y = self.margin
        self._put_paragraph("title", self.page.title, content_width, page_scale)
        if self.page.title.strip() and self.page.subtitle.strip():
            self._y += round(5 * page_scale)
        self._put_paragraph("subtitle", self.page.subtitle, content_width, page_scale)
        if self.texts:
            self._y += round(20 * page_scale)
        self._put_body()
        self._put_footer(content_width, page_scale)
        return Layout(
            width=content_width + 2 * self.margin,
            height=self._y + self.margin,
            scale=self.scale,
            texts=self.texts,
            tiles=self.tiles,
            rules=self.rules,
        )

    # Sizes of the parts of the body, before anything has a place.

    def _plan_rows(self) -> None:
        page = self.page
        self.x_lines = self._wrap_all("x_label", page.x_labels, self.tile_width)
        self.y_headings = [self._wrap("heading", strip.name, self.tile_width) for strip in self.by_kind["y"]]
        # The headings of the panel count too: its first image is level with the first row.
        self.panel_headings = [
            self._wrap("heading", strip.name, self.tile_width) for strip in self.by_kind["none"]
        ]
        self.header_height = max(
            [len(lines) * self._line("x_label") for lines in self.x_lines]
            + [len(lines) * self._line("heading") for lines in self.y_headings + self.panel_headings]
        )
        rows = range(len(page.y_labels))
        beside = [page, *self.by_kind["y"]]
        self.captions = [
            self._caption_height(
                tile for block in beside for (at, _), tile in block.tiles.items() if at == row
            )
            for row in rows
        ]
        self.x_captions = [self._caption_height(strip.tiles.values()) for strip in self.by_kind["x"]]
        self.block_height = sum(self.tile_height + extra for extra in self.captions) + self.gap * (
            len(rows) - 1
        )
        self.block_height += self._header_room()
        self.block_height += sum(self.tile_height + extra + self.section_gap for extra in self.x_captions)

    def _plan_columns(self) -> None:
        self._plan_panel()
        room = round(240 * self.scale)
        max_lines = self.tile_height // self._line("y_label")
        self.y_lines = self._wrap_all("y_label", self.page.y_labels, room, max_lines)
        max_lines = min(_MAX_LINES["heading"], self.tile_height // self._line("heading"))
        self.x_headings = [self._wrap("heading", strip.name, room, max_lines) for strip in self.by_kind["x"]]
        widths = [self._measure("y_label", line) for lines in self.y_lines for line in lines]
        widths += [self._measure("heading", line) for lines in self.x_headings for line in lines]
        self.label_width = max(widths, default=0)
        left = self.label_left
        if self.label_width:
            left += self.label_width + round(12 * self.scale)
        self.y_lefts = []
        for _ in self.by_kind["y"]:
            self.y_lefts.append(left)
            left += self.tile_width + self.section_gap
        self.lefts = [left + index * (self.tile_width + self.gap) for index in range(len(self.page.x_labels))]
        self.right = self.lefts[-1] + self.tile_width

    def _header_room(self) -> int:
        return self.header_height + self.gap if self.header_height else 0

    def _plan_panel(self) -> None:
        """Stacks the companions of the whole page, in as many columns as the height of the grid asks for."""
        self.panel: list[tuple[Strip, int, int, list[str], int]] = []
        left, bottom, self.panel_height = self.margin, 0, 0
        for strip, lines in zip(self.by_kind["none"], self.panel_headings, strict=True):
            extra = self._caption_height(strip.tiles.values())
            below = bottom + self.section_gap + len(lines) * self._line("heading") + self.gap
            if bottom and below + self.tile_height + extra > self.block_height:
                left, bottom = left + self.tile_width + self.section_gap, 0
            tile_top = below if bottom else self._header_room()
            self.panel.append((strip, left, tile_top, lines, extra))
            bottom = tile_top + self.tile_height + extra
            self.panel_height = max(self.panel_height, bottom)
        self.label_left = left + self.tile_width + 2 * self.section_gap if self.panel else self.margin

    # Placing.

    def _put_body(self) -> None:
        top = self._y
        for strip, left, tile_top, lines, extra in self.panel:
            self._y = top + tile_top
            heading_top = self._y - self.gap - len(lines) * self._line("heading")
            self._put_lines("heading", lines, (left, heading_top), self.tile_width, "left")
            self._put_tile(strip.name, 0, 0, strip.tiles.get((0, 0)), left, extra)
        self._y = top
        self._put_header(self.y_headings)
        for strip, lines, extra in zip(self.by_kind["x"], self.x_headings, self.x_captions, strict=True):
            self._put_row_label("heading", lines, self.label_left)
            for column, left in enumerate(self.lefts):
                self._put_tile(strip.name, 0, column, strip.tiles.get((0, column)), left, extra)
            self._y += self.tile_height + extra + self.section_gap
            self._put_rule(self.label_left, self._y - self.section_gap // 2, self.right)
        main_top = self._y
        for row, extra in enumerate(self.captions):
            self._put_row_label("y_label", self.y_lines[row], self.label_left)
            for strip, left in zip(self.by_kind["y"], self.y_lefts, strict=True):
                self._put_tile(strip.name, row, 0, strip.tiles.get((row, 0)), left, extra)
            self._put_row(MAIN, row, self.page.tiles, extra)
        self._y -= self.gap
        for left in self.y_lefts:
            self._put_rule(left + self.tile_width + self.section_gap // 2, main_top, bottom=self._y)
        self._y = max(self._y, top + self.panel_height)
        if self.panel:
            self._put_rule(self.label_left - self.section_gap, top, bottom=self._y)
        for strip in self.by_kind["both"]:
            self._put_second_block(strip)

    def _put_second_block(self, strip: Strip) -> None:
        # The tiles keep the columns of the grid above, and the labels stand next to them.
        label_left = self.lefts[0]
        if self.label_width:
            label_left -= self.label_width + round(12 * self.scale)
        self._y += self.section_gap
        self._put_rule(self.label_left, self._y, self.right)
        self._y += self.section_gap
        lines = self._wrap("heading", strip.name, self.right - self.lefts[0])
        self._put_lines("heading", lines, (self.lefts[0], self._y), self.right - self.lefts[0], "left")
        self._y += len(lines) * self._line("heading") + self.gap
        self._put_header([])
        for row in range(len(self.page.y_labels)):
            extra = self._caption_height(tile for (at, _), tile in strip.tiles.items() if at == row)
            self._put_row_label("y_label", self.y_lines[row], label_left)
            self._put_row(strip.name, row, strip.tiles, extra)
        self._y -= self.gap

    def _put_header(self, y_headings: Sequence[list[str]]) -> None:
        bottom = self._y + self.header_height
        for lines, left in zip(self.x_lines, self.lefts, strict=True):
            top = bottom - len(lines) * self._line("x_label")
            self._put_lines("x_label", lines, (left, top), self.tile_width, "center")
        for lines, left in zip(y_headings, self.y_lefts, strict=False):
            top = bottom - len(lines) * self._line("heading")
            self._put_lines("heading", lines, (left, top), self.tile_width, "center")
        self._y += self._header_room()

    def _put_row(self, section: str, row: int, tiles: Mapping[tuple[int, int], Tile], extra: int) -> None:
        for column, left in enumerate(self.lefts):
            self._put_tile(section, row, column, tiles.get((row, column)), left, extra)
        self._y += self.tile_height + extra + self.gap

    def _put_row_label(self, role: str, lines: Sequence[str], left: int) -> None:
        top = self._y + (self.tile_height - len(lines) * self._line(role)) // 2
        # Ragged-left paragraphs are hard to read; short labels sit next to their tiles.
        prose = role == "y_label" and any(len(lines) > 2 for lines in self.y_lines)
        self._put_lines(role, lines, (left, top), self.label_width, "left" if prose else "right")

    def _put_tile(
        self, section: str, row: int, column: int, tile: Tile | None, left: int, caption_height: int
    ) -> None:
        box = Box(left, self._y, left + self.tile_width, self._y + self.tile_height)
        state, text = _describe(tile, self.problems)
        message = make_message(text, box, self.scale) if text else None
        caption = None
        if tile and tile.note and caption_height:
            size, bold = _font_of("caption", self.scale)
            lines = self._caption_lines(tile.note)
            strip = Box(left, box.bottom, box.right, box.bottom + caption_height)
            caption = TextBlock("caption", strip, tuple(lines), size, bold, "center")
        self.tiles.append(TileBox(section, row, column, tile, state, box, message, caption))

    def _put_footer(self, width: int, scale: float) -> None:
        paragraphs = "\n".join(self.page.footer)
        if not paragraphs.strip():
            return
        self._y += round(20 * scale)
        self._put_rule(self.margin, self._y, self.margin + width)
        self._y += round(12 * scale)
        self._put_paragraph("footer", paragraphs, width, scale)

    def _put_paragraph(self, role: str, text: str, width: int, scale: float) -> None:
        font = load_font(*_font_of(role, scale))
        lines = wrap_text(text, font, width, _MAX_LINES[role])
        self._put_lines(role, lines, (self.margin, self._y), width, "left", scale)
        self._y += len(lines) * line_height(font)

    def _put_lines(
        self,
        role: str,
        lines: Sequence[str],
        corner: tuple[int, int],
        width: int,
        align: Literal["left", "center", "right"],
        scale: float | None = None,
    ) -> None:
        """Places lines of text below each other; `corner` is the upper left one, (left, top)."""
        if lines:
            left, top = corner
            size, bold = _font_of(role, scale or self.scale)
            box = Box(left, top, left + width, top + len(lines) * line_height(load_font(size, bold)))
            self.texts.append(TextBlock(role, box, tuple(lines), size, bold, align))

    def _put_rule(self, left: int, top: int, right: int | None = None, bottom: int | None = None) -> None:
        thickness = max(1, round(self.scale))
        self.rules.append(Box(left, top, right or left + thickness, bottom or top + thickness))

    # Measuring text.

    def _line(self, role: str) -> int:
        return line_height(load_font(*_font_of(role, self.scale)))

    def _measure(self, role: str, line: str) -> int:
        return math.ceil(load_font(*_font_of(role, self.scale)).getlength(line))

    def _wrap(self, role: str, text: str, width: int, max_lines: int | None = None) -> list[str]:
        return wrap_text(text, load_font(*_font_of(role, self.scale)), width, max_lines or _MAX_LINES[role])

    def _wrap_all(
        self, role: str, texts: Sequence[str], width: int, max_lines: int | None = None
    ) -> list[list[str]]:
        font = load_font(*_font_of(role, self.scale))
        return wrap_distinct(texts, font, width, max_lines or _MAX_LINES[role])

    def _caption_lines(self, note: str) -> list[str]:
        return self._wrap("caption", note, self.tile_width - 2 * round(4 * self.scale))

    def _caption_height(self, tiles: Iterable[Tile]) -> int:
        notes = [tile.note for tile in tiles if tile.note]
        lines = max((len(self._caption_lines(note)) for note in notes), default=0)
        return lines * self._line("caption") + 2 * round(3 * self.scale) if lines else 0


def _describe(
    tile: Tile | None, problems: Mapping[Path, str]
) -> tuple[Literal["image", "failed", "unreadable", "missing", "absent"], str | None]:
    """Returns the state of a tile and the text that stands for its image, if any."""
    if tile is not None and tile.absent:
        return "absent", tile.absent
    if tile is None or (tile.image is None and tile.error is None):
        return "missing", "missing"
    if tile.error is not None:
        return "failed", f"failed: {tile.error or 'no reason given'}"
    for path in tile.images:
        if path in problems:
            return "unreadable", f"unreadable: {problems[path]}"
    return "image", None
