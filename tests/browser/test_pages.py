"""The index of all results and summaries as one file, in a browser: readable everywhere, and nothing runs or is loaded."""

from pathlib import Path

import pytest

from graftwork.core.records import write_record
from graftwork.core.tables import escape_markdown, markdown_table
from graftwork.reports import index
from graftwork.reports.document import Budget
from graftwork.reports.grid_layout import GridPage, Strip, Tile
from graftwork.reports.index import CARD, Card, State, States
from graftwork.reports.summary_page import SmallImages, write_summary_page
from graftwork.reports.viewer.thumbnails import ThumbnailStore
from tests.browser.conftest import Opened
from tests.browser.synthetic import ATTRIBUTE, LINK, LONG, RIGHT_TO_LEFT, SCRIPT

HOSTILE = (SCRIPT, ATTRIBUTE, LINK, RIGHT_TO_LEFT, LONG)
WIDTHS = (390, 1280, 2560)


@pytest.fixture(scope="module")
def pages(written, tmp_path_factory) -> dict[str, Path]:
    """Pages with hostile texts wherever texts of users can be."""
    root = tmp_path_factory.mktemp("pages")
    images = [Path(row["image"]) for row in written.rows.values() if row["image"]][:6]
    tiles = {(row, column): Tile(images[row], note=HOSTILE[row]) for row in range(5) for column in range(12)}
    tiles[0, 0] = Tile(None, error=SCRIPT)
    strip = Strip(SCRIPT, {(row, 0): Tile(images[5]) for row in range(5)}, "y")
    grid = GridPage(
        "t", SCRIPT, [f"alpha = {at} {ATTRIBUTE}" for at in range(12)], list(HOSTILE), tiles, [strip]
    )
    lines = [f"# {escape_markdown(SCRIPT)}", *map(escape_markdown, HOSTILE), "## Settings"]
    lines += [markdown_table(["prompt", *"abcdefgh"], [[text, *range(8)] for text in HOSTILE])]
    page = write_summary_page(
        "\n\n".join(lines), root, {"x_by_y": grid}, SmallImages({}, ThumbnailStore(root)), Budget()
    )
    (root / "summary.html").write_text(page, encoding="utf-8")
    states = [
        State(total=4),
        State(total=4, failed=1),
        State(total=4, missing=2),
        State(is_running=True),
        None,
    ]
    for name, text in zip("abcde", HOSTILE, strict=True):
        folder = root / "results" / name
        folder.mkdir(parents=True)
        (folder / "summary.html").write_text("x")
        write_record(folder / CARD, Card(name, text, text, (text,), 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        known = {f"results/{name}": state for name, state in zip("abcde", states, strict=True) if state}
        write_record(index.STATES, States(known))
        index.write_index({"experiment": ["a", "not_made"]})
    return {"summary": root / "summary.html", "index": root / "results" / "index.html"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["summary", "index"])
def test_pages_are_readable_at_every_width_and_run_nothing(browser, axe, pages, name, scheme):
    context = browser.new_context(color_scheme=scheme)
    opened = Opened(context.new_page(), pages[name].as_uri())
    page = opened.page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(opened.url)
        assert page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 0
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 22, 26)") == (scheme == "dark")
    assert page.evaluate("() => window.attacked") is None
    assert page.evaluate(
        "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )
    if name == "summary":
        assert page.locator("img").count() == 5 * 12 - 1 + 5
    else:
        assert page.locator(".state").all_inner_texts() == [
            "done: 4 cells",
            "not made yet",
            "1 failed, 3 of 4 cells done",
            "partly: 2 of 4 cells done",
            "running",
            "done: 4 cells",
        ]
    assert opened.problems == []
    axe(page, f"{name}, {scheme}")
    context.close()
