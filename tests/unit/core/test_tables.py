"""Tables that every reader splits into the same rows, and that run nothing in a spreadsheet."""

import csv
import io

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.core.tables import escape_markdown, markdown_table, read_table, write_table

AWKWARD = st.text(max_size=20) | st.text(
    alphabet="'=+-@\t\r\n\\x05c1bud8 ,\";\x1b\0\u2028\u202e", max_size=12
)


def written(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8", newline="")
    return file


@given(st.lists(st.tuples(AWKWARD, AWKWARD), min_size=1, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    rows = [{"a": a, "b": b} for a, b in rows]
    file = written(tmp_path_factory.mktemp("tables"), write_table(rows))
    assert read_table(file) == rows
    with open(file, encoding="utf-8", newline="") as stream:
        assert len(list(csv.reader(stream))) == len(rows) + 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1-1", "'+1-1"),
        ("- a red circle", "'- a red circle"),
        ("  =1+1", "'  =1+1"),
        ("\t=1+1", "\\x09=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("'=1", "''=1"),
        ("'quoted'", "'quoted'"),
        ("-", "-"),
        ("-0.5", "-0.5"),
        ("a\rb", "a\\x0db"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("C:\\x1b", "C:\\x5cx1b"),
        ("C:\\new", "C:\\new"),
        ('{"text": "a \\"b\\""}', '{"text": "a \\"b\\""}'),
        (-0.5, "-0.5"),
    ],
)
def test_how_a_cell_is_written(text, shown):
    table = write_table([{"a": text, "b": "x"}])
    assert next(csv.reader(io.StringIO(table.partition("\n")[2], newline="")))[0] == shown


def test_other_readers_find_the_same_rows(tmp_path):
    texts = ["a\rb", "two\nlines", "=1", "\x00", "\x85", "\u2028", "plain"]
    file = written(tmp_path, write_table([{"text": text, "number": n} for n, text in enumerate(texts)]))
    assert pandas.read_csv(file)["number"].tolist() == list(range(len(texts)))


def test_no_control_character_reaches_markdown():
    assert escape_markdown("a\x1b[2Jb\rc\u202ed") == "a\\\\x1b\\[2Jb c\\\\u202ed"
    assert "\x1b" not in markdown_table(["\x1b"], [["\x1b"]])
