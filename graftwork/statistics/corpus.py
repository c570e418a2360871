"""Statistics of a corpus: its inputs folded in order, one in memory at a time."""

from collections.abc import Callable, Iterable
from typing import Any

from graftwork.statistics.accumulator import (
    Moments,
    NonFiniteStates,
    decode_states,
    fold_inputs,
    measure_input,
    measure_tokens,
)
from graftwork.statistics.token_classes import select_class


def measure_corpus(
    inputs: Iterable[str], read: Callable[[str], Any], covariance_of: str | None
) -> tuple[dict[str, Moments], dict[str, str]]:
    """Folds the inputs of a corpus in order, one in memory at a time.

    Args:
        inputs: keys of the inputs' hidden states.
        read: returns what is stored under a key: an object with `values`, `dtype` and `roles`, as
            `store.hidden_states.HiddenStates` has them.
        covariance_of: the one token class that is measured, with its covariance; None for all classes without.

    Returns:
        Token class -> moments, and key -> why an input was refused.

    Raises:
        ValueError: where no input is left.
    """
    refused: dict[str, str] = {}

    def partials() -> Iterable[dict[str, Moments]]:
        for key in inputs:
            stored = read(key)
            states = decode_states(stored.values, stored.dtype)
            try:
                if covariance_of is None:
                    yield measure_input(states, stored.roles)
                else:
                    measured = states[select_class(covariance_of, stored.roles)]
                    yield {covariance_of: measure_tokens(measured, with_covariance=True)}
            except NonFiniteStates as error:
                refused[key] = str(error)

    return fold_inputs(partials()), refused
