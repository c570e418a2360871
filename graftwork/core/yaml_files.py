"""Configuration files: YAML as it is written, or refused with file, key and line.

PyYAML follows YAML 1.1, in which yes is true, 0123 is 83 and 1:30 is 90. Here a plain scalar is what YAML 1.2 says (its
core schema), a key is always a text, and what the two versions read as different numbers is refused. Repeated keys, tags,
NUL, lone surrogates and numbers that are not finite are refused too, and so is a file that is far larger, deeper or, with its
aliases written out, longer than a configuration is.
"""

import json
import math
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from graftwork.core.errors import DesignError, shorten

MAX_BYTES = 20_000_000
MAX_NODES = 300_000
MAX_DEPTH = 40
# Numbers are computed with in float32.
MAX_NUMBER = 3.4e38
_MAX_DIGITS = 300
_SHOWN_DEPTH = 8

_NULL = re.compile(r"(null|Null|NULL|~)?")
_BOOL = {
    word: value for value in (True, False) for word in (str(value).lower(), str(value), str(value).upper())
}
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_OCTAL = re.compile(r"[-+]?0[0-9]+")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_MERGE = "<<"
# Types of YAML 1.1 -> those of Python, and what people call them.
_TYPES_OF_1_1 = {"null": type(None), "bool": bool, "int": int, "float": float, "timestamp": object}
_IN_WORDS = {
    "bool": "true or false",
    "int": "another number",
    "float": "another number",
    "timestamp": "a date",
    "str": "a text",
    "null": "null",
}


def read_yaml(file: Path, shown: str, also_1_1: bool = False) -> Any:
    """Reads a configuration file.

    Args:
        file: path of the file to read.
        shown: its path as the user knows it, for messages.
        also_1_1: whether a reader of YAML 1.1 reads the file too, so that what the versions read differently is refused.

    Raises:
        DesignError: for a file that is missing, no regular file or not YAML, and for values that are refused, with the key
            and its line.
    """
    text = read_text(file, shown)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Reader(yaml.parse(text, Loader=loader), shown, also_1_1).read()
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, DesignError):
            raise
        reason = " ".join(str(error).replace("<unicode string>", shown).split())
        raise DesignError(f"{shown} is not valid YAML: {reason}; mend the file there") from error


def check_configuration(file: Path, shown: str) -> None:
    """Refuses what a file of `--configfile` may not say; it may be JSON too, and a reader of YAML 1.1 has read it."""
    text = read_text(file, shown)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DesignError(f"{shown}: key {key!r} occurs twice; remove one of them")
            seen.add(key)
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError):
        read_yaml(file, shown, also_1_1=True)


def read_text(file: Path, shown: str) -> str:
    """Returns the text of a file of the configuration.

    Raises:
        DesignError: for a file that is missing, no regular file, not readable, too large or not UTF-8.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise DesignError(f"{shown} is {kind}; a text file in YAML is needed there")
        if status.st_size > MAX_BYTES:
            raise DesignError(
                f"{shown} has {status.st_size} bytes; a configuration file may have up to {MAX_BYTES}; split it"
            )
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DesignError(f"{shown} does not exist") from error
    except UnicodeDecodeError as error:
        raise DesignError(
            f"{shown} is not valid YAML: byte {error.start} is not UTF-8; save the file in that encoding"
        ) from error
    except OSError as error:
        raise DesignError(
            f"{shown} cannot be read: {error.strerror}; check its name and permissions"
        ) from error


class _Reader:
    """Builds values out of the events of a parser."""

    def __init__(self, events: Iterable[yaml.Event], shown: str, also_1_1: bool):
        self._events: Iterator[yaml.Event] = iter(events)
        self._shown = shown
        self._resolver = yaml.resolver.Resolver() if also_1_1 else None
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._path: list[str] = []
        self._nodes = 0

    def read(self) -> Any:
        """Returns the content of the file, None where it is empty."""
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refuse(
                        event, "a second document begins here; keep one, without lines of three dashes"
                    )
                value = self._value(next(self._events))
        return value

    def _refuse(self, event: yaml.Event, problem: str) -> DesignError:
        place = f"{self._shown}: {'.'.join(self._path[:_SHOWN_DEPTH])}".rstrip(": ")
        return DesignError(f"{place} (line {event.start_mark.line + 1}): {problem}")

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._refuse(
                event,
                f"the file has more than {MAX_NODES} values, aliases written out; shorten its lists, or split it",
            )

    def _value(self, event: yaml.Event) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._check_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._nodes
        self._count(event, 1)
        if len(self._path) > MAX_DEPTH:
            raise self._refuse(event, f"values lie deeper than {MAX_DEPTH} levels; nothing here is that deep")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list()
        else:
            value = self._mapping()
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self._anchors:
            raise self._refuse(event, f"*{event.anchor} stands for nothing; write &{event.anchor} before it")
        known = self._anchors[event.anchor]
        if known is None:
            raise self._refuse(event, f"*{event.anchor} is a part of itself; write the value out")
        self._count(event, known[1])
        return known[0]

    def _check_tag(self, event: yaml.Event) -> None:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            raise self._refuse(event, f"the tag {event.tag} is not read; remove it, or quote the value")

    def _list(self) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._path.append(str(len(values)))
            values.append(self._value(event))
            self._path.pop()
        return values

    def _mapping(self) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, merges = self._key(event)
            if key in own:
                raise self._refuse(event, f"key {key!r} occurs twice; remove one of them")
            self._path.append(key)
            value = self._value(next(self._events))
            if merges:
                merged = {**self._merged(event, value), **merged}
            else:
                own[key] = value
            self._path.pop()
        return {**merged, **own}

    def _merged(self, event: yaml.Event, value: Any) -> dict[str, Any]:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise self._refuse(event, f"{_MERGE} takes a mapping or a list of mappings")
        return {key: item for source in reversed(sources) for key, item in source.items()}

    def _key(self, event: yaml.Event) -> tuple[str, bool]:
        """Returns a key, and whether it merges another mapping."""
        if isinstance(event, yaml.AliasEvent):
            key = self._alias(event)
            if not isinstance(key, str):
                raise self._refuse(event, f"*{event.anchor} is no text, which a key has to be")
            return key, False
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, "a list or mapping is used as a key; write a text (quote [ and {)")
        self._check_tag(event)
        self._count(event, 1)
        plain = _is_plain(event)
        if plain and event.value == "":
            raise self._refuse(event, "a key is empty; write its name before the colon")
        self._check_text(event)
        if plain:
            self._check_1_1(event, event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (event.value, 1)
        return event.value, plain and event.value == _MERGE

    def _check_text(self, event: yaml.ScalarEvent) -> None:
        found = _UNWRITABLE.search(event.value)
        if found:
            kind = "the character NUL" if found[0] == "\0" else f"{found[0]!r}, half of a character"
            raise self._refuse(event, f"{shorten(event.value)} contains {kind}; remove it")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        self._check_text(event)
        if not _is_plain(event):
            return event.value
        value = self._plain(event)
        self._check_1_1(event, value)
        return value

    def _plain(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if _NULL.fullmatch(text):
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._refuse(
                event, f"{text} is no finite number; write a number, or quote it where a text is meant"
            )
        if _OCTAL.fullmatch(text):
            raise self._refuse(
                event,
                f"{shorten(text)} begins with 0, which some read as another number; write it without the 0, or quote it "
                "where a text is meant",
            )
        is_whole = _INT.fullmatch(text) is not None
        if not is_whole and not _FLOAT.fullmatch(text):
            return text
        value = math.inf if len(text) > _MAX_DIGITS else int(text, 0) if is_whole else float(text)
        if abs(value) > MAX_NUMBER:
            raise self._refuse(
                event, f"{shorten(text)} is beyond {MAX_NUMBER}; write a smaller number, or quote it"
            )
        return value

    def _check_1_1(self, event: yaml.ScalarEvent, value: Any) -> None:
        """Refuses a plain scalar that a reader of YAML 1.1 takes for something else."""
        if self._resolver is None:
            return
        tag = self._resolver.resolve(yaml.ScalarNode, event.value, (True, False)).rpartition(":")[2]
        if type(value) is not _TYPES_OF_1_1.get(tag, str):
            raise self._refuse(
                event,
                f"{event.value} is read as {_IN_WORDS.get(tag, 'something else')} by some; quote it where a text is meant, "
                "or write true, false or a plain number",
            )


def _is_plain(event: yaml.ScalarEvent) -> bool:
    return event.implicit[0] and event.style in (None, "") and event.tag is None


def checked_values(value: Any, shown: str) -> Any:
    """Returns values that another reader has read, once they were found to be what `read_yaml` would return.

    Args:
        value: mappings, lists and scalars.
        shown: where they are from, for messages.

    Raises:
        DesignError: for what `read_yaml` refuses, as far as it is still seen.
    """
    nodes = 0
    waiting: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while waiting:
        item, path = waiting.pop()
        nodes += 1
        where = f"{shown}: {'.'.join(path[:_SHOWN_DEPTH])}".rstrip(": ")
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise DesignError(
                f"{where}: there are more than {MAX_NODES} values, or more than {MAX_DEPTH} levels of them; shorten its lists"
            )
        if isinstance(item, dict):
            wrong = [key for key in item if not isinstance(key, str)]
            if wrong:
                raise DesignError(
                    f"{where}: {shorten(wrong[0])} is used as a key; quote it where a text is meant"
                )
            waiting += [(key, path) for key in item]
            waiting += [(part, (*path, key)) for key, part in item.items()]
        elif isinstance(item, list):
            waiting += [(part, (*path, str(index))) for index, part in enumerate(item)]
        elif isinstance(item, str) and _UNWRITABLE.search(item):
            raise DesignError(f"{where}: {shorten(item)} contains NUL or half of a character; remove it")
        elif isinstance(item, int | float) and not abs(item) <= MAX_NUMBER:
            raise DesignError(
                f"{where}: {shorten(item)} is no number up to {MAX_NUMBER}; write a smaller number"
            )
        elif not isinstance(item, str | int | float | NoneType):
            raise DesignError(
                f"{where}: {shorten(item)} is no text, number or list; quote it where a text is meant"
            )
    return value
