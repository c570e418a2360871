"""A real browser, once for all tests. Where there is none, the tests are skipped, and the summary says so."""

import os
import shutil
import warnings
from pathlib import Path

import pytest

from tests.browser.synthetic import Page, make_page

# The browser may do nothing but show files: no network, no background work.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SKIPPED = pytest.StashKey[str]()


def find_browser() -> str | None:
    """Returns the path of a Chromium: of the environment variable BROWSER_PATH, or of the system."""
    chosen = os.environ.get("BROWSER_PATH")
    return chosen or next(filter(None, map(shutil.which, NAMES)), None)


def skip_loudly(request: pytest.FixtureRequest, reason: str) -> None:
    warnings.warn(pytest.PytestWarning(f"THE VIEWER WAS NOT TESTED IN A BROWSER: {reason}"), stacklevel=2)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(request):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_loudly(request, "playwright is not installed (make setup)")
    path = find_browser()
    if path is None:
        skip_loudly(
            request,
            "no Chromium was found; install it (Debian and Ubuntu: apt-get install chromium), or name one in BROWSER_PATH",
        )
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Page:
    """A viewer of 78 cells."""
    return make_page(tmp_path_factory.mktemp("synthetic"))


class Opened:
    """A page in the browser, with what went wrong in it."""

    def __init__(self, page, url: str):
        self.page, self.url = page, url
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on(
            "console",
            lambda line: (
                self.problems.append(f"{line.type}: {line.text}")
                if line.type in ("error", "warning")
                else None
            ),
        )
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)

    def _on_dialog(self, dialog) -> None:
        if dialog.type != "confirm":
            self.problems.append(f"dialog: {dialog.message}")
        dialog.accept()

    def _on_request(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def go(self, hash_: str = "") -> None:
        # A changed hash alone would not load the page again.
        self.page.goto("about:blank")
        self.page.goto(self.url + (f"#{hash_}" if hash_ else ""))
        self.page.wait_for_selector(".cell, .blind:not([hidden])")

    def state(self, name: str):
        return self.page.evaluate("name => Viewer.app.state.get(name)", name)

    def link(self) -> str:
        """What the address bar has after the `#`, once it says what is shown: it is written some time after a change."""
        self.page.wait_for_function("() => window.location.hash === '#' + Viewer.app.state.toHash()")
        return self.page.url.partition("#")[2]

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focus_cell(self, row: int = 0, column: int = 0) -> None:
        self.page.focus(f'.cell[data-row="{row}"][data-column="{column}"]')

    def cell_text(self, row: int, column: int) -> str:
        return self.page.get_attribute(f'.cell[data-row="{row}"][data-column="{column}"]', "aria-label")

    def download(self, name: str) -> Path:
        """Chooses an entry of the menu Save, and returns the file."""
        self.page.click("summary:has-text('Save')")
        with self.page.expect_download(timeout=15000) as waiting:
            self.page.click(f".menu.right button:has-text({name!r})")
        return Path(waiting.value.path())


@pytest.fixture
def open_page(browser, written):
    """Returns a function that opens the viewer; afterwards nothing may have gone wrong in it."""
    contexts, opened = [], []

    def open_(hash_="", width=1280, height=800, url=None, **context):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **context))
        contexts[-1].set_default_timeout(20000)
        opened.append(Opened(contexts[-1].new_page(), url or written.url))
        opened[-1].go(hash_)
        return opened[-1]

    yield open_
    problems = [problem for each in opened for problem in each.problems]
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def axe_script(request) -> str:
    """The source of axe-core, from the package axe-playwright-python."""
    from importlib.util import find_spec

    found = find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        skip_loudly(request, "axe-playwright-python is not installed (make setup)")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def axe(axe_script):
    """Returns a function that looks for what keeps people out, and fails where it is serious."""

    def look(page, where: str) -> None:
        if not page.evaluate("() => Boolean(window.axe)"):
            # Through the debugger: the page itself lets no foreign script in.
            page.evaluate(axe_script)
        found = page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations'], preload: false})).violations"
        )
        serious = [
            f"{each['id']} ({each['impact']}): {node['html'][:160]} {node['failureSummary'][:300]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"][:3]
        ]
        assert serious == [], f"{where}: " + "\n".join(serious)

    return look
