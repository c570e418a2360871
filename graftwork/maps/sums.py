"""Sums over pairs of tokens, streamed: all that a linear map in closed form is computed from.

Kept for each fold of prompts: the number of pairs, sums of source and target, X'X, X'Y and the squares of Y, in float64.
At 2560 dimensions that is 105 MB a fold, however many tokens there are. What a fold is not part of is the total minus it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Pairs that are multiplied at once: a product of few rows is bound by memory.
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over pairs (x, y) of float64.

    Attributes:
        n: number of pairs.
        x: (dim,), sum of x.
        y: (dim,), sum of y.
        xx: (dim, dim), sum of the products of x with itself.
        xy: (dim, dim), sum of the products of x with y.
        yy: (dim,), sum of the squares of y.
    """

    n: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @classmethod
    def empty(cls, dim: int) -> "Sums":
        """Returns the sums over no pairs."""
        return cls(0, np.zeros(dim), np.zeros(dim), np.zeros((dim, dim)), np.zeros((dim, dim)), np.zeros(dim))

    def __add__(self, other: "Sums") -> "Sums":
        return self._combined(other, 1)

    def __sub__(self, other: "Sums") -> "Sums":
        return self._combined(other, -1)

    def _combined(self, other: "Sums", sign: int) -> "Sums":
        return Sums(*(getattr(self, name) + sign * getattr(other, name) for name in vars(self)))

    def add(self, source: np.ndarray, target: np.ndarray) -> "Sums":
        """Returns the sums with further pairs, in place where arrays are large.

        Args:
            source: float32 (pairs, dim).
            target: float32 (pairs, dim).
        """
        x, y = source.astype(np.float64), target.astype(np.float64)
        np.add(self.xx, x.T @ x, out=self.xx)
        np.add(self.xy, x.T @ y, out=self.xy)
        return Sums(
            self.n + len(x),
            self.x + x.sum(axis=0),
            self.y + y.sum(axis=0),
            self.xx,
            self.xy,
            self.yy + np.square(y).sum(axis=0),
        )


def sum_folds(pairs: Iterable[tuple[int, np.ndarray, np.ndarray]], folds: int, dim: int) -> list[Sums]:
    """Returns the sums of every fold.

    Args:
        pairs: (fold, float32 (pairs, dim) of the source, the same of the target), in the order of the corpus.
        folds: number of folds.
        dim: width of both.
    """
    totals = [Sums.empty(dim) for _ in range(folds)]
    waiting: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(folds)]

    def flush(fold: int) -> None:
        if waiting[fold]:
            source, target = (np.concatenate(parts) for parts in zip(*waiting[fold], strict=True))
            totals[fold] = totals[fold].add(source, target)
            waiting[fold] = []

    for fold, source, target in pairs:
        waiting[fold].append((source, target))
        if sum(len(one) for one, _ in waiting[fold]) >= _ROWS_AT_ONCE:
            flush(fold)
    for fold in range(folds):
        flush(fold)
    return totals


def folds_of(prompts: int, folds: int) -> np.ndarray:
    """Returns the fold of every prompt, int64 (prompts,): a fixed shuffle, since neighbours in a corpus may be alike."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(prompts)
    result = np.empty(prompts, dtype=np.int64)
    result[order] = np.arange(prompts) % folds
    return result


def total_of(sums: Sequence[Sums]) -> Sums:
    """Returns the sums over all folds."""
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total
