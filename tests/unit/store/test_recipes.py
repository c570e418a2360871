"""The table of recipes: rows survive damage beside them, compaction and writers side by side."""

import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.store import recipes
from graftwork.store.recipes import add_recipes, compact_recipes, read_recipes
from graftwork.store.records import ConditioningReport


def row(number: int) -> tuple[str, ConditioningReport]:
    key = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    return key, ConditioningReport(f"c{number}", number, 0, warnings=("ä\n\u2028",))


def rows(*numbers: int) -> dict[str, ConditioningReport]:
    return dict(row(number) for number in numbers)


def test_rows_read_back(tmp_path: Path) -> None:
    file = add_recipes(tmp_path / "recipes", rows(1, 2))
    assert file is not None
    assert file.parent == tmp_path / "recipes"
    add_recipes(tmp_path / "recipes", rows(3))
    assert read_recipes(tmp_path / "recipes") == rows(1, 2, 3)


def test_nothing_adds_nothing(tmp_path: Path) -> None:
    assert add_recipes(tmp_path / "recipes", {}) is None
    assert read_recipes(tmp_path / "recipes") == {}


def other_row(number: int, conditioning: str) -> dict[str, ConditioningReport]:
    """A row of the same recipe on another machine."""
    return {row(number)[0]: ConditioningReport(conditioning, number, 0)}


def test_the_newest_row_holds_whatever_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With names that are hashes alone, one of these orders was wrong.
    for number in range(20):
        add_recipes(tmp_path, other_row(1, f"bytes {number}"))
        assert read_recipes(tmp_path)[row(1)[0]].conditioning == f"bytes {number}"
    monkeypatch.setattr(recipes, "_MOST_FILES", 0)
    add_recipes(tmp_path, rows(2))
    compact_recipes(tmp_path)
    assert read_recipes(tmp_path) == {**other_row(1, "bytes 19"), **rows(2)}
    add_recipes(tmp_path, rows(1))
    assert read_recipes(tmp_path) == rows(1, 2)


def test_a_clock_that_goes_back_does_not_make_rows_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_recipes(tmp_path, rows(1))
    monkeypatch.setattr(recipes.time, "time_ns", lambda: 1)
    add_recipes(tmp_path, other_row(1, "newer"))
    assert read_recipes(tmp_path) == other_row(1, "newer")


def test_a_merged_file_does_not_hide_a_row_that_was_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "_MOST_FILES", 0)
    add_recipes(tmp_path, rows(1))
    write = recipes.write_atomic

    def write_late(path: Path, text: str) -> None:
        monkeypatch.undo()
        add_recipes(tmp_path, other_row(1, "newer"))
        write(path, text)

    monkeypatch.setattr(recipes, "write_atomic", write_late)
    compact_recipes(tmp_path)
    assert read_recipes(tmp_path) == other_row(1, "newer")


@settings(max_examples=40, deadline=None)
@given(
    contents=st.dictionaries(
        st.text(max_size=8),
        st.builds(ConditioningReport, st.text(max_size=8), st.integers(), st.integers()),
        max_size=5,
    )
)
def test_any_text_reads_back(tmp_path_factory: pytest.TempPathFactory, contents: dict) -> None:
    folder = tmp_path_factory.mktemp("recipes")
    add_recipes(folder, contents)
    assert read_recipes(folder) == contents


@pytest.mark.parametrize(
    "line",
    [
        '{"recipe": "a", "cond',
        "",
        "null",
        "[1]",
        '"text"',
        '{"tokens": 3}',
        "\0\0",
        '{"recipe": "a", "written": 5, "tokens": 3, "source_tokens": 0}',
        '{"recipe": "a", "written": 5, "tokens": "3", "source_tokens": 0, "conditioning": "c"}',
        '{"recipe": "a", "written": [], "tokens": 3, "source_tokens": 0, "conditioning": "c"}',
    ],
)
def test_damaged_line_costs_one_row(tmp_path: Path, line: str) -> None:
    file = add_recipes(tmp_path, rows(1, 2, 3))
    lines = file.read_text().split("\n")
    lost = json.loads(lines[1])["recipe"]
    lines[1] = line
    file.write_text("\n".join(lines))
    assert read_recipes(tmp_path) == {k: v for k, v in rows(1, 2, 3).items() if k != lost}


def test_damaged_bytes_and_a_cut_off_end_cost_their_rows(tmp_path: Path) -> None:
    file = add_recipes(tmp_path, rows(1, 2, 3))
    data = file.read_bytes()
    first = json.loads(data.split(b"\n")[0])["recipe"]
    file.write_bytes(data[: data.index(b"\n") + 20])
    assert read_recipes(tmp_path) == {first: rows(1, 2, 3)[first]}
    file.write_bytes(b"\xff\xfe\n" + data)
    assert read_recipes(tmp_path) == rows(1, 2, 3)


def test_temporary_files_are_not_read(tmp_path: Path) -> None:
    file = add_recipes(tmp_path, rows(1))
    file.rename(file.with_name(file.name + ".tmp-host~1~1~0123abcd"))
    assert read_recipes(tmp_path) == {}


def test_compaction_keeps_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_MOST_FILES", 5)
    for number in range(5):
        add_recipes(tmp_path, rows(number))
    compact_recipes(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5  # not many yet
    add_recipes(tmp_path, rows(5, 0))
    compact_recipes(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert read_recipes(tmp_path) == rows(*range(6))
    compact_recipes(tmp_path)
    assert read_recipes(tmp_path) == rows(*range(6))


def test_interrupted_compaction_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_MOST_FILES", 3)
    for number in range(6):
        add_recipes(tmp_path, rows(number))
    unlink, calls = Path.unlink, []

    def interrupted(self: Path, missing_ok: bool = False) -> None:
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compact_recipes(tmp_path)
    monkeypatch.undo()
    assert read_recipes(tmp_path) == rows(*range(6))


def test_file_that_goes_while_the_table_is_read_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compaction of another scope: its merged file was there before the others went.
    for number in range(3):
        add_recipes(tmp_path, rows(number))
    old = sorted(tmp_path.iterdir())
    read_text = Path.read_text

    def read_late(self: Path, *args: object, **kwargs: object) -> str:
        if self == old[0]:
            monkeypatch.setattr(recipes, "_MOST_FILES", 0)
            monkeypatch.setattr(Path, "read_text", read_text)
            compact_recipes(tmp_path)
            assert not self.exists()
        return read_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_late)
    assert read_recipes(tmp_path) == rows(0, 1, 2)


def _add_many(folder: Path, start: int) -> None:
    for number in range(start, start + 30):
        add_recipes(folder, rows(number, number + 1))


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(tmp_path, start)) for start in (0, 30, 15)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert read_recipes(tmp_path) == rows(*range(61))
    assert not list(tmp_path.glob("*.tmp-*"))
