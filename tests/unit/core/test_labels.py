"""Labels of values, and slugs."""

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.core.labels import format_value, format_values, label, slugify

SCALARS = (
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats(allow_nan=False) | st.text(max_size=5)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.30000000000000004, "0.3"),
        (0.333333, "0.333"),
        (1 / 3, "0.333"),
        (0.125, "0.125"),
        (0.03125, "0.03125"),
        (1.0, "1"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (-0.0, "0"),
        (12345.678, "12346"),
        (100000.0, "100000"),
        (1e-7, "1e-7"),
        (1.5e20, "1.5e20"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (3, "3"),
        (True, "true"),
        (None, "none"),
        ("text", "text"),
        ([-2, -6.0, None], "[-2, -6, none]"),
        ((0.1 + 0.2,), "[0.3]"),
        ({"from": 0.2, "to": 0.8}, "{from: 0.2, to: 0.8}"),
        ({2, 1}, "{1, 2}"),
    ],
)
def test_values_are_short(value, text):
    assert format_value(value) == text


def test_digits_are_added_until_values_differ():
    assert format_values([1 / 3, 0.3334444]) == ["0.3333", "0.3334"]
    assert format_values([0.0, 0.2, 0.6000000000000001]) == ["0", "0.2", "0.6"]


def test_equal_values_share_a_label_and_lookalikes_do_not():
    assert format_values([0.5, 0.5]) == ["0.5", "0.5"]
    assert format_values([1, "1", "a"]) == ["1", '"1"', "a"]
    assert format_values([None, "none"]) == ["None", '"none"']


@given(st.lists(VALUES, max_size=6))
def test_different_values_have_different_labels(values):
    texts = format_values(values)
    for text, value in zip(texts, values, strict=True):
        for other_text, other in zip(texts, values, strict=True):
            if value != other:
                assert text != other_text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_close_to_what_is_shown(value):
    assert float(format_value(value)) == pytest.approx(value, rel=6e-3)


def test_label_names_the_value():
    assert label("alpha", 0.1 + 0.2) == "alpha = 0.3"
    assert label("", "a cat") == "a cat"


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("alpha = 0.5", "alpha_0.5"),
        ("alpha = -0.5", "alpha_-0.5"),
        ("-2", "minus2"),
        ("Caf\xe9 Noir!", "cafe_noir"),
        ("../../etc/passwd", "etc_passwd"),
    ],
)
def test_slugs_are_readable(text, slug):
    assert slugify(text) == slug


@given(st.text(max_size=100), st.integers(16, 80))
def test_slugs_are_safe_file_names(text, max_length):
    slug = slugify(text, max_length)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", slug)
    assert 1 <= len(slug) <= max_length
    assert slug[-1] in string.ascii_lowercase + string.digits


def test_long_and_foreign_text_stays_distinct():
    assert slugify("a" * 90 + "b") != slugify("a" * 90 + "c")
    assert slugify("\u6c34") != slugify("\u706b")
    assert slugify("") == slugify("")


def test_a_slug_needs_room():
    with pytest.raises(ValueError, match="16"):
        slugify("a", 8)
