"""Token modes: selections over roles, and how they divide a sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.models.tokens import ROLE_CODES, SOURCE_ROLES
from graftwork.transforms.registry import transforms
from graftwork.transforms.token_modes import RolesParameters
from tests.unit.transforms.samples import call

SELECTED = {
    "full": {"template", "sink", "vision_marker", "image", "prompt", "think", "system"},
    "text_only": {"template", "sink", "prompt", "think", "system"},
    "image_only": {"vision_marker", "image"},
    "image_no_markers": {"image"},
    "prompt_only": {"prompt"},
    "roles": {"image", "system"},
}
TESTED = {"token_mode": set(SELECTED)}

role_sequences = st.lists(st.sampled_from(SOURCE_ROLES), max_size=60)


def select(mode: str, roles: list[str]) -> np.ndarray:
    codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
    parameters = {"token_roles": ["image", "system"]} if mode == "roles" else {}
    return call(transforms("token_mode")[mode], codes, **parameters)


@pytest.mark.parametrize("mode", SELECTED)
@given(roles=role_sequences)
def test_a_token_is_selected_by_its_role_alone(mode, roles):
    mask = select(mode, roles)
    assert mask.dtype == bool
    assert mask.tolist() == [role in SELECTED[mode] for role in roles]


@given(role_sequences)
def test_text_and_image_divide_a_sequence(roles):
    text, image = select("text_only", roles), select("image_only", roles)
    assert (text ^ image).all()
    assert (text | image == select("full", roles)).all()


@given(role_sequences)
def test_the_narrower_modes_are_parts_of_the_wider(roles):
    assert not (select("image_no_markers", roles) & ~select("image_only", roles)).any()
    assert not (select("prompt_only", roles) & ~select("text_only", roles)).any()


@given(st.lists(st.sampled_from(SOURCE_ROLES), min_size=1, unique=True), role_sequences)
def test_any_set_of_roles_is_selected(chosen, roles):
    codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
    mask = call(transforms("token_mode")["roles"], codes, token_roles=chosen)
    assert mask.tolist() == [role in chosen for role in roles]


def test_a_set_of_roles_has_no_order_and_no_unknown_ones():
    assert RolesParameters(token_roles=["image", "sink"]).token_roles == ["sink", "image"]
    for wrong in ([], ["image", "image"], ["picture"]):
        with pytest.raises(ValidationError):
            RolesParameters(token_roles=wrong)
    assert "needs token_roles" in transforms("token_mode")["roles"].problem_with({"token_roles": None})


def test_every_role_is_known_to_the_table_above():
    assert SELECTED["full"] == set(SOURCE_ROLES)
