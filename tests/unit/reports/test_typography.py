"""Fonts and line breaking."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from graftwork.reports import fonts, typography
from graftwork.reports.fonts import can_shape
from graftwork.reports.typography import (
    ELLIPSIS,
    REPLACEMENT,
    clean_text,
    direction,
    load_font,
    tell_apart,
    undrawable,
    wrap_distinct,
    wrap_text,
)
from tests.unit.reports.conftest import MADE, write_font

ANY_TEXT = st.text(max_size=120) | st.sampled_from(
    ["\U0001f600\ufe0f\u200d", "\u6c34" * 40, "\u05d0\u05d1 x", "\ud800"]
)


@settings(deadline=None)  # The first text of a script asks the machine for its fonts.
@given(ANY_TEXT, st.integers(20, 300), st.none() | st.integers(1, 5), st.booleans())
def test_lines_fit_and_hold_all_text(text, width, max_lines, bold):
    font = load_font(13, bold)
    lines = wrap_text(text, font, width, max_lines)
    assert all(line.strip() and (len(line) == 1 or font.getlength(line) <= width) for line in lines)
    if max_lines is None:
        assert "".join("".join(lines).split()) == "".join(clean_text(text, font).split())
    else:
        assert len(lines) <= max_lines


def test_shortened_text_ends_with_an_ellipsis():
    font = load_font(13)
    assert wrap_text("one two three four five six", font, 60, 2)[-1].endswith(ELLIPSIS)
    assert wrap_text("one", font, 60, 1) == ["one"]
    assert wrap_text(" \n ", font, 60) == []


def test_long_words_break_after_an_underscore():
    font = load_font(13)
    width = int(font.getlength("conditioning_hidd"))
    assert wrap_text("conditioning_hidden_layer", font, width)[0] == "conditioning_"


def test_very_long_text_is_quick():
    assert len(wrap_text("x" * 1_000_000, load_font(13), 300, 4)) == 4
    assert len(wrap_text("word " * 200_000, load_font(13), 300, 4)) == 4


@settings(deadline=None)
@given(st.lists(ANY_TEXT, max_size=5), st.text(max_size=80), st.integers(60, 200), st.integers(1, 6))
def test_shortening_keeps_different_texts_apart(endings, beginning, width, max_lines):
    texts = [beginning + ending for ending in endings]
    font = load_font(13)
    wrapped = wrap_distinct(texts, font, width, max_lines)
    assert all(len(lines) <= max_lines for lines in wrapped)
    assert len({tuple(lines) for lines in wrapped}) >= len(set(texts))
    assert all(len(line) == 1 or font.getlength(line) <= width for lines in wrapped for line in lines)


@pytest.mark.parametrize("max_lines", [1, 2, 3, 6])
def test_prompts_with_one_beginning_show_where_they_differ(max_lines):
    beginning = "a photograph of a small house beside a lake at dusk with warm light in the windows and "
    texts = [beginning * 3 + ending for ending in ("one cat", "two cats", "three dogs")]
    wrapped = wrap_distinct(texts, load_font(13), 160, max_lines)
    for lines, word in zip(wrapped, ("one", "two", "three"), strict=True):
        assert word in " ".join(lines)


def test_texts_that_differ_far_apart_are_numbered():
    texts = [
        "a " * 500 + "x" + " b" * 500,
        "a " * 500 + "y" + " b" * 500,
        "a " * 500 + "y" + " b" * 499 + "c",
    ]
    wrapped = wrap_distinct(texts, load_font(13), 160, 2)
    assert len({tuple(lines) for lines in wrapped}) == 3


def test_a_missing_font_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(typography, "FONT_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"DejaVuSans-Bold\.ttf is missing"):
        load_font(13, bold=True)


CHINESE = [
    "\u7ea2\u8272\u7684\u732b\u5728\u684c\u5b50\u4e0a",
    "\u84dd\u8272\u7684\u72d7\u5728\u8349\u5730\u4e0a",
]


def bundled_alone(size):
    """The bundled font without anything of this repository around it."""
    path = typography.FONT_FOLDER / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def drawn(lines, font):
    return [font.pixels(line) for line in lines]


@pytest.mark.parametrize(
    "texts",
    [
        CHINESE,
        ["\U0001f600", "\U0001f601"],
        ["a cat", "\u0430 cat"],
        ["caf\u00e9", "cafe\u0301"],
        ["a  b", "a b"],
        ["a\u200bb", "ab"],
        ["a\x00b", "a\x01b"],
        ["red " * 200 + CHINESE[0], "red " * 200 + CHINESE[1]],
    ],
)
def test_texts_that_are_drawn_alike_are_told_apart(texts):
    font = load_font(13)
    wrapped = wrap_distinct(texts, font, 300, 3)
    assert drawn(wrapped[0], font) != drawn(wrapped[1], font)
    assert all(font.getlength(line) <= 300 for lines in wrapped for line in lines)
    one, other = tell_apart(texts, [clean_text(text, font) for text in texts])
    assert drawn(one.split("\n"), font) != drawn(other.split("\n"), font)


def test_what_has_no_glyph_is_marked():
    assert clean_text(f"{CHINESE[0][:2]} cat") == f"{REPLACEMENT * 2} cat"
    assert clean_text("\U0001f44d\U0001f3fd\ufe0f", load_font(13)) in ("\U0001f44d", REPLACEMENT)


def test_without_other_fonts_it_is_said_what_is_lacking(no_fonts):
    texts = [CHINESE[0], f"{CHINESE[1]} \ub098 \U0001f408", "a caf\u00e9, \u03b1 = 0.5, \u043a\u043e\u0442"]
    assert sorted(undrawable(texts)) == ["CAT", "CJK", "HANGUL"]
    assert undrawable(texts[2:]) == []
    assert len(set(load_font(13).pixels(REPLACEMENT)[1])) > 1


def test_fonts_of_the_machine_draw_what_the_bundled_one_lacks(one_font):
    font, text = load_font(20), f"a {MADE} b"
    assert clean_text(text, font) == text
    assert clean_text(text) == f"a {REPLACEMENT} b"
    assert undrawable([text]) == []
    # The made glyph is a square of one em, 20 pixels.
    plain = bundled_alone(20)
    assert font.getlength(text) == pytest.approx(plain.getlength("a ") + 20 + plain.getlength(" b"), abs=1)
    canvas = Image.new("RGB", (80, 40), "white")
    font.draw(canvas, (0, 0), text, "black")
    start = round(plain.getlength("a "))
    assert canvas.getpixel((start + 10, 12)) == (0, 0, 0)
    assert wrap_text(MADE * 9, font, 60) == [MADE * 3] * 3


def test_text_of_the_bundled_font_is_drawn_with_it_alone(one_font):
    for text in ("alpha = 0.5", "caf\u00e9 \u03b1 \u043a\u043e\u0442"):
        mask = bundled_alone(13).getmask(text)
        assert load_font(13).pixels(text) == (mask.size, bytes(mask))


@pytest.mark.skipif(not can_shape(), reason="Pillow has no Raqm here")
def test_text_from_right_to_left_is_ordered_and_joined(no_fonts):
    font = load_font(40)
    # Two letters that join are narrower than the two alone, and the first one stands on the right.
    joined, letters = "\u0644\u062d", ["\u0644", "\u062d"]
    assert font.getlength(joined) < sum(map(font.getlength, letters))
    canvas = Image.new("RGB", (200, 60), "white")
    font.draw(canvas, (0, 0), "\u05d0 ...", "black")
    columns = [x for x in range(200) if any(canvas.getpixel((x, y)) != (255, 255, 255) for y in range(60))]
    dots = [x for x in columns if all(canvas.getpixel((x, y)) == (255, 255, 255) for y in range(25))]
    assert dots[0] == columns[0]
    assert direction("\u05d0 a") == "rtl"
    assert direction("1 a \u05d0") == "ltr"


def test_fonts_are_found_by_fontconfig_and_without_it(tmp_path, monkeypatch):
    write_font(tmp_path / "NotoSansMade-Regular.ttf")
    write_font(tmp_path / "Unknown.ttf")
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    (known,) = fonts._known()
    assert (known.path.name, known.has(ord(MADE)), known.has(ord("a"))) == (
        "NotoSansMade-Regular.ttf",
        True,
        False,
    )
    lines = (
        f"{known.path}\t65536\t20-7e {ord(MADE):x}\n/f/bitmap.pcf\t0\t20\n{tmp_path}/Unknown.ttf\t0\t732b\n"
    )
    listing = tmp_path / "bin" / "fc-list"
    listing.parent.mkdir()
    listing.write_text(f"#!/bin/sh\nprintf '%s' '{lines}'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{listing.parent}:/bin:/usr/bin")
    fonts.system_fonts.cache_clear()
    found = fonts.system_fonts()
    fonts.system_fonts.cache_clear()
    assert [(font.path.name, font.index) for font in found] == [
        ("NotoSansMade-Regular.ttf", 0),
        ("Unknown.ttf", 0),
    ]
    assert (found[0].has(0x7E), found[0].has(0x7F), found[0].has(ord(MADE))) == (True, False, True)


def test_texts_that_differ_are_left_alone():
    assert tell_apart(["a", "b", "a"], ["a", "b", "a"]) == ["a", "b", "a"]
