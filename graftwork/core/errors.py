"""Errors in the configuration, as messages that say what to change."""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from graftwork.core.labels import printable

_LONGEST_VALUE = 200
_LONGEST_MESSAGE = 4000
_MOST_PROBLEMS = 20


class DesignError(ValueError):
    """A value in the configuration is not allowed. The message names the value, what is allowed, the file and the key.

    Control characters of a value do not reach the terminal, and a value of any length leaves the message readable.
    """

    def __init__(self, message: str):
        text = printable(message)
        super().__init__(text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} ...")


def shorten(value: object) -> str:
    """Returns a value as in Python source, cut where it is long."""
    text = repr(value[:_LONGEST_VALUE] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


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


# Type of a problem in pydantic -> what is allowed, in the terms of YAML.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "numbers above {gt}",
    "greater_than_equal": "numbers from {ge}",
    "less_than": "numbers below {lt}",
    "less_than_equal": "numbers up to {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a text that is not empty",
    "finite_number": "a finite number",
}
# Names of plain types in the location of a problem with one of several forms of a value.
_PLAIN_TYPES = frozenset({"int", "float", "str", "bool", "none"})


def expected(problems: Iterable[Any]) -> str:
    """Returns what is allowed according to problems (as pydantic lists them) with one value."""
    texts = []
    for problem in problems:
        text = _EXPECTED.get(problem["type"], problem["msg"]).format(**problem.get("ctx", {}))
        if text not in texts:
            texts.append(text)
    return " or ".join(texts)


def explain(error: ValidationError, file: str, model: type[BaseModel], prefix: str = "") -> DesignError:
    """Turns a validation error into one line per problem: file, key, value, what is allowed.

    Args:
        error: error that validation raised.
        file: File that holds the values.
        model: Model that was validated.
        prefix: Key under which the values stand in the file; empty for the whole file.
    """
    forms = _forms(model)
    by_location: dict[tuple[str, ...], list[Any]] = {}
    for problem in error.errors(include_url=False)[:_MOST_PROBLEMS]:
        # Members of a union appear in the location as type names, which are no keys of the file.
        location = tuple(str(part) for part in problem["loc"] if not _is_type_name(part, forms))
        # A key of the user's may look like one.
        location = location or tuple(map(str, problem["loc"]))
        by_location.setdefault(location, []).append(problem)
    lines = []
    for location, problems in by_location.items():
        if any(other[: len(location)] == location != other for other in by_location):
            continue  # In one form of the value only a part of it is wrong: the error names that part.
        problem = problems[0]
        key = ".".join([prefix, *location] if prefix else location)
        if problem["type"] == "extra_forbidden":
            allowed = _fields_at(model, problem["loc"][:-1])
            text = f"{file}: {key} is not a known key; allowed: {', '.join(allowed)}{suggest(problem['loc'][-1], allowed)}"
        elif problem["type"] == "missing":
            text = f"{file}: {key} is missing"
        else:
            hint = suggest(
                problem["input"], re.findall(r"'([^']+)'", problem.get("ctx", {}).get("expected", ""))
            )
            text = f"{file}: {key}: {shorten(problem['input'])} is not allowed; allowed: {expected(problems)}{hint}"
        lines.append(text)
    if error.error_count() > _MOST_PROBLEMS:
        lines.append(f"{file}: and {error.error_count() - _MOST_PROBLEMS} further problems; mend these first")
    return DesignError("\n".join(lines))


def _is_type_name(part: object, forms: frozenset[str]) -> bool:
    return isinstance(part, str) and (part in _PLAIN_TYPES | forms or any(c in part for c in "[]()"))


@cache
def _forms(model: type[BaseModel]) -> frozenset[str]:
    """Returns the names of the models that the fields of a model can hold, at any depth.

    Pydantic puts them into the location of a problem where a value has several forms.
    """
    names: set[str] = set()
    waiting = [model]
    while waiting:
        for field in waiting.pop().model_fields.values():
            for part in _parts(field.annotation):
                if hasattr(part, "model_fields") and part.__name__ not in names:
                    names.add(part.__name__)
                    waiting.append(part)
    return frozenset(names)


def _fields_at(model: Any, location: Sequence[Any]) -> list[str]:
    candidates: list[Any] = []
    for name in location:
        field = getattr(model, "model_fields", {}).get(name)
        if field is not None:
            candidates = _parts(field.annotation)
        of_this_form = [candidate for candidate in candidates if getattr(candidate, "__name__", None) == name]
        model = next((c for c in [*of_this_form, *candidates] if hasattr(c, "model_fields")), model)
    return list(getattr(model, "model_fields", {}))


def _parts(annotation: Any) -> list[Any]:
    """Returns an annotation and everything inside it."""
    annotation = getattr(annotation, "__value__", annotation)  # Of a type that has a name.
    inside = [part for argument in getattr(annotation, "__args__", ()) for part in _parts(argument)]
    return [annotation, *inside]
