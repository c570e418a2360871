"""Statistics in the store: an `.npz` with one array per token class and statistic, and beside it, as JSON, of what.

    key                                         uint8        name of the file, in ASCII: another's is damage
    {class}/n                                   int64 ()     tokens; the rest is there where it is 2 or more
    {class}/mean, std, minimum, maximum, ...    float32      as in `ReferenceStatistics`
    sinks/inputs, inputs_with, untypical        int64 ()     as in `FurtherSinks`
    sinks/position, token_id, count             int64 (k,)   where those are, and in how many inputs

The ZIP has a checksum for every array, which reading verifies.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.atomic import write_atomic
from graftwork.core.npz import read_npz, write_npz
from graftwork.core.records import to_json
from graftwork.statistics.accumulator import Moments, TooFewTokens, summarize
from graftwork.statistics.reference import ARRAYS, ReferenceStatistics
from graftwork.statistics.sink import FurtherSinks, SinkPlace
from graftwork.store.layout import Store
from graftwork.store.records import CorpusStatistics, FileStatistics

_COUNTS = ("inputs", "inputs_with", "untypical")
_PLACE = ("position", "token_id", "count")

_KEY = "key"


class DamagedStatistics(Exception):
    """A file that is missing or cannot be read back as it was written."""


def write_statistics(path: Path, classes: Mapping[str, Moments], sinks: FurtherSinks, origin: Any) -> None:
    """Rounds moments to statistics and writes them.

    Args:
        path: path of the `.npz`; the JSON has the same name.
        classes: Token class -> moments. Of one with fewer than 2 tokens only their number is kept.
        sinks: sinks beyond position 0 in the inputs.
        origin: record that says what the statistics are of, for people who open the file.
    """
    arrays: dict[str, np.ndarray] = {_KEY: _as_array(path)}
    for name, moments in classes.items():
        arrays[f"{name}/n"] = np.int64(moments.n)
        if moments.n >= 2:
            statistics = summarize(moments, f"token class {name!r}")
            for field in ARRAYS[1:]:
                value = getattr(statistics, field)
                if value is not None:
                    arrays[f"{name}/{field}"] = np.float32(value) if isinstance(value, float) else value
    arrays |= _sink_arrays(sinks)
    text = json.dumps(to_json(origin), indent=1, sort_keys=True, ensure_ascii=False)
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
            return ReferenceStatistics(**{**values, "n": n}, further_sinks=_sinks_of(arrays))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedStatistics(f"{path}, token class {token_class}: {error}") from error
    raise TooFewTokens(
        f"the corpus has {n} token{'s' * (n != 1)} of class {token_class!r} with this encoder; a standard deviation needs 2 "
        "or more: add inputs to the corpus, or choose another token class"
    )


def _sink_arrays(sinks: FurtherSinks) -> dict[str, np.ndarray]:
    rows = [(place.position, place.token_id, place.inputs) for place in sinks.places]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return {
        **{f"sinks/{name}": np.int64(getattr(sinks, name)) for name in _COUNTS},
        **{f"sinks/{name}": column for name, column in zip(_PLACE, columns, strict=True)},
    }


def _sinks_of(arrays: Mapping[str, np.ndarray]) -> FurtherSinks:
    columns = (arrays[f"sinks/{name}"].tolist() for name in _PLACE)
    places = tuple(SinkPlace(*row) for row in zip(*columns, strict=True))
    return FurtherSinks(places=places, **{name: int(arrays[f"sinks/{name}"]) for name in _COUNTS})


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
        source: name of the file in errors.

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


def read_named(
    named: CorpusStatistics | FileStatistics, store: Store, files: Mapping[str, str]
) -> ReferenceStatistics:
    """Reads the statistics that a recipe names.

    Args:
        named: Statistics over a corpus, or of a file of the user.
        store: Where the former are.
        files: SHA-256 -> path of the latter.

    Raises:
        DamagedStatistics: as `read_statistics`.
        TooFewTokens: as `read_statistics`.
        ValueError: where a file is another one than its SHA-256 says.
    """
    if isinstance(named, CorpusStatistics):
        return read_statistics(store.statistics(named.key), named.tokens)
    path = files[named.npz]
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != named.npz:
        raise ValueError(f"{path} is another file now than when the run started; start it again")
    return read_statistics_file(data, named.tokens, path)
