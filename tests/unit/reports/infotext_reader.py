"""Reads an infotext as AUTOMATIC1111's web UI does: `parse_generation_parameters` in modules/infotext_utils.py."""

import json
import re
from typing import NamedTuple

_NEGATIVE = "Negative prompt:"
_MIN_PARAMETERS = 3
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


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
