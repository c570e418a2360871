"""Fonts of the machine, replaced by none or by one that is made here."""

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from graftwork.reports import fonts, typography

# A character that no real font has: the first of the private ones.
MADE = "\ue000"


def write_font(path):
    """Writes a font with one glyph, a square of one em."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "made"])
    builder.setupCharacterMap({ord(MADE): "made"})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (1000, 900), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyf({".notdef": square, "made": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "made": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Made", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def clear_found_fonts():
    for cached in (fonts.font_for, fonts.outline_font_for, typography._pixels):
        cached.cache_clear()


@pytest.fixture
def use_fonts(monkeypatch):
    """Returns a function that puts fonts in the place of those of the machine."""

    def use(*found):
        monkeypatch.setattr(fonts, "system_fonts", lambda: found)
        clear_found_fonts()

    yield use
    monkeypatch.undo()
    clear_found_fonts()


@pytest.fixture
def no_fonts(use_fonts):
    use_fonts()


@pytest.fixture
def one_font(use_fonts, tmp_path):
    write_font(tmp_path / "made.ttf")
    use_fonts(fonts.SystemFont(tmp_path / "made.ttf", 0, (ord(MADE),), (ord(MADE),)))
