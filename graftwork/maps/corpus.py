"""A corpus as two encoders read it, as the methods take it: sums over folds, or the pairs themselves, each read once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graftwork.maps.fitted import FittedMap
from graftwork.maps.linear import ChosenRidge, Towards, choose_ridge
from graftwork.maps.pairs import InputPair, NoSharedTokens, Read, SeenPrefixes, read_pairs
from graftwork.maps.sums import Sums, folds_of, sum_folds, total_of

if TYPE_CHECKING:
    from graftwork.maps.registry import Method

FOLDS = 5


class TooFewPairs(ValueError):
    """Fewer pairs of tokens than a method needs."""


@dataclass(frozen=True, eq=False)
class AllPairs:
    """Every pair of a corpus in memory: 8 bytes a pair and dimension for one layer.

    Attributes:
        source: float32 (layers, pairs, dim), normalized.
        target: float32 (pairs, dim), normalized.
        folds: int64 (pairs,), fold of each.
    """

    source: np.ndarray
    target: np.ndarray
    folds: np.ndarray


class PairedCorpus:
    """Pairs of tokens of a corpus.

    Attributes:
        normalization: see `pairs.NORMALIZATIONS`.
        layers: number of layers of the source.
    """

    def __init__(
        self,
        inputs: Sequence[InputPair],
        read: Read,
        layers: tuple[int, ...],
        target_layer: int,
        normalization: str,
        metric: Callable[[], np.ndarray] | None = None,
    ):
        """Says what is read; nothing is read yet.

        Args:
            inputs: prompts in the order of the corpus.
            read: see `pairs.read_pairs`.
            layers: entries of the source.
            target_layer: entry of the target.
            normalization: see `pairs.NORMALIZATIONS`.
            metric: returns the generator's metric, float64 (dim, dim): squared lengths of what its first caption layer makes of
                a difference of normalized states.
        """
        self._inputs, self._read = list(inputs), read
        self._at = layers, target_layer
        self._metric = metric
        self.normalization, self.layers = normalization, len(layers)
        self._folds = folds_of(len(self._inputs), FOLDS)
        self._kept: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Returns what several methods have in common, computed by the first of them.

        Args:
            key: stands for what is computed.
            compute: returns it.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def chosen_ridge(self, ridges: Sequence[float], towards: Towards) -> ChosenRidge:
        """Returns the ridge that folds of prompts choose; see `linear.choose_ridge`."""
        return self.once(
            (tuple(ridges), towards), lambda: choose_ridge(self.folds, ridges, self.normalization, towards)
        )

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return len(self._inputs)

    @cached_property
    def metric(self) -> np.ndarray:
        """The generator's metric, float64 (dim, dim).

        Raises:
            ValueError: where there is none.
        """
        if self._metric is None:
            raise ValueError("the generator has no metric; set metric: standardized")
        return self._metric()

    @cached_property
    def _facts(self) -> "_Facts":
        """Facts of the pairs that a fitted map keeps: read in a pass of its own where nothing else has read them."""
        facts = _Facts()
        for _, one in self._pairs():
            facts.add(one)
        return facts

    def _pairs(self) -> Any:
        layers, target_layer = self._at
        return read_pairs(self._inputs, self._read, layers, target_layer, self.normalization)

    @cached_property
    def folds(self) -> list[Sums]:
        """Sums of each fold of prompts, of a source with one layer; one prompt is in memory at a time."""
        facts = _Facts()
        dim = 0

        def parts() -> Any:
            for number, one in self._pairs():
                facts.add(one)
                yield int(self._folds[number]), one.source[0], one.target

        stream = parts()
        first = next(stream, None)
        if first is not None:
            dim = first[1].shape[1]

            def whole() -> Any:
                yield first
                yield from stream

            sums = sum_folds(whole(), FOLDS, dim)
        else:
            sums = []
        self.__dict__["_facts"] = facts
        self._require_any(facts.pairs)
        return sums

    @cached_property
    def total(self) -> Sums:
        """Sums over all pairs."""
        return total_of(self.folds)

    @cached_property
    def everything(self) -> AllPairs:
        """Every pair, in memory."""
        found, folds = [], []
        facts = _Facts()
        for number, one in self._pairs():
            facts.add(one)
            found.append(one)
            folds.append(np.full(one.tokens, self._folds[number]))
        self.__dict__["_facts"] = facts
        self._require_any(facts.pairs)
        return AllPairs(
            np.concatenate([one.source for one in found], axis=1),
            np.concatenate([one.target for one in found]),
            np.concatenate(folds),
        )

    def _require_any(self, pairs: int) -> None:
        if pairs == 0:
            raise NoSharedTokens(
                f"none of {self.prompts} prompts has a token that both encoders have: they share no vocabulary, or one is "
                "shown other text; allowed are encoders with one tokenizer, shown the same prompt"
            )

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return self._facts.pairs

    @property
    def token_rms(self) -> float:
        """Median root mean square of the target's tokens."""
        return float(np.median(np.concatenate(self._facts.token_rms).astype(np.float64)))

    @property
    def sink(self) -> np.ndarray | None:
        """State that takes the place of the source's first token, float32 (dim,); None where the encoders begin otherwise."""
        return self._facts.sink


class _Facts:
    """Facts that are collected while pairs are read."""

    def __init__(self) -> None:
        self.pairs = 0
        self.token_rms: list[np.ndarray] = []
        self.sink: np.ndarray | None = None

    def add(self, one: Any) -> None:
        self.pairs += one.tokens
        self.token_rms.append(one.token_rms)
        self.sink = one.sink if self.sink is None else self.sink


def fit_map(method: "Method", corpus: PairedCorpus, parameters: Mapping[str, Any]) -> FittedMap:
    """Fits a map.

    Args:
        method: what fits it.
        corpus: pairs that it is fitted on.
        parameters: of the method; those that are missing have their defaults.

    Raises:
        NoSharedTokens: where the encoders have no token in common.
        TooFewPairs: where there are fewer pairs than the method needs, saying how many there are.
        FloatingPointError: where the map is not finite.
    """
    given = method.parameters.model_validate(dict(parameters))
    needed = method.pairs_needed(given)
    # Read here, in the form that the method takes them in.
    _ = corpus.everything if method.takes_layers else corpus.folds
    if corpus.pairs < needed:
        raise TooFewPairs(
            f"method {method.name!r} with {dict(parameters) or 'its defaults'} needs {needed} pairs of tokens; "
            f"{corpus.prompts} prompts of the corpus have {corpus.pairs} different ones: give a larger corpus, or a lower rank"
        )
    fit = method.function(corpus, given)
    tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in fit.tensors.items()}
    bad = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if bad:
        raise FloatingPointError(f"method {method.name!r} gave values that are not finite, in {bad[0]}")
    return FittedMap(
        method.name,
        corpus.normalization,
        tensors,
        corpus.token_rms,
        corpus.pairs,
        corpus.prompts,
        corpus.sink,
        fit.facts,
    )


def seen_prefixes(
    inputs: Sequence[InputPair], read: Read, layers: tuple[int, ...], target_layer: int, normalization: str
) -> SeenPrefixes:
    """Returns the prefixes of a corpus, which do not count among the tokens of another."""
    seen = SeenPrefixes()
    for _ in read_pairs(inputs, read, layers[:1], target_layer, normalization, seen):
        pass
    return seen
