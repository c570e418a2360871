"""Values that were measured: whole lines are kept whatever happens to the file."""

from graftwork.store.values import ValueWriter, compact_values, read_values


def test_values_are_read_back_and_the_newest_holds(tmp_path):
    ValueWriter(tmp_path).add({"a": {"x": 0.5}, "b": {"x": None, "why": "dark \u2028 é"}})
    ValueWriter(tmp_path).add({"a": {"x": 0.75}})
    assert read_values(tmp_path) == {"a": {"x": 0.75}, "b": {"x": None, "why": "dark \u2028 é"}}


def test_nothing_to_keep_makes_no_file(tmp_path):
    ValueWriter(tmp_path / "values").add({})
    assert not (tmp_path / "values").exists()
    assert read_values(tmp_path / "values") == {}


def test_a_killed_job_loses_its_last_line_at_most(tmp_path):
    ValueWriter(tmp_path).add({key: {"x": 1.0} for key in "abc"})
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        kept = read_values(tmp_path)
        assert len(kept) in (
            whole[:end].count(b"\n"),
            whole[:end].count(b"\n") + (whole[end : end + 1] == b"\n"),
        )
    file.write_bytes(b'[1]\n{"key": 3, "values": {}}\n\xff\n' + whole)
    assert set(read_values(tmp_path)) == set("abc")


def test_many_files_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork.store.values._MOST_FILES", 3)
    for number in range(5):
        ValueWriter(tmp_path).add({f"k{number % 2}": {"x": float(number)}})
    compact_values(tmp_path)
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert read_values(tmp_path) == {"k0": {"x": 4.0}, "k1": {"x": 3.0}}
