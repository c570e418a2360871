"""Images of the store are what was written under their names."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from graftwork.core.png import encode_png
from graftwork.jobs.verification import repair_store, verify_store
from graftwork.scores.table import read_image
from graftwork.store.images import (
    DamagedImage,
    DigestWriter,
    check_image,
    read_digests,
    read_stored_image,
    require_undamaged,
)
from graftwork.store.layout import Store

A, B = "aa" * 16, "bb" * 16


def picture(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two images, as a job writes them."""
    store = Store(tmp_path / "store")
    writer = DigestWriter(store, "job")
    for seed, key in enumerate((A, B)):
        path = store.image(key)
        path.parent.mkdir(parents=True)
        writer.note(key, picture(seed))
        path.write_bytes(picture(seed))
    return store


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:300] = bytes(200)
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_what_was_written_is_read(store: Store) -> None:
    assert read_stored_image(store.image(A)) == picture(0)
    require_undamaged(store.image(B))
    assert verify_store(store) == ([], 2)
    assert set(read_digests(store)) == {A, B}


@pytest.mark.parametrize("damage", [flip, zero, cut])
@pytest.mark.parametrize("noted", [True, False])
def test_damage_inside_is_found_by_checksums_alone(store: Store, damage, noted: bool) -> None:
    if not noted:
        shutil.rmtree(store.image_digests)
    damage(store.image(A))
    with pytest.raises(DamagedImage, match=rf"{A}\.png is damaged \(.*\); the target `repair_store`"):
        require_undamaged(store.image(A))
    require_undamaged(store.image(B))


def test_another_valid_image_is_found(store: Store) -> None:
    shutil.copyfile(store.image(B), store.image(A))
    with pytest.raises(DamagedImage, match=rf"{A}\.png is not the image that was written"):
        require_undamaged(store.image(A))
    assert "is not the image that was written" in read_image(store.image(A))


def test_either_of_two_machines_is_right(store: Store) -> None:
    DigestWriter(store, "other").note(A, picture(5))
    for seed in (0, 5):
        store.image(A).write_bytes(picture(seed))
        assert check_image(store.image(A), read_digests(store)) == picture(seed)


@pytest.mark.parametrize("text", [b"", b"\0" * 50, b"\xff\xfe", A.encode(), f"{A} 12".encode()])
def test_a_damaged_list_of_digests_costs_its_lines_only(store: Store, text: bytes) -> None:
    (store.image_digests / "job.txt").write_bytes(text)
    require_undamaged(store.image(A))
    DigestWriter(store, "new").note(A, picture(0))
    shutil.copyfile(store.image(B), store.image(A))
    with pytest.raises(DamagedImage):
        require_undamaged(store.image(A))


def test_a_digest_that_is_noted_later_is_seen(store: Store) -> None:
    store.image(A).write_bytes(picture(7))
    with pytest.raises(DamagedImage):
        require_undamaged(store.image(A))
    DigestWriter(store, "later").note(A, picture(7))
    require_undamaged(store.image(A))


def test_images_elsewhere_are_no_concern(tmp_path: Path) -> None:
    file = tmp_path / "reference.png"
    file.write_bytes(b"no PNG at all")
    require_undamaged(file)
    require_undamaged(tmp_path / "none.png")


def test_everything_damaged_is_named_and_removed(store: Store) -> None:
    flip(store.image(A))
    hidden = store.hidden_states("cc" * 16)
    hidden.parent.mkdir(parents=True)
    hidden.write_bytes(b"no HDF5")
    statistics = store.statistics("dd" * 16)
    statistics.parent.mkdir(parents=True)
    statistics.write_bytes(b"no NPZ")
    conditioning = store.conditioning("ee" * 16)
    conditioning.parent.mkdir(parents=True)
    conditioning.write_bytes(b"no tensors")
    folder = store.image("ff" * 16)
    folder.mkdir(parents=True)
    damaged = [store.image(A), folder, hidden, statistics, conditioning]
    found, read = verify_store(store)
    assert [one.path for one in found] == damaged
    assert all(str(one.path) in one.why for one in found)
    assert read == 6
    assert all(path.exists() for path in damaged)
    assert repair_store(store) == (found, 6)
    assert not any(path.exists() for path in damaged)
    assert verify_store(store) == ([], 1)
