"""Statistics of stored hidden states: which tokens and layer, in which order, and what is left out."""

import json
import logging
import shutil

import numpy as np
import pytest

from graftwork.core.npz import read_npz
from graftwork.jobs.statistics import measure_statistics
from graftwork.models.prompts import NEUTRAL_OPTIONS
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.shards import StatisticsShard, StatisticsToMeasure
from graftwork.statistics.accumulator import TooFewTokens
from graftwork.statistics.sink import FurtherSinks, SinkPlace
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.records import StatisticsParts
from graftwork.store.statistics import (
    DamagedStatistics,
    is_intact,
    read_statistics,
    read_statistics_file,
)
from tests.unit.statistics.samples import with_sinks_at

LOG = logging.getLogger("test")
WIDTH = 5
ROLES = [
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
CLASSES = {
    "all": list(range(9)),
    "non_sink": list(range(1, 9)),
    "image": [3, 4],
    "prompt": [6, 7],
    "template": [1, 8],
}


def put(store, name, values, layer=7, dtype="float32", roles=ROLES):
    codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
    counted = np.arange(len(roles))
    sequence = {"token_ids": counted, "roles": codes, "positions": counted[None]}
    add_layers(store.hidden_states(name), {layer: values}, dtype, sequence, {})


def random(seed, scale=3.0):
    return (np.random.default_rng(seed).normal(size=(len(ROLES), WIDTH)) * scale + seed).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for n in range(6):
        put(store, f"in{n}", random(n))
        put(store, f"in{n}", random(100 + n), layer=5)
    return store


def item(key="k" * 32, inputs=tuple(f"in{n}" for n in range(6)), layer=7, covariance_of=None):
    parts = StatisticsParts(tuple(inputs), layer, "code", covariance_of)
    return StatisticsToMeasure(key, parts, corpus="c", encoder="e", options=NEUTRAL_OPTIONS)


def measure(store, *items, failures=None):
    return measure_statistics(StatisticsShard(items), store, LOG, failures or {})


@pytest.mark.parametrize("token_class", CLASSES)
@pytest.mark.parametrize("layer", [7, 5])
def test_statistics_are_of_the_class_and_the_layer(store, token_class, layer):
    measure(store, item(layer=layer))
    start = 0 if layer == 7 else 100
    tokens = np.concatenate([random(start + n)[CLASSES[token_class]] for n in range(6)]).astype(np.float64)
    found = read_statistics(store.statistics("k" * 32), token_class)
    assert found.n == len(tokens)
    np.testing.assert_allclose(found.mean, tokens.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, tokens.std(axis=0, ddof=1), rtol=1e-6)
    rms = np.sqrt(np.square(tokens).mean(axis=1))
    assert found.median_token_rms == pytest.approx(np.median(rms), rel=1e-6)
    assert found.covariance is None


@pytest.mark.parametrize(("position", "seen_by"), [(0, "all"), (3, "image"), (7, "prompt"), (8, "template")])
def test_a_planted_value_is_seen_by_the_classes_of_its_token_alone(store, position, seen_by):
    values = random(2)
    values[position, 1] = 1e6
    put(store, "planted", values)
    measure(store, item(inputs=["in0", "planted", "in3"]))
    seen = {name for name in CLASSES if read_statistics(store.statistics("k" * 32), name).maximum[1] == 1e6}
    assert seen == {"all", seen_by, *(["non_sink"] if position else [])}


def test_bfloat16_is_decoded(store):
    values = random(1)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    put(store, "half", bits, dtype="bfloat16")
    measure(store, item(inputs=["half"]))
    exact = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    np.testing.assert_allclose(
        read_statistics(store.statistics("k" * 32), "all").mean, exact.mean(axis=0), rtol=1e-6
    )


def test_the_result_does_not_depend_on_how_jobs_were_cut(store, tmp_path):
    items = [item("a" * 32), item("b" * 32, layer=5), item("c" * 32, covariance_of="prompt")]
    measure(store, *items)
    together = [store.statistics(one.key).read_bytes() for one in items]
    apart = Store(tmp_path / "apart")
    for n in reversed(range(6)):  # Extracted in another order, layer by layer.
        put(apart, f"in{n}", random(100 + n), layer=5)
        put(apart, f"in{n}", random(n))
    for one in reversed(items):
        measure(apart, one)
    assert [apart.statistics(one.key).read_bytes() for one in items] == together


def test_the_order_of_the_corpus_decides_the_last_bits(store):
    """Why the order is part of the key."""
    forward, back = item("a" * 32), item("b" * 32, inputs=[f"in{n}" for n in reversed(range(6))])
    measure(store, forward, back)
    one, other = (read_statistics(store.statistics(i.key), "all") for i in (forward, back))
    np.testing.assert_allclose(one.std, other.std, rtol=1e-6)


def test_a_covariance_is_of_one_class(store):
    measure(store, item(covariance_of="image"))
    tokens = np.concatenate([random(n)[3:5] for n in range(6)]).astype(np.float64)
    found = read_statistics(store.statistics("k" * 32), "image")
    np.testing.assert_allclose(found.covariance, np.cov(tokens.T), rtol=1e-5)
    with pytest.raises(DamagedStatistics):
        read_statistics(store.statistics("k" * 32), "all")


def test_further_sinks_are_left_out_counted_and_logged(store, caplog):
    roles = ["sink", *["prompt"] * 11]
    for n, planted in enumerate([(0, 1), (0,), (0, 1, 5)]):
        put(store, f"wide{n}", with_sinks_at(*planted, seed=n), roles=roles)
    with caplog.at_level(logging.WARNING):
        assert not measure(store, item(inputs=[f"wide{n}" for n in range(3)])).failures
    words = "2 of 3 inputs have a sink beyond position 0 (at position 1 in 2, at position 5 in 1)"
    assert words in caplog.text
    found = read_statistics(store.statistics("k" * 32), "non_sink")
    assert found.n == 3 * 11 - 3
    assert found.further_sinks == FurtherSinks(3, 2, (SinkPlace(1, 1, 2), SinkPlace(5, 5, 1)))
    assert found.further_sinks.described() == words
    origin = json.loads(store.statistics("k" * 32).with_suffix(".json").read_text())
    assert origin["further_sinks"]["inputs_with"] == 2
    assert read_statistics_file(found.to_npz(), None, "x.npz").further_sinks is None


def test_a_file_that_was_exchanged_for_another_is_measured_again(store):
    a, b = store.statistics("a" * 32), store.statistics("b" * 32)
    measure(store, item("a" * 32, inputs=["in0", "in1"]), item("b" * 32, inputs=["in2"]))
    right = a.read_bytes()
    shutil.copyfile(b, a)
    assert not is_intact(a)
    with pytest.raises(DamagedStatistics, match="another name"):
        read_statistics(a, "all")
    assert measure(store, item("a" * 32, inputs=["in0", "in1"])).made == ["a" * 32]
    assert a.read_bytes() == right


def test_what_is_there_is_not_measured_again(store):
    assert measure(store, item()).made == ["k" * 32]
    before = store.statistics("k" * 32).stat().st_mtime_ns
    record = measure(store, item())
    assert (record.made, record.found) == ([], ["k" * 32])
    assert store.statistics("k" * 32).stat().st_mtime_ns == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_input_that_is_not_finite_is_refused_and_recorded(store, bad):
    values = random(9)
    values[2, 3] = bad
    put(store, "bad", values)
    record = measure(
        store, item("a" * 32, inputs=["in0", "bad", "in1"]), item("b" * 32, inputs=["in0", "in1"])
    )
    assert record.failures == {}
    assert "NaN or infinite" in record.refused["a" * 32]["bad"]
    assert set(record.refused) == {"a" * 32}
    one, other = (read_npz(store.statistics(name * 32).read_bytes(), name) for name in "ab")
    assert bytes(one.pop("key")) == b"a" * 32
    assert bytes(other.pop("key")) == b"b" * 32
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }
    origin = json.loads(store.statistics("a" * 32).with_suffix(".json").read_text())
    assert set(origin["refused"]) == {"bad"}
    assert origin["corpus"] == "c"


def test_an_input_refused_in_extraction_is_left_out_and_another_failure_is_not(store):
    inputs = ["in0", "gone", "in1"]
    not_finite = {"gone": "FloatingPointError: layer 7 has 3 values that are not finite"}
    record = measure(store, item("a" * 32, inputs=inputs), failures=not_finite)
    assert record.made == ["a" * 32]
    assert set(record.refused["a" * 32]) == {"gone"}
    record = measure(store, item("b" * 32, inputs=inputs), item("c" * 32), failures={"gone": "OSError: full"})
    assert record.made == ["c" * 32]
    assert "gone: OSError: full" in record.failures["b" * 32]
    assert not store.statistics("b" * 32).exists()


def test_hidden_states_that_are_gone_fail_their_statistics_alone(store):
    store.hidden_states("in3").unlink()
    record = measure(store, item("a" * 32), item("b" * 32, inputs=["in0", "in1"]))
    assert record.made == ["b" * 32]
    assert "the next run extracts it again" in record.failures["a" * 32]


def test_too_few_tokens_are_said_where_they_are_asked_for(store):
    put(store, "short", random(1)[:4], roles=["sink", "template", "prompt", "prompt"])
    measure(store, item(inputs=["short"]))
    assert read_statistics(store.statistics("k" * 32), "prompt").n == 2
    for name, count in (("template", "1 token of class 'template'"), ("image", "0 tokens of class 'image'")):
        with pytest.raises(TooFewTokens, match=f"has {count}"):
            read_statistics(store.statistics("k" * 32), name)


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b[:300] + b"\xff" + b[301:]])
def test_a_damaged_file_is_noticed_and_measured_again(store, damage):
    measure(store, item())
    path = store.statistics("k" * 32)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert not is_intact(path)
    with pytest.raises(DamagedStatistics):
        read_statistics(path, "all")
    assert measure(store, item()).made == ["k" * 32]
    assert path.read_bytes() == whole


def test_our_own_file_and_a_published_one_are_read(store):
    measure(store, item())
    found = read_statistics(store.statistics("k" * 32), "all")
    own = read_statistics_file(found.to_npz(), None, "own.npz")
    assert own.to_npz() == found.to_npz()
    with pytest.raises(ValueError, match=f"of {found.n} tokens, not of 7"):
        read_statistics_file(found.to_npz(), 7, "own.npz")
