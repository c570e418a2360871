"""Token classes: which roles they have, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.models.tokens import ROLE_CODES, ROLES
from graftwork.statistics.token_classes import TOKEN_CLASSES, check_roles, select_class
from tests.unit.statistics.samples import role_codes

SINK = ROLE_CODES["sink"]
role_sequences = st.lists(st.sampled_from(ROLES), max_size=60)


@given(role_sequences)
def test_a_token_is_selected_by_its_role_alone(names):
    roles = role_codes(*names)
    expected = {
        "all": [True for _ in names],
        "non_sink": [name != "sink" for name in names],
        "image": [name == "image" for name in names],
        "prompt": [name == "prompt" for name in names],
        "template": [name == "template" for name in names],
    }
    assert set(expected) == set(TOKEN_CLASSES)
    for name, mask in expected.items():
        assert select_class(name, roles, roles == SINK).tolist() == mask
        assert select_class(name, roles, roles == SINK).dtype == bool


@pytest.mark.parametrize("name", TOKEN_CLASSES)
def test_a_sink_is_of_class_all_alone_whatever_its_role(name):
    roles = role_codes("sink", "image", "prompt", "template", "prompt")
    sinks = np.array([True, True, True, True, False])
    found = select_class(name, roles, sinks).tolist()
    assert found == ([True] * 5 if name == "all" else [False] * 4 + [name in ("non_sink", "prompt")])


def test_every_class_has_roles_that_exist():
    for name, roles in TOKEN_CLASSES.items():
        assert set(roles) <= set(ROLES), name
        assert roles, name


def test_an_unknown_class_is_named_with_what_is_allowed():
    with pytest.raises(
        ValueError, match=r"'text' does not exist; allowed are all, non_sink, image, prompt, template"
    ):
        select_class("text", role_codes("prompt"), np.zeros(1, dtype=bool))


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (np.array([0, 9], dtype=np.uint8), "role 9 does not exist"),
        (np.array([0, 1]), "int64"),
        (np.zeros((2, 2), dtype=np.uint8), r"\(2, 2\)"),
        ([0, 1], "list"),
    ],
)
def test_roles_that_are_none(roles, message):
    with pytest.raises(ValueError, match=message):
        select_class("all", roles, np.zeros(2, dtype=bool))


def test_roles_have_to_be_as_many_as_tokens():
    with pytest.raises(ValueError, match="2 roles for 3 tokens"):
        check_roles(role_codes("sink", "prompt"), 3)
    check_roles(role_codes(), 0)
