"""Masking: what is an outlier on which side, what happens to it, and what is said when nothing can."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.models.tokens import ROLES
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.token_classes import TOKEN_CLASSES, select_class
from graftwork.transforms.masking import ClipParameters, MaskingParameters
from graftwork.transforms.outliers import rows_of_class
from graftwork.transforms.registry import transform
from graftwork.transforms.token_modes import has_role
from tests.unit.transforms.samples import (
    call,
    context,
    kinds_of_states,
    roles,
    seeds,
    states,
    statistics,
    widths,
)

COVERED = {"none", "zero", "mean", "clamp", "scale", "clip"}
TESTED = {"masking": COVERED}
MASKS = sorted(COVERED - {"none"})
KINDS = sorted(kinds_of_states(2, 2))


def mask(name, source, source_roles=None, reference=None, **parameters):
    """Result, what was masked, and warnings."""
    entry = transform("masking", name)
    source_roles = roles(["image"] * len(source)) if source_roles is None else source_roles
    around = context(
        source_roles=source_roles,
        statistics=statistics(source.shape[1]) if reference is None else reference,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result, masked = call(entry, source, around=around, **parameters)
    return result, masked, [str(item.message) for item in caught]


def with_ratios(*ratios: float, tokens: int = 40) -> tuple[torch.Tensor, ReferenceStatistics]:
    """States whose dimensions have these ratios to the statistics."""
    reference = statistics(len(ratios))
    source = states(tokens, len(ratios), seed=1)
    source = source - source.mean(dim=0)
    source *= torch.from_numpy(reference.std.copy()) * torch.tensor(ratios) / source.std(dim=0)
    return source + torch.arange(len(ratios)), reference


def ratios_of(values: torch.Tensor, reference: ReferenceStatistics) -> torch.Tensor:
    return values.double().std(dim=0) / torch.from_numpy(reference.std.copy()).double()


def test_none_returns_the_source():
    source = states(4)
    result, masked, said = mask("none", source)
    assert result is source
    assert (masked, said) == ([], [])


@pytest.mark.parametrize(
    ("direction", "found"), [("above", [3, 4]), ("below", [0, 1]), ("both", [0, 1, 3, 4])]
)
@pytest.mark.parametrize("name", MASKS)
def test_each_side_is_found_and_reported(name, direction, found):
    source, reference = with_ratios(0.0016, 0.05, 1.0, 12.0, 42.0)
    result, masked, said = mask(name, source, reference=reference, masking_direction=direction)
    assert sorted(int(line.split()[0]) for line in masked) == found
    sides = {0: "below 625", 1: "below 20", 3: "above 12", 4: "above 42"}
    assert {line.partition(" ")[2] for line in masked} == {sides[dimension] for dimension in found}
    assert said == []
    untouched = [dimension for dimension in range(5) if dimension not in found]
    assert torch.equal(result[:, untouched], source[:, untouched])


def test_the_most_extreme_comes_first_and_very_many_are_cut():
    source, reference = with_ratios(*[10.5 + index for index in range(40)])
    masked = mask("zero", source, reference=reference)[1]
    assert masked[0] == "39 above 49.5"
    assert masked[-1] == "and 8 more"
    assert len(masked) == 33


def test_zero_and_mean():
    source, reference = with_ratios(1.0, 20.0, 0.01)
    zeroed = mask("zero", source, reference=reference)[0]
    assert (zeroed[:, 1:] == 0.0).all()
    replaced = mask("mean", source, reference=reference)[0]
    assert torch.equal(replaced[:, 1:], torch.from_numpy(reference.mean[1:].copy()).expand(40, 2))


@pytest.mark.parametrize("threshold", [1.0, 2.5, 10.0])
def test_clamp_ends_at_the_threshold_and_scale_at_one(threshold):
    source, reference = with_ratios(0.001, 0.6, 1.01, 3.0, 617.9)
    before = ratios_of(source, reference)
    arguments = {"reference": reference, "masking_threshold": threshold}
    clamped = ratios_of(mask("clamp", source, **arguments)[0], reference)
    torch.testing.assert_close(clamped, before.clamp(1 / threshold, threshold), rtol=1e-5, atol=0)
    scaled = ratios_of(mask("scale", source, **arguments)[0], reference)
    inside = (before <= threshold) & (before >= 1 / threshold)
    torch.testing.assert_close(scaled, torch.where(inside, before, 1.0), rtol=1e-5, atol=0)


def test_clamp_and_scale_multiply_and_shift_nothing():
    source, reference = with_ratios(0.001, 617.9)
    for name in ("clamp", "scale"):
        result = mask(name, source, reference=reference)[0]
        factors = result.double() / source.double()
        torch.testing.assert_close(factors, factors[:1].expand_as(factors), rtol=1e-5, atol=0)


def test_clip_is_element_wise_in_outlier_dimensions_alone():
    source, reference = with_ratios(1.0, 20.0)
    source[0] += 1e6
    source[:, 0] -= source[:, 0]
    result = mask("clip", source, reference=reference, masking_sigma=2.0)[0]
    mean, std = reference.mean[1], reference.std[1]
    assert torch.equal(result[:, 1], source[:, 1].clamp(float(mean - 2 * std), float(mean + 2 * std)))
    assert torch.equal(result[:, 0], source[:, 0])


@pytest.mark.parametrize("name", MASKS)
def test_listed_dimensions_are_masked_whatever_their_ratio(name):
    source, reference = with_ratios(5.0, 617.9, 1.5)
    result, masked, said = mask(name, source, reference=reference, masking_dimensions=[0])
    assert torch.equal(result[:, 1:], source[:, 1:])
    assert masked == ["0 above 5"]
    assert said == []
    if name == "clamp":
        assert torch.equal(result, source), "inside the threshold there is nothing to clamp"
    else:
        assert not torch.equal(result[:, 0], source[:, 0])


def test_clamp_of_listed_dimensions_keeps_to_the_direction():
    source, reference = with_ratios(0.01, 100.0)
    for direction, expected in (("above", [0.01, 10.0]), ("below", [0.1, 100.0]), ("both", [0.1, 10.0])):
        result = mask(
            "clamp",
            source,
            reference=reference,
            masking_dimensions=[0, 1],
            masking_direction=direction,
        )[0]
        torch.testing.assert_close(
            ratios_of(result, reference), torch.tensor(expected).double(), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("name", MASKS)
def test_a_dimension_without_spread_is_left_alone_and_reported(name):
    source, reference = with_ratios(100.0, 100.0, 100.0)
    source[:, 1] = 13510.1
    result, masked, said = mask(name, source, reference=reference)
    assert torch.equal(result[:, 1], source[:, 1])
    assert sorted(masked) == ["0 above 100", "2 above 100"]
    assert len(said) == 1
    assert "1 dimensions have no ratio" in said[0]
    assert said[0].endswith("left alone: 1")


@pytest.mark.parametrize("name", MASKS)
def test_a_dimension_that_is_dead_in_the_reference_has_no_ratio(name):
    source, reference = states(20, 4), statistics(4, dead=2)
    result, masked, said = mask(name, source, reference=reference, masking_threshold=1.0)
    assert torch.equal(result[:, :2], source[:, :2])
    assert {line.split()[0] for line in masked} == {"2", "3"}
    assert said[0].endswith("left alone: 0, 1")


@pytest.mark.parametrize("name", MASKS)
def test_listed_dimensions_without_a_ratio(name):
    source = states(20, 3)
    source[:, 0] = 2.0
    result, masked, said = mask(name, source, masking_dimensions=[0])
    if name in ("clamp", "scale"):
        assert torch.equal(result, source)
        assert masked == []
        assert "no ratio that could be changed" in said[0]
    else:
        assert masked == ["0 without ratio"]
        assert said == []


@pytest.mark.parametrize("name", MASKS)
def test_one_token_has_no_ratio(name):
    source = states(5)
    token_roles = roles(["prompt"] * 4 + ["image"])
    result, masked, said = mask(name, source, token_roles, masking_threshold=1.0)
    assert torch.equal(result, source)
    assert masked == []
    assert "class image has one token" in said[0]


@pytest.mark.parametrize("name", MASKS)
def test_a_class_without_tokens_is_said_so(name):
    source = states(5)
    result, masked, said = mask(name, source, roles(["prompt"] * 5))
    assert torch.equal(result, source)
    assert masked == []
    assert "none of class image" in said[0]


@pytest.mark.parametrize("tokens", TOKEN_CLASSES)
@pytest.mark.parametrize("name", MASKS)
def test_only_tokens_of_the_class_are_looked_at_and_changed(name, tokens):
    names = [*ROLES, *ROLES, "image", "prompt", "template", "image", "prompt", "template"]
    source, token_roles = states(len(names), 4), roles(names)
    member = torch.from_numpy(select_class(tokens, token_roles, has_role(token_roles, "sink")))
    source[~member] *= 1e6
    result, masked, _ = mask(name, source, token_roles, masking_tokens=tokens, masking_threshold=1.0)
    assert torch.equal(result[~member], source[~member])
    alone, masked_alone, _ = mask(name, source[member], masking_threshold=1.0)
    torch.testing.assert_close(result[member], alone)
    assert masked == masked_alone


@given(st.lists(st.sampled_from(ROLES), min_size=1, max_size=20))
def test_classes_are_those_of_the_statistics(names):
    token_roles = roles(names)
    for name in TOKEN_CLASSES:
        sinks = has_role(token_roles, "sink")
        sinks[5:] |= np.arange(len(names))[5:] % 3 == 0  # Found, whatever their role.
        expected = np.flatnonzero(select_class(name, token_roles, sinks))
        rows = rows_of_class(name, token_roles, sinks)
        found = [] if rows is None else torch.arange(len(names))[rows].flatten()
        assert list(found) == list(expected)


def test_every_class_of_the_statistics_can_be_chosen():
    for name in TOKEN_CLASSES:
        MaskingParameters(masking_tokens=name)


@settings(deadline=None)
@given(
    st.sampled_from(MASKS),
    st.sampled_from(KINDS),
    st.integers(1, 12),
    widths,
    seeds,
    st.sampled_from(["above", "below", "both"]),
    st.sampled_from([1.0, 10.0]),
)
def test_every_input_gives_finite_float32_and_the_same_again(
    name, kind, tokens, width, seed, direction, threshold
):
    source = kinds_of_states(tokens, width, seed)[kind]
    kept = source.clone()
    arguments = {"masking_direction": direction, "masking_threshold": threshold}
    result, masked, said = mask(name, source, **arguments)
    assert result.dtype == torch.float32
    assert result.shape == source.shape
    assert torch.isfinite(result).all()
    assert torch.equal(source, kept)
    again = mask(name, source, **arguments)
    assert torch.equal(result, again[0])
    assert (masked, said) == again[1:]


@settings(deadline=None)
@given(st.sampled_from(MASKS), st.integers(2, 12), widths, seeds, st.randoms())
def test_the_order_of_tokens_and_dimensions_does_not_count(name, tokens, width, seed, random):
    source, reference = states(tokens, width, seed), statistics(width)
    plain = mask(name, source, reference=reference, masking_threshold=1.5)[0]
    order = random.sample(range(tokens), tokens)
    torch.testing.assert_close(
        mask(name, source[order], reference=reference, masking_threshold=1.5)[0], plain[order]
    )
    order = random.sample(range(width), width)
    turned = ReferenceStatistics(n=50, mean=reference.mean[order], std=reference.std[order])
    torch.testing.assert_close(
        mask(name, source[:, order], reference=turned, masking_threshold=1.5)[0], plain[:, order]
    )


@pytest.mark.parametrize("name", MASKS)
def test_inside_the_threshold_nothing_happens(name):
    source, reference = with_ratios(0.2, 1.0, 5.0)
    result, masked, _ = mask(name, source, reference=reference)
    assert result is source
    assert masked == []


@pytest.mark.parametrize("name", MASKS)
def test_statistics_of_another_width_are_refused(name):
    with pytest.raises(ValueError, match="7 channels, the source has 6"):
        mask(name, states(4), reference=statistics(7))


@pytest.mark.parametrize("name", MASKS)
def test_dimensions_that_do_not_exist_are_refused(name):
    with pytest.raises(ValueError, match="masking_dimensions: 6 does not exist; allowed: 0 to 5"):
        mask(name, states(4), masking_dimensions=[2, 6])
    problem = transform("masking", name).problem_with
    assert problem({"masking_dimensions": [2, 5], "width": 6}) is None
    assert problem({"masking_dimensions": None, "width": 6}) is None
    assert "dimension 6" in problem({"masking_dimensions": [2, 6], "width": 6})
    assert "allowed: 0 to 5" in problem({"masking_dimensions": [2, 6], "width": 6})


@pytest.mark.parametrize(
    "wrong",
    [
        {"masking_threshold": 0.5},
        {"masking_direction": "up"},
        {"masking_tokens": "images"},
        {"masking_dimensions": []},
        {"masking_dimensions": [-1]},
        {"masking_dimensions": [4, 4]},
        {"masking_dimensions": [1.5]},
        {"masking_sigma": 0},
        {"statistics": "corpus"},
    ],
)
def test_parameters_that_are_refused(wrong):
    with pytest.raises(ValidationError):
        ClipParameters(**wrong)


def test_the_order_of_listed_dimensions_does_not_count():
    assert MaskingParameters(masking_dimensions=[396, 4]).masking_dimensions == [4, 396]
