"""Frozen dataclasses as JSON: what travels between jobs is written and read back by its fields.

A field whose value is its default is left out of the JSON, so that a field added later changes neither files nor keys
that do not use it. Reading is strict: a field that is missing or not known means that the file was written by another
version. Such files are made again, never repaired.
"""

import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from graftwork.core.atomic import write_atomic
from graftwork.core.identity import digest

OUTSIDE_DIGESTS = "writes and reads files; what is in them is decided elsewhere"

R = TypeVar("R")


# Metadata of a field that is written even where it has its default: readers of the JSON count on it.
ALWAYS = {"is always written": True}


class OtherVersion(ValueError):
    """A file or value that does not have the fields of the record it should be."""


def to_json(value: Any) -> Any:
    """Returns a record, and the records inside it, as plain values; tuples become lists."""
    if is_dataclass(value):
        return _writer(type(value))(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(record: type[R], value: Any) -> R:
    """Returns a record as `to_json` wrote it.

    Raises:
        OtherVersion: where a field is missing or not known, naming the record and the field.
    """
    return _reader(record)(value)


def record_digest(record: Any) -> str:
    """Returns the digest of a record: what decides it is exactly what its JSON holds."""
    return digest(to_json(record))


def write_record(path: Path, record: Any, indent: int | None = 1) -> None:
    """Writes a record to a file; without `indent` in one line."""
    write_atomic(path, json.dumps(to_json(record), indent=indent, ensure_ascii=False))


def read_record(record: type[R], path: str | Path) -> R:
    """Reads a record from a file.

    Raises:
        OSError: where there is no such file.
        OtherVersion: where the file holds something else, naming the file.
    """
    try:
        return from_json(record, json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:
        raise OtherVersion(
            f"{path} is no {record.__name__} as this version of graftwork writes it ({error}); delete the file, and the "
            "next run makes it again"
        ) from error


def read_record_or_none(record: type[R], path: str | Path) -> R | None:
    """Reads a record from a file; None where there is none, or one of another version."""
    try:
        return read_record(record, path)
    except (OSError, OtherVersion):
        return None


@cache
def record_form(record: type) -> str:
    """Returns a digest of the names and types of all fields of a record and of the records inside it.

    Whatever is derived from records of another form has to be made again.
    """
    seen: dict[str, Any] = {}
    waiting = [record]
    while waiting:
        one = waiting.pop()
        if one.__qualname__ in seen:
            continue
        hints = get_type_hints(one)
        seen[one.__qualname__] = [[part.name, repr(hints[part.name])] for part in fields(one)]
        waiting += [part for hint in hints.values() for part in _records_in(hint)]
    return digest(seen)


def _records_in(annotation: Any) -> list[type]:
    if is_dataclass(annotation) and isinstance(annotation, type):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _records_in(argument)]


@dataclass(frozen=True)
class _FieldForm:
    """How one field is left out, written and read."""

    name: str
    default: Any
    is_plain: bool
    is_always_written: bool
    read: Callable[[Any], Any]
    kinds: tuple[type, ...]

    @property
    def is_required(self) -> bool:
        return self.default is MISSING

    def value_of(self, record: type, value: Any) -> Any:
        """Returns what the JSON of a record says of the field.

        Raises:
            OtherVersion: where it is of another kind than the field.
        """
        if self.kinds and not isinstance(value, self.kinds):
            raise OtherVersion(f"{record.__name__}: field {self.name!r} cannot be {str(value)[:40]!r}")
        return self.read(value)


@cache
def _forms(record: type) -> tuple[_FieldForm, ...]:
    hints = get_type_hints(record)
    return tuple(
        _FieldForm(
            one.name,
            _default(one),
            not _holds_records(hints[one.name]),
            one.metadata == ALWAYS,
            _reader(hints[one.name]),
            _kinds(hints[one.name]),
        )
        for one in fields(record)
    )


def _default(one: "Field[Any]") -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


_PLAIN = (str, int, float, bool, types.NoneType)


def _kinds(annotation: Any) -> tuple[type, ...]:
    """Returns the types that values of a field have in JSON; empty where that may be any."""
    if annotation in _PLAIN:
        return (int, float) if annotation is float else (annotation,)
    if is_dataclass(annotation):
        return (dict,)
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        found = [_kinds(argument) for argument in get_args(annotation)]
        return tuple(kind for kinds in found for kind in kinds) if all(found) else ()
    if origin in (dict, Mapping):
        return (dict,)
    return (list, tuple) if origin in (tuple, list, Sequence) else ()


def _holds_records(annotation: Any) -> bool:
    """Returns whether values of a type may need to be converted to be written."""
    if annotation in _PLAIN:
        return False
    if get_origin(annotation) in (Union, types.UnionType):
        return any(map(_holds_records, get_args(annotation)))
    return True


@cache
def _writer(record: type) -> Callable[[Any], dict[str, Any]]:
    forms = _forms(record)

    def write(value: Any) -> dict[str, Any]:
        plain = {}
        for form in forms:
            item = getattr(value, form.name)
            if form.is_required or form.is_always_written or item != form.default:
                plain[form.name] = item if form.is_plain else to_json(item)
        return plain

    return write


def _same(value: Any) -> Any:
    return value


@cache
def _reader(annotation: Any) -> Callable[[Any], Any]:
    """Returns what turns JSON into a value of a type; types that JSON has are taken as they are."""
    if is_dataclass(annotation):
        return _record_reader(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not types.NoneType]
        if len(inner) > 1 and all(map(is_dataclass, inner)):
            return _reader_of_several(inner)
        if len(inner) == 1 and (read := _reader(inner[0])) is not _same:
            return lambda value: None if value is None else read(value)
        return _same
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin in (list, Sequence):
        read_item = _reader(arguments[0])
        return _same if read_item is _same else lambda value: [read_item(item) for item in value]
    if origin in (dict, Mapping):
        read_value = _reader(arguments[1])
        if read_value is _same:
            return _same
        return lambda value: {key: read_value(item) for key, item in value.items()}
    return _same


def _reader_of_several(records: Sequence[Any]) -> Callable[[Any], Any]:
    """Returns what reads a value as the first of several records that has its fields."""

    def read(value: Any) -> Any:
        reasons = []
        for record in records:
            try:
                return _reader(record)(value)
            except OtherVersion as error:
                reasons.append(str(error))
        raise OtherVersion("; ".join(reasons))

    return read


def _tuple_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if arguments[-1] is Ellipsis:
        read_item = _reader(arguments[0])
        return tuple if read_item is _same else lambda value: tuple(read_item(item) for item in value)
    read_items = [_reader(argument) for argument in arguments]
    return lambda value: tuple(read(item) for read, item in zip(read_items, value, strict=True))


def _record_reader(record: type) -> Callable[[Any], Any]:
    forms: tuple[_FieldForm, ...] = ()

    def read(value: Any) -> Any:
        nonlocal forms
        forms = forms or _forms(record)
        if not isinstance(value, Mapping):
            raise OtherVersion(f"{record.__name__}: {value!r} is no mapping")
        known = {form.name for form in forms}
        if unknown := [name for name in value if name not in known]:
            raise OtherVersion(f"{record.__name__} has no field {unknown[0]!r}")
        always = [form.name for form in forms if form.is_required or form.is_always_written]
        if missing := [name for name in always if name not in value]:
            raise OtherVersion(f"{record.__name__}: field {missing[0]!r} is missing")
        given = {form.name: form.value_of(record, value[form.name]) for form in forms if form.name in value}
        return record(**given)

    return read
