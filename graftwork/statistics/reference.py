"""Statistics of one encoder at one layer over one token class, as the other packages use them.

Shapes: `channels` is the width of the hidden states. Everything is rounded to float32 once, at the end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from graftwork.core.npz import little_endian, read_npz, write_npz
from graftwork.statistics.sink import FurtherSinks

_VECTORS = ("mean", "std", "minimum", "maximum", "skewness", "kurtosis")
# What a file has: everything but what is known of a corpus besides.
ARRAYS = ("n", *_VECTORS, "median_token_rms", "covariance")
# Undefined, hence NaN, in a dimension that is constant.
_MAY_BE_NAN = ("skewness", "kurtosis")
# Our name -> name in the files of llm-dit-experiments.
_PUBLISHED = {
    "mean": "per_dim_mean",
    "std": "per_dim_std",
    "minimum": "per_dim_min",
    "maximum": "per_dim_max",
}
_GLOBAL_TOLERANCE = 1e-4


class MissingStatistic(ValueError):
    """A required statistic is not in the file or its source."""


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Per-dimension statistics; arrays are read-only. Statistics that a source does not have are None.

    Attributes:
        n: Number of tokens.
        mean: float32 (channels,).
        std: float32 (channels,), ddof 1.
        minimum: float32 (channels,) or None.
        maximum: float32 (channels,) or None.
        skewness: float32 (channels,) or None; m3 / m2**1.5 as `scipy.stats.skew` (biased), NaN where std is 0.
        kurtosis: float32 (channels,) or None; m4 / m2**2 - 3 as `scipy.stats.kurtosis` (biased), NaN where std is 0.
        median_token_rms: Median over tokens of the root mean square of a token, a float32 value, or None.
        covariance: float32 (channels, channels), ddof 1, or None.
        further_sinks: Sinks beyond position 0 in the corpus, or None where that is not known. Files of statistics, as
            `to_npz` gives them, are without it.
    """

    n: int
    mean: np.ndarray
    std: np.ndarray
    minimum: np.ndarray | None = None
    maximum: np.ndarray | None = None
    skewness: np.ndarray | None = None
    kurtosis: np.ndarray | None = None
    median_token_rms: float | None = None
    covariance: np.ndarray | None = None
    further_sinks: FurtherSinks | None = None

    def __post_init__(self):
        """Checks shapes and values, and gives equal values equal bytes (one NaN, no -0.0)."""
        if isinstance(self.n, bool) or not isinstance(self.n, int | np.integer) or self.n < 2:
            raise ValueError(f"n is {self.n!r}; statistics need a whole number of tokens, 2 or more")
        object.__setattr__(self, "n", int(self.n))
        width = np.shape(self.mean)
        if len(width) != 1 or width[0] == 0:
            raise ValueError(f"mean has the shape {width}; it has to be (channels,) with 1 channel or more")
        for name in (*_VECTORS, "covariance"):
            value = getattr(self, name)
            if value is None and name not in ("mean", "std"):
                continue
            shape = width * 2 if name == "covariance" else width
            object.__setattr__(self, name, _checked(name, value, shape))
        if (self.std < 0).any():
            dim = int(np.argmax(self.std < 0))
            raise ValueError(f"std is {self.std[dim]} in dimension {dim}; it has to be 0 or more")
        if self.minimum is not None and self.maximum is not None and (self.minimum > self.maximum).any():
            dim = int(np.argmax(self.minimum > self.maximum))
            raise ValueError(f"minimum is above maximum in dimension {dim}")
        if self.median_token_rms is not None:
            rms = float(np.float32(self.median_token_rms))
            if not 0 <= rms < np.inf:
                raise ValueError(f"median_token_rms is {rms}; it has to be a finite number, 0 or more")
            object.__setattr__(self, "median_token_rms", rms)

    @property
    def channels(self) -> int:
        """Width of the hidden states."""
        return len(self.mean)

    @property
    def m2(self) -> np.ndarray:
        """Sum of squared deviations from the mean, float64 (channels,)."""
        return (self.n - 1) * np.square(self.std, dtype=np.float64)

    def require(self, name: str) -> np.ndarray | float:
        """Returns a statistic that may be absent.

        Raises:
            MissingStatistic: where it is.
        """
        value = getattr(self, name)
        if value is None:
            there = [known for known in ARRAYS if getattr(self, known) is not None]
            raise MissingStatistic(
                f"these statistics have no {name}, only {', '.join(there)}. Files of others often lack it, and "
                "a covariance is kept only where asked for: compute the statistics from a corpus instead"
            )
        return value

    def check_width(self, channels: int, owner: str) -> None:
        """Checks that these statistics fit hidden states of this width.

        Args:
            channels: Width of the hidden states.
            owner: Owner of the hidden states, for the error.

        Raises:
            ValueError: where they do not.
        """
        if self.channels != channels:
            raise ValueError(
                f"the reference statistics have {self.channels} channels, {owner} has {channels}; "
                "choose statistics of an encoder of the same width"
            )

    def to_npz(self) -> bytes:
        """Returns the bytes of an `.npz` file with one array per attribute that is not None."""
        return write_npz(_arrays(self))

    @classmethod
    def from_npz(cls, data: bytes, source: str) -> "ReferenceStatistics":
        """Reads what `to_npz` returned.

        Args:
            data: The whole file.
            source: Name of the file for errors.

        Raises:
            MissingStatistic: where n, mean or std is missing.
            ValueError: where the file is damaged, or holds arrays of other shapes or values.
        """
        arrays = read_npz(data, source)
        _check_names(arrays, ("n", "mean", "std"), list(ARRAYS), source)
        return _named(cls, source, {name: _scalar(name, array) for name, array in arrays.items()})

    @classmethod
    def from_published(cls, data: bytes, *, tokens: int, source: str) -> "ReferenceStatistics":
        """Reads an `.npz` of the kind that https://github.com/fblissjr/llm-dit-experiments publishes.

        It has `per_dim_mean` and `per_dim_std` (ddof 1), perhaps `per_dim_min` and `per_dim_max`, and perhaps
        `global_mean` and `global_std` over all values, which are held against the others.

        Args:
            data: The whole file.
            tokens: Number of tokens that the statistics are of, which such files do not contain.
            source: Name of the file for errors.

        Raises:
            MissingStatistic: where the mean or std per dimension is missing.
            ValueError: where arrays have other shapes than each other, or the global values contradict the others.
        """
        arrays = read_npz(data, source)
        _check_names(arrays, ("per_dim_mean", "per_dim_std"), None, source)
        values = {ours: arrays[theirs] for ours, theirs in _PUBLISHED.items() if theirs in arrays}
        statistics = _named(cls, source, {"n": tokens, **values})
        for name, computed in (
            ("global_mean", global_mean(statistics)),
            ("global_std", global_std(statistics)),
        ):
            told = _scalar(name, arrays[name]) if name in arrays else computed
            scale = max(abs(told), global_std(statistics))
            if not abs(told - computed) <= _GLOBAL_TOLERANCE * scale:
                raise ValueError(
                    f"{source}: {name} is {told:.6g}, but mean and std per dimension over {tokens} tokens give "
                    f"{computed:.6g}; the file is of another number of tokens, or its parts do not belong together"
                )
        return statistics


def global_mean(statistics: "ReferenceStatistics") -> float:
    """Returns the mean over all values of all tokens."""
    return float(np.mean(statistics.mean, dtype=np.float64))


def global_std(statistics: "ReferenceStatistics", without_dims: Iterable[int] = ()) -> float:
    """Returns the standard deviation (ddof 1) over all values of all tokens, from statistics per dimension.

    Sum over dimensions of M2 + n (mean - global mean)**2, divided by n * channels - 1 (law of total variance).

    Args:
        statistics: Anything with `n`, `mean` (channels,) and `m2` (channels,): `ReferenceStatistics` or `Moments`.
        without_dims: Dimensions to leave out, also of the global mean.

    Raises:
        ValueError: where no dimension is left.
    """
    kept = kept_dims(len(statistics.mean), without_dims)
    values = statistics.n * int(kept.sum())
    mean = np.asarray(statistics.mean, dtype=np.float64)[kept]
    total = statistics.m2[kept].sum() + statistics.n * np.square(mean - mean.mean()).sum()
    return float(np.sqrt(total / (values - 1))) if values > 1 else 0.0


def kept_dims(channels: int, without_dims: Iterable[int]) -> np.ndarray:
    """Returns which dimensions stay when some are left out: bool (channels,).

    Raises:
        ValueError: where a dimension does not exist, or none is left.
    """
    kept = np.ones(channels, dtype=bool)
    for dim in without_dims:
        if not 0 <= dim < channels:
            raise ValueError(f"dimension {dim} does not exist; allowed are 0 to {channels - 1}")
        kept[dim] = False
    if not kept.any():
        raise ValueError(f"all {channels} dimensions are left out; at least one has to stay")
    return kept


def _arrays(statistics: ReferenceStatistics) -> dict[str, np.ndarray]:
    arrays = {"n": np.int64(statistics.n)}
    for name in ARRAYS[1:]:
        value = getattr(statistics, name)
        if value is not None:
            arrays[name] = np.float32(value) if isinstance(value, float) else value
    return {name: little_endian(array) for name, array in arrays.items()}


def _checked(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}; mean says that it has to be {shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has the dtype {array.dtype}; it has to be a real number")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    refused = np.isinf(array) if name in _MAY_BE_NAN else ~np.isfinite(array)
    if refused.any():
        where = tuple(int(index) for index in np.argwhere(refused)[0])
        raise ValueError(
            f"{name} is {np.asarray(value)[where]} in dimension {where[0]}, which is no finite float32"
        )
    array[np.isnan(array)] = np.nan
    array += 0.0
    array.flags.writeable = False
    return array


def _scalar(name: str, array: np.ndarray) -> np.ndarray | int | float:
    return array.item() if array.ndim == 0 else array


def _check_names(
    arrays: Mapping[str, np.ndarray], needed: tuple[str, ...], allowed: list[str] | None, source: str
) -> None:
    found = ", ".join(sorted(arrays)) or "none"
    for name in needed:
        if name not in arrays:
            raise MissingStatistic(f"{source} has no array {name!r}; needed are {needed}, found: {found}")
    unknown = sorted(set(arrays) - set(allowed)) if allowed is not None else []
    if unknown:
        raise ValueError(f"{source} has arrays that are not known: {unknown}; allowed are {allowed}")


def _named(cls: type, source: str, values: dict) -> ReferenceStatistics:
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
