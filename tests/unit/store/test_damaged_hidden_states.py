"""A file of hidden states with any damage is read as it was written or refused with one kind of error."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.store.hidden_states import DamagedHiddenStates, add_layers, intact_layers, read_layer

LAYERS = {2: np.random.default_rng(2).standard_normal((5, 8)).astype(np.float32)}
SEQUENCE = {
    "token_ids": np.arange(5),
    "roles": np.zeros(5, dtype=np.uint8),
    "positions": np.arange(5)[None],
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def whole(scratch) -> bytes:
    add_layers(scratch / "whole.h5", LAYERS, "float32", SEQUENCE, {"encoder": "small", "prompt": "x"})
    return (scratch / "whole.h5").read_bytes()


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_any_damage_is_read_over_or_refused(whole, scratch, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["byte", "zeros", "cut", "insert"]))
        if kind == "byte":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "zeros":
            content[place : place + 64] = bytes(len(content[place : place + 64]))
        elif kind == "cut":
            content = content[: max(place, 1)]
        else:
            content[place:place] = data.draw(st.binary(max_size=16))
    # Under the name that the file holds: under another one it would be damaged whatever is in it.
    path = scratch / "damaged" / "whole.h5"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        found = read_layer(path, 2)
    except DamagedHiddenStates:
        found = None
    if found is None:
        assert bytes(content) != whole
        return
    assert np.array_equal(found.values, LAYERS[2])
    assert np.array_equal(found.token_ids, SEQUENCE["token_ids"])
    assert intact_layers(path) == [2]
