"""Extraction: the hidden states of a shard of encoder inputs, into the store."""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.planned import ChangedSincePlanning, Planned, extraction_as_planned, require_reference
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.jobs.watchdog import Watchdog
from graftwork.models.encoder import EncodedSequence, Encoder, TextToEncode
from graftwork.planning.shards import ExtractionShard, InputToExtract
from graftwork.store.hidden_states import add_layers, intact_layers
from graftwork.store.layout import Store


def extract_hidden_states(shard: ExtractionShard, store: Store, log: logging.Logger) -> JobRecord:
    """Extracts what the store lacks of the shard.

    The store is asked before torch is imported: a job whose work another one did costs nothing. An input that fails
    (an image that cannot be read or has changed, states that are not finite) is recorded, and the others go on.

    Raises:
        ChangedSincePlanning: where code or encoder are others now than when the shard was planned.
    """
    record = JobRecord(log)
    pending = []
    for item in shard.inputs:
        present = intact_layers(store.hidden_states(item.key))
        layers = tuple(layer for layer in item.layers if layer not in present)
        if layers:
            pending.append(replace(item, layers=layers))
        else:
            record.found.append(item.key)
    if not pending:
        return record
    planned = extraction_as_planned(shard, store)
    planned.require()

    from graftwork.models.hardware import configure_torch
    from graftwork.models.loading import load_encoder

    take_device(shard.hardware, log)
    with blaming_settings(log):
        configure_torch(shard.hardware)
    layers = sorted({layer for item in pending for layer in item.layers})
    name = shard.encoder.name
    log.info("loading encoder %s up to layer %s for %s inputs", name, layers[-1], len(pending))
    encoder = load_encoder(name, shard.encoder.entry, layers, shard.hardware)
    planned.require()
    progress = Progress("inputs encoded", len(pending))
    with (
        Watchdog(shard.hardware.get("stall_limit"), "inputs", log) as watchdog,
        _Writer(store, shard.hardware["dtype"], record, planned) as writer,
    ):
        for item, encoded in _encode(encoder, pending, planned):
            if isinstance(encoded, Exception):
                record.fail(item.key, encoded)
            else:
                writer.put(item, encoded)
            watchdog.beat()
            progress.advance()
    progress.end(len(record.failures))
    return record


def _encode(
    encoder: Encoder, items: Sequence[InputToExtract], planned: Planned
) -> Iterator[tuple[InputToExtract, EncodedSequence | Exception]]:
    """Yields each input with its states, or with its failure: texts in batches where their keys say so, then the others."""
    in_batches: dict[int, list[InputToExtract]] = {}
    alone = []
    for item in items:
        rows = item.input.batch_shape
        (alone if rows == 1 else in_batches.setdefault(rows, [])).append(item)
    for rows, texts in in_batches.items():
        asked = [TextToEncode(text.input.prompt or "", text.layers, text.input.options) for text in texts]
        for number, encoded in encoder.encode_texts(asked, rows):
            planned.require()
            yield texts[number], encoded
    yield from _encode_alone(encoder, alone, planned)


def _encode_alone(
    encoder: Encoder, items: Sequence[InputToExtract], planned: Planned
) -> Iterator[tuple[InputToExtract, EncodedSequence | Exception]]:
    from graftwork.models.images import open_reference

    image_key, image = None, None
    for item in items:
        planned.require()
        try:
            made = item.input
            if item.path is not None and made.reference != image_key:
                image_key, image = None, None
                image = open_reference(item.path)
                require_reference(item.path, made.reference)
                image_key = made.reference
            seen = (image, image_key) if item.path is not None else (None, None)
            if made.source == "vision_tower":
                encoded = encoder.encode_image(*seen)
            else:
                encoded = encoder.encode(made.prompt, *seen, item.layers, made.options)
        except Exception as error:  # one input's failure is that input's result
            yield item, error
        else:
            yield item, encoded


class _Writer:
    """Stores hidden states behind the encoder's back, so that it does not wait for the disk.

    One thread, for HDF5 does one thing at a time. An error in it is that input's failure.
    """

    # Inputs that wait: an input of a large picture has some ten megabytes.
    _MOST_WAITING = 8

    def __init__(self, store: Store, dtype: str, record: JobRecord, planned: Planned):
        self._store, self._dtype, self._record, self._planned = store, dtype, record, planned
        self._verified = FactCache(store.verified)
        self._queue: queue.Queue[tuple[InputToExtract, EncodedSequence] | None] = queue.Queue(
            maxsize=self._MOST_WAITING
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self._verified.save()

    def put(self, item: InputToExtract, encoded: EncodedSequence) -> None:
        """Stores an input of the shard, some time before the block ends."""
        self._queue.put((item, encoded))

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            item, encoded = work
            try:
                path = self._store.hidden_states(item.key)
                self._planned.require()
                layers = add_layers(
                    path,
                    {layer: _as_stored(states) for layer, states in encoded.hidden_states.items()},
                    self._dtype,
                    {
                        "token_ids": encoded.token_ids,
                        "roles": encoded.roles,
                        "positions": encoded.positions,
                        **({} if encoded.in_prompt is None else {"in_prompt": encoded.in_prompt}),
                    },
                    item.input,
                )
                self._verified.put(path, layers, stat_signature(path))
                self._record.made.append(item.key)
            except ChangedSincePlanning as error:  # the sentence alone: where it was found says nothing
                self._record.fail(item.key, str(error))
            except Exception as error:  # a full disk fails this input, not the ones that fit
                self._record.fail(item.key, error)


def _as_stored(states: Any) -> Any:
    import torch

    if states.dtype == torch.bfloat16:
        return states.view(torch.int16).numpy().view("uint16")
    return states.numpy()
