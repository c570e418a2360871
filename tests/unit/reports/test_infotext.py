"""Infotext: the exact text, and that it is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.reports.infotext import format_infotext
from tests.unit.reports.infotext_reader import parse_infotext

BASE = {"Steps": 8, "Sampler": "Euler", "CFG scale": 0.0}
KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ \-/]{0,12}[A-Za-z0-9_\-/]", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_the_text_is_what_the_web_ui_writes():
    text = format_infotext(
        "a house\nat dusk",
        negative_prompt="blurry",
        parameters={
            **BASE,
            "Seed": 42,
            "Size": "512x512",
            "Model": "z-image, turbo",
            "VAE": None,
            "graftwork": {"layers": [-2, -6], "alpha": 0.5},
        },
    )
    assert text == (
        "a house\nat dusk\nNegative prompt: blurry\n"
        'Steps: 8, Sampler: Euler, CFG scale: 0.0, Seed: 42, Size: 512x512, Model: "z-image, turbo", '
        r'graftwork: "{\"alpha\":0.5,\"layers\":[-2,-6]}"'
    )


def test_text_of_the_web_ui_is_read():
    text = (
        "girl, (beret:1.2)\nNegative prompt: ugly, fat\nmutated\n"
        'Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Lora hashes: "a: 1, b: 2"'
    )
    found = parse_infotext(text)
    assert found.prompt == "girl, (beret:1.2)"
    assert found.negative_prompt == "ugly, fat\nmutated"
    assert found.parameters["Lora hashes"] == "a: 1, b: 2"
    assert found.parameters["Size"] == "512x512"


@given(VALUES, st.none() | VALUES, st.dictionaries(KEYS, VALUES, max_size=4))
def test_everything_is_read_back(prompt, negative, extra):
    parameters = {**BASE, **extra}
    found = parse_infotext(format_infotext(prompt, negative_prompt=negative, parameters=parameters))

    def tidy(text):
        unified = text.replace("\r\n", "\n").replace("\r", "\n")
        return "\n".join(line.strip() for line in unified.strip().split("\n"))

    assert found.prompt == tidy(prompt)
    assert (found.negative_prompt or "") == tidy(negative or "")
    assert found.parameters == {key: str(value) for key, value in parameters.items()}


@pytest.mark.parametrize("value", ['"', '""', '"a"', "\\", 'a"b', " a", "", "a\\,b", "\u2028", "x: y", '",'])
def test_awkward_values_are_read_back(value):
    text = format_infotext("p", parameters={"before": value, **BASE, "after": value})
    found = parse_infotext(text).parameters
    assert found["before"] == found["after"] == value
    assert found["CFG scale"] == "0.0"


@pytest.mark.parametrize(
    ("prompt", "parameters", "message"),
    [
        ("p", {"Steps": 8}, "at least 3"),
        ("p", {**BASE, "a": 1}, "cannot be read back"),
        ("p", {**BASE, "a, b": 1}, "cannot be read back"),
    ],
)
def test_what_readers_would_misread_is_refused(prompt, parameters, message):
    with pytest.raises(ValueError, match=message):
        format_infotext(prompt, parameters=parameters)


@pytest.mark.parametrize("negative", [None, "fog\nNegative prompt: rain"])
def test_a_line_that_marks_the_negative_prompt_stays_a_line_of_the_prompt(negative):
    prompt = "a blue square\n  Negative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
    found = parse_infotext(format_infotext(prompt, negative_prompt=negative, parameters=BASE))
    assert (
        found.prompt
        == "a blue square\n\\Negative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
    )
    assert found.negative_prompt == (negative and negative.replace("Negative", "\\Negative"))
    assert found.parameters == {key: str(value) for key, value in BASE.items()}
