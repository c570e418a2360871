"""Intervals of measures of maps."""

import numpy as np
import pytest

from graftwork.maps.evaluation import estimate_cka


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_interval_of_cka_holds_its_value_and_the_value_of_more_tokens(shared):
    rng = np.random.default_rng(0)

    def draw(tokens):
        y = rng.standard_normal((tokens, 8))
        z = shared * y + (1 - shared) * rng.standard_normal((tokens, 8))
        return y - y.mean(axis=0), z - z.mean(axis=0)

    many = estimate_cka(*draw(400), np.arange(400) // 4).value
    for _ in range(3):
        found = estimate_cka(*draw(120), np.arange(120) // 4)
        assert found.low <= found.value <= found.high
        assert found.low - 0.02 <= many <= found.high + 0.02
        assert found.high - found.low < 0.35


def test_one_prompt_has_no_interval():
    y = np.random.default_rng(0).standard_normal((9, 3))
    found = estimate_cka(y, y, np.zeros(9, int))
    assert np.isclose(found.value, 1.0)
    assert np.isnan(found.low)
