"""Names that follow from content: canonical JSON and digests.

Standard library only: this is imported while the workflow is parsed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

DIGEST_LENGTH = 32


def canonical_json(value: Any) -> str:
    """Returns one text per value: sorted keys, no spaces, shortest floats, no distinction of -0.0.

    Raises:
        ValueError: for NaN and infinities, which have no JSON.
        TypeError: for keys that are not strings and for types without a JSON form.
    """
    return json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Returns the first 32 hex digits (128 bit) of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


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
