"""A published file of statistics, held against what is said about it.

The file is not a part of this repository: `qwen3_4b_stats.npz` of llm-dit-experiments (Apache-2.0), Qwen3-4B, layer -2,
10 prompts, 220 tokens. The environment variable GRAFTWORK_QWEN3_4B_STATS says where a copy is. What is not known of it,
the prompts and the template, cannot be reproduced.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from graftwork.statistics.compare import pearson
from graftwork.statistics.dimensions import dead_dimensions, hyperactive_dimensions
from graftwork.statistics.reference import ReferenceStatistics, global_mean, global_std
from graftwork.statistics.sink import (
    expected_global_std,
    largest_shares,
    variance_shares,
)
from tests.unit.statistics.published import energy_shares, shuffled_correlation, solve_sink, split_sink

VARIABLE = "GRAFTWORK_QWEN3_4B_STATS"
TOKENS, PROMPTS = 220, 10

pytestmark = pytest.mark.skipif(
    not os.environ.get(VARIABLE),
    reason=f"{VARIABLE} is not set; it names a copy of qwen3_4b_stats.npz, which is not in this repository",
)


@pytest.fixture(scope="module")
def statistics() -> ReferenceStatistics:
    path = Path(os.environ[VARIABLE])
    return ReferenceStatistics.from_published(path.read_bytes(), tokens=TOKENS, source=path.name)


@pytest.fixture(scope="module")
def told() -> dict[str, float]:
    with np.load(os.environ[VARIABLE], allow_pickle=False) as archive:
        return {name: float(archive[name]) for name in ("global_mean", "global_std")}


def test_global_values(statistics, told):
    assert statistics.channels == 2560
    assert told["global_mean"] == pytest.approx(0.311157, abs=5e-7)
    assert told["global_std"] == pytest.approx(61.095688, abs=5e-7)
    assert global_mean(statistics) == pytest.approx(0.311157, abs=5e-7)
    # From float32 values per dimension, hence not to the last of the published digits.
    assert global_std(statistics) == pytest.approx(61.095688, abs=2e-6)


def test_the_number_of_tokens_follows_from_the_file(statistics, told):
    """Global variance and variances per dimension agree for one n alone; solved for n."""
    mean, std = statistics.mean.astype(np.float64), statistics.std.astype(np.float64)
    within, between = np.square(std).sum(), np.square(mean - mean.mean()).sum()
    total = told["global_std"] ** 2
    implied = (total - within) / (statistics.channels * total - within - between)
    assert implied == pytest.approx(TOKENS, abs=0.01)


@pytest.mark.parametrize(
    ("dim", "std", "mean"),
    [(396, 948.698, -206.413), (4, 2752.569, 924.870), (100, 77.220, -21.097), (1710, 8.832, 4.881)],
)
def test_single_dimensions(statistics, dim, std, mean):
    assert float(statistics.std[dim]) == pytest.approx(std, abs=6e-4)
    assert float(statistics.mean[dim]) == pytest.approx(mean, abs=6e-4)


def test_dimension_classes(statistics):
    hyperactive = np.flatnonzero(hyperactive_dimensions(statistics.std))
    by_size = hyperactive[np.argsort(-statistics.std[hyperactive])]
    assert by_size.tolist() == [4, 396, 0, 100, 9, 19, 56, 342]
    assert not dead_dimensions(statistics.std).any()


def test_the_largest_value_after_clipping_at_three_sigma(statistics):
    assert float(statistics.mean[4]) + 3 * float(statistics.std[4]) == pytest.approx(9182.58, abs=5e-3)


def test_the_sink_values_follow_from_mean_and_std(statistics):
    found = solve_sink(statistics, PROMPTS)
    assert found.sink[396] == pytest.approx(-4544.0, abs=0.05)
    assert found.sink[4] == pytest.approx(13510, abs=0.5)
    # In dimension 396 the other tokens are at 0; in dimension 4 they are not.
    assert found.rest_mean[396] == pytest.approx(0.14, abs=0.005)
    assert found.rest_mean[4] == pytest.approx(325.6, abs=0.05)


def test_the_reported_extremes_leave_an_ordinary_rest(statistics):
    """-4544 and 13504 are told as minimum and maximum of all values, of another run."""
    assert split_sink(statistics, PROMPTS, np.float64(-4544.0)).rest_std[396] == pytest.approx(0.92, abs=0.01)
    assert split_sink(statistics, PROMPTS, np.float64(13504.0)).rest_std[4] == pytest.approx(87.2, abs=0.05)


def test_two_dimensions_have_nearly_all_variance(statistics):
    shares = variance_shares(statistics)
    assert [dim for dim, _ in largest_shares(shares, 2)] == [4, 396]
    assert shares[[4, 396]].sum() == pytest.approx(0.977, abs=5e-4)
    # About the mean of each dimension it is a little more.
    within = variance_shares(statistics, about_global_mean=False)
    assert within[[4, 396]].sum() == pytest.approx(0.9836, abs=5e-5)


def test_the_global_std_without_the_three_largest_dimensions(statistics):
    """Said to be 7.09. It is 7.085 about the mean of what is left, and 7.094 about the mean of all dimensions."""
    left = global_std(statistics, (0, 4, 396))
    assert left == pytest.approx(7.085, abs=5e-4)
    kept = np.delete(statistics.mean, [0, 4, 396]).astype(np.float64)
    about_all = np.sqrt(left**2 + (kept.mean() - global_mean(statistics)) ** 2)
    assert about_all == pytest.approx(7.094, abs=1e-3)


def test_without_the_sink_the_global_std_is_not_yet_that_of_three_dimensions_less(statistics):
    """The sink takes 61 down to about 10 to 11, not to 7: in dimensions 4 and 0 other tokens have large means."""
    solved = solve_sink(statistics, PROMPTS)
    for dims, expected in (((4, 396), 11.3), ((0, 4, 396), 10.3)):
        sink, mean = (statistics.mean.astype(np.float64) for _ in range(2))
        std = statistics.std.astype(np.float64)
        for dim in dims:
            sink[dim], mean[dim], std[dim] = solved.sink[dim], solved.rest_mean[dim], 0.0
        per_prompt = TOKENS // PROMPTS
        assert expected_global_std([per_prompt], mean, std, sink)[0] == pytest.approx(61.08, abs=0.02)
        assert expected_global_std([per_prompt], mean, std)[0] == pytest.approx(expected, abs=0.05)


def test_shuffling_all_other_dimensions_hardly_changes_the_correlation(statistics):
    two, three = (shuffled_correlation(statistics.std, dims) for dims in ((4, 396), (0, 4, 396)))
    assert two.pearson == pytest.approx(0.994, abs=5e-4)
    assert two.pearson_maximum - two.pearson_minimum < 1e-3
    assert three.pearson == pytest.approx(0.998, abs=5e-4)
    assert pearson(statistics.std.astype(np.float64), statistics.std.astype(np.float64)) == pytest.approx(1.0)


def test_normalizing_to_this_file_puts_nearly_all_energy_into_three_dimensions(statistics):
    shares = energy_shares(statistics)
    assert [dim for dim, _ in largest_shares(shares, 3)] == [4, 396, 0]
    assert sum(share for _, share in largest_shares(shares, 3)) == pytest.approx(0.987, abs=5e-4)
