"""Token modes: selections over roles, and how they divide a sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.lib.conditioning.registry import transforms
from workflow_scripts.lib.models.tokens import ROLE_CODES, ROLES

SELECTED = {
    "full": {"template", "sink", "vision_marker", "image", "prompt", "think", "system"},
    "text_only": {"template", "sink", "prompt", "think", "system"},
    "image_only": {"vision_marker", "image"},
    "image_no_markers": {"image"},
    "prompt_only": {"prompt"},
}

role_sequences = st.lists(st.sampled_from(ROLES), max_size=60)


def select(mode: str, roles: list[str]) -> np.ndarray:
    codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
    return transforms("token_mode")[mode].function(codes)


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


def test_every_role_is_known_to_the_table_above():
    assert SELECTED["full"] == set(ROLES)
