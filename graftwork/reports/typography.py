"""Fonts, bundled and of the machine, and line breaking that never fails, whatever the text."""

from __future__ import annotations

import functools
import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from graftwork.reports.fonts import (
    SystemFont,
    can_shape,
    draw_picture,
    font_for,
    load_outlines,
    outline_font_for,
)

FONT_FOLDER = Path(__file__).resolve().parents[2] / "resources" / "fonts"
ELLIPSIS = "\u2026"
# Stands for what cannot be drawn.
REPLACEMENT = "\ufffd"
_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_COMPARED_SIZE = 13

_BREAK_AFTER = "_/,;:"


class Face:
    """The bundled font at a size, with fonts of the machine for what it does not have.

    Text that the bundled font has, and that runs from left to right, is drawn with it alone and with Pillow's basic engine, which is in
    every Pillow. Text that runs from right to left is joined and ordered by Raqm, where Pillow has it.

    Attributes:
        size: height of an em in pixels.
        is_for_plots: whether the fonts of the machine are only those that matplotlib draws.
    """

    def __init__(self, path: Path, size: int, is_for_plots: bool):
        self.size, self.is_for_plots = size, is_for_plots
        self._path = path
        self._font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)

    def has(self, char: str) -> bool:
        """Returns whether a character can be drawn."""
        return is_bundled(char) or self.other_font(char) is not None

    def other_font(self, char: str) -> SystemFont | None:
        """Returns the font of the machine that draws a character which the bundled one lacks, or None."""
        return outline_font_for(char) if self.is_for_plots else font_for(char)

    def getmetrics(self) -> tuple[int, int]:
        """Returns how far the bundled font reaches above and below the baseline, in pixels."""
        return self._font.getmetrics()

    def getlength(self, text: str) -> float:
        """Returns how wide a line is, in pixels."""
        if self._is_plain(text):
            return self._font.getlength(text)
        return sum(self._run_length(run, text) for run in self._runs(text))

    def draw(self, canvas: Image.Image, place: tuple[int, int], text: str, fill: str) -> None:
        """Draws a line whose upper left corner is at a place (x, y)."""
        if self._is_plain(text):
            ImageDraw.Draw(canvas).text(place, text, font=self._font, fill=fill)
            return
        x, baseline = float(place[0]), place[1] + self.getmetrics()[0]
        for run in self._runs(text):
            self._draw_run(canvas, (x, baseline), run, direction(text), fill)
            x += self._run_length(run, text)

    def pixels(self, text: str) -> tuple[tuple[int, int], bytes]:
        """Returns the size and the bytes of a line as it is drawn."""
        if self._is_plain(text):
            mask = self._font.getmask(text)
            return mask.size, bytes(mask)
        canvas = Image.new(
            "RGB", (math.ceil(self.getlength(text)) + self.size, 2 * line_height(self)), "white"
        )
        self.draw(canvas, (0, 0), text, "black")
        return canvas.size, canvas.tobytes()

    def _is_plain(self, text: str) -> bool:
        return text.isascii() or _is_plain(text)

    def _runs(self, text: str) -> list[tuple[SystemFont | None, str]]:
        """Cuts a line into parts of one font each, in the order in which they stand from left to right."""
        runs = [
            (font, "".join(part))
            for font, part in itertools.groupby(
                text, key=lambda char: None if is_bundled(char) else self.other_font(char)
            )
        ]
        return runs if direction(text) == "ltr" else runs[::-1]

    def _run_length(self, run: tuple[SystemFont | None, str], text: str) -> float:
        font, part = run
        outlines = self._outlines(font)
        if outlines is not None:
            return outlines.getlength(part, **_shaping(direction(text)))
        pictures = (draw_picture(font.path, font.index, char, self.size) for char in part)
        return sum(self.size if picture is None else picture.width for picture in pictures)

    def _draw_run(
        self,
        canvas: Image.Image,
        place: tuple[float, int],
        run: tuple[SystemFont | None, str],
        way: str,
        fill: str,
    ) -> None:
        font, part = run
        (x, baseline), outlines = place, self._outlines(font)
        if outlines is not None:
            ImageDraw.Draw(canvas).text(
                (int(x), baseline), part, font=outlines, fill=fill, anchor="ls", **_shaping(way)
            )
            return
        for char in part:
            picture = draw_picture(font.path, font.index, char, self.size)
            if picture is None:
                x += self.size
                continue
            # Pictures stand on the line a little lower than letters do.
            canvas.paste(picture, (int(x), baseline - picture.height + self.size // 6), picture)
            x += picture.width

    def _outlines(self, font: SystemFont | None) -> ImageFont.FreeTypeFont | None:
        return (
            load_outlines(self._path, 0, self.size)
            if font is None
            else load_outlines(font.path, font.index, self.size)
        )


def _shaping(way: str) -> dict[str, str]:
    return {"direction": way} if can_shape() else {}


def direction(text: str) -> Literal["ltr", "rtl"]:
    """Returns the direction of a line: that of its first letter that has one."""
    for char in text:
        kind = unicodedata.bidirectional(char)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


@functools.lru_cache(maxsize=8192)
def _is_plain(text: str) -> bool:
    """Returns whether the bundled font draws a line with the basic engine."""
    return all(
        ord(char) in _glyphs() and unicodedata.bidirectional(char) not in ("R", "AL", "AN") for char in text
    )


def load_font(size: int, bold: bool = False, is_for_plots: bool = False) -> Face:
    """Loads DejaVu Sans from the repository, so that every machine draws the same text, and fonts of the machine for the rest.

    Args:
        size: height of an em in pixels.
        bold: whether the face is bold.
        is_for_plots: whether the fonts of the machine are only those that matplotlib draws.

    Raises:
        FileNotFoundError: where the font file is not in resources/fonts.
    """
    return _load_face(FONT_FOLDER / _FILES[bold], size, is_for_plots)


@functools.lru_cache(maxsize=128)
def _load_face(path: Path, size: int, is_for_plots: bool) -> Face:
    if not path.is_file():
        raise FileNotFoundError(
            f"font file {path.name} is missing from {path.parent}; it is a part of the repository: restore "
            f"it with `git checkout -- resources/fonts`"
        )
    return Face(path, size, is_for_plots)


def line_height(font: Face) -> int:
    """Returns the distance of two baselines in pixels."""
    ascent, descent = font.getmetrics()
    return ascent + descent


def clean_text(text: str, font: Face | None = None) -> str:
    """Makes text drawable: newlines stay, what has no glyph is replaced.

    Other controls, lone surrogates and characters that the font does not have become U+FFFD. Invisible format characters
    (joiners, directional marks, variation selectors, skin tones) are dropped, and letters with accents are composed.

    Args:
        text: any text.
        font: what it will be drawn with; by default the bundled font alone.
    """
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    has = font.has if font is not None else is_bundled
    return "".join(_clean_char(char, has) for char in composed)


def is_bundled(char: str) -> bool:
    """Returns whether the bundled font has a character."""
    return ord(char) in _glyphs()


def runs_right_to_left(text: str) -> bool:
    """Returns whether letters of a text run from right to left."""
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def undrawable(texts: Iterable[str], is_for_plots: bool = False) -> list[str]:
    """Returns the first words of the names of characters that no font here has, such as HANGUL, the most frequent first.

    Args:
        texts: any texts.
        is_for_plots: whether only fonts count that matplotlib draws.
    """
    font = load_font(_COMPARED_SIZE, is_for_plots=is_for_plots)
    counts = Counter(
        unicodedata.name(char, "UNNAMED").split(" ")[0].partition("-")[0]
        for text in texts
        for char in set(unicodedata.normalize("NFC", text))
        if _clean_char(char, font.has) == REPLACEMENT
    )
    return [name for name, _ in counts.most_common()]


def tell_apart(texts: Sequence[str], drawn: Sequence[str]) -> list[str]:
    """Returns what is drawn for texts, numbered by position where different ones would look alike.

    Args:
        texts: texts as they are.
        drawn: the same, cleaned and shortened.
    """
    result = list(drawn)
    for group in _find_lookalikes(texts, [[line] for line in drawn], load_font(_COMPARED_SIZE)):
        for index in group:
            result[index] = f"{drawn[index]} ({index + 1})"
    return result


@functools.cache
def _glyphs() -> frozenset[int]:
    """Returns the code points that the regular and the bold face both have."""
    from fontTools.ttLib import TTFont

    faces = []
    for name in _FILES.values():
        with TTFont(FONT_FOLDER / name, lazy=True) as font:
            faces.append(frozenset(font.getBestCmap()))
    return frozenset.intersection(*faces)


def _clean_char(char: str, has: Callable[[str], bool]) -> str:
    if char in "\n\u2028\u2029":
        return "\n"
    if " " <= char <= "~":
        return char
    category = unicodedata.category(char)
    if char == "\t" or category == "Zs":
        return " "
    # The colour of the skin is a character of its own, which would be drawn as a square.
    if category == "Cf" or "\ufe00" <= char <= "\ufe0f" or "\U0001f3fb" <= char <= "\U0001f3ff":
        return ""
    return REPLACEMENT if category in ("Cc", "Cs") or not has(char) else char


def wrap_text(text: str, font: Face, width: int, max_lines: int | None = None) -> list[str]:
    """Breaks text into lines, at spaces where possible, within words where needed.

    Args:
        text: any text; newlines break lines, blank lines are dropped.
        font: font that the lines will be drawn in.
        width: room in pixels. A line is wider only if it is a single character that is.
        max_lines: most lines; where there are more, the last one that is kept ends with an ellipsis.

    Returns:
        The lines; none for blank text.
    """
    lines = _break_lines(clean_text(text, font), font, width)
    if max_lines is None:
        return list(lines)
    kept = list(itertools.islice(lines, max_lines + 1))
    if len(kept) > max_lines:
        kept = kept[:max_lines]
        if kept:
            kept[-1] = _append_ellipsis(kept[-1], font, width)
    return kept


def wrap_distinct(texts: Sequence[str], font: Face, width: int, max_lines: int) -> list[list[str]]:
    """Wraps several texts so that no two different ones look alike, be it for shortening or for what the font draws.

    Texts that share what fits (two long prompts with the same beginning) show their beginning, then the part
    where they start to differ; where that does not suffice, they are numbered by position.

    Args:
        texts: any texts.
        font: font that the lines will be drawn in.
        width: room in pixels.
        max_lines: most lines of a text, at least 1.

    Returns:
        The lines of each text, in the order of `texts`.
    """
    wrapped = [wrap_text(text, font, width, max_lines) for text in texts]
    cleaned = [clean_text(text, font) for text in texts]
    # Where even the whole texts are drawn alike, none of their parts tells them apart.
    for group in _find_lookalikes(cleaned, wrapped, font):
        start = _count_shared([cleaned[index] for index in group])
        head = wrapped[group[0]][: max_lines // 2]
        room = max_lines - len(head)
        # Some words before the difference tell where in the text it is; most of the room is left to them.
        context = (room - 1) * len(wrapped[group[0]][0]) * 3 // 4 if head else 0
        start = max(start - context, min(start, sum(len(line) + 1 for line in head)))
        start = max(cleaned[group[0]].rfind(" ", start - 20 if start > 20 else 0, start) + 1, start - 20, 0)
        for index in group:
            wrapped[index] = head + wrap_text(ELLIPSIS + cleaned[index][start:], font, width, room)
    for group in _find_lookalikes(texts, wrapped, font):
        for index in group:
            number = f"({index + 1})"
            last = f"{wrapped[index][-1]} {number}" if wrapped[index] else number
            while font.getlength(last) > width and len(last) > len(number):
                last = last[: -len(number) - 2].rstrip(f" {ELLIPSIS}") + ELLIPSIS + number
                if last == ELLIPSIS + number:
                    last = number
            wrapped[index] = [*wrapped[index][:-1], last]
    return wrapped


def _find_lookalikes(texts: Sequence[str], wrapped: Sequence[list[str]], font: Face) -> list[list[int]]:
    """Returns groups of different texts whose lines have the same pixels."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, lines in enumerate(wrapped):
        groups.setdefault(tuple(_pixels(line, font) for line in lines), []).append(index)
    return [group for group in groups.values() if len({texts[index] for index in group}) > 1]


@functools.lru_cache(maxsize=4096)
def _pixels(line: str, font: Face) -> tuple[tuple[int, int], bytes]:
    return font.pixels(line)


def _count_shared(texts: Sequence[str]) -> int:
    """Returns how many characters all texts begin with."""
    # What all share is what the first and the last in order share.
    first, last = min(texts), max(texts)
    differing = (index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(first), len(last)))


def _break_lines(text: str, font: Face, width: int) -> Iterator[str]:
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            candidate = f"{line} {word}" if line else word
            if _fits(candidate, font, width):
                line = candidate
                continue
            if line:
                yield line
            while not _fits(word, font, width):
                cut = _find_cut(word, font, width)
                if cut == len(word):
                    break
                yield word[:cut]
                word = word[cut:]
            line = word
        if line:
            yield line


def _fits(text: str, font: Face, width: int) -> bool:
    # Measuring is linear in the length; nothing this long fits unless it is all combining marks.
    return len(text) <= max(width, 1) * 2 and font.getlength(text) <= width


def _find_cut(word: str, font: Face, width: int) -> int:
    """Returns how many characters of a too long word go on this line, at least one."""
    low, high = 1, min(len(word), max(width, 1) * 2)
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(word[:middle], font, width):
            low = middle
        else:
            high = middle - 1
    mark = max(word.rfind(mark, 0, low) for mark in _BREAK_AFTER)
    return mark + 1 if mark >= low // 2 and mark + 1 < len(word) else low


def _append_ellipsis(line: str, font: Face, width: int) -> str:
    while line and font.getlength(line + ELLIPSIS) > width:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS
