"""Statistics in the store: an `.npz` with one array per token class and statistic, and beside it, as JSON, of what.

    key                                         uint8        name of the file, in ASCII: another's is damage
    {class}/n                                   int64 ()     tokens; the rest is there where it is 2 or more
    {class}/mean, std, minimum, maximum, ...    float32      as in `ReferenceStatistics`

The ZIP has a checksum for every array, which reading verifies.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.atomic import write_atomic
from graftwork.core.npz import read_npz, write_npz
from graftwork.statistics.accumulator import Moments, TooFewTokens, summarize
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.layout import Store

_KEY = "key"


class DamagedStatistics(Exception):
    """A file that is missing or cannot be read back as it was written."""


def write_statistics(path: Path, classes: Mapping[str, Moments], origin: Mapping[str, Any]) -> None:
    """Rounds moments to statistics and writes them.

    Args:
        path: Of the `.npz`; the JSON has the same name.
        classes: Token class -> moments. Of one with fewer than 2 tokens only their number is kept.
        origin: What the file's name is the digest of, and what was refused, for people who open the file.
    """
    arrays: dict[str, np.ndarray] = {_KEY: _as_array(path)}
    for name, moments in classes.items():
        arrays[f"{name}/n"] = np.int64(moments.n)
        if moments.n >= 2:
            statistics = summarize(moments, f"token class {name!r}")
            for field in fields(statistics)[1:]:
                value = getattr(statistics, field.name)
                if value is not None:
                    arrays[f"{name}/{field.name}"] = np.float32(value) if isinstance(value, float) else value
    text = json.dumps(origin, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(path.with_suffix(".json"), text)
    write_atomic(path, write_npz(arrays))


def read_statistics(path: Path, token_class: str) -> ReferenceStatistics:
    """Reads the statistics of one token class, checksums verified.

    Raises:
        DamagedStatistics: where the file is missing, damaged or lacks the class.
        TooFewTokens: where the class has fewer tokens than a standard deviation needs.
    """
    try:
        arrays = _read_own(path)
        n = int(arrays[f"{token_class}/n"])
        if n >= 2:
            prefix = f"{token_class}/"
            values = {
                name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)
            }
            if "median_token_rms" in values:
                values["median_token_rms"] = float(values["median_token_rms"])
            return ReferenceStatistics(**{**values, "n": n})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedStatistics(f"{path}, token class {token_class}: {error}") from error
    raise TooFewTokens(
        f"the corpus has {n} token{'s' * (n != 1)} of class {token_class!r} with this encoder; a standard deviation needs 2 "
        "or more: add inputs to the corpus, or choose another token class"
    )


def is_intact(path: Path) -> bool:
    """Returns whether every array of a file can be read back."""
    try:
        return bool(_read_own(path))
    except (OSError, ValueError):
        return False


def _read_own(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of the store."""
    arrays = read_npz(path.read_bytes(), str(path))
    if not np.array_equal(arrays.pop(_KEY, None), _as_array(path)):
        raise ValueError(f"{path} holds the statistics of another name")
    return arrays


def _as_array(path: Path) -> np.ndarray:
    return np.frombuffer(path.stem.encode(), dtype=np.uint8)


def read_statistics_file(data: bytes, tokens: int | None, source: str) -> ReferenceStatistics:
    """Reads a file that a user gave: in the published format, or in our own.

    Args:
        data: The whole file.
        tokens: How many tokens it is of, which the published format does not say; None for our own, which does.
        source: What the file is called in errors.

    Raises:
        MissingStatistic: where mean, standard deviation or a number of tokens is missing.
        ValueError: where the file is damaged, or its parts contradict each other or `tokens`.
    """
    if "per_dim_mean" in read_npz(data, source):
        if tokens is None:
            raise ValueError(
                f"{source} does not say how many tokens it is of; set statistics.tokens to their number"
            )
        return ReferenceStatistics.from_published(data, tokens=tokens, source=source)
    statistics = ReferenceStatistics.from_npz(data, source)
    if tokens not in (None, statistics.n):
        raise ValueError(
            f"{source} is of {statistics.n} tokens, not of {tokens}; leave statistics.tokens out"
        )
    return statistics


def read_wanted(wanted: Mapping[str, Any], store: Store, files: Mapping[str, str]) -> ReferenceStatistics:
    """Reads the statistics that a recipe names.

    Args:
        wanted: {key, tokens} of statistics over a corpus, or {npz, tokens} of a file.
        store: Where the former are.
        files: SHA-256 -> path of the latter.

    Raises:
        DamagedStatistics: as `read_statistics`.
        TooFewTokens: as `read_statistics`.
        ValueError: where a file is another one than its SHA-256 says.
    """
    if "key" in wanted:
        return read_statistics(store.statistics(wanted["key"]), wanted["tokens"])
    path = files[wanted["npz"]]
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != wanted["npz"]:
        raise ValueError(f"{path} is another file now than when the run started; start it again")
    return read_statistics_file(data, wanted["tokens"], path)
