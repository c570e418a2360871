"""Arrays as bytes: what is written is read back, equal arrays give equal bytes, damage is noticed."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graftwork.core.npz import little_endian, read_npz, write_npz

some_arrays = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), arrays.array_shapes(min_dims=0, max_dims=3)
)


@given(st.dictionaries(st.from_regex(r"[a-z]+(/[a-z0-9]+)?", fullmatch=True), some_arrays, max_size=4))
def test_what_is_written_is_read_back(values):
    data = write_npz(values)
    found = read_npz(data, "x")
    assert list(found) == list(values)
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes()
    assert write_npz(found) == data


def test_bytes_depend_on_the_values_alone():
    values = np.arange(12.0).reshape(3, 4)
    expected = write_npz({"a": values})
    assert write_npz({"a": np.asfortranarray(values)}) == expected
    assert write_npz({"a": values.astype(">f8")}) == expected
    assert write_npz({"b": values}) != expected
    assert write_npz({"a": values.astype(np.float32)}) != expected
    with zipfile.ZipFile(io.BytesIO(expected)) as archive:
        assert [entry.date_time[0] for entry in archive.infolist()] == [1980]


def test_numpy_reads_it():
    with np.load(io.BytesIO(write_npz({"a": np.arange(3)}))) as archive:
        assert archive["a"].tolist() == [0, 1, 2]


def test_what_numpy_writes_is_read():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(3), b=np.float64(2.5))
    found = read_npz(buffer.getvalue(), "x")
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].item() == 2.5


def test_every_truncated_or_flipped_byte_is_noticed_or_harmless():
    """Much of a ZIP means nothing for its contents. What may not happen is that other values come back."""
    values = {"mean": np.arange(5, dtype=np.float32), "n": np.int64(7)}
    data = write_npz(values)
    refused = 0
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0x55
        for damaged in (bytes(flipped), data[:position]):
            try:
                found = read_npz(damaged, "x")
            except ValueError as error:
                assert str(error).startswith("x cannot be read as an .npz file")  # noqa: PT017
                refused += 1
            else:
                assert all(
                    found[name].tobytes() == value.tobytes()
                    for name, value in values.items()
                    if name in found
                )
    assert refused > len(data)


def test_nothing_is_executed():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"x cannot be read .* allow_pickle"):
        read_npz(buffer.getvalue(), "x")


def test_a_single_array_is_no_npz():
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    with pytest.raises(ValueError, match="x cannot be read"):
        read_npz(buffer.getvalue(), "x")


def test_little_endian_keeps_shape_and_values():
    assert little_endian(np.int64(3)).shape == ()
    assert little_endian(np.array([1, 2], dtype=">i4")).tolist() == [1, 2]
