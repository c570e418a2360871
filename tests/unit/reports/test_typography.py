"""Fonts and line breaking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.reports import typography
from graftwork.reports.typography import (
    ELLIPSIS,
    REPLACEMENT,
    clean_text,
    lacks_glyphs,
    load_font,
    tell_apart,
    wrap_distinct,
    wrap_text,
)

ANY_TEXT = st.text(max_size=120) | st.sampled_from(
    ["\U0001f600\ufe0f\u200d", "\u6c34" * 40, "\u05d0\u05d1 x", "\ud800"]
)


@given(ANY_TEXT, st.integers(20, 300), st.none() | st.integers(1, 5), st.booleans())
def test_lines_fit_and_hold_all_text(text, width, max_lines, bold):
    font = load_font(13, bold)
    lines = wrap_text(text, font, width, max_lines)
    assert all(line.strip() and (len(line) == 1 or font.getlength(line) <= width) for line in lines)
    if max_lines is None:
        assert "".join("".join(lines).split()) == "".join(clean_text(text).split())
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


def drawn(lines, font):
    return [bytes(font.getmask(line)) for line in lines]


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
    one, other = tell_apart(texts, [clean_text(text) for text in texts])
    assert drawn(one.split("\n"), font) != drawn(other.split("\n"), font)


def test_what_has_no_glyph_is_marked():
    assert clean_text(f"{CHINESE[0][:2]} cat") == f"{REPLACEMENT * 2} cat"
    assert lacks_glyphs(CHINESE[0])
    assert not lacks_glyphs("a caf\u00e9, \u03b1 = 0.5, \u043a\u043e\u0442")
    assert load_font(13).getmask(REPLACEMENT).getbbox() is not None


def test_texts_that_differ_are_left_alone():
    assert tell_apart(["a", "b", "a"], ["a", "b", "a"]) == ["a", "b", "a"]
