"""Arrays as the bytes of an `.npz` file: equal arrays, equal bytes.

Source: NEP 1, "A simple file format for NumPy arrays"; an `.npz` is a ZIP of such files. `numpy.savez` writes the same
format, but leaves to the library and the platform what else is in the ZIP.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

# The earliest date that a ZIP can hold: the time of writing must not change the bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_READABLE = 0o644 << 16
# Errors of the libraries for damaged files: some damage makes them read another format, version or size.
_UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the bytes of an uncompressed `.npz` with these arrays, in their order, little-endian."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.create_system, entry.external_attr = _UNIX, _READABLE
            content = io.BytesIO()
            np.lib.format.write_array(content, little_endian(array), version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def read_npz(data: bytes, source: str) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz`; nothing in it is executed.

    Args:
        data: The whole file.
        source: Name of the file for errors.

    Raises:
        ValueError: where it is no `.npz`, or truncated, or does not match its checksums.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise ValueError(f"{source} cannot be read as an .npz file: {error}") from error


def little_endian(array: np.ndarray) -> np.ndarray:
    """Returns the array in C order and little-endian, so that its bytes are the same on every machine."""
    array = np.asarray(array)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
