"""What a page of labelled images shows, and where its parts go, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Tile:
    """One image of a page.

    Attributes:
        image: The file, or None; several files are shown beside each other.
        error: Why there is no image; takes precedence over `image`.
        note: A remark shown in a strip under the tile, such as "same as baseline".
    """

    image: Path | tuple[Path, ...] | None
    error: str | None = None
    note: str | None = None

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
        name: Heading.
        tiles: By (row, column).
        along: What they vary with. "none": one tile (0, 0) in a panel left of the grid; "x": a row above the
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
        box: As wide as the room, as high as the lines.
        lines: Each fits into the width.
        size: Of the font, in pixels.
        bold: The face.
        align: Within the width.
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
        section: Name of the companion, or "" for the grid itself.
        row: Index.
        column: Index.
        tile: What to show, or None.
        state: "image", "failed", "unreadable" or "missing".
        box: Room for the image.
        message: Text within `box` where there is no image.
        caption: The note, directly under `box`.
    """

    section: str
    row: int
    column: int
    tile: Tile | None
    state: Literal["image", "failed", "unreadable", "missing"]
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
