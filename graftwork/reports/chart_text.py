"""Text on charts: in the bundled fonts, broken where it would be too long, with widths known before drawing."""

from collections.abc import Sequence
from typing import Any

from graftwork.reports.typography import FONT_FOLDER, clean_text, load_font, wrap_text

# Pixels per inch of every chart.
DPI = 150


def _font(points: float, bold: bool = False) -> Any:
    # Larger than drawn, for widths of small text are rounded to whole pixels.
    return load_font(round(8 * points * DPI / 72), bold)


def text_inches(text: str, points: float) -> float:
    """Returns how wide a text is."""
    return _font(points).getlength(text) / (8 * DPI)


def wrap_lines(texts: Sequence[str], points: float, inches: float, bold: bool = False) -> list[str]:
    """Returns the lines of texts that are at most so wide."""
    # The layout engines differ a little.
    room = int(0.98 * inches * 8 * DPI)
    return [line for text in texts for line in wrap_text(clean_text(text), _font(points, bold), room)]


def use_bundled_fonts(figure: Any) -> None:
    """Gives every text the bundled font: what a machine has installed does not matter."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        name = "DejaVuSans-Bold.ttf" if text.get_fontweight() == "bold" else "DejaVuSans.ttf"
        text.set_fontproperties(FontProperties(fname=str(FONT_FOLDER / name), size=text.get_fontsize()))
