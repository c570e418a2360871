"""Facts hold as long as a file's size and time do, and a damaged cache costs time only."""

import json
import os
from pathlib import Path

import pytest

from graftwork.core.fact_cache import FactCache, stat_signature


class Finder:
    """Counts how often facts were really looked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path) -> dict[str, int]:
        self.calls += 1
        return {"length": len(path.read_bytes())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"abc")
    return path


def test_facts_are_found_once_and_kept_over_processes(tmp_path: Path, file: Path) -> None:
    find, cache = Finder(), FactCache(tmp_path / "facts" / "x.json")
    assert cache.get(file, find) == cache.get(file, find) == {"length": 3}
    assert find.calls == 1
    cache.save()
    assert FactCache(cache.path).get(file, find) == {"length": 3}
    assert find.calls == 1


def test_without_save_nothing_is_written(tmp_path: Path, file: Path) -> None:
    cache = FactCache(tmp_path / "x.json")
    cache.save()
    assert not cache.path.exists()
    cache.get(file, Finder())
    assert not cache.path.exists()


@pytest.mark.parametrize("change", ["size", "time", "replaced"])
def test_changed_file_is_looked_at_again(tmp_path: Path, file: Path, change: str) -> None:
    find, cache = Finder(), FactCache(tmp_path / "x.json")
    cache.get(file, find)
    status = os.stat(file)
    if change == "size":
        file.write_bytes(b"abcd")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        other = tmp_path / "other"
        other.write_bytes(b"xyz")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns - 10**9))
        os.replace(other, file)
    assert cache.known(file) is None
    assert cache.last_known(file) == {"length": 3}
    cache.get(file, find)
    assert find.calls == 2


def test_change_while_facts_are_being_found_is_noticed(tmp_path: Path, file: Path) -> None:
    cache = FactCache(tmp_path / "x.json")

    def find(path: Path) -> int:
        length = len(path.read_bytes())
        path.write_bytes(b"longer")
        return length

    assert cache.get(file, find) == 3
    assert cache.known(file) is None


def test_missing_file_has_no_facts(tmp_path: Path, file: Path) -> None:
    cache = FactCache(tmp_path / "x.json")
    cache.get(file, Finder())
    file.unlink()
    assert stat_signature(file) is None
    assert cache.known(file) is None
    with pytest.raises(FileNotFoundError):
        cache.get(file, Finder())
    cache.put(file, [], stat_signature(file))
    assert cache.known(file) is None


def test_errors_are_not_kept(tmp_path: Path, file: Path) -> None:
    cache = FactCache(tmp_path / "x.json")

    def fail(_: Path) -> None:
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        cache.get(file, fail)
    assert cache.get(file, Finder()) == {"length": 3}


def test_two_writers_lose_nothing(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"12345")
    one, two = FactCache(tmp_path / "x.json"), FactCache(tmp_path / "x.json")
    one.get(file, Finder())
    two.get(other, Finder())
    one.save()
    two.save()
    both = FactCache(tmp_path / "x.json")
    assert both.known(file) == {"length": 3}
    assert both.known(other) == {"length": 5}


def test_later_save_writes_only_what_is_new(tmp_path: Path, file: Path) -> None:
    one, two = FactCache(tmp_path / "x.json"), FactCache(tmp_path / "x.json")
    one.get(file, Finder())
    one.save()
    file.write_bytes(b"changed")
    two.get(file, Finder())
    two.save()
    other = tmp_path / "other.bin"
    other.write_bytes(b"1")
    one.get(other, Finder())
    one.save()  # must not bring back what it found of `file` before
    assert FactCache(tmp_path / "x.json").known(file) == {"length": 7}


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0" * 100, b'{"a": ', b"null", b"[]", b"\xff\xfe{}", b'{"FILE": null}', b'{"FILE": {"facts": 1}}',
     b'{"FILE": {"stat": [3, 1]}}'],
)  # fmt: skip
def test_damaged_cache_is_an_empty_one(tmp_path: Path, file: Path, damage: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(damage.replace(b"FILE", str(file).encode()))
    cache, find = FactCache(path), Finder()
    assert cache.last_known(file) is None
    assert cache.get(file, find) == {"length": 3}
    cache.save()
    assert FactCache(path).known(file) == {"length": 3}
    assert all(entry["stat"] for entry in json.loads(path.read_text())["entries"].values())


def test_edited_facts_are_not_believed(tmp_path: Path, file: Path) -> None:
    cache = FactCache(tmp_path / "x.json")
    cache.get(file, Finder())
    cache.save()
    cache.path.write_text(cache.path.read_text().replace('"length": 3', '"length": 4'))
    assert FactCache(cache.path).get(file, Finder()) == {"length": 3}
