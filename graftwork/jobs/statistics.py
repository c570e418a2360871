"""Statistics: stored hidden states of a corpus, folded in its order, one file per encoder and layer."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.progress import Progress
from graftwork.jobs.planned import ChangedSincePlanning, statistics_as_planned
from graftwork.jobs.record import JobRecord
from graftwork.planning.shards import StatisticsShard, StatisticsToMeasure
from graftwork.statistics.corpus import MeasuredCorpus, measure_corpus
from graftwork.statistics.sink import FurtherSinks
from graftwork.store.layout import Store
from graftwork.store.statistics import is_intact, write_statistics

# What extraction writes of an input whose states are not finite begins with this; every other failure may pass.
_NOT_FINITE = FloatingPointError.__name__


@dataclass(frozen=True)
class MeasuredStatistics(StatisticsToMeasure):
    """Summary beside a file of statistics, for people to read.

    Attributes:
        refused: input of the corpus -> why it was left out.
        further_sinks: sinks beyond position 0 in the inputs.
    """

    refused: Mapping[str, str]
    further_sinks: FurtherSinks


class MissingInputs(Exception):
    """Inputs of a corpus that could not be extracted, for another reason than what is in them."""


def measure_statistics(
    shard: StatisticsShard, store: Store, log: logging.Logger, extraction_failures: Mapping[str, str]
) -> JobRecord:
    """Measures the statistics of a shard that the store lacks.

    An input whose hidden states are not finite is refused, recorded, and no part of the statistics. An input that
    could not be extracted otherwise fails them: its states may exist tomorrow, and the file would keep its name.

    Args:
        extraction_failures: Key of hidden states -> why they could not be extracted.

    Raises:
        ChangedSincePlanning: where the code is another one now than when the shard was planned.
    """
    from graftwork.store.hidden_states import DamagedHiddenStates

    record, planned = JobRecord(log), statistics_as_planned(shard, store)
    verified = FactCache(store.verified_statistics)
    progress = Progress("statistics measured", len(shard.statistics))
    refused: dict[str, dict[str, str]] = {}
    for item in shard.statistics:
        key, path = item.key, store.statistics(item.key)
        try:
            if is_intact(path):
                record.found.append(key)
                continue
            planned.require()
            measured = _measure(item, store, extraction_failures)
            if measured.refused:
                refused[key] = dict(measured.refused)
            _log_what_is_left_out(key, measured.refused, measured.sinks, log)
            made = MeasuredStatistics(**vars(item), refused=measured.refused, further_sinks=measured.sinks)
            planned.require()
            write_statistics(path, measured.classes, measured.sinks, made)
            verified.put(path, True, stat_signature(path))
            record.made.append(key)
        except ChangedSincePlanning:
            raise
        except DamagedHiddenStates as error:
            record.fail(key, f"{error}; the next run extracts it again")
        except Exception as error:  # the failure of one layer's statistics is their result
            record.fail(key, error)
        finally:
            progress.advance()
    progress.end(len(record.failures))
    verified.save()
    record.refused = refused
    return record


def _log_what_is_left_out(
    key: str, refused: Mapping[str, str], sinks: FurtherSinks, log: logging.Logger
) -> None:
    for name, reason in refused.items():
        log.warning("%s leaves out input %s: %s", key, name, reason)
    if sinks.are_worth_a_warning:
        log.warning("%s: %s. Sinks are left out of every token class but all", key, sinks.described())


def _measure(
    item: StatisticsToMeasure, store: Store, extraction_failures: Mapping[str, str]
) -> MeasuredCorpus:
    """Returns what was measured; what extraction refused is among what is left out."""
    from graftwork.store.hidden_states import DamagedHiddenStates, intact_layers, read_layer

    parts = item.parts
    not_finite = _refused_in_extraction(parts.inputs, extraction_failures)
    wanted = [name for name in parts.inputs if name not in not_finite]

    def read(name: str) -> Any:
        return read_layer(store.hidden_states(name), parts.layer)

    try:
        measured = measure_corpus(wanted, read, parts.covariance_of)
    except DamagedHiddenStates:
        # As in conditioning: the next plan must not trust what was once read back in full.
        verified = FactCache(store.verified)
        for name in wanted:
            states = store.hidden_states(name)
            verified.put(states, intact_layers(states), stat_signature(states))
        verified.save()
        raise
    return replace(measured, refused={**not_finite, **measured.refused})


def _refused_in_extraction(inputs: Iterable[str], failures: Mapping[str, str]) -> dict[str, str]:
    failed = {name: failures[name] for name in inputs if name in failures}
    others = {name: why for name, why in failed.items() if not why.startswith(_NOT_FINITE)}
    if others:
        name, why = next(iter(others.items()))
        raise MissingInputs(
            f"{len(others)} inputs of the corpus could not be extracted, the first is {name}: {why}"
        )
    return failed
