"""Statistics of a prompt's own text embeddings."""

import numpy as np
import pytest
import torch

from graftwork.conditioning.reference import prompt_statistics
from tests.unit.transforms.samples import roles, states


def test_they_are_those_of_all_tokens_but_the_sink():
    text = states(12, 8, shift=30.0)
    text[0] *= 1e4
    found = prompt_statistics(text.numpy(), roles(["sink"] + ["prompt"] * 11), with_covariance=True)
    exact = text[1:].double()
    assert found.n == 11
    np.testing.assert_allclose(found.mean, exact.mean(dim=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, exact.std(dim=0), rtol=1e-6)
    np.testing.assert_array_equal(found.minimum, text[1:].amin(dim=0))
    np.testing.assert_array_equal(found.maximum, text[1:].amax(dim=0))
    np.testing.assert_allclose(found.covariance, torch.cov(exact.T), rtol=1e-5, atol=1e-5)
    sizes = exact.square().mean(dim=1).sqrt()
    assert found.median_token_rms == pytest.approx(float(sizes.sort().values[5]), rel=1e-6)
    assert all(getattr(found, name).dtype == np.float32 for name in ("mean", "std", "covariance"))


def test_a_covariance_is_computed_only_where_it_is_wanted():
    text, text_roles = states(5).numpy(), roles(["sink"] + ["prompt"] * 4)
    assert prompt_statistics(text, text_roles, with_covariance=False).covariance is None


def test_a_constant_dimension_has_no_spread():
    text = states(7)
    text[:, 3] = 0.1
    found = prompt_statistics(text.numpy(), roles(["prompt"] * 7), with_covariance=False)
    assert found.std[3] == 0.0
    assert found.mean[3] == np.float32(0.1)


def test_states_are_not_changed():
    text = states(5).numpy()
    kept = text.copy()
    text.setflags(write=False)
    prompt_statistics(text, roles(["sink"] + ["prompt"] * 4), with_covariance=True)
    assert (text == kept).all()


@pytest.mark.parametrize("tokens", [1, 2])
def test_too_few_tokens_are_refused_in_words(tokens):
    token_roles = roles(["sink"] + ["prompt"] * (tokens - 1))
    with pytest.raises(ValueError, match=f"{tokens - 1} tokens beside the sink"):
        prompt_statistics(states(tokens).numpy(), token_roles, with_covariance=False)
