"""Statistics of a corpus: its inputs folded in order, one in memory at a time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graftwork.statistics.accumulator import (
    Moments,
    NonFiniteStates,
    decode_states,
    fold_inputs,
    measure_input,
    measure_tokens,
)
from graftwork.statistics.sink import FurtherSinks, SinkCounter, find_sinks
from graftwork.statistics.token_classes import select_class


@dataclass(frozen=True, eq=False)
class MeasuredCorpus:
    """Measurements of a corpus.

    Attributes:
        classes: Token class -> moments.
        refused: Key of an input -> why it was refused.
        sinks: Sinks beyond position 0 in the inputs that were not refused.
    """

    classes: Mapping[str, Moments]
    refused: Mapping[str, str]
    sinks: FurtherSinks


def measure_corpus(
    inputs: Iterable[str], read: Callable[[str], Any], covariance_of: str | None
) -> MeasuredCorpus:
    """Folds the inputs of a corpus in order, one in memory at a time.

    Args:
        inputs: keys of the inputs' hidden states.
        read: returns what is stored under a key: an object with `values`, `dtype`, `roles` and `token_ids`, as
            `store.hidden_states.HiddenStates` has them.
        covariance_of: the one token class that is measured, with its covariance; None for all classes without.

    Raises:
        ValueError: where no input is left.
    """
    refused: dict[str, str] = {}
    counter = SinkCounter()

    def partials() -> Iterable[dict[str, Moments]]:
        for key in inputs:
            stored = read(key)
            states = decode_states(stored.values, stored.dtype)
            try:
                sinks = find_sinks(states, stored.roles)
                if covariance_of is None:
                    partial = measure_input(states, stored.roles)
                else:
                    measured = states[select_class(covariance_of, stored.roles, sinks)]
                    partial = {covariance_of: measure_tokens(measured, with_covariance=True)}
            except NonFiniteStates as error:
                refused[key] = str(error)
                continue
            counter.add(states, stored.roles, stored.token_ids)
            yield partial

    return MeasuredCorpus(fold_inputs(partials()), refused, counter.counted())
