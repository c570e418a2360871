"""Bundled fonts and line breaking that never fails, whatever the text."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import ImageFont

FONT_FOLDER = Path(__file__).resolve().parents[2] / "resources" / "fonts"
ELLIPSIS = "\u2026"
# Stands for what cannot be drawn.
REPLACEMENT = "\ufffd"
_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_COMPARED_SIZE = 13

_BREAK_AFTER = "_/,;:"


def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Loads DejaVu Sans from the repository, so that every machine draws the same text.

    Args:
        size: height of an em in pixels.
        bold: whether the face is bold.

    Raises:
        FileNotFoundError: where the font file is not in resources/fonts.
    """
    return _load_font_file(FONT_FOLDER / _FILES[bold], size)


@functools.lru_cache(maxsize=128)
def _load_font_file(path: Path, size: int) -> ImageFont.FreeTypeFont:
    if not path.is_file():
        raise FileNotFoundError(
            f"font file {path.name} is missing from {path.parent}; it is a part of the repository: restore "
            f"it with `git checkout -- resources/fonts`"
        )
    # The basic engine is in every Pillow; the other one depends on a library that may be absent.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Returns the distance of two baselines in pixels."""
    ascent, descent = font.getmetrics()
    return ascent + descent


def clean_text(text: str) -> str:
    """Makes text drawable: newlines stay, what has no glyph is replaced.

    Other controls, lone surrogates and characters that the font does not have become U+FFFD. Invisible format characters
    (joiners, directional marks, variation selectors) are dropped, and letters with accents are composed.
    """
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(map(_clean_char, composed))


def lacks_glyphs(text: str) -> bool:
    """Returns whether some characters of a text are drawn as U+FFFD."""
    return REPLACEMENT in clean_text(text)


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


def _clean_char(char: str) -> str:
    if char in "\n\u2028\u2029":
        return "\n"
    if " " <= char <= "~":
        return char
    category = unicodedata.category(char)
    if char == "\t" or category == "Zs":
        return " "
    if category == "Cf" or "\ufe00" <= char <= "\ufe0f":
        return ""
    return REPLACEMENT if category in ("Cc", "Cs") or ord(char) not in _glyphs() else char


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int | None = None) -> list[str]:
    """Breaks text into lines, at spaces where possible, within words where needed.

    Args:
        text: any text; newlines break lines, blank lines are dropped.
        font: font that the lines will be drawn in.
        width: room in pixels. A line is wider only if it is a single character that is.
        max_lines: most lines; where there are more, the last one that is kept ends with an ellipsis.

    Returns:
        The lines; none for blank text.
    """
    lines = _break_lines(clean_text(text), font, width)
    if max_lines is None:
        return list(lines)
    kept = list(itertools.islice(lines, max_lines + 1))
    if len(kept) > max_lines:
        kept = kept[:max_lines]
        if kept:
            kept[-1] = _append_ellipsis(kept[-1], font, width)
    return kept


def wrap_distinct(
    texts: Sequence[str], font: ImageFont.FreeTypeFont, width: int, max_lines: int
) -> list[list[str]]:
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
    cleaned = [clean_text(text) for text in texts]
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


def _find_lookalikes(
    texts: Sequence[str], wrapped: Sequence[list[str]], font: ImageFont.FreeTypeFont
) -> list[list[int]]:
    """Returns groups of different texts whose lines have the same pixels."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, lines in enumerate(wrapped):
        groups.setdefault(tuple(_pixels(line, font) for line in lines), []).append(index)
    return [group for group in groups.values() if len({texts[index] for index in group}) > 1]


@functools.lru_cache(maxsize=4096)
def _pixels(line: str, font: ImageFont.FreeTypeFont) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(line)
    return mask.size, bytes(mask)


def _count_shared(texts: Sequence[str]) -> int:
    """Returns how many characters all texts begin with."""
    # What all share is what the first and the last in order share.
    first, last = min(texts), max(texts)
    differing = (index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(first), len(last)))


def _break_lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
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


def _fits(text: str, font: ImageFont.FreeTypeFont, width: int) -> bool:
    # Measuring is linear in the length; nothing this long fits unless it is all combining marks.
    return len(text) <= max(width, 1) * 2 and font.getlength(text) <= width


def _find_cut(word: str, font: ImageFont.FreeTypeFont, width: int) -> int:
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


def _append_ellipsis(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while line and font.getlength(line + ELLIPSIS) > width:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS
