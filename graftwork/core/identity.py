"""Names that follow from content: canonical JSON and digests.

Standard library only: this is imported while the workflow is parsed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

DIGEST_LENGTH = 32
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_SCALARS = frozenset((str, int, float, bool, type(None)))
# A sweep writes the same few values a million times.
_MOST_REMEMBERED = 2**14


def canonical_json(value: Any) -> str:
    """Returns one text per value: sorted keys, no spaces, shortest floats, no distinction of -0.0.

    Raises:
        ValueError: for NaN and infinities, which have no JSON.
        TypeError: for keys that are not strings and for types without a JSON form.
    """
    kind = type(value)
    if kind in _SCALARS:
        return _scalar_text(value)
    if kind is dict and all(type(key) is str for key in value):
        return (
            "{"
            + ",".join([f"{_scalar_text(key)}:{canonical_json(value[key])}" for key in sorted(value)])
            + "}"
        )
    if kind is list or kind is tuple:
        return "[" + ",".join(map(canonical_json, value)) + "]"
    return _ENCODER.encode(_canonical(value))


def digest(value: Any) -> str:
    """Returns the first 32 hex digits (128 bit) of the SHA-256 of the canonical JSON of `value`."""
    return digest_of_text(canonical_json(value))


def digest_of_text(text: str) -> str:
    """Returns the digest of the value that has this canonical JSON."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


@lru_cache(maxsize=_MOST_REMEMBERED, typed=True)
def _scalar_text(value: Any) -> str:
    """Returns the JSON of a text, number, truth value or None; equal values of other types have entries of their own."""
    return _ENCODER.encode(_canonical(value))


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of an identity: only finite numbers can")
        return value + 0.0  # -0.0 becomes 0.0
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{key!r} cannot be a key of an identity: keys must be strings")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be part of an identity")
