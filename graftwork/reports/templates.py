"""Texts that people read are Jinja2 templates in `templates/`; values are escaped for Markdown by the filter `text`."""

import hashlib
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from graftwork.core.progress import format_seconds
from graftwork.core.tables import escape_markdown, format_number, markdown_table

FOLDER = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Returns a text.

    Args:
        template: name of a file in `templates/`.
        values: names that the template uses; one that is missing is an error.
    """
    return _environment().get_template(template).render(values).strip("\n") + "\n"


def template_digest(template: str) -> str:
    """Returns the digest of a template, which no digest of code covers."""
    return hashlib.sha256((FOLDER / template).read_bytes()).hexdigest()


@cache
def _environment():
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown is not HTML: `text` escapes what Markdown would not show as it is. In pages of HTML every value is escaped.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    environment.filters |= {
        "text": escape_markdown,
        "number": format_number,
        "seconds": format_seconds,
        "stem": lambda path: PurePath(path).stem,
    }
    environment.globals["table"] = markdown_table
    return environment
