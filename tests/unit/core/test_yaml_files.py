"""YAML is read as it is written, or refused with file, key and line."""

import os
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.core.errors import DesignError
from graftwork.core.yaml_files import MAX_NODES, check_configuration, checked_values, read_yaml
from tests.unit.design.designs import shipped


def read(folder, text, **options):
    file = folder / "one.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(file, "config/one.yaml", **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: [null, ~, true, False, 1, -2, +3, 0x10, 1.5, .5, 1e6, 1E-3]", {"a": [None, None, True, False, 1, -2, 3, 16, 1.5, 0.5, 1e6, 1e-3]}),
        ("a: [yes, no, on, off, y, n]", {"a": ["yes", "no", "on", "off", "y", "n"]}),
        ("a: [1:30, 2024-01-01, 1_000, 0b11, 0o17, =, 1.2.3]", {"a": ["1:30", "2024-01-01", "1_000", "0b11", "0o17", "=", "1.2.3"]}),
        ("yes: a\nno: b\n1:30: c\n007: d\n3: e\nnull: f", {"yes": "a", "no": "b", "1:30": "c", "007": "d", "3": "e", "null": "f"}),
        ("a: '007'\nb: \"yes\"", {"a": "007", "b": "yes"}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("a: {<<: [{p: 1}, {p: 2, q: 2}]}", {"a": {"p": 1, "q": 2}}),
        ("'<<': 1", {"<<": 1}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: !!str 1", {"a": "1"}),
    ],
)  # fmt: skip
def test_what_is_written_is_read(tmp_path, text, value):
    found = read(tmp_path, text)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("base:\n  seeds: [0123]", ["base.seeds.0 (line 2)", "'0123' begins with 0", "quote it"]),
        ("a: 1\nb: 2\na: 3", ["(line 3)", "key 'a' occurs twice"]),
        ("a: {b: 1, b: 2}", ["a (line 1)", "key 'b' occurs twice"]),
        ("? [a, b]\n: 1", ["a list or mapping is used as a key"]),
        ("? &x [a]\n: 1", ["a list or mapping is used as a key"]),
        ("a: &x [1]\n*x : 2", ["*x is no text"]),
        ("a: .inf", ["a (line 1)", ".inf is no finite number"]),
        ("a: [-.INF]", ["no finite number"]),
        ("a: .NaN", ["no finite number"]),
        ("a: 1e308", ["'1e308' is beyond 3.4e+38"]),
        ("a: 1e999", ["'1e999' is beyond"]),
        ("a: " + "9" * 5000, ["is beyond"]),
        ('a: "x\\0y"', ["a (line 1)", "contains the character NUL"]),
        ('"x\\0y": 1', ["contains the character NUL"]),
        ('a: "\\ud800"', ["line 1"]),
        ("a: \x1b", ["not valid YAML"]),
        ("a:\n\tb: 1", ["not valid YAML", "line 2"]),
        ("a: [1", ["not valid YAML", "line"]),
        ("a: *b", ["*b stands for nothing"]),
        ("a: &a [*a]", ["*a is a part of itself"]),
        ("a: !!python/object/apply:os.system [x]", ["tag", "is not read"]),
        ("a: !!set {x}", ["tag", "is not read"]),
        ("a: {<<: 3}", ["<< takes a mapping"]),
        ("a: 1\n---\nb: 2", ["a second document"]),
        ("[" * 5000 + "]" * 5000, ["deeper than 40 levels"]),
        (b"a: \xff", ["byte 3 is not UTF-8"]),
        ("a: 1".encode("utf-16"), ["UTF-8"]),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, text, parts):
    with pytest.raises(DesignError) as error:
        read(tmp_path, text)
    for part in ["config/one.yaml", *parts]:
        assert part in str(error.value)
    assert len(str(error.value)) < 1000


def test_growth_is_refused_at_once(tmp_path):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    many = f"a: [{', '.join(['1'] * (MAX_NODES + 10))}]"
    for text in (bomb, many):
        start = time.process_time()
        with pytest.raises(DesignError, match=f"more than {MAX_NODES} values"):
            read(tmp_path, text)
        assert time.process_time() - start < 10  # Measured: 0.01 and 1.3 s.


def test_files_that_are_none(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in (
        ("folder.yaml", "is a folder"),
        ("pipe.yaml", "is no regular file"),
        ("absent.yaml", "does not exist"),
        ("x" * 300 + ".yaml", "cannot be read: File name too long"),
    ):
        with pytest.raises(DesignError, match=words):
            read_yaml(tmp_path / name, name)


@pytest.mark.parametrize(
    "text", ["a: yes", "yes: a", "a: [1:30]", "a: 1_000", "a: 2024-01-01", "a: 0b11", "a: 1e6"]
)
def test_what_versions_read_differently_is_refused_where_another_reader_reads_too(tmp_path, text):
    assert read(tmp_path, text)
    with pytest.raises(DesignError, match="quote it"):
        read(tmp_path, text, also_1_1=True)


def test_a_configuration_may_be_json(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"experiments": ["demo"],\n\t"limits": {"max_images": 3}}')
    check_configuration(file, "mine.json")
    for text in ('{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}', "a: 1\na: 2"):
        file.write_text(text)
        with pytest.raises(DesignError, match="occurs twice"):
            check_configuration(file, "mine.json")


def test_values_of_another_reader():
    values = {"a": [1, 2.0, None, True, {"b": "c"}]}
    assert checked_values(values, "x.yaml") is values
    circle: list = []
    circle.append(circle)
    for wrong, words in (
        ({"a": float("nan")}, "a: nan"),
        ({"a": {"b": 10**400}}, "a.b: "),
        ({"a": {1: 2}}, "a: 1 is used as a key"),
        ({"a": ["\ud800"]}, "a.0: "),
        ({"a": b"x"}, "a: b'x' is no text"),
        ({"a": circle}, "more than"),
    ):
        with pytest.raises(DesignError, match=r"^x\.yaml: ") as error:
            checked_values(wrong, "x.yaml")
        assert words in str(error.value)


def test_configurations_that_ship_are_read_as_before():
    files = shipped("config", pattern="**/*.yaml")
    assert files
    for file in files:
        assert read_yaml(file, file.name) == yaml.safe_load(file.read_text(encoding="utf-8")), file


@settings(max_examples=400, deadline=1000)
@given(st.text(alphabet="ab: -[]{}&*!#|>'\"%@`,?\n\t\\0123.eE+~<\x1b\ud800\0é", max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    try:
        found = read_yaml(file, "any.yaml")
    except DesignError as error:
        message = str(error)
    else:
        message = "any.yaml"
        checked_values(found, "any.yaml")
    assert message.startswith("any.yaml")
