"""The text that AUTOMATIC1111's web UI and its many readers find under the PNG key `parameters`.

Source: `create_infotext` in modules/processing.py and `quote` in modules/infotext_utils.py (once
generation_parameters_copypaste.py) of AUTOMATIC1111/stable-diffusion-webui.
"""

import json
import re
from typing import Any

from graftwork.core.cells import Parameters

PARAMETERS_KEY = "parameters"
GRAFTWORK_KEY = "graftwork"

_NEGATIVE = "Negative prompt:"
_MIN_PARAMETERS = 3
_KEY = re.compile(r"\w[\w \-/]*[\w\-/]")


def format_infotext(prompt: str, *, negative_prompt: str | None = None, parameters: Parameters) -> str:
    """Writes "prompt, newline, Negative prompt: ..., newline, Steps: 8, Sampler: Euler, ...".

    Args:
        prompt: text of the prompt, of any number of lines.
        negative_prompt: text of the negative prompt; left out when None or empty.
        parameters: name -> value. Those that are None are left out; at least three have to remain, because a reader takes
            a last line with fewer for a part of the prompt. Lists and dicts become JSON.

    Returns:
        The infotext.

    Raises:
        ValueError: for too few parameters, a key that readers cannot parse, or a line of a prompt that starts
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
