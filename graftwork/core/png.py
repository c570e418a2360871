"""PNG files as bytes: encode pixels, check that a file is whole, insert text chunks.

Source: W3C, Portable Network Graphics (Second Edition), sections 5 (chunks) and 11.3.4 (text).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from graftwork.core.code_digest import outside_digests

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRAILER = b"\x00\x00\x00\x00IEND\xaeB`\x82"
COMPRESS_LEVEL = 6
REFUSED_KEYS = frozenset({"prompt", "workflow"})

_HEAD_BYTES = len(SIGNATURE) + 4 + 4 + 13 + 4


@outside_digests("equal pixels are the same image, however they are compressed")
def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes an image, without any ancillary chunk, so that equal pixels give equal bytes.

    The bytes also depend on the zlib that Pillow was built with.

    Args:
        pixels: uint8 of shape (height, width, 3), RGB.

    Returns:
        A PNG made of IHDR, IDAT and IEND only.

    Raises:
        ValueError: The dtype or shape is another one, or a side is zero.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"pixels have dtype {pixels.dtype} and shape {pixels.shape}; a PNG needs uint8 (height, width, 3)"
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


def is_complete_png(path: Path | str) -> bool:
    """Tells whether a file starts with a valid PNG header and ends with the PNG trailer.

    Reads 45 bytes whatever the size of the file: a truncated file is found, damage in the middle is not.

    Args:
        path: The file; it need not exist.

    Returns:
        False for a missing, empty, truncated or foreign file.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if len(head) < _HEAD_BYTES or not head.startswith(SIGNATURE):
                return False
            end = file.seek(0, io.SEEK_END)
            if end < _HEAD_BYTES + len(TRAILER):
                return False
            file.seek(-len(TRAILER), io.SEEK_END)
            tail = file.read(len(TRAILER))
    except OSError:
        return False
    header = head[len(SIGNATURE) :]
    return header == _chunk(b"IHDR", header[8:21]) and tail == TRAILER


def check_png(data: bytes) -> None:
    """Compares every chunk of a PNG with its checksum, and the pixels with that of their compression.

    Raises:
        ValueError: where the file is damaged, saying where.
    """
    packed = b""
    for kind, payload, raw in _iterate_chunks(data):
        if raw != _chunk(kind, payload):
            raise ValueError(f"the checksum of a {kind.decode('latin-1')} chunk does not match")
        if kind == b"IDAT":
            packed += payload
    try:
        zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"its pixels cannot be unpacked: {error}") from None


def insert_text_chunks(data: bytes, texts: dict[str, str]) -> bytes:
    """Inserts text after the header; every other byte of the image stays as it is.

    Latin-1 text becomes tEXt, other text iTXt (uncompressed UTF-8). The text of a key that the file already has is
    replaced, so inserting twice is the same as inserting once.

    Args:
        data: A whole PNG.
        texts: Text by key. Keys have 1 to 79 printable latin-1 characters.

    Returns:
        The PNG with the text.

    Raises:
        ValueError: Not a PNG, a malformed key, a key that ComfyUI parses (`prompt`, `workflow`), or text
            with a NUL or a lone surrogate, which PNG cannot hold.
    """
    inserted = b"".join(_encode_text(key, text) for key, text in texts.items())
    parts = [SIGNATURE]
    for kind, payload, raw in _iterate_chunks(data):
        if kind in _TEXT_KINDS and _text_key(payload) in texts:
            continue
        parts.append(raw)
        if kind == b"IHDR":
            parts.append(inserted)
    return b"".join(parts)


_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _iterate_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yields (kind, payload, the chunk's bytes as stored), ending with IEND."""
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG: the signature is missing")
    position = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ValueError(f"truncated PNG: {len(data)} bytes and no IEND chunk")
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(f"truncated PNG: a chunk at byte {position} ends after the file")
        raw = data[position:end]
        previous, kind = kind, raw[4:8]
        if not previous and kind != b"IHDR":
            raise ValueError(f"malformed PNG: the first chunk is {kind!r}, not IHDR")
        yield kind, raw[8:-4], raw
        position = end


def _check_key(key: str) -> bytes:
    if key in REFUSED_KEYS:
        raise ValueError(f"text key {key!r} is refused: ComfyUI would parse it; use another name")
    try:
        encoded = key.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"text key {key!r} has characters outside latin-1") from None
    if not 1 <= len(encoded) <= 79:
        raise ValueError(f"text key {key!r} has {len(encoded)} characters; allowed are 1 to 79")
    printable = all(0x20 <= byte <= 0x7E or byte >= 0xA1 for byte in encoded)
    if not printable or key != key.strip(" ") or "  " in key:
        raise ValueError(f"text key {key!r} has control characters, or spaces that PNG does not allow")
    return encoded


def _encode_text(key: str, text: str) -> bytes:
    encoded_key = _check_key(key)
    if "\0" in text:
        raise ValueError(f"the text of {key!r} has a NUL character, which PNG text cannot hold")
    try:
        return _chunk(b"tEXt", encoded_key + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        pass
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the text of {key!r} has a lone surrogate, which is not valid Unicode") from None
    # Not compressed, and language tag and translated key left empty.
    return _chunk(b"iTXt", encoded_key + b"\0\0\0\0\0" + encoded)


def _text_key(payload: bytes) -> str:
    return payload.partition(b"\0")[0].decode("latin-1")
