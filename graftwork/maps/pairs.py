"""Pairs of tokens: the same token of the same prompt, as two encoders give it.

Two encoders with one vocabulary give a hidden state each for a token. Pairs are aligned by token ids. Sinks are left out,
for a massive activation has one direction, whatever the text is. Where encoders are causal, a token whose whole prefix
occurred before is the same vector again: it counts once. So a template counts once before the prompt, and after each
prompt anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from graftwork.statistics.accumulator import decode_states
from graftwork.statistics.sink import find_sinks

RMS, STANDARDIZE, AS_IT_IS = "rms", "standardize", "none"
# What is done to states before a map is fitted or used, in words.
NORMALIZATIONS = {
    RMS: "every token is divided by its root mean square: for generators that see directions only",
    STANDARDIZE: "every dimension of either encoder is standardized over the corpus",
    AS_IT_IS: "states as they are, dimensions weighted by the spread of the text encoder's",
}
# Added to the mean square of a token.
EPS = 1e-12


class NoSharedTokens(ValueError):
    """Two encoders whose inputs have no token in common."""


@dataclass(frozen=True)
class InputPair:
    """One prompt as both encoders read it.

    Attributes:
        source: keys of the hidden states of the encoder that is mapped, one; several would be several references.
        target: key of those of the generator's own text encoder.
    """

    source: str
    target: str


@dataclass(frozen=True, eq=False)
class PairedTokens:
    """Tokens of one prompt that both encoders have.

    Attributes:
        source: float32 (layers, tokens, dim), normalized.
        target: float32 (tokens, dim), normalized.
        token_ids: int64 (tokens,).
        token_rms: float32 (tokens,), root mean square of each token of the target before it was normalized.
        sink: float32 (dim,), state of the target's first token where both encoders begin with it and it is a sink; None
            otherwise.
    """

    source: np.ndarray
    target: np.ndarray
    token_ids: np.ndarray
    token_rms: np.ndarray
    sink: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        """Number of pairs."""
        return len(self.target)


@dataclass
class SeenPrefixes:
    """Prefixes of both encoders that have occurred; a token with a prefix that has is the same pair again.

    Attributes:
        hashes: digests of the prefixes.
    """

    hashes: set[bytes] = field(default_factory=set)

    def is_new(self, source: np.ndarray, target: np.ndarray) -> bool:
        """Returns whether a pair of prefixes, int64 token ids, occurs for the first time."""
        total = hashlib.blake2b(source.tobytes(), digest_size=12)
        total.update(b"|" + target.tobytes())
        found = total.digest()
        if found in self.hashes:
            return False
        self.hashes.add(found)
        return True


def normalize_tokens(states: np.ndarray, normalization: str) -> np.ndarray:
    """Returns states as maps take them, float32 (..., tokens, dim); only `RMS` changes them one by one."""
    if normalization != RMS:
        return states
    mean_square = np.square(states, dtype=np.float64).mean(axis=-1, keepdims=True)
    return (states / np.sqrt(mean_square + EPS)).astype(np.float32)


def align_tokens(source_ids: np.ndarray, target_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of tokens that two sequences have in common, in order: two int64 (pairs,).

    Args:
        source_ids: int64 (m,).
        target_ids: int64 (n,).
    """
    if np.array_equal(source_ids, target_ids):
        every = np.arange(len(source_ids))
        return every, every
    blocks = SequenceMatcher(
        None, source_ids.tolist(), target_ids.tolist(), autojunk=False
    ).get_matching_blocks()
    pairs = [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def pair_tokens(
    layers: Iterable[Any], target: Any, normalization: str, seen: SeenPrefixes
) -> PairedTokens | None:
    """Returns the pairs of one prompt that have not occurred before, or None where there are none.

    Args:
        layers: layers of the source's input, each with `values`, `dtype`, `roles`, `token_ids` and `in_prompt`, as
            `store.hidden_states.HiddenStates` has them.
        target: the target's input, likewise.
        normalization: one of `NORMALIZATIONS`.
        seen: prefixes that have occurred; those of this prompt are added.
    """
    layers = list(layers)
    states = [decode_states(layer.values, layer.dtype) for layer in layers]
    native = decode_states(target.values, target.dtype)
    first = layers[0]
    source_at, target_at = align_tokens(first.token_ids, target.token_ids)
    sinks = np.logical_or.reduce([find_sinks(values, first.roles) for values in states])
    target_sinks = find_sinks(native, target.roles)
    kept = [
        (i, j)
        for i, j in zip(source_at.tolist(), target_at.tolist(), strict=True)
        if not sinks[i]
        and not target_sinks[j]
        and first.in_prompt[i] == target.in_prompt[j]
        and seen.is_new(first.token_ids[: i + 1], target.token_ids[: j + 1])
    ]
    if not kept:
        return None
    rows, columns = np.array(kept).T
    chosen = native[columns]
    begins_alike = first.token_ids[0] == target.token_ids[0] and not first.in_prompt[0]
    return PairedTokens(
        source=normalize_tokens(np.stack([values[rows] for values in states]), normalization),
        target=normalize_tokens(chosen, normalization),
        token_ids=target.token_ids[columns],
        token_rms=np.sqrt(np.square(chosen, dtype=np.float64).mean(axis=1)).astype(np.float32),
        sink=native[0] if begins_alike else None,
    )


Read = Callable[[str, int], Any]


def read_pairs(
    inputs: Iterable[InputPair],
    read: Read,
    layers: tuple[int, ...],
    target_layer: int,
    normalization: str,
    seen: SeenPrefixes | None = None,
) -> Iterator[tuple[int, PairedTokens]]:
    """Yields (number of the prompt, its pairs), one prompt in memory at a time; prompts without new pairs are left out.

    Args:
        inputs: prompts in the order of the corpus.
        read: (key, entry of `hidden_states`) -> what is stored.
        layers: entries of the source.
        target_layer: entry of the target.
        normalization: one of `NORMALIZATIONS`.
        seen: prefixes that have occurred in another corpus, which do not count here either.
    """
    seen = SeenPrefixes() if seen is None else seen
    for number, one in enumerate(inputs):
        found = pair_tokens(
            (read(one.source, layer) for layer in layers), read(one.target, target_layer), normalization, seen
        )
        if found is not None:
            yield number, found
