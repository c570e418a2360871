"""Text for parameter values: short where they are shown, distinct where they are compared."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

_SHORT_DIGITS = 3
_EXACT_DIGITS = 5
_MAX_DIGITS = 17
# Sums such as 0.1 + 0.2 differ from what was meant in the last two of a double's 17 digits.
_NOISE_FREE_DIGITS = 14
# Controls but the line feed, line and paragraph separators, overrides and isolates of direction, lone surrogates.
_CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def format_value(value: Any, digits: int = _SHORT_DIGITS) -> str:
    """Shows one value of an axis.

    Floats of up to five significant digits are shown exactly (after rounding away binary noise), longer ones
    with `digits` significant digits, never fewer than the integer part has.

    Args:
        value: A number, text, None, or lists and dicts of them.
        digits: Significant digits of floats that are longer, 3 to 17.

    Returns:
        For example 0.3 for 0.30000000000000004, 0.333 for 1/3, "none", "[-2, -6]", "{from: 0.2, to: 0.8}".
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _format_float(value, digits)
    if isinstance(value, Mapping):
        parts = (f"{format_value(key, digits)}: {format_value(item, digits)}" for key, item in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, AbstractSet):
        return "{" + ", ".join(sorted(format_value(item, digits) for item in value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return "[" + ", ".join(format_value(item, digits) for item in value) + "]"
    return str(value)


def format_values(values: Sequence[Any]) -> list[str]:
    """Shows the values of one axis so that different values have different text.

    Adds digits for all values until they differ; values that still look alike (1 and "1", None and "none")
    are then written as in Python source.

    Args:
        values: Any values that `format_value` takes.

    Returns:
        One text per value. Only values of equal type and content share one.
    """
    sources = [_source(value) for value in values]
    wanted = len(set(sources))
    for digits in range(_SHORT_DIGITS, _MAX_DIGITS + 1):
        texts = [format_value(value, digits) for value in values]
        if len(set(texts)) == wanted:
            return texts
    sharing: dict[str, set[str]] = {}
    for text, source in zip(texts, sources, strict=True):
        sharing.setdefault(text, set()).add(source)
    mixed = [source if len(sharing[text]) > 1 else text for text, source in zip(texts, sources, strict=True)]
    # A source may in turn equal another value's text, as for ["'1'", "1", 1].
    return mixed if len(set(mixed)) == wanted else sources


def label(name: str, value: Any) -> str:
    """Returns "name = value", or the value alone where the name is empty.

    Text that `format_values` made passes through unchanged.
    """
    text = format_value(value)
    return f"{name} = {text}" if name else text


def printable(text: str) -> str:
    """Returns text for a terminal or a page: control characters but line feeds become escapes such as \\x1b.

    So do marks that change the direction of what follows, and halves of characters. What is printable stays.
    """
    return _CONTROL.sub(lambda match: _escape(match[0]), text)


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def slugify(text: str, max_length: int = 60) -> str:
    """Makes a part of a file name out of any text.

    Args:
        text: Any text, such as a label.
        max_length: At least 16.

    Returns:
        1 to `max_length` characters out of a-z, 0-9, ".", "-" and "_", starting with a letter or a digit. A
        minus sign survives ("alpha = -0.5" is "alpha_-0.5"). Where more than case, accents and punctuation
        was lost, a short digest of the text keeps the name distinct.

    Raises:
        ValueError: `max_length` is below 16.
    """
    if max_length < 16:
        raise ValueError(f"max_length is {max_length}; at least 16 are needed to hold a digest")
    decomposed = unicodedata.normalize("NFKD", text).lower().replace("\u2212", "-")
    bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    slug = re.sub(r"[^a-z0-9.-]+", "_", bare).strip("_.")
    if slug.startswith("-"):
        slug = "minus" + slug.lstrip("-")
    slug = slug.rstrip("_.-")
    lost = any(char.isalnum() and not char.isascii() for char in bare) or len(slug) > max_length or not slug
    if lost or slug == "minus":
        digest = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:8]
        slug = f"{slug[: max_length - 9].strip('_.-')}_{digest}".lstrip("_")
    return slug


def _format_float(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if value == 0:
        return "0"
    clean = Decimal(f"{value:.{max(digits, _NOISE_FREE_DIGITS) - 1}e}").normalize()
    if len(clean.as_tuple().digits) > max(digits, _EXACT_DIGITS):
        whole_digits = clean.adjusted() + 1
        kept = max(digits, min(whole_digits, _MAX_DIGITS))
        clean = Decimal(f"{value:.{kept - 1}e}").normalize()
    if -5 <= clean.adjusted() < 7:
        return f"{clean:f}"
    mantissa, _, exponent = f"{clean:e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _source(value: Any) -> str:
    """Writes a value so that only equal values of equal type have equal text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_source(key)}: {_source(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_source(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value)
