"""Pages that need no other file: nothing is loaded from elsewhere, no text of users becomes markup, and the size is kept."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftwork.core.png import encode_png
from graftwork.core.tables import escape_markdown, markdown_table
from graftwork.reports.document import Budget, encoded_size, write_document
from graftwork.reports.grid_layout import GridPage, Strip, Tile
from graftwork.reports.summary_page import LEFT_OUT, SIDES, SmallImages, write_summary_page
from graftwork.reports.viewer.thumbnails import ThumbnailStore

HOSTILE = '</style></title><script>alert(1)</script><img src=x onerror=alert(2)> " onmouseover=alert(3) ![a](x.png) [b](javascript:alert(4))'
TEXT = f"""# Does {escape_markdown(HOSTILE)} do anything?

> {escape_markdown(HOSTILE)}

A table: [cells.csv](cells.csv), a paper: [paper](https://example.org/paper).

## Plots

* [finding](plots/finding.png): all of it
* [gone](plots/gone.png)

![the \"finding\" again](plots/finding.png)

{markdown_table(["prompt", "value"], [[HOSTILE, 1]])}
"""


def noise(side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "finding.png").write_bytes(encode_png(noise(8, 0)))
    return tmp_path


class Elements(HTMLParser):
    """The elements of a page, as a browser reads them: (tag, attributes)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def addresses(page: str) -> set[str]:
    """What a page loads or leads to, pictures by the beginning of their data."""
    named = [of.get(name) for _, of in Elements(page).found for name in ("src", "href", "srcset")]
    return {str(address).partition(",")[0] for address in named if address is not None}


def test_a_page_needs_no_other_file_and_runs_nothing(folder: Path) -> None:
    page = write_document(TEXT, folder, Budget())
    assert addresses(page) == {"data:", "data:image/png;base64", "https://example.org/paper"}
    elements = Elements(page).found
    assert "script" not in {tag for tag, _ in elements}
    assert not {name for _, of in elements for name in of if name.startswith("on")}
    assert page.count("&lt;script&gt;") == 4
    assert "<title>Does &lt;/style&gt;" in page
    # Only pictures that are data may be shown, whatever else went wrong.
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


def test_plots_are_inside_and_what_is_gone_is_said(folder: Path) -> None:
    page = write_document(TEXT, folder, Budget())
    data = base64.b64encode((folder / "plots/finding.png").read_bytes()).decode()
    assert page.count(f'src="data:image/png;base64,{data}"') == 2
    assert "gone (not in this page: plots/gone.png)" in page
    assert ">cells.csv<" not in page
    assert "A table: cells.csv" in page


def test_pictures_beyond_the_budget_are_left_out_and_counted(folder: Path) -> None:
    size = encoded_size((folder / "plots/finding.png").stat().st_size)
    page = write_document(TEXT, folder, Budget(size))
    assert page.count("data:image/png") == 1
    assert "1 pictures are left out" in page


def grid(paths: list[Path]) -> GridPage:
    tiles = {(0, at): Tile(path) for at, path in enumerate(paths)}
    tiles[1, 0] = Tile(None, error="out of memory")
    tiles[1, 1] = Tile(paths[0], note="same image as alpha = 0")
    strips = [
        Strip("reference", {(0, 0): Tile((paths[0], paths[1]))}, "none"),
        Strip("text alone", {(0, 0): Tile(paths[0]), (1, 0): Tile(None, absent="no text alone")}, "y"),
        Strip("init image", {(0, 1): Tile(paths[1])}, "x"),
        Strip("other", {(1, 1): Tile(paths[1])}, "both"),
    ]
    return GridPage("t", "seed = 1", ["alpha = 0", "alpha = 1"], ["<b>one</b>", "two"], tiles, strips)


def write(folder: Path, side: int, most: int) -> tuple[str, SmallImages]:
    paths = [folder / f"{seed}.png" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        Image.fromarray(noise(side, seed)).save(path)
    images = SmallImages({}, ThumbnailStore(folder / "none"))
    text = "# t\n\nhead\n\n## Plots\n\n* [finding](plots/finding.png)\n"
    page = write_summary_page(text, folder, {"x_by_y": grid(paths)}, images, Budget(most))
    return page, images


def test_a_grid_has_every_image_with_its_labels_and_what_stands_beside_it(folder: Path) -> None:
    page, images = write(folder, 32, 10**6)
    assert images.side == SIDES[0]
    assert page.index("<p>head</p>") < page.index("Images: x_by_y") < page.index("<h2>Plots</h2>")
    # The grid 3, its reference 2, text alone 1, start 1, the second block 1.
    assert page.count("data:image/webp") == 8
    alts = re.findall(r'alt="([^"]*)"', page)
    assert {
        "&lt;b&gt;one&lt;/b&gt;, alpha = 0",
        "two, alpha = 1",
        "reference",
        "init image, alpha = 1",
    } <= set(alts)
    for text in ("failed: out of memory", "same image as alpha = 0", "no text alone", "missing"):
        assert f">{text}</div>" in page
    assert '" class="small">' in page


def test_images_get_smaller_before_they_are_left_out(folder: Path) -> None:
    whole, images = write(folder, 300, 10**7)
    assert images.side == SIDES[0]
    size = len(whole)
    page, images = write(folder, 300, size // 2)
    assert images.side < SIDES[0]
    assert page.count("data:image/webp") == 8
    assert len(page) < size // 2 + 20_000
    page, images = write(folder, 300, 9_000)
    assert images.side == SIDES[-1]
    assert LEFT_OUT in page
    assert len(page) < 9_000 + 20_000
