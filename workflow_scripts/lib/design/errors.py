"""Errors in what the user wrote, said so that they can be mended."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


class DesignError(ValueError):
    """Something in the configuration cannot be built. The message names the value, what is allowed, file and key."""


def suggest(value: object, allowed: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest allowed name, or nothing."""
    nearest = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def require_known(value: str, allowed: Iterable[str], what: str, where: str) -> None:
    """Raises DesignError unless `value` is one of the allowed names."""
    allowed = list(allowed)
    if value not in allowed:
        raise DesignError(
            f"{where}: {what} {value!r} is not known; allowed: {', '.join(allowed) or 'none'}{suggest(value, allowed)}"
        )


def explain(error: ValidationError, file: str, model: Any, prefix: str = "") -> DesignError:
    """Turns a validation error into one line per problem: file, key, value, what is allowed."""
    lines = []
    for problem in error.errors():
        # Members of a union appear in the location as type names, which are no keys of the file.
        location = [str(p) for p in problem["loc"] if not _is_type_name(p)]
        key = ".".join([prefix, *location] if prefix else location)
        if problem["type"] == "extra_forbidden":
            allowed = _fields_at(model, location[:-1])
            text = f"{file}: {key} is not a known key; allowed: {', '.join(allowed)}{suggest(location[-1], allowed)}"
        elif problem["type"] == "missing":
            text = f"{file}: {key} is missing"
        else:
            text = f"{file}: {key}: {problem['input']!r} is not allowed: {problem['msg']}"
        if text not in lines:
            lines.append(text)
    return DesignError("\n".join(lines))


def _is_type_name(part: object) -> bool:
    return isinstance(part, str) and (
        part in {"int", "float", "str", "bool", "none"} or any(c in part for c in "[]()")
    )


def _fields_at(model: Any, location: list[str]) -> list[str]:
    for name in location:
        field = getattr(model, "model_fields", {}).get(name)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if hasattr(c, "model_fields")), model)
    return list(getattr(model, "model_fields", {}))
