"""Moments: held against NumPy on all tokens at once, and against themselves in every order of merging."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graftwork.statistics.accumulator import (
    NonFiniteStates,
    TooFewTokens,
    decode_states,
    empty_moments,
    fold_inputs,
    measure_input,
    measure_tokens,
    summarize,
)
from graftwork.statistics.token_classes import TOKEN_CLASSES
from tests.unit.statistics.samples import (
    WIDTH,
    float32_ulp,
    gaussian,
    role_codes,
    roles_of,
    states,
    with_sink,
)

VECTORS = ("mean", "std", "minimum", "maximum", "skewness", "kurtosis")
PARTS = ("mean", "m2", "m3", "m4", "minimum", "maximum", "token_rms", "scatter")

inputs = st.lists(states(), min_size=1, max_size=6)


def fold_moments(parts):
    return fold_inputs({"all": moments} for moments in parts)["all"]


def merge_moments(*parts):
    return fold_moments(parts)


def reference(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics of all tokens at once, by their definitions, in extended precision where there is one."""
    x = tokens.astype(np.longdouble)
    deviation = x - x.mean(axis=0)
    m2, m3, m4 = ((deviation**power).mean(axis=0) for power in (2, 3, 4))
    varies = tokens.min(axis=0) < tokens.max(axis=0)
    with np.errstate(all="ignore"):
        return {
            "mean": x.mean(axis=0),
            "std": np.where(varies, x.std(axis=0, ddof=1), 0),
            "minimum": x.min(axis=0),
            "maximum": x.max(axis=0),
            "skewness": np.where(varies, m3 / m2**1.5, np.nan),
            "kurtosis": np.where(varies, m4 / m2**2 - 3, np.nan),
        }


def assert_close(name: str, found: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> None:
    """At most one float32 step apart, besides the float64 rounding of sums whose terms cancel."""
    expected, found = np.asarray(expected, np.float64), found.astype(np.float64)
    assert (np.isnan(found) == np.isnan(expected)).all(), name
    allowed = float32_ulp(expected)
    if name == "mean":
        allowed = allowed + 1e-13 * scale
    if name in ("skewness", "kurtosis"):
        # Differences of sums: what is lost is relative to their terms, not to the result.
        allowed = allowed + 1e-6
    there = ~np.isnan(expected)
    assert (np.abs(found - expected)[there] <= allowed[there]).all(), (name, found, expected)


def assert_same_bits(a, b) -> None:
    assert a.n == b.n
    for part in PARTS:
        one, other = getattr(a, part), getattr(b, part)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.tobytes() == other.tobytes(), part


def fits_float32(tokens: np.ndarray) -> bool:
    spread = tokens.astype(np.float64).std(axis=0, ddof=1)
    return bool((spread < np.finfo(np.float32).max).all())


@settings(deadline=None)
@given(inputs)
def test_streaming_equals_numpy_on_all_tokens(parts):
    tokens = np.concatenate(parts)
    assume(len(tokens) >= 2 and fits_float32(tokens))
    statistics = summarize(fold_moments(measure_tokens(part) for part in parts))
    assert statistics.n == len(tokens)
    scale = np.abs(tokens.astype(np.float64)).max(axis=0)
    for name, expected in reference(tokens).items():
        assert_close(name, getattr(statistics, name), expected, scale)
    rms = np.sqrt(np.square(tokens.astype(np.float64)).mean(axis=1))
    assert statistics.median_token_rms == pytest.approx(np.median(rms), rel=1e-6, abs=1e-40)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 39), st.integers(0, 99), st.booleans())
def test_the_covariance_is_that_of_numpy(tokens, cut, seed, has_sink):
    sample = (with_sink if has_sink else gaussian)(tokens, seed=seed)
    parts = [measure_tokens(part, with_covariance=True) for part in np.split(sample, [min(cut, tokens)])]
    statistics = summarize(fold_moments(parts))
    expected = np.cov(sample.astype(np.float64), rowvar=False)
    assert np.abs(statistics.covariance - expected).max() <= 1e-6 * np.abs(expected).max()
    assert (statistics.covariance == statistics.covariance.T).all()
    np.testing.assert_allclose(np.diag(statistics.covariance), np.square(statistics.std), rtol=1e-5)


@settings(deadline=None)
@given(states(1), states(1), states(1))
def test_merging_is_associative_up_to_a_step_of_float32(a, b, c):
    assume(fits_float32(np.concatenate([a, b, c])))
    a, b, c = (measure_tokens(part) for part in (a, b, c))
    left = merge_moments(merge_moments(a, b), c)
    right = merge_moments(a, merge_moments(b, c))
    scale = np.maximum(np.abs(left.minimum), np.abs(left.maximum))
    one, other = summarize(left), summarize(right)
    for name in VECTORS:
        assert_close(name, getattr(one, name), getattr(other, name), scale)
    assert one.median_token_rms == other.median_token_rms
    assert one.minimum.tobytes() == other.minimum.tobytes()
    assert one.maximum.tobytes() == other.maximum.tobytes()


@settings(deadline=None)
@given(states(1), states(1))
def test_merging_commutes_up_to_a_step_of_float32(a, b):
    assume(fits_float32(np.concatenate([a, b])))
    left = merge_moments(measure_tokens(a), measure_tokens(b))
    right = merge_moments(measure_tokens(b), measure_tokens(a))
    scale = np.maximum(np.abs(left.minimum), np.abs(left.maximum))
    for name in VECTORS:
        assert_close(name, getattr(summarize(left), name), getattr(summarize(right), name), scale)


@pytest.mark.parametrize("with_covariance", [False, True])
@given(states())
def test_no_tokens_change_nothing(with_covariance, sample):
    moments = measure_tokens(sample, with_covariance)
    nothing = empty_moments(WIDTH, with_covariance)
    assert_same_bits(merge_moments(moments, nothing), moments)
    assert_same_bits(merge_moments(nothing, moments), moments)
    assert_same_bits(measure_tokens(sample[:0], with_covariance), nothing)


@settings(deadline=None)
@given(states(2), st.randoms(use_true_random=False))
def test_the_order_of_tokens_matters_by_a_step_of_float32_at_most(sample, random):
    assume(fits_float32(sample))
    order = list(range(len(sample)))
    random.shuffle(order)
    one, other = summarize(measure_tokens(sample)), summarize(measure_tokens(sample[order]))
    scale = np.abs(sample.astype(np.float64)).max(axis=0)
    for name in VECTORS:
        assert_close(name, getattr(one, name), getattr(other, name), scale)
    assert one.median_token_rms == other.median_token_rms


@settings(deadline=None)
@given(states(2), st.permutations(range(WIDTH)))
def test_dimensions_do_not_know_each_other(sample, order):
    one, other = measure_tokens(sample), measure_tokens(sample[:, order])
    for part in PARTS[:6]:
        assert getattr(other, part).tobytes() == getattr(one, part)[order].tobytes(), part


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 13504.0, 65504.0, 3.3895314e38, 1e-45])
@pytest.mark.parametrize("counts", [(2,), (1, 1), (3, 7), (300, 1, 64)])
def test_a_constant_dimension_stays_exactly_constant(value, counts):
    parts = [gaussian(count, seed=index) for index, count in enumerate(counts)]
    for part in parts:
        part[:, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics = summarize(fold_moments(measure_tokens(part) for part in parts))
    assert statistics.mean[1] == statistics.minimum[1] == statistics.maximum[1] == np.float32(value)
    assert statistics.std[1] == 0.0
    assert np.isnan(statistics.skewness[1])
    assert np.isnan(statistics.kurtosis[1])
    assert np.isfinite(statistics.skewness[[0, 2, 3]]).all()


@given(states(1, 1))
def test_a_single_token_can_be_a_part_but_not_the_whole(sample):
    moments = measure_tokens(sample)
    assert moments.mean.tolist() == moments.minimum.tolist() == moments.maximum.tolist()
    assert not moments.m2.any()
    with pytest.raises(TooFewTokens, match=r"^class 'image' has 1 token; .*add inputs to the corpus"):
        summarize(moments, "class 'image'")
    twice = summarize(merge_moments(moments, moments))
    assert twice.n == 2
    assert not twice.std.any()


def test_no_tokens_have_no_statistics():
    with pytest.raises(TooFewTokens, match="the corpus has 0 tokens"):
        summarize(empty_moments(WIDTH))


def test_the_median_is_exact_whatever_the_order():
    sample = with_sink(101)
    rms = np.sqrt(np.square(sample.astype(np.float64)).mean(axis=1)).astype(np.float32)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(sample))
        parts = np.split(sample[order], [3, 3, 50])
        statistics = summarize(fold_moments(measure_tokens(part) for part in parts))
        assert statistics.median_token_rms == np.median(rms)


def test_the_median_of_the_largest_tokens_does_not_overflow():
    statistics = summarize(measure_tokens(np.full((2, WIDTH), 3e38, dtype=np.float32)))
    assert statistics.median_token_rms == np.float32(3e38)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[::-1][::-1]]
)
def test_the_layout_in_memory_does_not_matter(layout):
    sample = gaussian(57, 31)
    assert_same_bits(measure_tokens(layout(sample)), measure_tokens(sample))


def test_float16_is_measured_as_what_it_holds():
    sample = np.array([[65504, -65504], [6e-8, 1], [0, 2]], dtype=np.float16)
    assert_same_bits(measure_tokens(sample), measure_tokens(sample.astype(np.float32)))


def test_the_states_are_not_changed():
    sample = gaussian(5)
    kept = sample.copy()
    measure_tokens(sample, with_covariance=True)
    assert (sample == kept).all()


def test_bfloat16_widens_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    values = decode_states(bits, "bfloat16")
    assert values.dtype == np.float32
    assert (values.view(np.uint32) == bits.astype(np.uint32) << 16).all()
    assert values[0x3F, 0x80] == 1.0
    same = gaussian(2)
    assert decode_states(same, "float32") is same


@pytest.mark.parametrize(
    ("dtype", "stored"), [("bfloat16", np.float32), ("float32", np.uint16), ("float16", np.uint16)]
)
def test_stored_states_that_are_not_known(dtype, stored):
    with pytest.raises(ValueError, match=f"means {dtype}"):
        decode_states(np.zeros((2, 2), dtype=stored), dtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_refused(bad):
    """Whatever class the values are of; that the others go on is tested with the job."""
    sample = gaussian(6)
    sample[4, 2] = sample[5, 0] = bad
    message = f"2 of 6 tokens .* the first is token 4, in 1 dimensions, {bad} in dimension 2"
    with pytest.raises(NonFiniteStates, match=message):
        measure_tokens(sample)
    with pytest.raises(NonFiniteStates, match=message):
        measure_input(sample, roles_of(6))


def test_classes_are_measured_apart():
    sample = with_sink(6)
    roles = role_codes("sink", "template", "prompt", "prompt", "think", "template")
    found = measure_input(sample, roles, covariance_of=("prompt",))
    assert {name: moments.n for name, moments in found.items()} == {
        "all": 6,
        "non_sink": 5,
        "image": 0,
        "prompt": 2,
        "template": 2,
    }
    assert_same_bits(found["prompt"], measure_tokens(sample[2:4], with_covariance=True))
    assert found["all"].scatter is None
    assert found["non_sink"].maximum.max() < 100 < found["all"].maximum.max()


def test_inputs_are_folded_class_by_class_in_order():
    parts = [measure_input(gaussian(4 + n, seed=n), roles_of(4 + n), ["prompt"]) for n in range(4)]
    folded = fold_inputs(parts)
    assert list(folded) == list(TOKEN_CLASSES)
    for name, moments in folded.items():
        expected = parts[0][name]
        for part in parts[1:]:
            expected = merge_moments(expected, part[name])
        assert_same_bits(moments, expected)


def test_a_fold_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no partials to fold; the corpus of the statistics is empty"):
        fold_inputs([])


def test_what_merging_refuses():
    with pytest.raises(ValueError, match="4 and of 5 channels"):
        merge_moments(measure_tokens(gaussian(2, 4)), measure_tokens(gaussian(2, 5)))
    with pytest.raises(ValueError, match="with a covariance and without"):
        merge_moments(measure_tokens(gaussian(2)), measure_tokens(gaussian(2), with_covariance=True))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((2, 2), dtype=np.uint16), "uint16.*decode_states"),
        (np.zeros((2, 2)), "float64; allowed are float16 and float32"),
        (np.zeros(3, dtype=np.float32), r"\(3,\)"),
        (np.zeros((3, 0), dtype=np.float32), r"\(3, 0\)"),
    ],
)
def test_states_that_are_refused(sample, message):
    with pytest.raises(ValueError, match=message):
        measure_tokens(sample)


def test_an_unknown_class_for_the_covariance_is_named():
    with pytest.raises(ValueError, match="'text'; allowed are all, non_sink"):
        measure_input(gaussian(2), roles_of(2), covariance_of=("text",))


def test_what_does_not_fit_into_float32_is_named():
    sample = np.array([[3e38, 1], [-3e38, 2]], dtype=np.float32)
    with pytest.raises(ValueError, match=r"std is .* in dimension 0, which is no finite float32"):
        summarize(measure_tokens(sample))
