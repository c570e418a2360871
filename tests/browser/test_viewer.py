"""The viewer as people use it: from a disk, in a real browser, without a network."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from graftwork.core.records import to_json
from graftwork.scores.ratings.files import RatedCell, preferences, read_ratings, score_columns
from tests.browser.synthetic import FAILURE, LONG, PROMPTS, make_page
from tests.unit.design.designs import expand

WIDTHS = {"phone": (390, 844), "laptop": (1280, 800), "wide": (2560, 1440)}
# The page is the same at all widths but for its rules of layout: one of them is looked at in every run.
EACH_WIDTH = [
    pytest.param(name, marks=() if name == "laptop" else pytest.mark.slow, id=name) for name in WIDTHS
]
EACH_SCHEME = [pytest.param("light"), pytest.param("dark", marks=pytest.mark.slow)]


def column_labels(view):
    return [text.split()[-1] for text in view.page.locator(".column-label .label-text").all_inner_texts()]


def ids_on_page(view):
    """Ids of the cells that are in the page, by row and column."""
    return view.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.cell')].map((node) => {
            const [row, column] = [Number(node.dataset.row), Number(node.dataset.column)];
            return [`${row},${column}`, Viewer.app.model.id(Viewer.app.grid.cellAt(row, column))];
        }))"""
    )


def shown_cell(view):
    return view.state("cell")


# ---- The grid


def test_it_opens_on_the_first_grid_of_the_experiment_with_question_no_ops_and_scores(open_page):
    view = open_page()
    assert (view.state("x"), view.state("y")) == ("alpha", "prompt")
    assert column_labels(view) == ["0", "0.5", "1"]
    assert "Does anything break at" in view.page.inner_text(".question")
    assert "1 of 4 settings with alpha above 0 is a no-op" in view.page.inner_text(".no-ops")
    assert "hidden_layer -4, alpha 0.5 = hidden_layer -2, alpha 0.5" in view.page.inner_text(".no-ops")
    scores = view.page.inner_text("table.scores")
    assert "follows_prompt \u2212 baseline" in scores.replace("\t", " ")
    assert "\u22120.25" in scores
    assert view.state("heat") == "difference_to_baseline"


def test_images_are_shown(open_page):
    view = open_page()
    view.page.wait_for_function(
        "() => [...document.querySelectorAll('.cell img')].every((image) => image.complete && image.naturalWidth === 32)"
    )
    assert view.page.locator(".cell img").count() >= 6


PICTURES_IN_VIEW = """() => {
    const grid = document.querySelector('.grid').getBoundingClientRect();
    return [...document.querySelectorAll('.cell, .companion')].filter((node) => {
        const box = node.getBoundingClientRect();
        return node.offsetParent && box.bottom > grid.top && box.top < grid.bottom && box.right > grid.left && box.left < grid.right;
    }).flatMap((node) => [...node.querySelectorAll('img')]);
}"""
ALL_ARE_SHOWN = f"""() => {{
    const pictures = ({PICTURES_IN_VIEW})();
    return pictures.length > 0 && pictures.every((one) => one.naturalWidth > 0 && getComputedStyle(one).visibility === 'visible');
}}"""


def test_where_the_grid_leaps_no_picture_is_read_on_the_way_and_then_all_are_shown(open_page):
    view = open_page("size=160&sy=hidden_layer&sx=reference&over=baseline")
    view.page.wait_for_function(ALL_ARE_SHOWN)
    # Down in one leap, back and down again, each in a frame of its own: what is passed by is not asked for.
    sources = view.page.evaluate(
        """async () => {
            const grid = document.querySelector('.grid');
            const frame = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            grid.scrollTo(0, grid.scrollHeight);
            await frame();
            const node = document.querySelector(`.cell[data-row="${Viewer.app.grid.lines.length - 3}"] img`);
            return [node.getAttribute('src'), getComputedStyle(node).visibility];
        }"""
    )
    assert sources == [None, "hidden"]
    view.page.wait_for_function(ALL_ARE_SHOWN)
    # The view is drawn again in one piece: nothing waits for its turn.
    assert view.page.evaluate(
        """() => {
            Viewer.app.state.set({heat: 'visible_change'});
            return [...document.querySelectorAll('.cell img')].every((one) => one.getAttribute('src') && !one.classList.contains('waiting'));
        }"""
    )


def test_pictures_that_are_scrolled_to_have_the_image_itself_where_there_is_no_thumbnail(
    browser, written, tmp_path
):
    shutil.copytree(written.folder, tmp_path / "viewer")
    shutil.rmtree(tmp_path / "viewer" / "thumbnails")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto((tmp_path / "viewer" / "index.html").as_uri() + "#size=160&sy=hidden_layer")
    page.wait_for_function(ALL_ARE_SHOWN)
    page.evaluate("() => document.querySelector('.grid').scrollTo(0, 700)")
    page.wait_for_function("() => !document.querySelector('.cell[data-row=\"0\"]')")
    page.wait_for_function(ALL_ARE_SHOWN)
    page.close()


def test_any_two_axes_and_two_outer_ones(open_page, written):
    view = open_page()
    for slot, axis in (
        ("Columns", "hidden_layer"),
        ("Rows", "alpha"),
        ("Outer columns", "reference"),
        ("Outer rows", "prompt"),
    ):
        view.page.locator(".toolbar label", has_text=slot).get_by_role("combobox").first.select_option(axis)
    assert [view.state(name) for name in ("x", "y", "superX", "superY")] == [
        "hidden_layer",
        "alpha",
        "reference",
        "prompt",
    ]
    assert column_labels(view) == ["-2", "-4", "-2", "-4"]
    shown = {cell["cell"]: cell["shown"] for cell in written.design["cells"]}
    labels = view.page.locator(".row-label").all_inner_texts()
    assert "alpha 0" in labels[0].replace("\n", " ")
    for place, cell in ids_on_page(view).items():
        row, column = map(int, place.split(","))
        assert shown[cell]["hidden_layer"] == [-2, -4][column % 2]
        assert shown[cell]["reference"] == ["house", "tree"][column // 2]
        assert shown[cell]["alpha"] == [0.0, 0.5, 1.0][row % 3]
        assert shown[cell]["prompt"] == PROMPTS[row // 3]["text"]


def test_an_axis_that_is_taken_twice_changes_places(open_page):
    view = open_page()
    view.page.locator(".toolbar label", has_text="Columns").get_by_role("combobox").first.select_option(
        "prompt"
    )
    assert (view.state("x"), view.state("y")) == ("prompt", "alpha")
    view.page.click("button[aria-label='Swap rows and columns']")
    assert (view.state("x"), view.state("y")) == ("alpha", "prompt")


def test_axes_that_are_not_on_the_grid_have_one_value_each(open_page, written):
    view = open_page()
    shown = {cell["cell"]: cell["shown"] for cell in written.design["cells"]}
    assert {shown[cell]["reference"] for cell in ids_on_page(view).values()} == {"house"}
    view.page.click("button[aria-label='reference: next value']")
    assert {shown[cell]["reference"] for cell in ids_on_page(view).values()} == {"tree"}
    assert view.page.evaluate("() => document.activeElement.dataset.key") == "next:reference"
    view.press("]")
    assert view.state("fixed")["reference"] == 0


def test_single_values_are_hidden_and_shown(open_page):
    view = open_page()
    view.page.click("summary:has-text('Values')")
    view.page.click("label:has-text('0.5') >> input")
    assert column_labels(view) == ["0", "1"]
    view.page.click("button[aria-label='Only prompt apple']")
    assert view.page.locator(".grid-row").count() == 1
    assert "6 hidden" in view.page.inner_text("summary:has-text('Values')")
    view.page.click("button[aria-label='Show all values of prompt']")
    view.page.click("button[aria-label='Show all values of alpha']")
    assert column_labels(view) == ["0", "0.5", "1"]
    view.press("Escape")
    assert not view.page.is_visible(".menu-body.values")


def test_failed_missing_equal_and_no_op_cells_are_marked(open_page, written):
    view = open_page("at.hidden_layer=-4&at.reference=tree&size=200")
    last = len(PROMPTS) - 1
    view.focus_cell(0, 0)
    view.press("PageDown", "PageDown", "PageDown", "ArrowRight", "ArrowRight")
    view.page.wait_for_selector(f".cell[data-row='{last}']")
    assert view.page.inner_text(f".cell[data-row='{last}'][data-column='1'] .frame.failed") == FAILURE
    assert view.page.inner_text(f".cell[data-row='{last}'][data-column='2'] .frame.missing") == "not made yet"
    assert FAILURE in view.cell_text(last, 1)
    view.go("at.hidden_layer=-4&size=200")
    assert "same image as the text alone" in view.cell_text(0, 0)
    assert "this setting does nothing: it equals hidden_layer -2, alpha 0.5" in view.cell_text(0, 1)
    assert view.page.inner_text(".cell[data-row='0'][data-column='1'] .marks") == "no-op"
    assert "the prompt was cut" in view.cell_text(0, 2)


def test_reference_and_baseline_stand_beside_each_row(open_page):
    view = open_page()
    names = (
        view.page.locator(".grid-row")
        .first.locator(".companion img")
        .evaluate_all("all => all.map((image) => image.alt)")
    )
    assert names == ["reference: house.png", "text alone: text alone"]


def test_reference_and_baseline_are_beside_the_facts_of_any_cell(open_page):
    # A grid of prompts by seeds has no row and no column that shares a baseline.
    view = open_page("x=reference&y=alpha&sx=prompt")
    view.focus_cell(1, 1)
    images = view.page.locator(".panel.beside .companion img")
    assert images.evaluate_all("all => all.map((image) => image.alt)") == [
        "reference: tree.png",
        "text alone: text alone",
    ]
    view.page.locator(".panel.beside .companion").nth(1).click()
    assert (view.state("view"), view.state("other")) == ("side", "baseline")


def test_every_one_of_several_references_is_compared_with(open_page, tmp_path):
    view = open_page(url=make_page(tmp_path, SMALL["two_references_together"]).url)
    view.page.click(".cell[data-row='0'][data-column='0']")
    for other in ("reference", "reference2"):
        view.press("r")
        assert (view.state("view"), view.state("other")) == ("blink", other)
    view.page.wait_for_function("() => document.querySelector('.stage-label').textContent === 'reference 2'")
    view.press("r")
    assert view.state("view") == "single"
    view.page.locator("dialog .companion", has_text="reference 2").click()
    assert (view.state("view"), view.page.inner_text(".stage-label.right")) == ("side", "reference 2")
    # The picture has the focus again, so that keys go on.
    view.press("s")
    assert view.state("view") == "slider"
    other = open_page(view.link(), url=view.url)
    assert other.state("other") == "reference2"


def test_keys_go_on_after_a_control_was_used(open_page):
    view = open_page()
    view.page.click(".cell[data-row='0'][data-column='0']")
    view.page.click("dialog button[aria-label='Image to the right']")
    assert (
        view.page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Image to the right"
    )
    view.press("d")
    assert view.state("view") == "difference"
    view.page.click("dialog [aria-label='3 of 5']")
    view.press("f", "Escape")
    assert "rated 3 of 5; favourite" in view.cell_text(0, 1)
    view.page.click("table.scores button:has-text('follows_prompt_shape')")
    assert view.page.evaluate("() => document.activeElement.textContent") == "follows_prompt_shape"


def test_labels_stay_in_view_while_scrolling(open_page):
    view = open_page("sx=reference&size=300", width=900)
    view.page.evaluate("() => document.querySelector('.grid').scrollTo(700, 900)")
    view.page.wait_for_function("() => !document.querySelector('.cell[data-row=\"0\"]')")
    grid = view.page.locator(".grid").bounding_box()
    head = view.page.locator(".grid-head").bounding_box()
    assert head["y"] == pytest.approx(grid["y"], abs=1)
    label = view.page.locator(".row-label").nth(2).bounding_box()
    assert label["x"] == pytest.approx(grid["x"], abs=1)


# With scroll bars, which a headless browser hides: a page that scrolls although it should not is seen by its size alone.
@pytest.mark.parametrize("scheme", EACH_SCHEME)
@pytest.mark.parametrize("size", EACH_WIDTH)
def test_the_page_fits_the_window_and_only_the_grid_scrolls(open_page, size, scheme):
    width, height = WIDTHS[size]
    view = open_page(width=width, height=height, color_scheme=scheme)
    view.focus_cell(0, 0)
    sizes = "() => { const page = document.documentElement; return [page.scrollWidth, page.scrollHeight]; }"
    assert view.page.evaluate(sizes) == [width, height]
    toolbar = (
        "() => { const bar = document.querySelector('.toolbar'); return bar.scrollWidth - bar.clientWidth; }"
    )
    assert view.page.evaluate(toolbar) <= 0
    assert view.page.evaluate(
        "() => { const grid = document.querySelector('.grid'); return grid.scrollHeight > grid.clientHeight; }"
    )


LONG_NAMES = {
    "title": "Long names of rows",
    "base": {
        "prompts": [
            *(
                {
                    "name": f"object_only_with_a_rather_long_name_{at}",
                    "text": f"a red apple, {at}, " + "on a table " * 20,
                }
                for at in range(3)
            ),
            {"name": "a_name_that_is_too_long_for_any_label_" * 2 + "and_ends_in_0.25", "text": "an apple"},
            {"name": "short", "text": "a blue boat at sea " * 20},
        ],
        "references": ["house"],
        "encoder": "vision",
        "generator": "images",
        "height": 64,
        "width": 64,
    },
    "axes": {"hidden_layer": [-2, -4], "alpha": [0.0, 0.25, 0.5, 0.75, 1.0]},
    "grids": [{"x": "alpha", "y": "prompt"}],
}
# Of each text of a label: what it says, how many lines of it are seen, and whether they end above what comes below.
LABEL_TEXTS = """() => [...document.querySelectorAll('.row-label')].flatMap((label) => {
    const below = label.querySelector('.companions')?.offsetParent ? label.querySelector('.companions').getBoundingClientRect() : null;
    const end = document.querySelector('.grid').classList.contains('narrow') || !below ? label.getBoundingClientRect().bottom : below.top;
    return [...label.querySelectorAll('.super-label, .label-text, .detail')].filter((node) => node.offsetParent).map((node) => ({
        text: node.textContent,
        lines: node.getBoundingClientRect().height / parseFloat(getComputedStyle(node).lineHeight),
        room: end - node.getBoundingClientRect().bottom,
    }));
})"""


@pytest.mark.parametrize("size", EACH_WIDTH)
def test_labels_of_rows_are_whole_lines(open_page, tmp_path, size):
    width, height = WIDTHS[size]
    view = open_page(width=width, height=height, url=make_page(tmp_path, LONG_NAMES).url)
    for outer, side in (("", 0), ("hidden_layer", 0), ("", 80), ("", 130), ("hidden_layer", 200)):
        view.page.evaluate("([superY, size]) => Viewer.app.state.set({superY, size})", [outer, side])
        texts = view.page.evaluate(LABEL_TEXTS)
        assert len(texts) >= 4
        for each in texts:
            assert each["lines"] >= 0.99, each
            assert each["lines"] == pytest.approx(round(each["lines"]), abs=0.05), each
            assert each["room"] >= -0.5, each
        names = [each["text"] for each in texts if each["text"].startswith("prompt ")]
        assert names[0].startswith("prompt object_")
        assert names[0].endswith("g_name_0")


def test_size_is_fitted_and_can_be_chosen(open_page):
    view = open_page()
    fitted = view.page.locator(".cell .frame").first.bounding_box()["width"]
    view.page.locator("input[aria-label='Size of the images in pixels']").fill("96")
    assert view.page.locator(".cell .frame").first.bounding_box()["width"] == 96
    view.page.click("button:has-text('Fit')")
    assert view.page.locator(".cell .frame").first.bounding_box()["width"] == fitted


def test_any_number_colours_the_images_as_it_is_or_against_the_baseline(open_page):
    view = open_page()
    view.page.locator("select[data-key='heat']").select_option("follows_prompt_size")
    assert view.page.inner_text(".cell[data-row='0'][data-column='2'] .value") == "0.5"
    view.page.check("input[data-key='minus']")
    assert view.page.inner_text(".cell[data-row='0'][data-column='2'] .value") == "\u22120.5"
    assert "negative" in view.page.get_attribute(".cell[data-row='0'][data-column='2']", "class")
    view.page.locator("select[data-key='style']").select_option("fill")
    assert view.page.inner_text(".cell[data-row='0'][data-column='2'] .fill-value") == "\u22120.5"
    view.page.click("table.scores button:has-text('follows_prompt_shape')")
    assert (view.state("heat"), view.state("minus")) == ("follows_prompt_shape", True)


def test_one_slider_moves_all_images(open_page):
    view = open_page()
    view.page.locator("select[data-key='over']").select_option("baseline")
    view.page.locator("input[aria-label='Slider of all images']").fill("20")
    frame = view.page.locator(".cell .frame .other").first
    assert "20%" in frame.evaluate("(node) => getComputedStyle(node).clipPath")
    view.page.locator("select[data-key='how']").select_option("difference")
    assert frame.evaluate("(node) => getComputedStyle(node).mixBlendMode") == "difference"
    view.page.locator("select[data-key='over']").select_option("reference")
    view.page.locator("select[data-key='how']").select_option("blink")
    assert frame.evaluate("(node) => getComputedStyle(node).animationName") == "blink"


# ---- Full screen


def test_arrows_walk_the_grid_in_full_screen(open_page):
    view = open_page()
    view.focus_cell(1, 0)
    view.press("Enter")
    assert view.page.is_visible("dialog.full")
    at = view.page.evaluate("() => Viewer.app.model.describe(Viewer.app.full.cell)")
    assert at == "<b>script</b>, reference house, hidden_layer -2, alpha 0"
    view.press("ArrowRight", "ArrowDown")
    assert view.page.inner_text(".full-title") == "a\"ttribute', reference house, hidden_layer -2, alpha 0.5"
    view.press("ArrowRight", "ArrowRight")
    assert "edge of the grid" in view.page.inner_text("#messages")
    view.press("ArrowUp", "ArrowLeft", "Escape")
    assert not view.page.is_visible("dialog.full")
    assert view.page.evaluate(
        "() => [document.activeElement.dataset.row, document.activeElement.dataset.column]"
    ) == ["1", "1"]


def test_keys_of_full_screen(open_page):
    view = open_page()
    view.page.click(".cell[data-row='0'][data-column='2']")
    for key, mode, other in (
        ("b", "blink", "baseline"),
        ("r", "blink", "reference"),
        ("s", "slider", "reference"),
        ("d", "difference", "reference"),
        ("x", "side", "reference"),
        ("x", "single", "reference"),
    ):
        view.press(key)
        assert (view.state("view"), view.state("other")) == (mode, other)
        assert view.page.get_attribute(".stage", "data-view") == mode
    view.press("i")
    assert not view.page.is_visible("dialog .panel")
    view.press("i", "z")
    assert view.page.locator(".stage-frame").first.bounding_box()["width"] == 32
    view.press("z", "?")
    assert view.page.is_visible("dialog.help")
    view.press("Escape")
    assert view.page.is_visible("dialog.full")


def test_blinking_shows_one_and_the_other_and_stops(open_page):
    view = open_page()
    view.focus_cell(0, 2)
    view.press("b")
    assert view.page.inner_text(".stage-label") == "text alone"
    view.page.wait_for_function("() => document.querySelector('.stage-label').textContent === 'this image'")
    view.press("Space")
    before = view.page.inner_text(".stage-label")
    view.page.wait_for_timeout(900)
    assert view.page.inner_text(".stage-label") == before


def test_the_slider_compares_any_two_images(open_page, written):
    view = open_page()
    view.focus_cell(0, 1)
    view.press("p")
    pinned = view.state("pin")
    view.focus_cell(2, 2)
    view.press("s")
    assert (view.state("view"), view.state("other")) == ("slider", "pinned")
    assert view.page.inner_text(".stage-label.right") == "pinned: prompt apple, alpha 0.5"
    sources = view.page.locator(".stage-frame img").evaluate_all(
        "all => all.map((image) => image.getAttribute('src'))"
    )
    assert sources == [
        f"images/{Path(written.rows[cell]['image']).name}" for cell in (shown_cell(view), pinned)
    ]
    box = view.page.locator(".stage-frame").first.bounding_box()
    view.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    view.page.mouse.up()
    assert view.page.input_value("input[aria-label='How much of the first image is shown']") == "25"
    view.press("p")
    assert view.state("pin") == shown_cell(view)


def test_one_key_brings_the_pair_that_differs_most(open_page, written):
    column = next(column for column in written.data["columns"] if column["name"] == "difference_to_baseline")
    known = sorted(filter(None, column["numbers"]), reverse=True)
    view = open_page()
    view.press("m")
    assert view.page.is_visible("dialog.full")
    assert (view.state("view"), view.state("other")) == ("slider", "baseline")
    at = written.data["cells"]["ids"].index(shown_cell(view))
    assert column["numbers"][at] == known[0]
    first = shown_cell(view)
    view.press("m")
    assert shown_cell(view) != first
    view.press("M")
    assert shown_cell(view) == first
    view.press("Escape")
    assert view.page.evaluate("() => Viewer.app.model.id(Viewer.app.grid.activeCell)") == first


def test_two_layers_are_compared_by_blinking(open_page):
    view = open_page()
    view.page.click(".cell[data-row='0'][data-column='2']")
    view.page.locator("dialog label", has_text="Walk along").get_by_role("combobox").select_option(
        "hidden_layer"
    )
    view.page.locator(".full-title").click()
    view.press("p", "]", "v")
    assert (view.state("view"), view.state("other")) == ("blink", "pinned")
    view.page.wait_for_function(
        "() => document.querySelector('.stage-label').textContent === 'this image: hidden_layer -4'"
    )
    view.page.wait_for_function(
        "() => document.querySelector('.stage-label').textContent === 'pinned: hidden_layer -2'"
    )


def test_a_slider_that_is_dragged_is_not_let_go(open_page):
    view = open_page()
    for name in ("Size of the images in pixels", "Slider of all images"):
        if name.startswith("Slider"):
            view.page.locator("select[data-key='over']").select_option("baseline")
        slider = view.page.locator(f"input[aria-label='{name}']")
        box = slider.bounding_box()
        before = slider.input_value()
        view.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
        view.page.mouse.down()
        values = []
        for share in (0.6, 0.75, 0.9):
            view.page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
            values.append(int(slider.input_value()))
        view.page.mouse.up()
        assert values == sorted(set(values)), name
        assert slider.input_value() != before


def test_an_axis_is_walked_along(open_page, written):
    shown = {cell["cell"]: cell["shown"] for cell in written.design["cells"]}
    view = open_page()
    view.page.click(".cell[data-row='0'][data-column='1']")
    view.page.locator("dialog label", has_text="Walk along").get_by_role("combobox").select_option("alpha")
    view.page.locator(".full-title").click()
    assert shown[shown_cell(view)]["alpha"] == 0.5
    view.press("]")
    assert shown[shown_cell(view)]["alpha"] == 1
    view.press("[", "[")
    assert shown[shown_cell(view)]["alpha"] == 0
    view.press("c")
    view.page.wait_for_function("() => Viewer.app.model.value('alpha', Viewer.app.full.cell) === 0.5")
    view.press("c")


def test_facts_and_experiment_file_of_a_cell(open_page, written, tmp_path):
    view = open_page("at.hidden_layer=-4", permissions=["clipboard-read", "clipboard-write"])
    view.page.click(".cell[data-row='0'][data-column='2']")
    panel = view.page.inner_text("dialog .panel")
    for text in (
        "tokens",
        "20",
        "visible_change",
        "1.3",
        "the prompt was cut <b>here</b>",
        "a red apple on a wooden table",
        Path(written.rows[shown_cell(view)]["image"]).name,
    ):
        assert text in panel
    view.page.click("dialog button[aria-label='Copy the experiment file of this cell']")
    view.page.wait_for_function("() => document.getElementById('messages').textContent.startsWith('Copied')")
    text = view.page.evaluate("() => navigator.clipboard.readText()")
    assert text == view.page.inner_text("dialog .yaml pre")
    design = to_json(expand(tmp_path, yaml.safe_load(text), "copied"))
    assert [cell for _, cell in design["positions"]] == [shown_cell(view)]


def test_the_experiment_file_of_every_cell_makes_exactly_this_cell(open_page, written, tmp_path):
    view = open_page()
    texts = view.page.evaluate(
        "() => Viewer.app.model.data.cells.ids.map((_, cell) => Viewer.app.model.yaml(cell))"
    )
    for (cell, row), text in zip(written.rows.items(), texts, strict=True):
        design = to_json(expand(tmp_path, yaml.safe_load(text), "again"))
        assert cell in {each["cell"] for each in design["cells"]}
        assert row["role"] != "cell" or [at for _, at in design["positions"]] == [cell]


def test_a_no_op_is_shown_beside_what_it_equals(open_page):
    view = open_page()
    view.page.click(".no-ops button")
    assert view.state("view") == "side"
    assert "hidden_layer -4, alpha 0.5" in view.page.inner_text(".full-title")
    assert view.page.inner_text(".stage-label.right") == "pinned: hidden_layer -2"


# ---- The link


def test_a_link_brings_the_view_back(open_page):
    view = open_page()
    view.page.locator(".toolbar label", has_text="Outer rows").get_by_role("combobox").first.select_option(
        "hidden_layer"
    )
    view.page.locator("select[data-key='heat']").select_option("visible_change")
    view.page.click("button[aria-label='reference: next value']")
    view.page.click("summary:has-text('Values')")
    view.page.click("button[aria-label='Only prompt <b>script</b>']")
    view.press("Escape")
    view.focus_cell(0, 1)
    view.press("Enter", "s")
    link = view.link()
    values = view.page.evaluate(
        "() => ({...Viewer.app.state.values, hidden: [...Viewer.app.state.values.hidden.prompt]})"
    )
    other = open_page(link)
    assert (
        other.page.evaluate(
            "() => ({...Viewer.app.state.values, hidden: [...Viewer.app.state.values.hidden.prompt]})"
        )
        == values
    )
    assert other.page.is_visible("dialog.full")


def test_a_link_keeps_the_place_in_the_grid_and_the_value_of_the_table(open_page):
    view = open_page("size=300")
    assert "from=" not in view.page.evaluate("() => Viewer.app.link()")
    view.page.locator("select[data-key='only']").select_option(label=PROMPTS[1]["name"])
    view.page.evaluate("() => document.querySelector('.grid').scrollTo(0, 3 * Viewer.app.grid.rowHeight)")
    link = view.page.evaluate("() => Viewer.app.link()")
    other = open_page(link.partition("#")[2])
    assert (
        other.page.evaluate("() => document.querySelector('.grid').scrollTop / Viewer.app.grid.rowHeight")
        == 3
    )
    assert other.state("only") == PROMPTS[1]["name"]
    table = "table.scores"
    assert other.page.inner_text(table) == view.page.inner_text(table)


def test_a_link_that_is_wrong_or_hostile_opens_the_first_view(open_page):
    view = open_page(
        "x=nothing&y=%3Cscript%3E&heat=constructor&cell=__proto__&at.alpha=9&hide.prompt=zzz&size=1e99&view=html&with=javascript:alert(1)"
    )
    assert (view.state("x"), view.state("y"), view.state("cell"), view.state("view")) == (
        "alpha",
        "prompt",
        "",
        "single",
    )
    assert column_labels(view) == ["0", "0.5", "1"]


def test_a_link_in_the_address_bar_is_followed_without_loading(open_page):
    view = open_page()
    view.page.evaluate("() => (window.location.hash = 'x=hidden_layer&y=prompt')")
    view.page.wait_for_function(
        "() => document.querySelector('.column-label .label-text').textContent.includes('hidden_layer')"
    )
    assert column_labels(view) == ["-2", "-4"]


# ---- Ratings


def test_ratings_by_keyboard_are_kept_saved_and_read_as_scores(open_page, written):
    view = open_page()
    view.focus_cell(0, 2)
    view.press("4", "f")
    assert "rated 4 of 5; favourite" in view.cell_text(0, 2)
    view.press("ArrowDown", "Enter", "2")
    assert view.page.get_attribute("dialog [aria-label='2 of 5']", "aria-pressed") == "true"
    view.press("Escape")
    view.go()
    assert "rated 4 of 5; favourite" in view.cell_text(0, 2)
    view.page.locator("select[data-key='heat']").select_option("stars")
    assert view.page.inner_text(".cell[data-row='1'][data-column='2'] .value") == "2"
    view.page.click("summary:has-text('Save')")
    view.page.fill(".rater input", "Ada <b>")
    view.press("Escape")
    as_json, as_csv = view.download("My ratings (JSON)"), view.download("My ratings (CSV)")
    assert {rating.rater for rating in read_ratings([as_json]).ratings} == {"Ada <b>"}
    ratings = read_ratings([as_json])
    assert read_ratings([as_csv]) == ratings
    sha256 = dict(zip(written.data["images"]["keys"], written.data["images"]["sha256"], strict=True))
    cells = [
        RatedCell(cell, sha256.get(Path(row["image"]).stem, ""), row["prompt"], {})
        for cell, row in written.rows.items()
    ]
    scores = dict(zip(written.rows, score_columns(ratings, cells), strict=True))
    on_page = ids_on_page(view)
    assert (scores[on_page["0,2"]]["rating"], scores[on_page["0,2"]]["favourite"]) == (4, 1)
    assert scores[on_page["1,2"]]["rating"] == 2
    view.page.click("summary:has-text('Save')")
    view.page.click("button:has-text('Remove all my ratings')")
    assert "rated" not in view.cell_text(0, 2)
    view.page.set_input_files("input[type=file]", as_csv)
    view.page.wait_for_function(
        "() => document.querySelector('.cell[data-row=\"0\"][data-column=\"2\"]').ariaLabel.includes('rated 4')"
    )


def test_a_file_that_is_none_of_ratings_is_refused(open_page, tmp_path):
    (tmp_path / "x.json").write_text('{"format": "<img src=x onerror=window.attacked=1>"}')
    view = open_page()
    view.page.set_input_files("input[type=file]", tmp_path / "x.json")
    view.page.wait_for_function(
        "() => document.getElementById('messages').textContent.includes('x.json cannot be read')"
    )


def test_blind_rating_hides_settings_and_shuffles(open_page):
    view = open_page("mode=rate&shuffle=7")
    order = view.page.evaluate("() => Viewer.app.blind.queue")
    assert order != sorted(order)
    assert len(order) == len(set(order)) >= 30
    text = view.page.inner_text("body")
    for word in ("alpha", "hidden_layer", "difference_to_baseline"):
        assert word not in text
    view.press("5", "3")
    assert "3 of 20" in view.page.inner_text(".blind-progress")
    view.press("r", "ArrowLeft", "f")
    view.page.click("button:has-text('Finish and reveal')")
    assert "2 of 20 images are rated" in view.page.inner_text(".blind")
    again = open_page("mode=rate&shuffle=7")
    assert again.page.evaluate("() => Viewer.app.blind.queue") == order
    view.page.click("button:has-text('Back to the grid')")
    assert view.page.is_visible(".grid")


def test_choices_between_two_blind_images_become_strengths(open_page, written):
    view = open_page("mode=choose&axis=alpha&shuffle=3")
    assert "alpha 0.5" not in view.page.inner_text(".blind")
    # Prefers the larger alpha wherever it stands.
    for _ in range(12):
        left, right = view.page.evaluate(
            "() => Viewer.app.blind.queue[Viewer.app.blind.at].map((cell) => Viewer.app.model.value('alpha', cell))"
        )
        view.press("ArrowLeft" if left > right else "ArrowRight")
    view.press("=")
    assert "14 of 20" in view.page.inner_text(".blind-progress")
    view.press("Backspace")
    assert "13 of 20" in view.page.inner_text(".blind-progress")
    view.page.click("button:has-text('Finish and reveal')")
    assert "100 % of" in view.page.inner_text(".blind-results")
    with view.page.expect_download() as waiting:
        view.page.click("button:has-text('Save ratings')")
    sha256 = dict(zip(written.data["images"]["keys"], written.data["images"]["sha256"], strict=True))
    cells = [
        RatedCell(cell, sha256.get(Path(row["image"]).stem, ""), row["prompt"], {"alpha": row["alpha"]})
        for cell, row in written.rows.items()
    ]
    ratings = read_ratings([Path(waiting.value.path())])
    assert len(ratings.choices) == 12
    assert [each.item for each in preferences(ratings, cells, "alpha")] == ["1.0", "0.5", "0.0"]


# ---- What is saved


# Given a mixture of colours of the page, its red, green and blue as a screen has them.
MIXED = """([start, end, share]) => {
    const node = document.body.appendChild(document.createElement('span'));
    node.style.color = `color-mix(in oklab, var(${start}), var(${end}) ${share}%)`;
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = getComputedStyle(node).color;
    context.fillRect(0, 0, 1, 1);
    node.remove();
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def count_of(picture, colour):
    """How many pixels have a colour, give or take 2."""
    return sum(
        count
        for count, found in picture.getcolors(10**7)
        if max(abs(one - other) for one, other in zip(found, colour, strict=True)) <= 2
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_saved_in_the_colours_of_the_page(open_page, scheme):
    view = open_page(color_scheme=scheme)
    ground = view.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    picture = Image.open(view.download("This view as a picture")).convert("RGB")
    assert f"rgb{picture.getpixel((2, 2))}" == ground
    heat = round(100 * view.page.evaluate("() => Viewer.app.heat.strength(Viewer.app.grid.cellAt(0, 2))"))
    outline = view.page.evaluate(MIXED, ["--line", "--positive", heat])
    fill = view.page.evaluate(MIXED, ["--surface", "--positive", round(0.6 * heat)])
    assert (count_of(picture, outline) > 1000, count_of(picture, fill) > 10000) == (True, False)
    view.page.locator("select[data-key='style']").select_option("fill")
    filled = Image.open(view.download("This view as a picture")).convert("RGB")
    assert (count_of(filled, outline) > 1000, count_of(filled, fill) > 10000) == (False, True)


def test_the_view_is_saved_as_a_picture(open_page):
    view = open_page()
    picture = Image.open(view.download("This view as a picture")).convert("RGB")
    assert min(picture.size) > 500
    cell = view.page.evaluate("() => Viewer.app.heat.value(Viewer.app.grid.cellAt(0, 0))")
    assert cell == 0
    # The green corner of the images at alpha 1, which comes from the thumbnails.
    assert max(picture.getcolors(10**7))[0] > 1000
    assert len(picture.getcolors(10**7)) > 200


def test_rows_and_tables_are_saved(open_page, written):
    view = open_page()
    rows = list(
        csv.DictReader(
            io.StringIO(view.download("This view as rows").read_text(encoding="utf-8"), newline="")
        )
    )
    assert len(rows) == 3 * len(PROMPTS)
    for row in rows:
        assert row["prompt"] == written.rows[row["cell"]]["prompt"]
        assert row["visible_change"] == "" or float(row["visible_change"]) == float(
            written.rows[row["cell"]]["visible_change"]
        )
    table = list(csv.reader(io.StringIO(view.download("as a table").read_text(encoding="utf-8"), newline="")))
    assert table[0] == ["difference_to_baseline", "alpha 0", "alpha 0.5", "alpha 1"]
    assert [line[0] for line in table[1:]] == [f"prompt {prompt['name']}" for prompt in PROMPTS]


# ---- Where it is opened


def test_the_folder_can_be_moved(open_page, written, tmp_path):
    shutil.copytree(written.folder, tmp_path / "ä b#c%20" / "viewer")
    view = open_page(url=(tmp_path / "ä b#c%20" / "viewer" / "index.html").as_uri())
    view.page.wait_for_function(
        "() => [...document.querySelectorAll('.cell img')].every((image) => image.complete && image.naturalWidth)"
    )
    view.page.click(".cell[data-row='0'][data-column='2']")
    view.page.wait_for_function("() => document.querySelector('.stage-frame img').naturalWidth === 32")


# In a report the page is in a frame, and to look at localStorage may already be an error.
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('refused', 'SecurityError'); }})"


def test_it_works_in_a_frame_that_may_store_nothing(open_page, written, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(written.folder, folder / "viewer")
    (folder / "index.html").write_text('<iframe src="viewer/index.html" width="1200" height="700"></iframe>')
    view = open_page()
    view.page.add_init_script(NO_STORAGE)
    view.page.goto((folder / "index.html").as_uri())
    frame = view.page.frame_locator("iframe")
    frame.locator(".cell[data-row='0'][data-column='2']").click()
    view.press("3", "s")
    assert frame.locator("dialog [aria-label='3 of 5']").get_attribute("aria-pressed") == "true"
    view.press("Escape")
    frame.locator("button:has-text('A or B')").click()
    view.press("ArrowLeft")
    frame.locator("button:has-text('Finish and reveal')").click()
    assert "keeps nothing here: save the file" in frame.locator(".blind-results").inner_text()
    frame.locator("button:has-text('Back to the grid')").click()
    frame.locator("select[data-key='heat']").select_option("visible_change")
    with view.page.context.expect_page() as opened:
        frame.locator("a:has-text('Open in a tab')").click()
    opened.value.wait_for_selector(".cell")
    assert "heat=visible_change" in opened.value.url


def test_without_its_data_the_page_says_what_is_missing(browser, written, tmp_path):
    shutil.copy(written.folder / "index.html", tmp_path)
    shutil.copytree(written.folder / "scripts", tmp_path / "scripts")
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert "data.js is missing" in page.inner_text("body")
    page.close()


def test_without_thumbnails_the_images_themselves_are_shown(browser, written, tmp_path):
    shutil.copytree(written.folder, tmp_path / "viewer")
    shutil.rmtree(tmp_path / "viewer" / "thumbnails")
    page = browser.new_page()
    page.goto((tmp_path / "viewer" / "index.html").as_uri())
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cell img')].every((image) => image.complete && image.naturalWidth === 32)"
    )
    page.close()


BASE = {
    "prompts": ["one", "two"],
    "encoder": "vision",
    "references": ["house"],
    "generator": "images",
    "height": 64,
    "width": 64,
}
SMALL = {
    "one_axis": {"base": BASE, "axes": {"alpha": [0.5, 1.0]}, "grids": [{"x": "alpha"}]},
    "no_axes_and_no_baseline": {
        "base": {**BASE, "prompts": ["one", "two", "three", "four"]},
        "baseline": False,
    },
    "settings": {"base": BASE, "settings": {"plain": {}, "full": {"token_mode": "full", "alpha": 0.5}}},
    "two_references_together": {
        "base": {
            **BASE,
            "references": [["house", "tree"]],
            "combination": "multi_reference",
            "reference_weights": [1.0, 2.0],
        },
        "axes": {"alpha": [0.5, 1.0]},
    },
}


@pytest.mark.parametrize("name", SMALL)
def test_small_experiments_open(open_page, tmp_path, name):
    view = open_page(url=make_page(tmp_path, SMALL[name]).url)
    assert view.page.locator(".cell").count() >= 2
    view.focus_cell(0, 0)
    view.press("m", "Escape")
    view.focus_cell(0, 0)
    view.press("Enter", "b", "d", "r", "]", "[", "4", "ArrowRight", "ArrowDown", "Escape", "[", "p", "f")
    for mode in ("rate", "choose", "grid"):
        view.page.evaluate("mode => Viewer.app.state.set({mode})", mode)
        view.press("3", "ArrowLeft")
    view.page.evaluate("() => Viewer.app.state.set({heat: '', over: 'baseline'})")
    assert view.page.locator(".cell .frame").count() >= 2


# ---- Hostile texts


@pytest.mark.parametrize("size", EACH_WIDTH)
def test_hostile_texts_run_nothing_and_break_no_layout(open_page, size):
    width, height = WIDTHS[size]
    view = open_page("sy=hidden_layer", width=width, height=height)
    page = view.page
    assert page.title().startswith("Synthetic <i>experiment</i>")
    for row in range(2 * len(PROMPTS)):
        page.evaluate("row => Viewer.app.grid.activate(row, 1, true)", row)
        page.hover(f".cell[data-row='{row}'][data-column='1']")
    for row in (1, 2, 5, 2 * len(PROMPTS) - 1):
        page.evaluate("row => Viewer.app.grid.activate(row, 1, true)", row)
        view.press("Enter", "s", "d", "b")
        page.evaluate(
            "() => document.querySelectorAll('dialog details').forEach((details) => (details.open = true))"
        )
        overflow = page.evaluate(
            "() => document.querySelector('dialog.full').scrollWidth - window.innerWidth"
        )
        assert overflow <= 0
        view.press("Escape")
    page.evaluate("() => Viewer.app.state.set({x: 'prompt', y: 'alpha', superY: ''})")
    page.evaluate("() => Viewer.app.state.set({mode: 'rate', seed: 3})")
    view.press("4", "4", "4")
    page.evaluate("() => Viewer.app.state.set({mode: 'grid'})")
    assert page.evaluate("() => window.attacked") is None
    assert (
        page.evaluate("() => document.querySelectorAll('b, i, #app script, [onerror], [onmouseover]').length")
        == 0
    )
    assert page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 0
    boxes = page.locator(".column-label").evaluate_all(
        "all => all.map((node) => [node.offsetWidth, node.clientHeight])"
    )
    assert len({tuple(box) for box in boxes}) == 1


def test_texts_are_shown_as_they_are(open_page):
    view = open_page()
    for row, prompt in enumerate(PROMPTS):
        view.page.evaluate("row => Viewer.app.grid.activate(row, 0, true)", row)
        view.page.wait_for_function(
            "text => document.querySelector('.panel.beside .prompt').textContent === text", arg=prompt["text"]
        )
    assert len(LONG) == 10000


# ---- People


@pytest.mark.parametrize("scheme", EACH_SCHEME)
@pytest.mark.parametrize("size", EACH_WIDTH)
def test_axe_finds_nothing_serious(open_page, axe, size, scheme):
    width, height = WIDTHS[size]
    view = open_page(width=width, height=height, color_scheme=scheme)
    axe(view.page, "grid")
    if size == "phone":
        view.page.click(".toolbar .toggle")
        view.page.click(".overview .toggle")
        axe(view.page, "grid with everything open")
    view.press("m")
    view.page.wait_for_timeout(250)
    axe(view.page, "full screen")
    if size != "laptop":
        return
    view.press("4", "f", "Escape")
    view.page.evaluate(
        "() => Viewer.app.state.set({heat: 'follows_prompt', minus: true, style: 'fill', over: 'baseline'})"
    )
    axe(view.page, "heat map")
    for mode in ("rate", "choose"):
        view.page.evaluate("mode => Viewer.app.state.set({mode, seed: 3})", mode)
        axe(view.page, mode)


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(open_page):
    view = open_page()
    seen, unseen = [], []
    for _ in range(80):
        view.press("Tab")
        name, outline = view.page.evaluate(
            """() => {
                const node = document.activeElement;
                const style = getComputedStyle(node);
                return [node === document.body ? 'BODY' : node.getAttribute('aria-label') || node.textContent.trim().slice(0, 40) || node.tagName, style.outlineStyle + ' ' + style.outlineWidth];
            }"""
        )
        if seen and name == seen[0]:
            break
        seen.append(name)
        if name != "BODY" and (outline.startswith("none") or outline.endswith(" 0px")):
            unseen.append(name)
    assert unseen == []
    for name in (
        "Skip to the images",
        "Grid",
        "Rate blind",
        "A or B",
        "Differs most",
        "Copy link",
        "Keys and help",
        "Hide overview",
        "Swap rows and columns",
        "reference: next value",
        "Size of the images in pixels",
    ):
        assert name in seen
    assert any(name.startswith("apple, reference house") for name in seen)


def test_focus_survives_scrolling_away_and_back(open_page):
    view = open_page("size=300")
    view.focus_cell(0, 0)
    view.press("End", "PageDown", "PageDown", "PageDown")
    assert view.page.evaluate("() => document.activeElement.className.includes('cell')")
    view.page.evaluate("() => document.querySelector('.grid').scrollTo(0, 0)")
    view.page.wait_for_selector(".cell[data-row='0']")
    view.press("ArrowUp")
    assert view.page.evaluate("() => document.activeElement.className.includes('cell')")


def test_the_grid_says_what_it_is_to_a_screen_reader(open_page):
    view = open_page()
    grid = view.page.get_by_role("grid", name="Images")
    assert grid.get_attribute("aria-rowcount") == str(len(PROMPTS) + 1)
    assert grid.get_by_role("rowheader").first.inner_text().replace("\n", " ").startswith("prompt apple")
    assert grid.get_by_role("columnheader").nth(1).inner_text() == "alpha 0"
    name = view.cell_text(0, 2)
    assert name.startswith("apple, reference house, hidden_layer -2, alpha 1; difference_to_baseline ")


def test_themes_are_chosen_and_kept(open_page):
    view = open_page(color_scheme="light")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = view.page.evaluate(ground)
    view.page.click("button[aria-label='Colours: auto']")
    view.page.click("button[aria-label='Colours: light']")
    dark = view.page.evaluate(ground)
    assert dark != light
    view.go()
    assert view.page.evaluate(ground) == dark


def test_less_motion_stops_the_blinking(open_page):
    view = open_page(reduced_motion="reduce")
    view.focus_cell(0, 2)
    view.press("b")
    view.page.wait_for_timeout(900)
    assert view.page.inner_text(".stage-label") == "text alone"


@pytest.mark.parametrize("size", EACH_WIDTH)
def test_only_what_is_in_view_is_in_the_page(open_page, size):
    width, height = WIDTHS[size]
    view = open_page("size=96&sy=hidden_layer&sx=reference", width=width, height=height)
    count = view.page.locator(".cell").count()
    assert count <= (height / 96 + 4) * (width / 96 + 4)
    assert json.loads(json.dumps(ids_on_page(view)))["0,0"]
