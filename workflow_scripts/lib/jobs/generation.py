"""Generation: a shard of images, in batches of one shape."""

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.lib.design.identity import digest
from workflow_scripts.lib.jobs.record import JobRecord, blaming_settings
from workflow_scripts.lib.planning.keys import batch_group
from workflow_scripts.lib.presentation.png import encode_png, is_complete_png
from workflow_scripts.lib.presentation.progress import Progress
from workflow_scripts.lib.store.atomic import write_atomic
from workflow_scripts.lib.store.layout import Store


def generate_images(shard: dict[str, Any], store: Store, log: logging.Logger) -> JobRecord:
    """Makes the images of the shard that the store lacks.

    The store is asked before torch is imported and again before each batch. A row that fails is replaced by padding
    and its error recorded; the others go on at the same batch shape, so that their bytes do not change.
    """
    record = JobRecord(log)
    pending = _missing(shard["images"], store)
    waiting = {item["key"] for item in pending}
    record.found = [item["key"] for item in shard["images"] if item["key"] not in waiting]
    if pending:
        _generate(shard, pending, store, log, record)
    for hash_ in shard["drop"] if not record.failures else ():
        store.conditioning(hash_).unlink(missing_ok=True)
    return record


def _generate(
    shard: dict[str, Any], pending: list[dict[str, Any]], store: Store, log: logging.Logger, record: JobRecord
) -> None:
    from workflow_scripts.lib.models.hardware import configure_torch
    from workflow_scripts.lib.models.loading import load_generator

    hardware = shard["hardware"]
    with blaming_settings(log):
        configure_torch(hardware)
    name = shard["generator"]["name"]
    log.info("loading generator %s for %s images", name, len(pending))
    generator = load_generator(name, shard["generator"]["entry"], hardware)
    progress = Progress("images made", len(pending))
    start, work = time.monotonic(), 0
    with _Writer(store, record) as writer:
        for batch in _batches(pending, hardware["batch_shape"]):
            wanted = _missing(batch, store)
            record.found += [item["key"] for item in batch if item not in wanted]
            if wanted:
                _generate_batch(generator, wanted, hardware["batch_shape"], store, record, writer)
                parts = wanted[0]["parts"]
                work += len(wanted) * parts["height"] * parts["width"] * parts["num_inference_steps"]
            progress.advance(len(batch))
    rate = record.notes["rate"] = {"work": work, "seconds": round(time.monotonic() - start, 3)}
    write_atomic(store.rates / f"{digest([item['key'] for item in pending])[:16]}.json", json.dumps(rate))


def _batches(items: list[dict[str, Any]], rows: int) -> Iterator[list[dict[str, Any]]]:
    """Yields items that can share a batch, at most `rows` at a time."""
    grouped: dict[Any, list[dict[str, Any]]] = {}
    for item in items:
        grouped.setdefault(batch_group(item["parts"], item["tokens"]), []).append(item)
    for group in grouped.values():
        yield from (group[at : at + rows] for at in range(0, len(group), rows))


def _generate_batch(
    generator: Any,
    items: list[dict[str, Any]],
    batch_shape: int,
    store: Store,
    record: JobRecord,
    writer: "_Writer",
) -> None:
    rows = []
    for item in items:
        try:
            rows.append((item, _read_conditioning(store, item["parts"]["conditioning"])))
        except Exception as error:  # this row's failure is that image's result
            record.fail(item["key"], error)
    if not rows:
        return
    try:
        images, finite = _sample(generator, rows, batch_shape)
    except Exception as error:
        if _is_out_of_memory(error):
            raise RuntimeError(
                f"a batch of {batch_shape} rows does not fit into memory ({error}); set "
                "hardware.generation.batch_shape in config/config.yaml to a smaller number, or offload: model"
            ) from error
        if len(rows) == 1:
            record.fail(rows[0][0]["key"], error)
            return
        # Which row it was is not known: each is tried alone, at the same batch shape.
        for row in rows:
            _generate_batch(generator, [row[0]], batch_shape, store, record, writer)
        return
    for (item, _), image, is_finite in zip(rows, images, finite, strict=False):
        if is_finite:
            writer.put(item["key"], image)
        else:
            record.fail(item["key"], "the generator gave values that are not finite")


def _sample(generator: Any, rows: list[tuple[dict[str, Any], Any]], batch_shape: int) -> tuple[Any, Any]:
    parts = rows[0][0]["parts"]
    padding = batch_shape - len(rows)
    embeds = [embeds for _, embeds in rows]
    embeds += [generator.padding_row(embeds[0].shape[0])] * padding
    seeds = [item["parts"]["seed"] for item, _ in rows] + [0] * padding
    images, finite = generator.generate(
        embeds,
        seeds,
        height=parts["height"],
        width=parts["width"],
        num_inference_steps=parts["num_inference_steps"],
        guidance_scale=parts["guidance_scale"],
    )
    return images[: len(rows)], finite[: len(rows)]


def _read_conditioning(store: Store, hash_: str) -> Any:
    from safetensors.torch import load_file

    from workflow_scripts.lib.conditioning.build import conditioning_hash

    path = store.conditioning(hash_)
    try:
        tensors = load_file(path)
        intact = conditioning_hash(tensors) == hash_
    except FileNotFoundError:
        raise
    except Exception:  # safetensors has an error type of its own for each way of being damaged
        intact = False
    if not intact:
        path.unlink(missing_ok=True)
        raise ValueError(f"{path} was damaged and is removed; the next run builds it again")
    return tensors["prompt_embeds"]


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)


def _missing(items: list[dict[str, Any]], store: Store) -> list[dict[str, Any]]:
    return [item for item in items if not is_complete_png(store.image(item["key"]))]


class _Writer:
    """Encodes and stores images behind the generator's back.

    Two threads: PNG encoding releases the interpreter lock, and the queue is bounded so that images waiting for a
    slow disk do not fill the memory. An error in a thread is that image's failure.
    """

    def __init__(self, store: Store, record: JobRecord):
        self._store, self._record = store, record
        self._queue: queue.Queue[tuple[str, Any] | None] = queue.Queue(maxsize=64)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> "_Writer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, key: str, image: Any) -> None:
        """Stores an image, uint8 (height, width, 3), under its key, some time before the block ends."""
        self._queue.put((key, image))

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            key, image = work
            try:
                path: Path = self._store.image(key)
                write_atomic(path, encode_png(image))
                self._record.made.append(key)
            except Exception as error:  # a full disk fails this image, not the ones that fit
                self._record.fail(key, error)
