"""Records: what is written reads back, defaults are left out, and files of other versions are refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from graftwork.core.records import (
    ALWAYS,
    OtherVersion,
    from_json,
    read_record,
    read_record_or_none,
    record_digest,
    record_form,
    to_json,
    write_record,
)


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Other:
    title: str


@dataclass(frozen=True)
class Case:
    one: Part | Other


@dataclass(frozen=True)
class Whole:
    title: str
    parts: tuple[Part, ...]
    by_name: Mapping[str, Part]
    pair: tuple[int, str]
    best: Part | None = None
    scale: float = 1.0
    either: str | Mapping[str, str] = "chat"
    notes: list[str] = field(default_factory=list, metadata=ALWAYS)
    options: Mapping[str, int] = field(default_factory=dict)


PART = Part("a", (1, 2))
WHOLE = Whole("t", (PART, Part("b")), {"a": PART}, (1, "x"))
FULL = replace(WHOLE, best=Part("b"), scale=2.0, either={"text": "x"}, notes=["n"], options={"o": 1})


@pytest.mark.parametrize("record", [WHOLE, FULL])
def test_what_is_written_reads_back(tmp_path, record):
    assert from_json(Whole, json.loads(json.dumps(to_json(record)))) == record
    write_record(tmp_path / "file.json", record)
    assert read_record(Whole, tmp_path / "file.json") == record


@pytest.mark.parametrize("one", [Part("a", (1, 2)), Other("b")])
def test_of_several_records_the_one_with_these_fields_is_read(one):
    assert from_json(Case, json.loads(json.dumps(to_json(Case(one))))) == Case(one)


def test_what_is_none_of_several_records_is_refused():
    with pytest.raises(OtherVersion, match="Part has no field 'sizs'; Other has no field 'name'"):
        from_json(Case, {"one": {"name": "a", "sizs": []}})


def test_defaults_are_left_out_and_change_no_digest():
    assert to_json(WHOLE) == {
        "title": "t",
        "parts": [{"name": "a", "sizes": [1, 2]}, {"name": "b"}],
        "by_name": {"a": {"name": "a", "sizes": [1, 2]}},
        "pair": [1, "x"],
        "notes": [],
    }
    assert record_digest(WHOLE) == record_digest(replace(WHOLE, scale=1.0))
    for change in ({"title": "u"}, {"scale": 0.5}, {"best": PART}, {"pair": (2, "x")}, {"options": {"o": 0}}):
        assert record_digest(replace(WHOLE, **change)) != record_digest(WHOLE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "a", "size": 1}, "Part has no field 'size'"),
        ({"sizes": []}, "Part: field 'name' is missing"),
        ([], "Part: .* is no mapping"),
    ],
)
def test_another_version_is_refused(value, message):
    with pytest.raises(OtherVersion, match=message):
        from_json(Part, value)
    with pytest.raises(OtherVersion, match=message):
        from_json(Whole, {**to_json(WHOLE), "by_name": {"a": value}})


@pytest.mark.parametrize(
    "change",
    [
        {"title": 3},
        {"title": None},
        {"parts": {"a": 1}},
        {"parts": 3},
        {"by_name": [1]},
        {"by_name": "ab"},
        {"pair": 5},
        {"best": "b"},
        {"scale": "much"},
        {"either": 3},
        {"notes": "n"},
        {"options": []},
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(change):
    (name,) = change
    with pytest.raises(OtherVersion, match=f"Whole: field '{name}' cannot be"):
        from_json(Whole, {**to_json(FULL), **change})


def test_a_field_that_is_always_written_has_to_be_there():
    plain = to_json(FULL)
    del plain["notes"]
    with pytest.raises(OtherVersion, match="Whole: field 'notes' is missing"):
        from_json(Whole, plain)


@pytest.mark.parametrize("text", ['{"name": ', '{"name": "a", "size": 1}', "null"])
def test_a_file_of_another_version_is_named_with_the_remedy(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(OtherVersion, match=r"file\.json is no Part.*delete the file"):
        read_record(Part, path)
    assert read_record_or_none(Part, path) is None
    assert read_record_or_none(Part, tmp_path / "nowhere.json") is None


def test_the_form_of_a_record_follows_all_records_in_it():
    @dataclass(frozen=True)
    class One:
        part: Part

    @dataclass(frozen=True)
    class Other:
        part: Part
        more: int = 0

    assert len({record_form(kind) for kind in (Part, Whole, One, Other)}) == 4
