"""The stage of fitted maps: which tokens are mapped, and what becomes of the first one."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from graftwork.maps.fitted import FittedMap, map_sequence
from graftwork.transforms.mapping import MappingParameters
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import context, roles, states

TESTED = {"mapping": {"none", "map"}}
ROLES = ("sink", "prompt", "vision_marker", "image", "image", "prompt")


def doubling(dim: int, sink: np.ndarray | None = None) -> FittedMap:
    """A map whose effect is known: twice the states."""
    return FittedMap(
        method="affine_per_dim",
        normalization="none",
        tensors={"scale": np.full(dim, 2.0, dtype=np.float32), "bias": np.zeros(dim, dtype=np.float32)},
        token_rms=1.0,
        pairs=9,
        prompts=3,
        sink=sink,
    )


def mapped(source: torch.Tensor, fitted: FittedMap, **parameters) -> torch.Tensor:
    around = context(source_roles=roles(ROLES), map=fitted)
    return transform("mapping", "map").function(
        source[None], MappingParameters(map="any", **parameters), around
    )


def test_without_a_map_the_states_stay():
    source = states(6, 4)
    entry = transform("mapping", "none")
    assert torch.equal(entry.function(source[None], entry.parameters_of({}), context()), source)


@pytest.mark.parametrize(
    ("tokens", "changed"), [("all", range(6)), ("text", (0, 1, 5)), ("image", (2, 3, 4))]
)
def test_only_the_chosen_tokens_are_mapped(tokens, changed):
    source = states(6, 4)
    expected = source.clone()
    expected[list(changed)] *= 2
    torch.testing.assert_close(mapped(source, doubling(4), tokens=tokens), expected)


def test_a_sink_that_both_encoders_begin_with_becomes_the_text_encoders_own():
    source, own = states(6, 4), np.arange(4, dtype=np.float32)
    found = mapped(source, doubling(4, own))
    assert torch.equal(found[0], torch.from_numpy(own))
    torch.testing.assert_close(found[1:], 2 * source[1:])
    assert torch.equal(mapped(source, doubling(4, own), tokens="image")[0], source[0])


def test_it_is_the_map_that_studies_measure():
    source, fitted = states(6, 4), doubling(4)
    is_sink = torch.tensor([role == "sink" for role in ROLES])
    assert torch.equal(mapped(source, fitted), map_sequence(fitted, source[None], is_sink))


@pytest.mark.parametrize("wrong", [{"tokens": "none"}, {"method": 1}, {"layer": -2}])
def test_other_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        MappingParameters(map="any", **wrong)
