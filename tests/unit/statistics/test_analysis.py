"""What an analysis computes of inputs and statistics."""

import numpy as np
import pytest

from graftwork.statistics import analysis
from graftwork.statistics.accumulator import (
    fold_inputs,
    measure_input,
    summarize,
)
from graftwork.statistics.analysis import (
    LayerReading,
    ReadInput,
    expected_stds,
    pair_inputs,
    report_sink,
)
from tests.unit.statistics.samples import gaussian, role_codes, with_sink

TEXT = ["sink", "template", "prompt", "prompt", "template"]
VISION = [
    "sink",
    "template",
    "vision_marker",
    "image",
    "image",
    "vision_marker",
    "prompt",
    "prompt",
    "template",
]


def read(names, ids, seed=0):
    return ReadInput(gaussian(len(names), seed=seed), role_codes(*names), np.array(ids))


def pair(n=0):
    return read(VISION, [1, 2, 8, 9, 9, 8, 3, 4, 5], 2 * n), read(TEXT, [1, 2, 3, 4, 5], 2 * n + 1)


def test_an_image_is_left_out_and_the_rest_is_paired():
    a, b = pair()
    found = pair_inputs([(a, b)], ("all", "all"))
    assert np.array_equal(found.a, a.states[[0, 1, 6, 7, 8]])
    assert np.array_equal(found.b, b.states)
    assert np.array_equal(found.roles, b.roles)
    assert (found.inputs, found.is_all) == (1, True)
    prompt = pair_inputs([(a, b), pair(1)], ("prompt", "prompt"))
    assert len(prompt.a) == 4
    assert np.array_equal(prompt.a[:2], a.states[6:8])


@pytest.mark.parametrize(
    "classes", [("image", "all"), ("image", "image"), ("prompt", "all"), ("non_sink", "all")]
)
def test_other_tokens_are_not_paired(classes):
    assert pair_inputs([pair()], classes) is None


def test_one_input_that_differs_is_enough():
    other = read(TEXT, [1, 2, 3, 7, 5])
    assert pair_inputs([pair(), (pair()[0], other)], ("all", "all")) is None
    assert pair_inputs([], ("all", "all")) is None


def test_there_is_a_limit_to_how_many_are_compared(monkeypatch):
    monkeypatch.setattr(analysis, "MOST_PAIRED_TOKENS", 12)
    found = pair_inputs([pair(n) for n in range(4)], ("all", "all"))
    assert (len(found.a), found.inputs, found.is_all) == (10, 2, False)


def test_activations_of_many_inputs_are_gathered_by_place():
    reading = LayerReading()
    for factor in (1.0, 3.0, 2.0):
        states = with_sink(6)
        states[0, :2] *= factor
        reading.add(ReadInput(states, role_codes("sink", *["prompt"] * 5), np.arange(6)), -2, 100.0, 1000.0)
    found = [(one.activation.dim, one.activation.value, one.inputs) for one in reading.activations()]
    assert found == [(0, 3 * 13504.0, 3), (1, 3 * -4544.0, 3)]
    assert reading.lengths == [6, 6, 6]


def statistics(inputs):
    folded = fold_inputs(measure_input(states, roles) for states, roles in inputs)
    return summarize(folded["all"]), summarize(folded["non_sink"])


def test_the_share_of_the_sink_is_what_goes_with_it():
    roles = role_codes("sink", *["prompt"] * 9)
    inputs = [(with_sink(10, seed=n), roles) for n in range(5)]
    every, rest = statistics(inputs)
    found = report_sink(every, rest)
    whole = np.concatenate([states for states, _ in inputs]).astype(np.float64)
    others = np.concatenate([states[1:] for states, _ in inputs]).astype(np.float64)
    assert (found.sink_tokens, found.tokens) == (5, 50)
    assert found.std == pytest.approx(whole.std(ddof=1))
    assert found.std_without_sink == pytest.approx(others.std(ddof=1))
    assert found.sink_share == pytest.approx(1 - others.var() * others.size / (whole.var() * whole.size))
    assert found.sink_share > 0.99


def test_expected_standard_deviations_are_those_of_independent_tokens():
    roles = role_codes("sink", *["prompt"] * 199)
    every, rest = statistics([(with_sink(200, seed=n), roles) for n in range(5)])
    with_it, without = expected_stds([200, 50], every, rest)
    drawn = [with_sink(length, seed=77).astype(np.float64) for length in (200, 50)]
    for expected, bare, states in zip(with_it, without, drawn, strict=True):
        assert expected == pytest.approx(states.std(ddof=1), rel=0.02)
        assert bare == pytest.approx(states[1:].std(ddof=1), rel=0.2)
