"""HTML pages that need no other file: a summary in Markdown with its pictures inside, to be read anywhere and sent by mail.

A page has no script and asks no server for anything. Its colours follow the reader's system, light or dark.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from graftwork.reports.templates import render, template_digest

# Most mail servers take 20 to 25 MB, and mail encodes what is attached once more, a third longer.
MOST_BYTES = 10_000_000
TEMPLATES = ("document.html.j2", "style.css.j2")
_TYPES = {".png": "image/png", ".webp": "image/webp"}
_REMOTE = ("http://", "https://", "#")
# Links to pictures in this folder are followed by the picture.
PLOTS = ("plots",)


def document_text() -> list[str]:
    """Returns the digests of the templates that every page is made from."""
    return [template_digest(name) for name in TEMPLATES]


class Budget:
    """How many bytes of pictures a page may still take in.

    Attributes:
        left: bytes that are left, as they stand in the page.
        refused: pictures that were too large.
    """

    def __init__(self, most: int = MOST_BYTES):
        self.left, self.refused = most, 0

    def take(self, data: bytes, kind: str) -> str | None:
        """Returns a picture as an address that holds it, or None where it is too large.

        Args:
            data: content of the file.
            kind: media type, such as image/png.
        """
        size = encoded_size(len(data))
        if size > self.left:
            self.refused += 1
            return None
        self.left -= size
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    def take_file(self, path: Path) -> str | None:
        """Returns the picture of a file, or None where it is too large or no picture that browsers show."""
        kind = _TYPES.get(path.suffix)
        return self.take(path.read_bytes(), kind) if kind and path.is_file() else None


def encoded_size(count: int) -> int:
    """Returns how many characters so many bytes have as base64."""
    return -(-count // 3) * 4


@dataclass(frozen=True)
class Picture:
    """A cell of a table of pictures.

    Attributes:
        addresses: images as data addresses; several stand below each other.
        alt: what they show, for those who do not see them.
        text: what stands in their place, or under them.
        is_small: whether their pixels are to be enlarged without smoothing.
    """

    addresses: Sequence[str] = ()
    alt: str = ""
    text: str = ""
    is_small: bool = False


@dataclass(frozen=True)
class PictureTable:
    """A table of pictures.

    Attributes:
        heading: what it shows.
        note: more about it, or "".
        columns: headings of the columns.
        rows: (heading, pictures) of each row.
    """

    heading: str
    note: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Picture]]]


def write_document(
    markdown: str, folder: Path, budget: Budget, tables: Sequence[PictureTable] = (), note: str = ""
) -> str:
    """Returns a page.

    Args:
        markdown: its text. Files that it links to are named, for they do not come along; plots among them are shown.
        folder: what paths in the text are relative to.
        budget: what pictures may take.
        tables: pictures, shown under the first section.
        note: a line at the end.
    """
    tokens = _parser().parse(markdown)
    title = next((token.content for token in tokens if token.type == "inline"), "")
    body = _parser().renderer.render(
        list(_self_contained(tokens, lambda path: budget.take_file(folder / path))), _parser().options, {}
    )
    head, tail = _split(body)
    return render(
        "document.html.j2",
        title=_plain(title),
        head=head,
        tables=tables,
        tail=tail,
        note=note,
        refused=budget.refused,
        most=MOST_BYTES // 1_000_000,
    )


def _parser() -> MarkdownIt:
    # Text of users is escaped where the Markdown is written; here no HTML passes in any case.
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _plain(text: str) -> str:
    inline = _parser().parseInline(text)[0].children or []
    return "".join(token.content for token in inline)


def _split(body: str) -> tuple[str, str]:
    """Returns what stands before the second heading of sections, and the rest: pictures come between."""
    first = body.find("<h2>")
    return (body, "") if first < 0 else (body[:first], body[first:])


def _self_contained(tokens: Sequence[Token], load: Callable[[Path], str | None]) -> Iterator[Token]:
    """Yields tokens whose links and images need no other file."""
    for token in tokens:
        if token.type == "inline":
            token.children = list(_inline(token.children or [], load))
        elif token.type == "table_open":
            # A wide table is scrolled, by keys too.
            yield _token("html_block", '<div class="wide" tabindex="0" role="region" aria-label="table">')
        yield token
        if token.type == "table_close":
            yield _token("html_block", "</div>")


def _inline(tokens: Sequence[Token], load: Callable[[Path], str | None]) -> Iterator[Token]:
    target, inside = "", ""
    for token in tokens:
        if token.type == "link_open":
            target, inside = str(token.attrGet("href")), ""
            if target.startswith(_REMOTE):
                yield token
        elif token.type == "link_close":
            if target.startswith(_REMOTE):
                yield token
            elif Path(target).parts[:1] == PLOTS:
                yield from _picture(target, inside, load)
        elif token.type == "image":
            yield from _picture(str(token.attrGet("src")), token.content, load)
        else:
            inside += token.content
            yield token


def _picture(path: str, alt: str, load: Callable[[Path], str | None]) -> Iterator[Token]:
    address = load(Path(path))
    if address is None:
        yield _token("text", f" (not in this page: {path})")
        return
    yield _token("html_inline", f'<img class="plot" src="{address}" alt="{escape(alt)}">')


def _token(kind: str, content: str) -> Token:
    token = Token(kind, "", 0)
    token.content = content
    return token
