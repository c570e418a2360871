"""summary.html of an experiment: its summary, plots and small images of its grids in one file."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from graftwork.models.images import UnreadableImage, read_image
from graftwork.reports.document import Budget, Picture, PictureTable, encoded_size, write_document
from graftwork.reports.grid_layout import GridPage, Strip, Tile
from graftwork.reports.viewer.thumbnails import LOSSLESS_SIDE, QUALITY, ThumbnailStore

# Images are shown 128 pixels wide; screens with finer pixels use more of them.
SIDES = (256, 192, 128, 96)
# Pages of grids that are shown.
MOST_GRIDS = 12
LEFT_OUT = "left out, to keep this file small"


class SmallImages:
    """Small copies of images, from the thumbnails of the store where there are some.

    Attributes:
        side: longer side in pixels that images have at most.
    """

    def __init__(self, sources: Mapping[str, Path], store: ThumbnailStore):
        """Makes a reader.

        Args:
            sources: key of an image among the thumbnails -> its file.
            store: where thumbnails are.
        """
        self.side = SIDES[0]
        self._key_of = {path: key for key, path in sources.items()}
        self._store = store
        self._shrink = cache(self._shrunk)

    def choose_side(self, paths: Sequence[Path], most: int) -> None:
        """Sets the largest side at which these images have at most so many bytes together, as they stand in a page."""
        for self.side in SIDES:
            sizes = (encoded_size(len(found)) for path in paths if (found := self.read(path)) is not None)
            if sum(sizes) <= most:
                return

    def read(self, path: Path) -> bytes | None:
        """Returns an image as WebP, or None where it cannot be read."""
        return self._shrink(path, self.side)

    def is_small(self, path: Path) -> bool:
        """Returns whether the image has so few pixels that they are to be seen."""
        found = self.read(path)
        return found is not None and max(Image.open(io.BytesIO(found)).size) <= LOSSLESS_SIDE

    def _shrunk(self, path: Path, side: int) -> bytes | None:
        thumbnail = self._store.image(self._key_of[path]) if path in self._key_of else None
        if thumbnail is not None and thumbnail.is_file():
            data = thumbnail.read_bytes()
            image = Image.open(io.BytesIO(data))
            if max(image.size) <= side:
                return data
        else:
            try:
                image = read_image(path)
            except UnreadableImage:
                return None
        is_lossless = max(image.size) <= LOSSLESS_SIDE
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        image.save(encoded, "WEBP", lossless=is_lossless, quality=QUALITY, method=4)
        return encoded.getvalue()


def write_summary_page(
    markdown: str, folder: Path, grids: Mapping[str, GridPage], images: SmallImages, budget: Budget
) -> str:
    """Returns summary.html.

    Args:
        markdown: summary.md.
        folder: where it is.
        grids: name -> page of a grid, in the order in which they are shown.
        images: where small images come from.
        budget: what pictures may take. Plots come first: they are few, and say more.
    """
    shown = dict(list(grids.items())[:MOST_GRIDS])
    paths = [path for page in shown.values() for tile in _tiles(page) for path in tile.images]
    images.choose_side(paths, budget.left - _size_of_plots(folder))
    tables = [table for name, page in shown.items() for table in picture_tables(name, page, images, budget)]
    more = f" {len(grids) - len(shown)} more pages of grids are not shown." if len(grids) > len(shown) else ""
    note = (
        f"Made by graftwork. This page needs no other file. Its images are at most {images.side} pixels wide or high.{more} The files that "
        f"are named here are in {folder.as_posix()}/, and so is the viewer, with every image in full size."
    )
    return write_document(markdown, folder, budget, tables, note)


def _size_of_plots(folder: Path) -> int:
    return sum(encoded_size(path.stat().st_size) for path in folder.glob("plots/*.png"))


def _tiles(page: GridPage) -> Iterator[Tile]:
    for tiles in (page.tiles, *(strip.tiles for strip in page.companions)):
        yield from tiles.values()


def picture_tables(name: str, page: GridPage, images: SmallImages, budget: Budget) -> list[PictureTable]:
    """Returns a page of a grid as tables: what belongs to the whole page, the grid itself, and further blocks.

    Args:
        name: name of the page.
        page: what is on it.
        images: where small images come from.
        budget: what they may take.
    """

    def picture(tile: Tile | None, alt: str) -> Picture:
        return _picture(tile, alt, images, budget)

    kinds: dict[str, list[Strip]] = {"none": [], "x": [], "y": [], "both": []}
    for strip in page.companions:
        kinds[strip.along].append(strip)
    beside, names = kinds["y"], [strip.name for strip in kinds["y"]]
    rows = [
        (
            strip.name,
            [
                *(Picture() for _ in beside),
                *(
                    picture(strip.tiles.get((0, column)), f"{strip.name}, {label}")
                    for column, label in enumerate(page.x_labels)
                ),
            ],
        )
        for strip in kinds["x"]
    ]
    rows += [
        (
            label,
            [
                *(picture(strip.tiles.get((row, 0)), f"{strip.name}, {label}") for strip in beside),
                *_line(page, page.tiles, row, picture),
            ],
        )
        for row, label in enumerate(page.y_labels)
    ]
    tables = [PictureTable(f"Images: {name}", page.subtitle, [*names, *page.x_labels], rows)]
    if kinds["none"]:
        whole = [picture(strip.tiles.get((0, 0)), strip.name) for strip in kinds["none"]]
        heads = [strip.name for strip in kinds["none"]]
        tables.append(PictureTable("For all of these images", "", heads, [("", whole)]))
    tables += [
        PictureTable(
            f"Images: {name}, {strip.name}",
            "",
            page.x_labels,
            [(label, _line(page, strip.tiles, row, picture)) for row, label in enumerate(page.y_labels)],
        )
        for strip in kinds["both"]
    ]
    return tables


def _line(page: GridPage, tiles: Mapping[tuple[int, int], Tile], row: int, picture) -> list[Picture]:
    label = page.y_labels[row]
    return [
        picture(tiles.get((row, column)), ", ".join(filter(None, [label, text])))
        for column, text in enumerate(page.x_labels)
    ]


def _picture(tile: Tile | None, alt: str, images: SmallImages, budget: Budget) -> Picture:
    if tile is None or tile.absent or tile.error is not None or not tile.images:
        why = (
            "missing"
            if tile is None
            else tile.absent or (f"failed: {tile.error}" if tile.error else "missing")
        )
        return Picture(text=why)
    addresses = []
    for path in tile.images:
        data = images.read(path)
        if data is None:
            return Picture(text="unreadable")
        address = budget.take(data, "image/webp")
        if address is None:
            return Picture(text=LEFT_OUT)
        addresses.append(address)
    return Picture(addresses, alt, tile.note or "", all(map(images.is_small, tile.images)))
