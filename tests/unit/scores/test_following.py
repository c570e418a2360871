"""What "follows" means, attribute by attribute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes
from graftwork.scores.scene_attributes.following import (
    AGREES,
    DIFFERS,
    NO_REFERENCE,
    OPEN,
    STANDS,
    chance_levels,
    follows_prompt,
    follows_reference,
    stand,
)

VALUES = st.sampled_from("abc")
MAYBE = st.none() | VALUES


@pytest.mark.parametrize(
    ("read", "prompt", "reference", "expected"),
    [
        ("a", "a", "b", (DIFFERS, 1, 0)),
        ("b", "a", "b", (DIFFERS, 0, 1)),
        ("c", "a", "b", (DIFFERS, 0, 0)),
        ("a", "a", "a", (AGREES, 1, None)),
        ("b", "a", "a", (AGREES, 0, None)),
        ("b", None, "b", (OPEN, None, 1)),
        ("c", None, "b", (OPEN, None, 0)),
        ("a", "a", None, (NO_REFERENCE, 1, None)),
        ("a", None, None, (OPEN, None, None)),
    ],
)
def test_all_cases(read, prompt, reference, expected):
    found = (
        stand(prompt, reference),
        follows_prompt(read, prompt),
        follows_reference(read, prompt, reference),
    )
    assert found == expected


@given(VALUES, VALUES, VALUES)
def test_prompt_and_reference_are_treated_alike_where_they_differ(read, one, other):
    if one != other:
        assert follows_prompt(read, one) == follows_reference(read, other, one)


@given(VALUES, MAYBE, MAYBE)
def test_nothing_follows_both(read, prompt, reference):
    assert stand(prompt, reference) in STANDS
    assert follows_prompt(read, prompt) != 1 or follows_reference(read, prompt, reference) != 1


def test_chance_is_that_of_a_scene_drawn_from_all():
    for attribute in ATTRIBUTES:
        levels = chance_levels()[attribute]
        assert list(levels) == list(VOCABULARY[attribute])
        assert set(levels.values()) == {1 / len(VOCABULARY[attribute])}
        for target in VOCABULARY[attribute]:
            met = [follows_prompt(getattr(scene, attribute), target) for scene in all_scenes()]
            assert sum(met) / len(met) == levels[target]
