"""Fonts of the machine, for characters that the bundled font does not have: Chinese, Japanese, Korean, emoji and others.

They are found with fontconfig (`fc-list`), and where there is none, under known names in the folders of the system. Text that the
bundled font can draw never comes from them, so that it is the same on every machine.
"""

from __future__ import annotations

import bisect
import functools
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

# Parts of file names, the best first; any other font comes after them.
PREFERRED = (
    "notosanscjk-regular",
    "notosanscjk",
    "sourcehansans",
    "notosanssc",
    "notosansjp",
    "notosanskr",
    "droidsansfallback",
    "wqy-",
    "pingfang",
    "hiragino",
    "applesdgothic",
    "nanumgothic",
    "notocoloremoji",
    "apple color emoji",
    "notoemoji",
    "symbola",
    "notosans",
    "arial unicode",
)
FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
)
_ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
# Heights in pixels of fonts that have pictures in place of outlines, as emoji in colour have.
_STRIKES = (109, 160, 136, 128, 96, 64, 32)
_LIST_SECONDS = 20
# Fonts with outlines can be drawn at any size; it is tried at this one, in pixels.
_TRIED_SIZE = 16


@dataclass(frozen=True)
class SystemFont:
    """A font of the machine.

    Attributes:
        path: its file.
        index: which of the faces in the file.
        starts: first code point of each range that it has, ascending.
        ends: last code point of each range.
    """

    path: Path
    index: int
    starts: Sequence[int]
    ends: Sequence[int]

    def has(self, code: int) -> bool:
        """Returns whether the font has a character."""
        place = bisect.bisect_right(self.starts, code) - 1
        return place >= 0 and code <= self.ends[place]

    @property
    def rank(self) -> tuple[int, bool, str, int]:
        """Sorts fonts, the best first."""
        name = self.path.name.lower()
        known = next((at for at, part in enumerate(PREFERRED) if part in name), len(PREFERRED))
        is_unusual = "regular" not in name and any(
            part in name for part in ("bold", "italic", "light", "thin", "black")
        )
        return known, is_unusual, str(self.path), self.index


@functools.cache
def system_fonts() -> tuple[SystemFont, ...]:
    """Returns the fonts of the machine, the best first."""
    found = _listed() if shutil.which("fc-list") else _known()
    return tuple(sorted(found, key=lambda font: font.rank))


@functools.lru_cache(maxsize=4096)
def font_for(char: str) -> SystemFont | None:
    """Returns the best font of the machine that has a character, or None."""
    return next((font for font in system_fonts() if font.has(ord(char))), None)


@functools.lru_cache(maxsize=4096)
def outline_font_for(char: str) -> SystemFont | None:
    """Returns the best font of the machine that has a character as an outline in the first face of its file, or None.

    These are the fonts that matplotlib draws: of a file with several faces it reads the first, and pictures such as emoji in colour
    it cannot draw.
    """
    return next(
        (
            font
            for font in system_fonts()
            if font.index == 0
            and font.has(ord(char))
            and load_outlines(font.path, 0, _TRIED_SIZE) is not None
        ),
        None,
    )


def _listed() -> list[SystemFont]:
    try:
        run = subprocess.run(
            ["fc-list", "--format", "%{file}\t%{index}\t%{charset}\n"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIST_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return _known()
    fonts = []
    for line in run.stdout.splitlines():
        file, index, ranges = [*line.split("\t"), "", ""][:3]
        if file.lower().endswith(_ENDINGS) and ranges:
            pairs = [(part.split("-") * 2)[:2] for part in ranges.split()]
            spans = sorted((int(first, 16), int(last, 16)) for first, last in pairs)
            # The upper half of the number names a variation of the face.
            fonts.append(_font(Path(file), int(index or 0) & 0xFFFF, spans))
    return list(dict.fromkeys(fonts))


def _known() -> list[SystemFont]:
    """Returns the fonts with known names in the folders of the system, by what they say of themselves."""
    from fontTools.ttLib import TTFont, TTLibError

    fonts = []
    for path in sorted(path for folder in FOLDERS for path in Path(folder).expanduser().glob("**/*")):
        name = path.name.lower()
        if not name.endswith(_ENDINGS) or not any(part in name for part in PREFERRED):
            continue
        try:
            with TTFont(path, fontNumber=0, lazy=True) as font:
                codes = sorted(font.getBestCmap() or ())
        except (OSError, TTLibError):
            continue
        fonts.append(_font(path, 0, list(_ranges(codes))))
    return fonts


def _font(path: Path, index: int, spans: Sequence[tuple[int, int]]) -> SystemFont:
    return SystemFont(path, index, tuple(first for first, _ in spans), tuple(last for _, last in spans))


def _ranges(codes: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return [(first, last) for first, last in ranges]


@functools.cache
def can_shape() -> bool:
    """Returns whether Pillow joins letters and orders text that runs from right to left; its wheels all do."""
    return bool(features.check("raqm"))


@functools.lru_cache(maxsize=256)
def load_outlines(path: Path, index: int, size: int) -> ImageFont.FreeTypeFont | None:
    """Returns a font at a size, or None where the file has pictures of other sizes in place of outlines."""
    engine = ImageFont.Layout.RAQM if can_shape() else ImageFont.Layout.BASIC
    try:
        return ImageFont.truetype(str(path), size, index=index, layout_engine=engine)
    except OSError:
        return None


@functools.lru_cache(maxsize=16)
def load_pictures(path: Path, index: int) -> tuple[ImageFont.FreeTypeFont, int] | None:
    """Returns a font of pictures and the size that it has, or None where it cannot be read."""
    for strike in _STRIKES:
        try:
            font = ImageFont.truetype(str(path), strike, index=index, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            continue
        return font, strike
    return None


@functools.lru_cache(maxsize=512)
def draw_picture(path: Path, index: int, char: str, size: int) -> Image.Image | None:
    """Returns an emoji in colour as an RGBA image as high as a letter is at a size, or None where it cannot be drawn."""
    found = load_pictures(path, index)
    if found is None:
        return None
    font, strike = found
    left, top, right, bottom = font.getbbox(char)
    if right <= left or bottom <= top:
        return None
    whole = Image.new("RGBA", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(whole).text((-left, -top), char, font=font, embedded_color=True)
    factor = size / strike
    return whole.resize(
        (max(1, round(whole.width * factor)), max(1, round(whole.height * factor))), Image.Resampling.LANCZOS
    )
