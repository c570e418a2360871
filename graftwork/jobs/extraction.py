"""Extraction: the hidden states of a shard of encoder inputs, into the store."""

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graftwork.core.collector import importing
from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.parts import do_parts
from graftwork.jobs.planned import ChangedSincePlanning, Planned, extraction_as_planned, require_reference
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.jobs.watchdog import Watchdog
from graftwork.models.encoder import EncodedSequence, Encoder, PromptToEncode
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract
from graftwork.store.hidden_states import add_layers, intact_layers
from graftwork.store.layout import Store


def extract_hidden_states(shard: ExtractionShard, store: Store, log: logging.Logger) -> JobRecord:
    """Extracts what the store lacks of the shard, one encoder after the other.

    The store is asked before torch is imported: a job whose work another one did costs nothing. An input that fails
    (an image that cannot be read or has changed, states that are not finite) is recorded, and the others go on. So do
    the other encoders where one cannot be loaded.

    Raises:
        ChangedSincePlanning: where code or encoder are others now than when the shard was planned.
    """
    record = JobRecord(log)
    pending = [part for part in (_missing(part, store, record) for part in shard.parts) if part.inputs]
    if not pending:
        return record
    progress = Progress("inputs encoded", sum(len(part.inputs) for part in pending))
    do_parts(pending, lambda part: _extract(part, shard.hardware, store, record, progress, log), log)
    progress.end(len(record.failures))
    return record


def _missing(part: EncoderInputs, store: Store, record: JobRecord) -> EncoderInputs:
    """Returns what the store lacks of a part; the rest is recorded as found."""
    pending = []
    for item in part.inputs:
        present = intact_layers(store.hidden_states(item.key))
        layers = tuple(layer for layer in item.layers if layer not in present)
        if layers:
            pending.append(replace(item, layers=layers))
        else:
            record.found.append(item.key)
    return replace(part, inputs=tuple(pending))


def _extract(
    part: EncoderInputs,
    hardware: Mapping[str, Any],
    store: Store,
    record: JobRecord,
    progress: Progress,
    log: logging.Logger,
) -> None:
    planned = extraction_as_planned(part, store)
    planned.require()

    with importing():
        from graftwork.models.hardware import configure_torch
        from graftwork.models.loading import load_encoder

    take_device(hardware, log)
    with blaming_settings(log):
        configure_torch(hardware)
    layers = sorted({layer for item in part.inputs for layer in item.layers})
    name = part.encoder.name
    log.info("loading encoder %s up to layer %s for %s inputs", name, layers[-1], len(part.inputs))
    encoder = load_encoder(name, part.encoder.entry, layers, hardware)
    planned.require()
    with (
        Watchdog(hardware.get("stall_limit"), "inputs", log) as watchdog,
        _Writer(store, hardware["dtype"], record, planned) as writer,
    ):
        for item, encoded in _encode(encoder, part.inputs):
            files = encoder.files_of(item.input.asked)
            planned.require(files)
            if isinstance(encoded, Exception):
                record.fail(item.key, encoded)
            else:
                writer.put(item, encoded, files)
            watchdog.beat()
            progress.advance()


def _encode(
    encoder: Encoder, items: Sequence[InputToExtract]
) -> Iterator[tuple[InputToExtract, EncodedSequence | Exception]]:
    """Yields each input with its states, or with its failure, those with the same image one after the other."""
    from graftwork.models.images import open_reference

    by_image: dict[tuple[str | None, str | None], list[InputToExtract]] = defaultdict(list)
    for item in items:
        by_image[item.path, item.input.reference].append(item)
    for (path, reference), members in by_image.items():
        try:
            image = None if path is None else open_reference(path)
            require_reference(path, reference)
        except Exception as error:  # an image's failure is the result of the inputs that have it
            yield from ((item, error) for item in members)
            continue
        yield from _encode_with(encoder, members, image, None if path is None else reference)


def _encode_with(
    encoder: Encoder, items: Sequence[InputToExtract], image: Any, image_key: str | None
) -> Iterator[tuple[InputToExtract, EncodedSequence | Exception]]:
    """Encodes inputs with one image or with none: alone, and in batches where their keys say so."""
    by_rows: dict[int, list[InputToExtract]] = defaultdict(list)
    for item in items:
        by_rows[item.input.batch_shape].append(item)
    for item in by_rows.pop(1, ()):
        yield item, _encode_alone(encoder, item, image, image_key)
    for rows, members in by_rows.items():
        asked = [PromptToEncode(one.input.prompt or "", one.layers, one.input.options) for one in members]
        for number, encoded in encoder.encode_batches(asked, image, image_key, rows):
            yield members[number], encoded


def _encode_alone(
    encoder: Encoder, item: InputToExtract, image: Any, image_key: str | None
) -> EncodedSequence | Exception:
    made = item.input
    try:
        if made.source == "vision_tower":
            return encoder.encode_image(image, image_key)
        return encoder.encode(made.prompt, image, image_key, item.layers, made.options)
    except Exception as error:  # one input's failure is that input's result
        return error


_Work = tuple[InputToExtract, EncodedSequence, Sequence[Path] | None]


class _Writer:
    """Stores hidden states behind the encoder's back, so that it does not wait for the disk.

    One thread, for HDF5 does one thing at a time. An error in it is that input's failure.
    """

    # Inputs that wait: an input of a large picture has some ten megabytes.
    _MOST_WAITING = 8

    def __init__(self, store: Store, dtype: str, record: JobRecord, planned: Planned):
        self._store, self._dtype, self._record, self._planned = store, dtype, record, planned
        self._verified = FactCache(store.verified)
        self._queue: queue.Queue[_Work | None] = queue.Queue(maxsize=self._MOST_WAITING)
        self._changed: ChangedSincePlanning | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self._verified.save()

    def put(self, item: InputToExtract, encoded: EncodedSequence, files: Sequence[Path] | None) -> None:
        """Stores an input of the shard, some time before the block ends.

        Args:
            item: The input.
            encoded: Its states.
            files: Files that they were read from, see `Encoder.files_of`.

        Raises:
            ChangedSincePlanning: where the thread has found a difference since.
        """
        if self._changed is not None:
            raise self._changed
        self._queue.put((item, encoded, files))

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            item, encoded, files = work
            try:
                path = self._store.hidden_states(item.key)
                self._planned.require(files)
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
                self._changed = error
                self._record.fail(item.key, str(error))
            except Exception as error:  # a full disk fails this input, not the ones that fit
                self._record.fail(item.key, error)


def _as_stored(states: Any) -> Any:
    import torch

    if states.dtype == torch.bfloat16:
        return states.view(torch.int16).numpy().view("uint16")
    return states.numpy()
