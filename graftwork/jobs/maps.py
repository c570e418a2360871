"""Fitted maps: pairs of stored hidden states, streamed, one file per map."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.progress import Progress
from graftwork.jobs.planned import ChangedSincePlanning, maps_as_planned
from graftwork.jobs.record import JobRecord
from graftwork.maps.corpus import PairedCorpus, fit_map
from graftwork.maps.pairs import InputPair
from graftwork.maps.registry import method
from graftwork.planning.shards import MapShard, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import MapParts

if TYPE_CHECKING:
    import numpy as np

# For `configure_torch`. The number of threads changes low bits of a map, and so of what is made with it.
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 2}


class MissingInputs(Exception):
    """Inputs of a corpus that could not be extracted."""


def fit_maps(
    shard: MapShard, store: Store, log: logging.Logger, extraction_failures: Mapping[str, str]
) -> JobRecord:
    """Fits the maps of a shard that the store lacks; pairs are read once for all of them.

    Args:
        shard: maps on the same pairs.
        store: where hidden states are, and maps go.
        log: log of the job.
        extraction_failures: key of hidden states -> why they could not be extracted; a map is not fitted on a part of its
            corpus, for the file would keep its name.

    Raises:
        ChangedSincePlanning: where code or models are others now than when the shard was planned.
    """
    from graftwork.models.hardware import configure_torch
    from graftwork.store.hidden_states import DamagedHiddenStates
    from graftwork.store.maps import is_intact_map, write_map

    planned, record = maps_as_planned(shard, store), JobRecord(log)
    planned.require()
    configure_torch(HARDWARE)
    verified = FactCache(store.verified_maps)
    progress = Progress("maps fitted", len(shard.maps))
    corpus = read_corpus(shard.maps[0].parts, store, shard.generators)
    for item in shard.maps:
        key, path = item.key, store.map(item.key)
        try:
            if is_intact_map(path):
                record.found.append(key)
                continue
            _require_extracted(item.parts, extraction_failures)
            fitted = fit_map(method(item.parts.method), corpus, item.parts.parameters)
            planned.require()
            write_map(path, fitted, item)
            verified.put(path, True, stat_signature(path))
            log.info("%s: %s on %d pairs, %s", key, fitted.method, fitted.pairs, dict(fitted.facts))
            record.made.append(key)
        except ChangedSincePlanning:
            raise
        except DamagedHiddenStates as error:
            _forget_damaged(item.parts, store)
            record.fail(key, f"{error}; the next run extracts it again")
        except Exception as error:  # the failure of one map is its result
            record.fail(key, error)
        finally:
            progress.advance()
    progress.end(len(record.failures))
    verified.save()
    return record


def read_corpus(parts: MapParts, store: Store, generators: Mapping[str, ModelToLoad]) -> PairedCorpus:
    """Returns the pairs that a map is fitted on; nothing is read yet.

    Args:
        parts: of one of the maps on these pairs.
        store: where hidden states are.
        generators: identity -> what to read the metric of; of all maps on these pairs it is one at most.
    """
    from graftwork.store.hidden_states import read_layer

    def read(key: str, layer: int) -> Any:
        return read_layer(store.hidden_states(key), layer)

    inputs = [InputPair(*keys) for keys in zip(parts.source, parts.target, strict=True)]
    metric: Callable[[], np.ndarray] | None = None
    if generators:
        (model,) = generators.values()
        metric = partial(_metric_of, model)
    return PairedCorpus(inputs, read, parts.layers, parts.target_layer, parts.normalization, metric)


def _metric_of(model: ModelToLoad) -> "np.ndarray":
    from graftwork.conditioning.visibility import caption_metric
    from graftwork.models.loading import ensure_model

    return caption_metric(ensure_model(model.name, model.entry, "generator"), model.entry["family"])


def _require_extracted(parts: MapParts, failures: Mapping[str, str]) -> None:
    failed = [key for key in (*parts.source, *parts.target) if key in failures]
    if failed:
        raise MissingInputs(
            f"{len(failed)} inputs of the corpus could not be extracted, the first is {failed[0]}: {failures[failed[0]]}"
        )


def _forget_damaged(parts: MapParts, store: Store) -> None:
    """Makes the next plan look at the files again, which size and time may say are whole."""
    from graftwork.store.hidden_states import intact_layers

    facts = FactCache(store.verified)
    for key in {*parts.source, *parts.target}:
        path = store.hidden_states(key)
        facts.put(path, intact_layers(path), stat_signature(path))
    facts.save()
