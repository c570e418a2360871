"""Reference statistics: their file, their hash, files of others, and what is refused."""

import dataclasses
import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.core.npz import read_npz, write_npz
from graftwork.statistics.accumulator import measure_tokens, summarize
from graftwork.statistics.reference import (
    ARRAYS,
    MissingStatistic,
    ReferenceStatistics,
    global_mean,
    global_std,
)
from tests.unit.statistics.samples import gaussian, states, with_sink

FIELDS = ARRAYS


def some(tokens: int = 9, with_covariance: bool = False, **changed) -> ReferenceStatistics:
    statistics = summarize(measure_tokens(with_sink(tokens), with_covariance))
    return dataclasses.replace(statistics, **changed)


def same(a: ReferenceStatistics, b: ReferenceStatistics) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        if isinstance(getattr(a, name), np.ndarray)
        else getattr(a, name) == getattr(b, name)
        for name in FIELDS
    )


def content_hash(statistics: ReferenceStatistics) -> str:
    """Not of the file: how NumPy writes the header of an array may change."""
    total = hashlib.sha256()
    for name, array in read_npz(statistics.to_npz(), "own").items():
        total.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:32]


def published(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@settings(deadline=None)
@given(states(2), st.booleans())
def test_a_file_gives_back_what_went_in(sample, with_covariance):
    try:
        statistics = summarize(measure_tokens(sample, with_covariance))
    except ValueError:
        return
    data = statistics.to_npz()
    found = ReferenceStatistics.from_npz(data, "x")
    assert same(found, statistics)
    assert found.to_npz() == data
    assert content_hash(found) == content_hash(statistics)


def test_what_is_absent_stays_absent():
    found = ReferenceStatistics.from_npz(some(minimum=None, median_token_rms=None).to_npz(), "x")
    assert found.minimum is None
    assert found.median_token_rms is None
    assert found.covariance is None
    assert found.maximum is not None


def test_arrays_are_float32_and_read_only():
    statistics = some(with_covariance=True)
    for name in FIELDS:
        value = getattr(statistics, name)
        if isinstance(value, np.ndarray):
            assert value.dtype == np.float32, name
            with pytest.raises(ValueError, match="read-only"):
                value[0] = 0
    assert statistics.channels == 4
    assert isinstance(statistics.n, int)
    assert isinstance(statistics.median_token_rms, float)


def test_the_arrays_given_are_not_frozen_or_changed():
    mean = np.array([-0.0, 1.0], dtype=np.float32)
    ReferenceStatistics(3, mean, np.ones(2, np.float32))
    assert np.signbit(mean[0])
    mean[0] = 5.0


def test_the_hash_depends_on_every_field():
    base = some(with_covariance=True)
    hashes = {content_hash(base)}
    for name in FIELDS:
        value = getattr(base, name)
        if name == "n":
            changed = [value + 1]
        elif name == "median_token_rms":
            changed = [value * 2, None]
        else:
            other = value.copy()
            other.flat[0] += 1.0 if name != "minimum" else -1.0
            changed = [other] if name in ("mean", "std") else [other, None]
        hashes |= {content_hash(dataclasses.replace(base, **{name: one})) for one in changed}
    assert len(hashes) == 1 + 9 + 6
    assert all(len(one) == 32 for one in hashes)


def test_equal_values_have_equal_hashes():
    """One NaN of many, no -0.0, and whatever the byte order or dtype they came in."""
    negative_nan = np.array([0xFFC00001, 0x3F800000], dtype=np.uint32).view(np.float32)
    plain = ReferenceStatistics(
        2, np.zeros(2), np.array([0.0, 1.0]), skewness=np.array([np.nan, 1], np.float32)
    )
    other = ReferenceStatistics(
        np.int64(2), np.array([-0.0, 0.0], dtype=">f8"), np.array([0, 1]), skewness=negative_nan
    )
    assert content_hash(plain) == content_hash(other)
    assert plain.to_npz() == other.to_npz()


def test_the_hash_is_that_of_today():
    """Equal statistics have equal bytes on every machine and with every NumPy."""
    statistics = ReferenceStatistics(
        5, np.array([0.5, -2.0]), np.array([1.0, 0.25]), median_token_rms=1.5, covariance=np.eye(2)
    )
    assert content_hash(statistics) == "cd1c0ca9daa5856ed6cc9aaa5a9b697c"


def test_require_names_what_is_missing_and_what_is_there():
    statistics = ReferenceStatistics(3, np.zeros(2), np.ones(2))
    assert statistics.require("std") is statistics.std
    with pytest.raises(MissingStatistic, match=r"have no covariance, only n, mean, std\. .* from a corpus"):
        statistics.require("covariance")


def test_a_wrong_width_is_named():
    some().check_width(4, "the encoder")
    with pytest.raises(ValueError, match="have 4 channels, the encoder has 2560"):
        some().check_width(2560, "the encoder")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 1}, "n is 1"),
        ({"n": 2.5}, r"n is 2\.5"),
        ({"n": True}, "n is True"),
        ({"mean": np.zeros((2, 2))}, r"mean has the shape \(2, 2\)"),
        ({"mean": np.zeros(0)}, r"mean has the shape \(0,\)"),
        ({"std": np.ones(3)}, r"std has the shape \(3,\); mean says that it has to be \(4,\)"),
        ({"covariance": np.ones((4, 3))}, r"covariance has the shape \(4, 3\)"),
        ({"std": np.array([1, 1, -1, 1])}, r"std is -1\.0 in dimension 2"),
        ({"mean": np.array([0, np.nan, 0, 0])}, "mean is nan in dimension 1"),
        ({"std": np.array([0, 1e39, 0, 0])}, r"std is 1e\+39 in dimension 1"),
        ({"kurtosis": np.array([0, np.inf, 0, 0])}, "kurtosis is inf in dimension 1"),
        ({"minimum": np.array([0, 0, 0, 1e9])}, "minimum is above maximum in dimension 3"),
        ({"mean": np.array(["a", "b", "c", "d"])}, "mean has the dtype <U1"),
        ({"median_token_rms": -1.0}, r"median_token_rms is -1\.0"),
        ({"median_token_rms": float("nan")}, "median_token_rms is nan"),
    ],
)
def test_values_that_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        some(**changed)


def test_files_that_are_refused():
    with pytest.raises(ValueError, match=r"a\.npz cannot be read"):
        ReferenceStatistics.from_npz(b"PK", "a.npz")
    with pytest.raises(MissingStatistic, match=r"a\.npz has no array 'std'; needed are .* found: mean, n"):
        ReferenceStatistics.from_npz(write_npz({"n": np.int64(2), "mean": np.zeros(2)}), "a.npz")
    with pytest.raises(ValueError, match=r"a\.npz has arrays that are not known: \['sdt'\]"):
        ReferenceStatistics.from_npz(
            write_npz({"n": np.int64(2), "mean": np.zeros(2), "std": np.ones(2), "sdt": np.ones(2)}), "a.npz"
        )
    with pytest.raises(ValueError, match=r"a\.npz: std has the shape \(3,\)"):
        ReferenceStatistics.from_npz(
            write_npz({"n": np.int64(2), "mean": np.zeros(2), "std": np.ones(3)}), "a.npz"
        )


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(0, 99), st.booleans())
def test_global_values_follow_from_those_per_dimension(tokens, seed, has_sink):
    sample = (with_sink if has_sink else gaussian)(tokens, seed=seed)
    statistics = summarize(measure_tokens(sample))
    flat = sample.astype(np.float64)
    assert global_mean(statistics) == pytest.approx(flat.mean(), rel=1e-5, abs=1e-5)
    assert global_std(statistics) == pytest.approx(flat.std(ddof=1), rel=1e-6)
    assert global_std(statistics, (0, 1)) == pytest.approx(flat[:, 2:].std(ddof=1), rel=1e-6)
    moments = measure_tokens(sample)
    assert global_std(moments) == pytest.approx(flat.std(ddof=1), rel=1e-12)


def test_the_global_std_of_one_token_is_that_of_its_values():
    sample = gaussian(1)
    assert global_std(measure_tokens(sample)) == pytest.approx(sample.astype(np.float64).std(ddof=1))
    assert global_std(measure_tokens(sample), (0, 1, 2)) == 0.0


def test_dimensions_that_cannot_be_left_out():
    with pytest.raises(ValueError, match="dimension 4 does not exist; allowed are 0 to 3"):
        global_std(some(), (4,))
    with pytest.raises(ValueError, match="dimension -1 does not exist"):
        global_std(some(), (-1,))
    with pytest.raises(ValueError, match="all 4 dimensions"):
        global_std(some(), range(4))


PUBLISHED_OF = gaussian(50, 6)
PUBLISHED = {
    "per_dim_mean": PUBLISHED_OF.mean(axis=0),
    "per_dim_std": PUBLISHED_OF.std(axis=0, ddof=1),
    "global_mean": np.float64(PUBLISHED_OF.mean(dtype=np.float64)),
    "global_std": np.float64(PUBLISHED_OF.astype(np.float64).std(ddof=1)),
}


class TestPublishedFiles:
    def read(self, tokens: int = 50, **changed) -> ReferenceStatistics:
        arrays = {name: value for name, value in {**PUBLISHED, **changed}.items() if value is not None}
        return ReferenceStatistics.from_published(published(**arrays), tokens=tokens, source="p.npz")

    def test_mean_and_std_are_taken_over(self):
        statistics = self.read()
        assert statistics.n == 50
        assert (statistics.mean == PUBLISHED["per_dim_mean"]).all()
        assert (statistics.std == PUBLISHED["per_dim_std"]).all()
        assert statistics.minimum is None
        assert statistics.maximum is None
        assert statistics.median_token_rms is None

    def test_minimum_and_maximum_are_taken_over_where_they_are(self):
        statistics = self.read(per_dim_min=PUBLISHED_OF.min(axis=0), per_dim_max=PUBLISHED_OF.max(axis=0))
        assert (statistics.minimum == PUBLISHED_OF.min(axis=0)).all()
        assert (statistics.maximum == PUBLISHED_OF.max(axis=0)).all()

    def test_arrays_that_are_not_known_are_left_alone(self):
        assert self.read(prompts=np.array(["a"])).channels == 6

    def test_global_values_may_be_absent(self):
        assert self.read(global_mean=None, global_std=None).channels == 6

    @pytest.mark.parametrize("name", ["per_dim_mean", "per_dim_std"])
    def test_what_must_not_be_missing(self, name):
        with pytest.raises(MissingStatistic, match=rf"p\.npz has no array '{name}'.*found: global_mean"):
            self.read(**{name: None})

    def test_our_own_files_are_told_apart(self):
        with pytest.raises(MissingStatistic, match="per_dim_mean"):
            ReferenceStatistics.from_published(some().to_npz(), tokens=9, source="p.npz")
        with pytest.raises(MissingStatistic, match="'n'"):
            ReferenceStatistics.from_npz(published(**PUBLISHED), "p.npz")

    @pytest.mark.parametrize("name", ["global_mean", "global_std"])
    def test_global_values_that_contradict(self, name):
        with pytest.raises(ValueError, match=rf"p\.npz: {name} is .*do not belong together"):
            self.read(**{name: PUBLISHED[name] + 0.01})

    def test_another_number_of_tokens_contradicts(self):
        with pytest.raises(ValueError, match=r"over 5 tokens give .* another number of tokens"):
            self.read(tokens=5)

    def test_parts_of_other_widths(self):
        with pytest.raises(ValueError, match=r"p\.npz: std has the shape \(5,\)"):
            self.read(per_dim_std=np.ones(5))


def test_every_field_is_in_files_but_what_is_known_of_the_corpus():
    assert {field.name for field in dataclasses.fields(ReferenceStatistics)} - set(ARRAYS) == {
        "further_sinks"
    }
