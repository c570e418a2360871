"""Fixes of single dimensions, fitted on statistics and applied to states."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.statistics.dimensions import DimensionLimits
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.transforms.dimension_fixes import (
    FixMode,
    apply_dimension_fix,
    fit_dimension_fix,
    host_class,
)
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import call, context, kinds_of_states, roles, seeds, states

MODES = get_args(FixMode)
COVERED = {"none", "rescale", "mask", "clamp", "full"}
TESTED = {"dimension_fix": COVERED}
# Dimension:         0 equal, 1 outlier, 2 outlier, 3 dead here, 4 dead in both, 5 hyperactive here, 6 there too, 7 dead there
DONOR = np.array([2.0, 9.0, 0.5, 0.001, 0.001, 60.0, 90.0, 3.0])
HOST = np.array([2.0, 2.0, 2.0, 2.0, 0.002, 25.0 / 6, 80.0, 0.001])


def of(std: np.ndarray, mean: np.ndarray | float = 0.0) -> ReferenceStatistics:
    return ReferenceStatistics(n=100, mean=np.broadcast_to(mean, std.shape), std=std)


DONOR_STATISTICS = of(DONOR, np.arange(8.0))
HOST_STATISTICS = of(HOST, 10.0 - np.arange(8.0))


def fit(mode, **limits):
    return fit_dimension_fix(mode, DONOR_STATISTICS, HOST_STATISTICS, DimensionLimits(**limits))


def test_which_dimensions_each_mode_changes():
    rescaled = [1, 2, 5, 7]
    assert fit("rescale").changed == {"rescaled": rescaled}
    assert fit("mask").changed == {"rescaled": rescaled, "silenced": [3]}
    assert fit("clamp").changed == {"rescaled": rescaled, "silenced": [3], "clamped": [5]}
    assert fit("full").changed == {"standardized": [0, 1, 2, 5, 6, 7], "set to the mean": [3, 4]}


def test_limits_can_be_others():
    assert fit("rescale", outlier_ratio=10.0).changed == {"rescaled": [5, 7]}


def test_rescale_multiplies_outliers_to_the_spread_of_the_host():
    values = states(50, 8, scale=1.0) * torch.from_numpy(DONOR).float()
    result = apply_dimension_fix(values, fit("rescale"))
    for dimension in (0, 3, 4, 6):
        assert torch.equal(result[:, dimension], values[:, dimension])
    for dimension in (1, 2, 5, 7):
        factor = float(HOST[dimension] / DONOR[dimension])
        torch.testing.assert_close(result[:, dimension], values[:, dimension] * factor)


def test_mask_silences_and_clamp_holds():
    values = states(50, 8, seed=1, scale=1e4)
    masked = apply_dimension_fix(values, fit("mask"))
    assert (masked[:, 3] == 0.0).all()
    assert torch.equal(masked[:, 4], values[:, 4])
    clamped = apply_dimension_fix(values, fit("clamp"))
    mean, reach = float(HOST_STATISTICS.mean[5]), 3 * float(HOST_STATISTICS.std[5])
    torch.testing.assert_close(clamped[:, 5], masked[:, 5].clamp(mean - reach, mean + reach))
    others = [0, 1, 2, 3, 4, 6, 7]
    assert torch.equal(clamped[:, others], masked[:, others])


@settings(deadline=None)
@given(seeds)
def test_full_gives_the_host_s_statistics_where_it_was_fitted(seed):
    values = states(200, 8, seed) * 7 + 3
    exact = values.double()
    donor = of(exact.std(dim=0).numpy(), exact.mean(dim=0).numpy())
    result = apply_dimension_fix(values, fit_dimension_fix("full", donor, HOST_STATISTICS)).double()
    np.testing.assert_allclose(result.std(dim=0), HOST, rtol=1e-4)
    np.testing.assert_allclose(result.mean(dim=0), HOST_STATISTICS.mean, atol=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_noise_in_a_dead_dimension_is_never_blown_up(mode):
    """0.001 to 2.0 would be a factor of 2000."""
    values = states(50, 8, scale=1.0) * torch.from_numpy(DONOR).float()
    assert apply_dimension_fix(values, fit(mode))[:, 3:5].abs().max() < 10.0


@pytest.mark.parametrize("mode", MODES)
def test_an_encoder_like_the_host_is_left_alone(mode):
    alike = of(np.array([1.0, 2.0, 1.5, 1.0, 2.0]), np.arange(5.0))
    values = states(20, 5)
    torch.testing.assert_close(
        apply_dimension_fix(values, fit_dimension_fix(mode, alike, alike)), values, rtol=1e-6, atol=1e-6
    )


@settings(deadline=None)
@given(st.sampled_from(MODES), st.sampled_from(sorted(kinds_of_states(2, 2))), st.integers(1, 12))
def test_every_input_gives_finite_float32_and_the_same_again(mode, kind, tokens):
    values = kinds_of_states(tokens, 8)[kind]
    kept, fix = values.clone(), fit(mode)
    result = apply_dimension_fix(values, fix)
    assert result.dtype == torch.float32
    assert result.shape == values.shape
    assert torch.isfinite(result).all()
    assert torch.equal(result, apply_dimension_fix(values, fit(mode)))
    assert torch.equal(values, kept)
    assert all(getattr(fix, part).dtype == np.float32 for part in ("scale", "shift", "low", "high"))


@settings(deadline=None)
@given(st.sampled_from(MODES), st.integers(2, 12), st.randoms())
def test_a_token_is_fixed_whatever_its_neighbours(mode, tokens, random):
    """Fitted once; unlike a normalization, nothing is measured when it is applied."""
    values, order = states(tokens, 8), random.sample(range(tokens), tokens)
    plain = apply_dimension_fix(values, fit(mode))
    assert torch.equal(apply_dimension_fix(values[order], fit(mode)), plain[order])
    assert torch.equal(apply_dimension_fix(values[:1], fit(mode)), plain[:1])


def test_what_is_refused():
    with pytest.raises(
        ValueError, match="fix mode 'fill' does not exist; allowed: rescale, mask, clamp, full"
    ):
        fit("fill")
    with pytest.raises(ValueError, match="same width"):
        fit_dimension_fix("full", of(np.ones(4)), of(np.ones(5)))
    with pytest.raises(ValueError, match="8 dimensions, the states have 6"):
        apply_dimension_fix(states(4), fit("full"))


ROLES = roles(["sink", "template", "prompt", "prompt", "image", "image", "template"])
AROUND = context(source_roles=ROLES, donor=DONOR_STATISTICS, host=HOST_STATISTICS)


def registered(name, source, tokens="non_sink"):
    entry = transform("dimension_fix", name)
    own = {"fix_tokens": tokens} if entry.parameters.model_fields else {}
    return call(entry, source, around=AROUND, **own)


def test_the_transforms_are_the_modes_and_none():
    assert {"none", *MODES} == COVERED
    source = states(7, 8)
    result, changed = registered("none", source)
    assert result is source
    assert changed == []


@pytest.mark.parametrize("name", sorted(MODES))
@pytest.mark.parametrize(
    ("tokens", "members"), [("non_sink", slice(1, 7)), ("image", slice(4, 6)), ("template", [1, 6])]
)
def test_a_registered_fix_changes_the_tokens_of_its_class_alone(name, tokens, members):
    source = states(7, 8, scale=100.0)
    kept = source.clone()
    result, changed = registered(name, source, tokens)
    assert torch.equal(result[members], apply_dimension_fix(source, fit(name))[members])
    others = [i for i in range(7) if i not in torch.arange(7)[members].tolist()]
    assert torch.equal(result[others], source[others])
    assert torch.equal(source, kept)
    assert changed


def test_what_was_changed_is_said_with_the_factor():
    source = states(7, 8)
    # Dimension 7 by 0.001 / 3, dimension 5 by 25 / 360, 1 by 2 / 9, 2 by 4.
    rescaled = ["7 rescaled 0.0003333", "5 rescaled 0.06944", "1 rescaled 0.2222", "2 rescaled 4"]
    assert registered("rescale", source)[1] == rescaled
    assert registered("clamp", source)[1] == [*rescaled, "3 silenced", "5 clamped"]
    assert registered("full", source)[1] == ["6 standardized", "2 set to the mean"]


def test_a_class_that_was_not_selected_is_said_so():
    source = states(7, 8)
    entry = transform("dimension_fix", "full")
    with pytest.warns(UserWarning, match="none of class image; nothing is fixed"):
        result, changed = call(
            entry, source, around=replace(AROUND, source_roles=roles(["prompt"] * 7)), fix_tokens="image"
        )
    assert result is source
    assert changed == []


def test_images_are_fitted_to_the_text_of_a_host_that_has_none():
    assert [host_class(name) for name in ("all", "non_sink", "image", "prompt", "template")] == [
        "all",
        "non_sink",
        "non_sink",
        "prompt",
        "template",
    ]
