"""Methods of maps on encoders whose difference is known: which recover it, and which cannot."""

import numpy as np
import pytest
import torch

from graftwork.maps.corpus import TooFewPairs, fit_map
from graftwork.maps.fitted import map_normalized, normalized
from graftwork.maps.linear import Coordinates, loss_of, solve_ridge
from graftwork.maps.pairs import NORMALIZATIONS, read_pairs
from graftwork.maps.registry import method, methods
from tests.unit.maps.synthetic import DIM, corpus, inputs, states

QUICK = {
    "layer_pooling": {"hidden_layers": [0, 1], "steps": 60, "width": 8},
    "low_rank": {"rank": 8},
    "sgd": {"steps": 60},
}
LAYERS = {"layer_pooling": (0, 1)}


def held_out_r2(fitted, layers=(0,)):
    error = spread = 0.0
    for _, one in read_pairs(inputs(60, 80), states, layers, 0, fitted.normalization):
        made = map_normalized(fitted, torch.from_numpy(one.source)).numpy()
        error += np.square(made - one.target).sum()
        spread += np.square(one.target - one.target.mean(axis=0)).sum()
    return 1 - error / spread


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_full_matrix_recovers_a_linear_difference_and_controls_do_not(normalization):
    fitted = {
        name: fit_map(method(name), corpus(normalization=normalization), {})
        for name in ("identity", "affine_per_dim", "procrustes", "ridge", "shuffled_pairs", "random_rotation")
    }
    found = {name: held_out_r2(one) for name, one in fitted.items()}
    assert found["ridge"] > 0.85
    assert found["ridge"] > found["procrustes"] > found["shuffled_pairs"]
    assert found["ridge"] > found["affine_per_dim"] > found["identity"]
    assert abs(found["shuffled_pairs"]) < 0.1
    assert found["random_rotation"] < 0.0


@pytest.mark.parametrize("towards", ["identity", "zero"])
def test_descent_reaches_the_loss_of_the_closed_form_within_a_percent(towards):
    pairs, ridges = corpus(), [1e-2]
    fitted = fit_map(
        method("sgd"), pairs, {"towards": towards, "ridges": ridges, "steps": 1500, "batch": 256}
    )
    at = Coordinates.of(pairs.total, pairs.normalization, towards)
    best = solve_ridge(*at.moments(pairs.total), ridges[0], towards)
    closed, _ = loss_of(best, at, pairs.total, ridges[0], towards)
    assert closed <= fitted.facts["loss"] <= 1.01 * closed


@pytest.mark.parametrize("metric", ["generator", "standardized"])
def test_low_rank_at_full_rank_is_the_ridge_and_grows_with_the_rank(metric):
    pairs = corpus()
    by_rank = [
        held_out_r2(fit_map(method("low_rank"), pairs, {"rank": rank, "metric": metric}))
        for rank in (2, 10, DIM)
    ]
    assert by_rank == sorted(by_rank)
    assert by_rank[-1] == pytest.approx(held_out_r2(fit_map(method("ridge"), pairs, {})), abs=1e-4)


@pytest.mark.parametrize("name", methods())
def test_every_method_gives_finite_tensors_of_the_width_and_counts_its_pairs(name):
    layers = LAYERS.get(name, (0,))
    fitted = fit_map(method(name), corpus(20, layers=layers), QUICK.get(name, {}))
    # 13 tokens of each prompt, and the template's second and third once; the sink never.
    assert fitted.pairs == 20 * 13 + 2
    assert fitted.layers == len(layers)
    made = map_normalized(fitted, normalized(fitted, torch.randn(len(layers), 5, DIM)))
    assert made.shape == (5, DIM)
    assert torch.isfinite(made).all()
    assert np.array_equal(fitted.sink, states("t0", 0).values[0])


def test_too_few_pairs_for_a_rank_say_how_many_there_are():
    with pytest.raises(TooFewPairs, match=r"needs 34 pairs .* 2 prompts .* have 28 different ones"):
        fit_map(method("low_rank"), corpus(2), {"rank": 33})


def test_a_prompt_that_occurs_twice_is_one_set_of_pairs():
    found = list(read_pairs([*inputs(0, 3), *inputs(0, 3)], states, (0,), 0, "rms"))
    assert [number for number, _ in found] == [0, 1, 2]


def test_the_benchmark_runs_on_narrow_states(capfd):
    from benchmarks.maps import main

    main(["ridge", "--dim", "32", "--prompts", "6", "--tokens", "8", "--ridges", "0.01"])
    printed = capfd.readouterr().out
    assert "ridge" in printed
    # 7 tokens of each prompt: the sink is left out.
    assert " 42 " in printed
