"""Hidden states come back bit for bit, adding loses nothing, and damage is noticed."""

import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graftwork.models.tokens import ROLE_CODES
from graftwork.store import hidden_states
from graftwork.store.hidden_states import (
    DamagedHiddenStates,
    add_layers,
    intact_layers,
    read_layer,
)

TOKENS, SIZE = 7, 16
SEQUENCE = {
    "token_ids": np.arange(100, 100 + TOKENS, dtype=np.int64),
    "roles": np.array([0, 0, 1, 1, 2, 2, 3], dtype=np.uint8),
    "positions": np.arange(3 * TOKENS, dtype=np.int64).reshape(3, TOKENS),
}
# More than eight members: HDF5 then keeps a group in another way.
MANY = [0, 2, 5, 7, 8, 9, 11, 20, 30, 35]
ORIGIN = {"encoder": "small", "prompt": "ä red apple"}

# bfloat16: infinities, -0, smallest subnormals, and NaNs quiet and signalling with payloads and signs.
SPECIAL_BF16 = [
    0x7F80,
    0xFF80,
    0x8000,
    0x0000,
    0x0001,
    0x8001,
    0x7FC0,
    0xFFC1,
    0x7F81,
    0xFFBF,
    0x7FFF,
    0xFFFF,
]
SPECIAL_FP32 = [bits << 16 for bits in SPECIAL_BF16] + [0x7F800001, 0xFFBFFFFF, 0x00000001, 0x7FC0ABCD]


def missing_layers(path: Path, wanted: Iterable[int]) -> list[int]:
    """Returns which of the wanted layers are absent or damaged."""
    present = set(intact_layers(path))
    return sorted(index for index in set(wanted) if index not in present)


def states(seed: int, dtype: str = "float32") -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((TOKENS, SIZE)).astype(np.float32)
    return values if dtype == "float32" else (values.view(np.uint32) >> 16).astype(np.uint16)


def add(path: Path, layers: dict[int, np.ndarray], dtype: str = "float32") -> None:
    add_layers(path, layers, dtype, SEQUENCE, ORIGIN)


def bits(values: np.ndarray) -> bytes:
    """NaN is not equal to itself, its bytes are."""
    return str((values.dtype, values.shape)).encode() + values.tobytes()


def data_offset(path: Path, layer: int) -> int:
    with h5py.File(path, "r") as file:
        return file[f"hidden_states/{layer}"].id.get_chunk_info(0).byte_offset


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with layers 2 and 5."""
    path = tmp_path / "ab" / "abcd.h5"
    add(path, {2: states(2), 5: states(5)})
    return path


def test_everything_reads_back(file: Path) -> None:
    read = read_layer(file, 5)
    assert read.dtype == "float32"
    assert bits(read.values) == bits(states(5))
    for name, values in SEQUENCE.items():
        assert bits(getattr(read, name)) == bits(values)
    assert intact_layers(file) == [2, 5]
    assert missing_layers(file, [5, 3, 3, 2, 9]) == [3, 9]


def _with_special(dtype: type, special: list[int]):
    """Arrays of any bits, special ones among them."""
    everything = st.integers(0, np.iinfo(dtype).max)
    return arrays(
        dtype, (TOKENS, SIZE), elements=st.one_of(st.sampled_from(special), everything), fill=st.nothing()
    )


@settings(max_examples=40, deadline=None)
@given(raw=_with_special(np.uint16, SPECIAL_BF16))
def test_bfloat16_bits_are_exact(tmp_path_factory: pytest.TempPathFactory, raw: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("bf16") / "x.h5"
    add(path, {0: raw}, "bfloat16")
    add(path, {1: states(1)})  # another layer of another type copies it
    read = read_layer(path, 0)
    assert read.dtype == "bfloat16"
    assert bits(read.values) == bits(raw)


@settings(max_examples=40, deadline=None)
@given(raw=_with_special(np.uint32, SPECIAL_FP32))
def test_float32_bits_are_exact(tmp_path_factory: pytest.TempPathFactory, raw: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("fp32") / "x.h5"
    add(path, {0: raw.view(np.float32)})
    add(path, {1: states(1)})
    assert bits(read_layer(path, 0).values) == bits(raw.view(np.float32))


def test_bfloat16_tensor_round_trips_through_torch(tmp_path: Path) -> None:
    import torch

    raw = (
        torch.tensor(SPECIAL_BF16, dtype=torch.int32)
        .to(torch.uint16)
        .view(torch.bfloat16)[None]
        .repeat(TOKENS, 1)
    )
    add(tmp_path / "x.h5", {0: raw.view(torch.int16).numpy().view("uint16")}, "bfloat16")
    read = torch.from_numpy(read_layer(tmp_path / "x.h5", 0).values.view("int16")).view(torch.bfloat16)
    assert read.view(torch.int16).equal(raw.view(torch.int16))


def test_adding_keeps_the_others_bit_equal(file: Path) -> None:
    add(file, {3: states(3), 5: states(50)})
    assert intact_layers(file) == [2, 3, 5]
    for layer, seed in ((2, 2), (3, 3), (5, 50)):  # given again, a layer is replaced
        assert bits(read_layer(file, layer).values) == bits(states(seed))
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".h5", ".lock"]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(MANY), cuts=st.sets(st.integers(1, len(MANY) - 1), max_size=4))
def test_file_does_not_depend_on_history(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    once, parts = folder / "once" / "x.h5", folder / "parts" / "x.h5"
    add(once, {layer: states(layer) for layer in MANY})
    bounds = [0, *sorted(cuts), len(order)]
    for start, end in itertools.pairwise(bounds):
        add(parts, {layer: states(layer) for layer in order[start:end]})
    assert parts.read_bytes() == once.read_bytes()


def _add_some(path: Path, layers: list[int]) -> None:
    for layer in layers:
        add(path, {layer: states(layer)})


def test_processes_adding_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    context = multiprocessing.get_context("spawn")
    parts = [list(range(0, 30, 3)), list(range(1, 30, 3)), list(range(2, 30, 3))]
    processes = [context.Process(target=_add_some, args=(path, part)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert intact_layers(path) == list(range(30))
    assert all(bits(read_layer(path, layer).values) == bits(states(layer)) for layer in range(30))
    assert not list(tmp_path.glob("*.tmp-*"))


def test_damaged_layer_is_noticed_and_dropped_by_the_next_add(file: Path) -> None:
    damage(file, data_offset(file, 2) + 13)
    with pytest.raises(DamagedHiddenStates, match="layer 2"):
        read_layer(file, 2)
    assert bits(read_layer(file, 5).values) == bits(states(5))
    assert missing_layers(file, [2, 5]) == [2]
    add(file, {7: states(7)})
    with h5py.File(file, "r") as opened:
        assert sorted(opened["hidden_states"]) == ["5", "7"]
    add(file, {2: states(2)})
    assert intact_layers(file) == [2, 5, 7]
    assert bits(read_layer(file, 2).values) == bits(states(2))


def test_damaged_sequence_makes_every_layer_unreadable(file: Path) -> None:
    with h5py.File(file, "r") as opened:
        offset = opened["token_ids"].id.get_chunk_info(0).byte_offset
    damage(file, offset)
    assert intact_layers(file) == []
    with pytest.raises(DamagedHiddenStates):
        read_layer(file, 2)
    add(file, {5: states(5)})
    assert intact_layers(file) == [5]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_as_good_as_none(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert intact_layers(file) == []
    assert missing_layers(file, [2]) == [2]
    with pytest.raises(DamagedHiddenStates):
        read_layer(file, 2)
    add(file, {2: states(2)})
    assert intact_layers(file) == [2]


@pytest.mark.parametrize("content", [b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 2000])
def test_foreign_file_is_as_good_as_none(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert intact_layers(file) == []
    add(file, {2: states(2)})
    assert intact_layers(file) == [2]


def test_a_file_that_does_not_say_its_name_is_made_again(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=("earliest", "v112")) as opened:
        for name, values in {**SEQUENCE, "hidden_states/2": states(2)}.items():
            opened.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
        opened["hidden_states/2"].attrs["dtype"] = "float32"
    assert intact_layers(tmp_path / "x.h5") == []
    add(tmp_path / "x.h5", {5: states(5)})
    assert intact_layers(tmp_path / "x.h5") == [5]


def test_words_of_the_prompt_are_kept_whatever_their_role(tmp_path: Path) -> None:
    in_prompt = np.array([True, False, True, True, False, True, False])
    add_layers(tmp_path / "x.h5", {2: states(2)}, "float32", {**SEQUENCE, "in_prompt": in_prompt}, ORIGIN)
    assert bits(read_layer(tmp_path / "x.h5", 2).in_prompt) == bits(in_prompt)
    with pytest.raises(ValueError, match="holds other in_prompt"):
        add_layers(
            tmp_path / "x.h5", {3: states(3)}, "float32", {**SEQUENCE, "in_prompt": ~in_prompt}, ORIGIN
        )


def test_without_words_of_the_prompt_their_role_decides(file: Path) -> None:
    assert read_layer(file, 2).in_prompt.tolist() == (SEQUENCE["roles"] == ROLE_CODES["prompt"]).tolist()


def test_origin_is_in_the_file(file: Path) -> None:
    with h5py.File(file, "r") as opened:
        assert json.loads(opened.attrs["origin"]) == ORIGIN


def test_missing_file_and_missing_layer(file: Path) -> None:
    assert intact_layers(file.with_name("none.h5")) == []
    for path, layer in ((file.with_name("none.h5"), 2), (file, 4)):
        with pytest.raises(DamagedHiddenStates, match=f"layer {layer}"):
            read_layer(path, layer)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bit_is_noticed_or_harmless(sample: bytes, scratch: Path, data: st.DataObject) -> None:
    """Whatever is read from a damaged file is what was written; there is no crash, and never other numbers."""
    damaged = bytearray(sample)
    damaged[data.draw(st.integers(0, len(sample) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    scratch.write_bytes(damaged)
    for layer in intact_layers(scratch):
        try:
            read = read_layer(scratch, layer)
        except DamagedHiddenStates:
            continue
        assert layer in (2, 5)
        assert (read.dtype, bits(read.values)) == ("float32", bits(states(layer)))
        assert all(bits(getattr(read, name)) == bits(values) for name, values in SEQUENCE.items())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sample") / "x.h5"
    add(path, {2: states(2), 5: states(5)})
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "x.h5"


@pytest.mark.parametrize("name", ["token_ids", "roles", "positions"])
def test_other_sequence_under_the_same_name_is_an_error(file: Path, name: str) -> None:
    before = file.read_bytes()
    other = {**SEQUENCE, name: SEQUENCE[name] + 1}
    with pytest.raises(ValueError, match=f"holds other {name}"):
        add_layers(file, {3: states(3)}, "float32", other, ORIGIN)
    shorter = {key: values[..., :-1] for key, values in SEQUENCE.items()}
    with pytest.raises(ValueError, match="holds other token_ids"):
        add_layers(file, {3: states(3)[:-1]}, "float32", shorter, ORIGIN)
    assert file.read_bytes() == before
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".h5", ".lock"]


def test_failing_add_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(opened: h5py.File, name: str, values: np.ndarray) -> h5py.Dataset:
        if name == "hidden_states/5":
            raise OSError("disk full")
        return write(opened, name, values)

    write = hidden_states._write
    monkeypatch.setattr(hidden_states, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        add(file, {3: states(3)})
    assert file.read_bytes() == before
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".h5", ".lock"]


def _read_all_the_time(path: Path, ready, done, errors) -> None:
    ready.set()
    while not done.is_set():
        try:
            if bits(read_layer(path, 2).values) != bits(states(2)):
                errors.put("other values")
        except Exception as error:  # reported to the parent
            errors.put(repr(error))


def test_reader_beside_a_writer_is_not_disturbed(file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done, errors = context.Event(), context.Event(), context.Queue()
    reader = context.Process(target=_read_all_the_time, args=(file, ready, done, errors))
    with h5py.File(file, "r") as opened:  # a reader in this process too, over all the writing
        reader.start()
        assert ready.wait(60)
        for layer in range(10, 40):
            add(file, {layer: states(layer)})
        assert bits(opened["hidden_states/5"][()]) == bits(states(5))
        assert list(opened["hidden_states"]) == ["2", "5"]
    done.set()
    reader.join(60)
    assert reader.exitcode == 0
    assert errors.empty()
    assert len(intact_layers(file)) == 32


def test_a_file_under_another_name_is_damaged(file: Path, tmp_path: Path) -> None:
    shutil.copyfile(file, tmp_path / "copy.h5")
    assert intact_layers(tmp_path / "copy.h5") == []
    with pytest.raises(DamagedHiddenStates, match=f"hidden states of {file.stem}"):
        read_layer(tmp_path / "copy.h5", 2)


def test_exchanged_files_are_made_again(file: Path) -> None:
    right, other = file.read_bytes(), file.with_name("other.h5")
    # Other tokens: what is exchanged is no contradiction, but damage.
    sequence = {name: values[..., ::-1].copy() for name, values in SEQUENCE.items()}
    add_layers(other, {2: states(9), 5: states(9)}, "float32", sequence, ORIGIN)
    os.replace(other, file)
    add(file, {2: states(2), 5: states(5)})
    assert file.read_bytes() == right


def test_a_folder_in_the_place_of_the_file_is_moved_aside(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = file.read_bytes()
    file.unlink()
    file.mkdir()
    (file / "notes.txt").write_text("mine")
    assert intact_layers(file) == []
    add(file, {2: states(2), 5: states(5)})
    assert file.read_bytes() == right
    (aside,) = file.parent.glob(f"{file.name}.folder-*")
    assert (aside / "notes.txt").read_text() == "mine"
    assert f"{file} was a folder where a file belongs; it is {aside.name} now" in capsys.readouterr().err
