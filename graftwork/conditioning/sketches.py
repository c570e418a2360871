"""Sketches of what a generator sees of its conditioning: a few numbers that tell, without the tensors, what is equal.

A sketch is a random projection of the conditioning after the generator's caption norm (`visibility`). It goes into the
table of recipes, so that two of them can be compared when their tensors are gone. No torch: tables and planning ask.
"""

import base64
import bisect
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from graftwork.store.records import Sketch

NUMBERS = 32
# What differs by no more, relative to its length, is the same. Rounding in float32 is 6e-8 for each operation and stays
# below 1e-6 over a recipe; rounding a result once to bfloat16 is 1e-3. The middle, on a scale of ratios.
TOLERANCE = 1e-5


def signs(first: int, count: int, stream: int) -> np.ndarray:
    """Returns rows `first` to `first + count` of an endless random matrix of +1 and -1: float32 (count, NUMBERS).

    Bits of a counter-based generator, whose output numpy promises not to change.

    Args:
        first: Row to begin with.
        count: Rows.
        stream: Which matrix.
    """
    words = np.random.Philox(key=stream).random_raw(first + count)[first:]
    bits = (words[:, None] >> np.arange(NUMBERS, dtype=np.uint64)) & np.uint64(1)
    return bits.astype(np.float32) * 2 - 1


def encode_sketch(tokens: Mapping[str, int], values: np.ndarray) -> Sketch:
    """Returns a sketch for the table of recipes.

    Args:
        tokens: Name of each tensor -> its tokens.
        values: (NUMBERS,), any float type.
    """
    return Sketch(dict(tokens), base64.b64encode(values.astype("<f4").tobytes()).decode())


def decode_sketch(sketch: Sketch) -> np.ndarray:
    """Returns the numbers of a sketch, float64 (NUMBERS,)."""
    return np.frombuffer(base64.b64decode(sketch.values), dtype="<f4").astype(np.float64)


class KnownSketches:
    """Finds the first of several things that looks the same to a generator."""

    def __init__(self) -> None:
        # Only what has the same shape can be equal, whatever else the caller wants to keep apart. In each such group: the
        # first number of each sketch, sorted, with its order of arrival; and names and sketches in that order.
        self._sorted: dict[str, list[tuple[float, int]]] = {}
        self._known: dict[str, list[tuple[Any, np.ndarray]]] = {}

    def first_like(self, apart: str, sketch: Sketch | None, name: Any) -> Any:
        """Returns the name of the first thing whose sketch is this one, which is `name` where there is none yet.

        Args:
            apart: Things for which this differs are never the same.
            sketch: From the table of recipes; None, as in rows of earlier versions, is like nothing else.
            name: name of the sketch.
        """
        if sketch is None:
            return name
        group = f"{apart} {sorted(sketch.tokens.items())}"
        values = decode_sketch(sketch)
        known, by_number = self._known.setdefault(group, []), self._sorted.setdefault(group, [])
        # Sketches that are alike differ by no more in any number; a little more, for the other may be the longer one.
        reach = 1.1 * TOLERANCE * float(np.linalg.norm(values))
        start = bisect.bisect_left(by_number, (values[0] - reach, -1))
        near = itertools.takewhile(
            lambda item: item[0] <= values[0] + reach, itertools.islice(by_number, start, None)
        )
        for order in sorted(order for _, order in near):
            first, its = known[order]
            longer = max(np.linalg.norm(its), np.linalg.norm(values))
            if np.linalg.norm(its - values) <= TOLERANCE * longer:
                return first
        bisect.insort(by_number, (float(values[0]), len(known)))
        known.append((name, values))
        return name
