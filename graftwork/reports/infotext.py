"""The text that AUTOMATIC1111's web UI and its many readers find under the PNG key `parameters`.

Source: `create_infotext` in modules/processing.py and `quote`, `parse_generation_parameters` in
modules/infotext_utils.py (once generation_parameters_copypaste.py) of AUTOMATIC1111/stable-diffusion-webui.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

PARAMETERS_KEY = "parameters"
GRAFTWORK_KEY = "graftwork"

_NEGATIVE = "Negative prompt:"
_MIN_PARAMETERS = 3
_KEY = re.compile(r"\w[\w \-/]*[\w\-/]")
_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


class Infotext(NamedTuple):
    """What an infotext says.

    Attributes:
        prompt: The prompt; empty lines at its ends and spaces around each line are lost.
        negative_prompt: The same for the negative prompt, or None.
        parameters: Values as text, in the order of the file.
    """

    prompt: str
    negative_prompt: str | None
    parameters: dict[str, str]


def format_infotext(prompt: str, *, negative_prompt: str | None = None, parameters: dict[str, Any]) -> str:
    """Writes "prompt, newline, Negative prompt: ..., newline, Steps: 8, Sampler: Euler, ...".

    Args:
        prompt: May have several lines.
        negative_prompt: Left out when None or empty.
        parameters: At least three after those that are None, which are left out: a reader takes a last line
            with fewer for a part of the prompt. Lists and dicts become JSON.

    Returns:
        The infotext.

    Raises:
        ValueError: Too few parameters, a key that readers cannot parse, or a line of a prompt that starts
            with "Negative prompt:".
    """
    kept = {key: value for key, value in parameters.items() if value is not None}
    if len(kept) < _MIN_PARAMETERS:
        raise ValueError(
            f"infotext has {len(kept)} parameters ({', '.join(kept) or 'none'}); readers recognize a "
            f"parameter line by at least {_MIN_PARAMETERS}: add Steps, Seed or Size"
        )
    for key in kept:
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"infotext key {key!r} cannot be read back: allowed are two or more letters, digits, "
                f"spaces, '_', '-' and '/', starting with a letter, a digit or '_'"
            )
    lines = [_tidy(prompt, "prompt")]
    if negative_prompt:
        lines.append(f"{_NEGATIVE} {_tidy(negative_prompt, 'negative prompt')}")
    lines.append(", ".join(f"{key}: {_quote(_to_text(value))}" for key, value in kept.items()))
    return "\n".join(lines)


def parse_infotext(text: str) -> Infotext:
    """Reads an infotext in the way the web UI does.

    Args:
        text: As made by `format_infotext` or by the web UI.

    Returns:
        The parts. Unlike the web UI, a size stays one value ("512x512"), and no defaults are filled in.
    """
    *lines, last = text.strip().split("\n")
    found = _PARAMETER.findall(last)
    if len(found) < _MIN_PARAMETERS:
        lines.append(last)
        found = []
    prompt: list[str] = []
    negative: list[str] | None = None
    for line in (line.strip() for line in lines):
        if negative is None and line.startswith(_NEGATIVE):
            negative = [line[len(_NEGATIVE) :].strip()]
        elif negative is None:
            prompt.append(line)
        else:
            negative.append(line)
    return Infotext(
        prompt="\n".join(prompt),
        negative_prompt=None if negative is None else "\n".join(negative),
        parameters={key: _unquote(value) for key, value in found},
    )


def _tidy(prompt: str, what: str) -> str:
    lines = [line.strip() for line in prompt.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")]
    if any(line.startswith(_NEGATIVE) for line in lines):
        raise ValueError(
            f"the {what} has a line that starts with {_NEGATIVE!r}, which marks the negative prompt"
        )
    return "\n".join(lines)


def _to_text(value: Any) -> str:
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return str(value)


def _quote(text: str) -> str:
    """Quotes like the web UI (comma, colon, newline), and where its reader would change the text."""
    plain = text == text.strip() != "" and text.isprintable() and not text.startswith('"')
    if plain and not any(mark in text for mark in ",:"):
        return text
    return json.dumps(text, ensure_ascii=False)


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
