"""Fitted maps in the store: a safetensors file, and beside it, as JSON, of what.

Tensors are those of `maps.fitted.FittedMap`, and `sink` where there is one. Metadata has `about`, JSON with `key`, the name of the
file; `sha256` of names and bytes of the tensors, for safetensors has no checksum; and `map`, the other fields.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.atomic import atomic_path, write_atomic
from graftwork.core.records import to_json
from graftwork.maps.fitted import TENSORS, FittedMap

_SINK = "sink"


class DamagedMap(Exception):
    """A file that is missing or cannot be read back as it was written."""


def write_map(path: Path, fitted: FittedMap, origin: Any) -> None:
    """Writes a map.

    Args:
        path: of the file; the JSON has the same name.
        fitted: the map.
        origin: record that says what the map is of, for people who open the file.
    """
    from safetensors.numpy import save_file

    tensors = dict(fitted.tensors)
    if fitted.sink is not None:
        tensors[_SINK] = np.ascontiguousarray(fitted.sink, dtype=np.float32)
    about = {
        "method": fitted.method,
        "normalization": fitted.normalization,
        "token_rms": fitted.token_rms,
        "pairs": fitted.pairs,
        "prompts": fitted.prompts,
        "facts": fitted.facts,
    }
    shown = {**to_json(origin), "map": about}
    write_atomic(path.with_suffix(".json"), json.dumps(shown, indent=1, sort_keys=True, ensure_ascii=False))
    with atomic_path(path) as temporary:
        # One entry: the library writes several in any order, and equal maps are equal files.
        metadata = {"key": path.stem, "sha256": _digest(tensors), "map": about}
        save_file(tensors, temporary, metadata={"about": json.dumps(metadata, sort_keys=True)})


def read_map(path: Path) -> FittedMap:
    """Reads a map, its bytes compared with what was written.

    Raises:
        DamagedMap: where the file is missing or damaged, or holds another map.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            metadata = json.loads((file.metadata() or {})["about"])
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if metadata["key"] != path.stem:
            raise ValueError(f"it holds the map {metadata['key']}")
        if metadata["sha256"] != _digest(tensors):
            raise ValueError("it holds other values than were written")
        sink = tensors.pop(_SINK, None)
        if unknown := sorted(set(tensors) - set(TENSORS)):
            raise ValueError(f"it has a tensor {unknown[0]!r}, which no map has")
        return FittedMap(tensors=tensors, sink=sink, **metadata["map"])
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DamagedMap(f"{path}: {error}") from error


def is_intact_map(path: Path) -> bool:
    """Returns whether a file can be read back as it was written."""
    try:
        read_map(path)
    except DamagedMap:
        return False
    return True


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        total.update(f"{name}:{value.dtype}:{value.shape}:".encode())
        total.update(value.tobytes())
    return total.hexdigest()
