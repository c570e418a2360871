"""Files are whole or absent, and only what a dead process left behind is swept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.core import atomic
from graftwork.core.atomic import atomic_path, remove_file, sweep_temporary_files, write_atomic

NAME = re.compile(r"^(?P<target>.+)\.tmp-(?P<host>[^~]+)~(?P<pid>\d+)~(?P<start>\d+)~[0-9a-f]{8}$")

WRITE_AND_WAIT = """
import sys
from pathlib import Path
from graftwork.core.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    sys.stdin.read()
"""


def parts_of(temporary: Path) -> dict[str, str]:
    match = NAME.match(temporary.name)
    assert match, temporary.name
    return match.groupdict()


def own_parts(folder: Path) -> dict[str, str]:
    """What this process puts into the names of its temporary files."""
    with pytest.raises(ZeroDivisionError), atomic_path(folder / "probe") as temporary:
        raise ZeroDivisionError
    return parts_of(temporary)


def leave(folder: Path, host: str, pid: str | int, start: str | int) -> Path:
    path = folder / f"image.png.tmp-{host}~{pid}~{start}~0123abcd"
    path.write_bytes(b"half")
    return path


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is in the middle of writing tmp_path/file; (process, its temporary file)."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_what_was_written_becomes_the_target(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_writing_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert target.read_bytes() == b"old"


def test_failing_replace_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_data_is_on_disk_before_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    write_atomic(tmp_path / "file", "text")
    assert order == ["fsync", "replace"]


@settings(max_examples=25, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_every_content_reads_back(tmp_path_factory: pytest.TempPathFactory, data: bytes | str) -> None:
    target = tmp_path_factory.mktemp("write") / "file"
    write_atomic(target, b"old")
    write_atomic(target, data)
    assert target.read_bytes() == (data.encode() if isinstance(data, str) else data)


def test_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old content")
    with open(target, "rb") as reader:
        assert reader.read(3) == b"old"
        write_atomic(target, b"NEW")
        assert reader.read() == b" content"


def test_two_writers_of_one_file_have_two_temporary_files(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as one:
        one.write_bytes(b"one")
        with atomic_path(tmp_path / "file") as two:
            two.write_bytes(b"two")
        assert one.read_bytes() == b"one"
    assert (tmp_path / "file").read_bytes() == b"one"


def test_living_writer_keeps_its_file_and_finishes(tmp_path: Path, writer) -> None:
    process, temporary = writer
    assert parts_of(temporary)["pid"] == str(process.pid)
    assert sweep_temporary_files(tmp_path) == []
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "file").read_bytes() == b"half"
    assert not temporary.exists()


def test_killed_writers_file_is_swept(tmp_path: Path, writer) -> None:
    process, temporary = writer
    process.kill()
    process.wait()
    assert sweep_temporary_files(tmp_path) == [temporary]
    assert not temporary.exists()
    assert not (tmp_path / "file").exists()
    assert sweep_temporary_files(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies are told by /proc")
def test_zombie_is_dead(tmp_path: Path, writer) -> None:
    process, temporary = writer
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not collected by its parent
    assert Path(f"/proc/{process.pid}/stat").exists()
    assert sweep_temporary_files(tmp_path) == [temporary]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are read from /proc")
def test_reused_process_id_is_another_process(tmp_path: Path, writer) -> None:
    process, temporary = writer
    parts = parts_of(temporary)
    stale = leave(tmp_path, parts["host"], process.pid, int(parts["start"]) - 1)
    assert sweep_temporary_files(tmp_path) == [stale]
    assert temporary.exists()


def test_another_hosts_file_is_left_alone(tmp_path: Path, writer) -> None:
    process, temporary = writer
    host, start = parts_of(temporary)["host"], parts_of(temporary)["start"]
    process.kill()
    process.wait()
    other = leave(tmp_path, f"{host}-2", process.pid, start)
    assert sweep_temporary_files(tmp_path) == [temporary]
    assert other.exists()


@pytest.mark.parametrize(
    "name",
    ["image.png", "image.png.tmp", "image.tmp-{host}", "image.png.tmp-{host}~1", ".tmp-{host}~1~1~xyz",
     "image.png.tmp-{host}~1~1~0123abcd.png"],
)  # fmt: skip
def test_other_names_are_never_swept(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.format(host=own_parts(tmp_path)["host"])
    path.write_bytes(b"content")
    assert sweep_temporary_files(tmp_path) == []
    assert path.exists()


def test_sweep_goes_into_folders_and_takes_a_missing_one(tmp_path: Path, writer) -> None:
    process, temporary = writer
    parts = parts_of(temporary)
    process.kill()
    process.wait()
    (tmp_path / "a" / "b").mkdir(parents=True)
    deep = leave(tmp_path / "a" / "b", parts["host"], process.pid, parts["start"])
    assert sorted(sweep_temporary_files(tmp_path)) == sorted([temporary, deep])
    assert sweep_temporary_files(tmp_path / "nowhere") == []


def test_host_name_with_odd_characters_round_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic._host.cache_clear()
    monkeypatch.setattr(atomic.socket, "gethostname", lambda: "gpu~1/räck")
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_bytes(b"x")
            assert parts_of(temporary)["host"] == "gpu_1_r_ck"
            assert sweep_temporary_files(tmp_path) == []
    finally:
        atomic._host.cache_clear()


def test_sweep_goes_behind_links_and_comes_back(tmp_path: Path, writer) -> None:
    """As where results/store is a link to a folder that several checkouts share."""
    process, temporary = writer
    process.kill()
    process.wait()
    results = tmp_path / "elsewhere" / "results"
    results.mkdir(parents=True)
    (results / "store").symlink_to(tmp_path)
    assert [path.name for path in sweep_temporary_files(results)] == [temporary.name]
    assert not temporary.exists()


@pytest.mark.parametrize("act", [lambda path: write_atomic(path, "new"), remove_file])
def test_a_folder_in_the_place_of_a_file_is_moved_aside(tmp_path: Path, act, capsys) -> None:
    target = tmp_path / "x.png"
    target.mkdir()
    (target / "mine.txt").write_text("kept")
    act(target)
    (aside,) = tmp_path.glob("x.png.folder-*")
    assert (aside / "mine.txt").read_text() == "kept"
    assert not target.is_dir()
    assert f"{target} was a folder where a file belongs; it is {aside.name} now" in capsys.readouterr().err
