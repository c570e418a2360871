"""PNG bytes: determinism, completeness and text chunks."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from graftwork.core.png import SIGNATURE, encode_png, insert_text_chunks, is_complete_png
from tests.unit.core.png_text import read_text_chunks

PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=79).filter(
    lambda key: key not in ("prompt", "workflow")
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


def list_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Reads (kind, payload) of all chunks and checks every CRC."""
    chunks, position = [], len(SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(body)
        chunks.append((body[:4], body[4:]))
        position += 12 + length
    return chunks


@given(PIXELS)
def test_pixels_survive_and_no_ancillary_chunk_is_written(pixels):
    data = encode_png(pixels)
    assert data == encode_png(pixels.copy())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert {kind for kind, _ in list_chunks(data)} == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="needs uint8"):
        encode_png(pixels)


def test_non_contiguous_pixels_are_encoded():
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)[::2, ::-1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_only_a_whole_file_is_complete(tmp_path):
    path = tmp_path / "image.png"
    data = encode_png(np.zeros((3, 5, 3), np.uint8))
    assert not is_complete_png(path)
    assert not is_complete_png(tmp_path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert not is_complete_png(path), length
    for other in (
        data + b"\0",
        b"x" + data,
        data[:20] + b"\7" + data[21:],
        data[:33] + data[-11:],
        b"a" * 200,
    ):
        path.write_bytes(other)
        assert not is_complete_png(path)
    path.write_bytes(data)
    assert is_complete_png(path)
    assert is_complete_png(str(path))
    path.write_bytes(insert_text_chunks(data, {"parameters": "text"}))
    assert is_complete_png(path)


@given(PIXELS, st.dictionaries(KEYS, TEXTS, max_size=4))
def test_text_is_read_back_and_pixels_are_not_encoded_again(pixels, texts):
    plain = encode_png(pixels)
    data = insert_text_chunks(plain, texts)
    assert read_text_chunks(data) == texts
    chunks = list_chunks(data)
    assert [chunk for chunk in chunks if chunk[0] not in (b"tEXt", b"iTXt")] == list_chunks(plain)
    assert chunks[0][0] == b"IHDR"
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), pixels)
    assert insert_text_chunks(data, texts) == data


def test_latin_1_becomes_text_and_the_rest_international_text():
    plain = encode_png(np.zeros((1, 1, 3), np.uint8))
    data = insert_text_chunks(plain, {"a": "caf\xe9", "b": "\u6c34"})
    assert [kind for kind, _ in list_chunks(data)][1:3] == [b"tEXt", b"iTXt"]


def test_a_key_is_replaced_and_other_text_is_kept():
    data = insert_text_chunks(encode_png(np.zeros((1, 1, 3), np.uint8)), {"a": "1", "b": "2"})
    assert read_text_chunks(insert_text_chunks(data, {"a": "3"})) == {"a": "3", "b": "2"}


@pytest.mark.parametrize(
    "key", ["prompt", "workflow", "", "x" * 80, "\u6c34", "a\0b", " a", "a ", "a  b", "a\nb"]
)
def test_keys_that_png_or_comfyui_would_misread_are_refused(key):
    with pytest.raises(ValueError, match="text key"):
        insert_text_chunks(encode_png(np.zeros((1, 1, 3), np.uint8)), {key: "x"})


@pytest.mark.parametrize("text", ["a\0b", "\u6c34\0", "\ud800"])
def test_text_that_png_cannot_hold_is_refused(text):
    with pytest.raises(ValueError, match="the text of 'a'"):
        insert_text_chunks(encode_png(np.zeros((1, 1, 3), np.uint8)), {"a": text})


@pytest.mark.parametrize("length", [0, 7, 8, 20, 40, -1])
def test_damaged_files_are_refused(length):
    data = encode_png(np.zeros((3, 3, 3), np.uint8))[:length]
    with pytest.raises(ValueError, match="PNG"):
        insert_text_chunks(data, {"a": "b"})


def test_compressed_text_of_other_programs_is_kept_or_replaced():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("a", "zipped " * 30, zip=True)
    info.add_itxt("b", "\u6c34 " * 30, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG", pnginfo=info)
    for key, kept in (("a", {"b": "\u6c34 " * 30}), ("b", {"a": "zipped " * 30})):
        data = insert_text_chunks(buffer.getvalue(), {key: "new"})
        assert read_text_chunks(data) == {key: "new"} | kept
