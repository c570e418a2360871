"""The five tasks of docs/viewer.md, with what is on the screen and nothing else."""

import json

from tests.browser.synthetic import PROMPTS

# The score of the synthetic experiment is 1 - alpha / 2: it breaks between 0.5 and 1 for every prompt.
THIRD = PROMPTS[2]["name"]


def combobox(view, label, within=""):
    return view.page.locator(f"{within} label".strip(), has_text=label).get_by_role("combobox").first


def is_in_view(view, row, column):
    """Whether a cell is seen from top to bottom."""
    cell, grid = (
        view.page.locator(f".cell[data-row='{row}'][data-column='{column}']"),
        view.page.locator(".grid"),
    )
    if not cell.count():
        return False
    inner, outer = cell.bounding_box(), grid.bounding_box()
    return outer["y"] < inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]


def test_at_which_alpha_a_prompt_breaks(open_page):
    view = open_page("size=300")
    assert not is_in_view(view, 2, 1)
    combobox(view, "Over", ".overview").select_option(label=THIRD)
    head = view.page.locator("table.scores tr").first.inner_text().split()[-3:]
    row = view.page.locator("table.scores tr", has_text="follows_prompt").first.inner_text().split()[-3:]
    assert dict(zip(head, row, strict=True)) == {"0": "0", "0.5": "\u22120.25", "1": "\u22120.5"}
    # Its images came into view, and the facts beside the grid are of one of them.
    assert is_in_view(view, 2, 1)
    view.page.wait_for_function(
        "text => document.querySelector('.panel.beside .prompt').textContent === text", arg=PROMPTS[2]["text"]
    )
    view.page.locator("table.scores button", has_text="follows_prompt").first.click()
    assert view.page.inner_text(".cell[data-row='2'][data-column='2'] .value") == "\u22120.5"


def test_two_layers_are_compared_by_blinking(open_page):
    view = open_page()
    view.page.click(".cell[data-row='1'][data-column='2']")
    combobox(view, "Walk along", "dialog").select_option("hidden_layer")
    view.page.locator(".full-title").click()
    for key in ("p", "]", "v"):
        view.press(key)
    for label in ("this image: hidden_layer -4", "pinned: hidden_layer -2"):
        view.page.wait_for_function(
            "label => document.querySelector('.stage-label').textContent === label", arg=label
        )


def test_twenty_images_are_rated_blind(open_page):
    view = open_page()
    view.page.click("button:has-text('Rate blind')")
    for number in range(20):
        assert f"{number + 1} of 20" in view.page.inner_text(".blind-progress")
        view.press(str(number % 5 + 1))
    said = view.page.inner_text(".blind")
    assert "20 of 20 images are rated" in said
    assert "alpha" in said
    view.page.click("button:has-text('Back to the grid')")
    saved = json.loads(view.download("My ratings (JSON)").read_text())
    assert len(saved["ratings"]) == 20
    assert {rating["blind"] for rating in saved["ratings"]} == {True}


def test_what_a_setting_does_nothing_against(open_page):
    view = open_page()
    item = view.page.locator(".no-ops li").first
    assert "hidden_layer -4, alpha 0.5 = hidden_layer -2, alpha 0.5" in item.inner_text()
    item.get_by_role("button", name="Show").click()
    assert "hidden_layer -4, alpha 0.5" in view.page.inner_text(".full-title")
    assert view.page.inner_text(".stage-label.right") == "pinned: hidden_layer -2"


def test_a_view_is_sent_to_a_colleague(open_page):
    view = open_page(permissions=["clipboard-read", "clipboard-write"])
    combobox(view, "Rows", ".toolbar").select_option("hidden_layer")
    view.page.locator("select[data-key='heat']").select_option("visible_change")
    view.page.click("button:has-text('Copy link')")
    view.page.wait_for_function("() => document.getElementById('messages').textContent.startsWith('Copied')")
    link = view.page.evaluate("() => navigator.clipboard.readText()")
    # Whoever has the folder elsewhere puts the part from # behind their own address.
    other = open_page(link.partition("#")[2])
    assert (other.state("y"), other.state("heat")) == ("hidden_layer", "visible_change")
