"""Headers of weight files: checked against the files and against config.json, without reading a weight.

Source: the description of the format in the documentation of safetensors: 8 bytes with the length of a header in JSON, the
header, and the bytes of the tensors, each at the offsets that the header gives.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from graftwork.core.errors import shorten

# The library refuses longer headers.
MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
# The name of a list of layers, and the number of one.
_NUMBERED = re.compile(r"(.*?)\.\d+\.")
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Attributes:
        shapes: Name of a tensor -> its shape.
        dtypes: Name of a tensor -> its type in the names of the format, such as "F32" or "BF16".
        metadata: Texts by name.
    """

    shapes: Shapes
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]


def read_shapes(file: Path) -> Shapes:
    """Returns the names and shapes of the weights in a safetensors file, from its header; raises as `read_header`."""
    return read_header(file).shapes


def read_header(file: Path) -> Header:
    """Returns what the header of a safetensors file says.

    Raises:
        ValueError: naming the file, where it is empty, truncated, or not what its header says.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(_LENGTH_BYTES)
        if len(start) < _LENGTH_BYTES:
            raise ValueError(
                f"{file} has {size} bytes and no header of safetensors; copy or download it again"
            )
        (length,) = struct.unpack("<Q", start)
        if length > min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise ValueError(
                f"{file} is truncated or no safetensors file: its header would have {length} bytes, the file has {size}; "
                "copy or download it again"
            )
        header = stream.read(length)
    try:
        entries = json.loads(header)
        shapes, dtypes, end = {}, {}, 0
        for name, entry in entries.items():
            if name != _METADATA:
                shapes[name] = tuple(int(side) for side in entry["shape"])
                dtypes[name] = str(entry["dtype"])
                end = max(end, _check_entry(name, entry, shapes[name]))
        metadata = {str(name): str(text) for name, text in entries.get(_METADATA, {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file} has a header that is not one of safetensors ({shorten(str(error))}); copy or download it again"
        ) from error
    if _LENGTH_BYTES + length + end != size:
        raise ValueError(
            f"{file} is {'truncated' if _LENGTH_BYTES + length + end > size else 'damaged'}: its header describes "
            f"{_LENGTH_BYTES + length + end} bytes, the file has {size}; copy or download it again"
        )
    return Header(shapes, dtypes, metadata)


def _check_entry(name: str, entry: Mapping, shape: tuple[int, ...]) -> int:
    """Returns where the bytes of a weight end."""
    first, end = entry["data_offsets"]
    bits = _BITS.get(entry["dtype"])
    if bits is not None and (end - first) * 8 != math.prod(shape) * bits:
        raise ValueError(f"{name} has {end - first} bytes, not those of {entry['dtype']} {list(shape)}")
    return int(end)


def read_all_shapes(files: Iterable[Path]) -> Shapes:
    """Returns the names and shapes of the weights in several files; raises as `read_shapes`."""
    return {name: shape for file in files for name, shape in read_shapes(file).items()}


def check_shapes(found: Shapes, expected: Mapping[str, tuple[int, ...]], config: Path) -> None:
    """Refuses weights that are not those of a configuration.

    Weights that the configuration does not speak of may be there, such as the head of a language model, but no layers beyond
    those that it has.

    Args:
        found: Weights of one part of a model.
        expected: Name of a weight -> its shape; names may have a prefix in the files.
        config: The configuration that says so.

    Raises:
        ValueError: naming the first weight that is missing, has another shape or is one too many.
    """
    prefix = _prefix(found, expected)
    remedy = "the two are of different models: correct that file, or take weights and configuration from one checkpoint"
    for name, shape in expected.items():
        own = found.get(prefix + name)
        if own is None:
            raise ValueError(
                f"{config} asks for the weight {prefix + name}, which the weights beside it lack; {remedy}"
            )
        if own != shape:
            raise ValueError(
                f"{config} asks for the weight {prefix + name} in the shape {list(shape)}, but it has {list(own)}; {remedy}"
            )
    known = {match[1] for match in map(_NUMBERED.match, expected) if match}
    counted = {match[0] for match in map(_NUMBERED.match, expected) if match}
    for name in sorted(found):
        match = _NUMBERED.match(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if match and match[1] in known and match[0] not in counted:
            raise ValueError(
                f"{config} has no place for the weight {name}: it has fewer layers than the weights; {remedy}"
            )


def _prefix(shapes: Shapes, expected: Mapping[str, tuple[int, ...]]) -> str:
    """Returns what stands before the expected names in the files."""
    first = next(iter(expected), "")
    prefixes = [name.removesuffix(first) for name in shapes if name.endswith(first)]
    return min((prefix for prefix in prefixes if not prefix or prefix.endswith(".")), key=len, default="")
