"""Generation: a shard of images, in batches of one shape."""

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from graftwork.core.atomic import write_atomic
from graftwork.core.identity import digest
from graftwork.core.png import encode_png, is_complete_png
from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.planning.keys import batch_group, sampling_work
from graftwork.store.layout import Store

# Gives a batch: images, uint8 (rows, height, width, 3), and bool (rows,), False where an image means nothing.
Result = Callable[[], tuple[Any, Any]]


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
    from graftwork.models.hardware import configure_torch
    from graftwork.models.loading import load_generator

    hardware = shard["hardware"]
    take_device(hardware, log)
    with blaming_settings(log):
        configure_torch(hardware)
    name = shard["generator"]["name"]
    log.info("loading generator %s for %s images", name, len(pending))
    generator = load_generator(name, shard["generator"]["entry"], hardware)
    progress = Progress("images made", len(pending))
    start, work = time.monotonic(), 0
    batches = list(_batches(pending, hardware["batch_shape"]))
    warm: set[Any] = set()
    with (
        _Reader(store, hardware["device"], shard.get("init_images", {})) as reader,
        _Writer(store, record) as writer,
    ):
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            reader.expect([*batch, *following])
            wanted = _missing(batch, store)
            record.found += [item["key"] for item in batch if item not in wanted]
            if wanted:
                start += _warm_up(generator, wanted[0], hardware["batch_shape"], warm)
                _generate_batch(generator, wanted, hardware["batch_shape"], reader, record, writer)
                work += len(wanted) * sampling_work(wanted[0]["parts"])
            progress.advance(len(batch))
    rate = record.notes["rate"] = {"work": work, "seconds": round(time.monotonic() - start, 3)}
    write_atomic(store.rates / f"{digest([item['key'] for item in pending])[:16]}.json", json.dumps(rate))
    log.info(
        "the generator waited %.2f s for conditioning to be read and %.2f s for images to be written",
        reader.seconds_waited,
        writer.seconds_waited,
    )


def _batches(items: list[dict[str, Any]], rows: int) -> Iterator[list[dict[str, Any]]]:
    """Yields items that can share a batch, at most `rows` at a time."""
    grouped: dict[Any, list[dict[str, Any]]] = {}
    for item in items:
        grouped.setdefault(_group(item), []).append(item)
    for group in grouped.values():
        yield from (group[at : at + rows] for at in range(0, len(group), rows))


def _group(item: dict[str, Any]) -> tuple[Any, ...]:
    return batch_group(item["parts"], item["tokens"], item.get("negative_tokens"))


def _warm_up(generator: Any, item: dict[str, Any], batch_shape: int, warm: set[Any]) -> float:
    """Lets a generator that compiles do so, once per kind of batch, and returns the seconds that took.

    They are not counted as work, for the next job's estimate would multiply them by its images.
    """
    group = _group(item)
    if group in warm or not getattr(generator, "is_compiled", False):
        return 0.0
    warm.add(group)
    start = time.monotonic()
    guidance = {"negative_tokens": item["negative_tokens"]} if "negative_tokens" in item else {}
    generator.warm_up(
        batch_shape, item["tokens"], item["parts"]["height"], item["parts"]["width"], **guidance
    )
    return time.monotonic() - start


def _generate_batch(
    generator: Any,
    items: list[dict[str, Any]],
    batch_shape: int,
    reader: "_Reader",
    record: JobRecord,
    writer: "_Writer",
) -> None:
    rows = []
    for item in items:
        try:
            rows.append((item, reader.read(item)))
        except Exception as error:  # this row's failure is that image's result
            record.fail(item["key"], error)
    if not rows:
        return
    try:
        result = _start(generator, rows, batch_shape)
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
            _generate_batch(generator, [row[0]], batch_shape, reader, record, writer)
        return
    for index, (item, _) in enumerate(rows):
        writer.put(item["key"], index, result)


def _start(generator: Any, rows: list[tuple[dict[str, Any], Any]], batch_shape: int) -> Result:
    """Starts a batch, and returns what gives its images: at once, or when the device has made them."""
    if hasattr(generator, "launch"):
        return _launch(generator, rows, batch_shape).result
    made = _sample(generator, rows, batch_shape)
    return lambda: made


def _launch(generator: Any, rows: list[tuple[dict[str, Any], Any]], batch_shape: int) -> Any:
    """As `_sample`, but does not wait for the images."""
    embeds, seeds, sampling = _sampling_arguments(generator, rows, batch_shape)
    return generator.launch(embeds, seeds, **sampling)


def _sample(generator: Any, rows: list[tuple[dict[str, Any], Any]], batch_shape: int) -> tuple[Any, Any]:
    embeds, seeds, sampling = _sampling_arguments(generator, rows, batch_shape)
    images, finite = generator.generate(embeds, seeds, **sampling)
    return images[: len(rows)], finite[: len(rows)]


def _sampling_arguments(
    generator: Any, rows: list[tuple[dict[str, Any], Any]], batch_shape: int
) -> tuple[list[Any], list[int], dict[str, Any]]:
    """Returns what `Generator.generate` is called with: a batch of rows, filled up to its shape.

    Args:
        generator: Which gives the padding.
        rows: Items of the shard, each with what `_Reader.read` returns for it.
        batch_shape: Rows of the batch.
    """
    parts, (tensors, init_image) = rows[0][0]["parts"], rows[0][1]
    padding = batch_shape - len(rows)
    embeds = [_row_embeds(tensors) for _, (tensors, _) in rows]
    embeds += [generator.padding_row(tensors["prompt_embeds"].shape[-2])] * padding
    names = ("height", "width", "num_inference_steps", "guidance_scale")
    # What is not in the key does not take part, and the generator is not told of it.
    optional = ("cfg_normalization", "cfg_truncation", "first_step")
    sampling = {name: parts[name] for name in names} | {n: parts[n] for n in optional if n in parts}
    if parts["guidance_scale"]:
        negative = [tensors["negative_prompt_embeds"] for _, (tensors, _) in rows]
        sampling["negative_prompt_embeds"] = [
            *negative,
            *[generator.padding_row(negative[0].shape[0])] * padding,
        ]
    if init_image is not None:
        # Padding starts from an image that is encoded anyway.
        sampling["init_images"] = [image for _, (_, image) in rows] + [init_image] * padding
    return embeds, [item["parts"]["seed"] for item, _ in rows] + [0] * padding, sampling


def _row_embeds(tensors: Mapping[str, Any]) -> Any:
    """Returns what a generator takes for a row: (tokens, channels), or a list of these, one per step."""
    if "prompt_embeds_of_step" not in tensors:
        return tensors["prompt_embeds"]
    distinct = tensors["prompt_embeds"].unbind(0)
    return [distinct[index] for index in tensors["prompt_embeds_of_step"].tolist()]


def _read_conditioning(store: Store, hash_: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    from graftwork.conditioning.build import conditioning_hash

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
    return tensors


def _read_init_image(path: str, sha256: str) -> Any:
    from graftwork.models.images import load_reference_image

    image = load_reference_image(path)
    # The key names the content that was planned for.
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
        raise ValueError(
            f"{path} has changed since this run was planned; the next run makes what it gives now"
        )
    return image


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)


def _missing(items: list[dict[str, Any]], store: Store) -> list[dict[str, Any]]:
    return [item for item in items if not is_complete_png(store.image(item["key"]))]


def _read_for(item: dict[str, Any]) -> list[str]:
    """Returns what is read for an item: the hash of its conditioning, and that of the image it starts from, if any."""
    init_image = item["parts"].get("init_image")
    return [item["parts"]["conditioning"], *([] if init_image is None else [init_image])]


class _Reader:
    """Reads conditioning, and images to start from, ahead of the generator, in a thread.

    Attributes:
        seconds_waited: How long the generator had to wait for it.
    """

    def __init__(self, store: Store, device: str, init_images: Mapping[str, str]):
        """Takes `init_images`, SHA-256 -> path."""
        self._store, self._init_images = store, init_images
        # Only from memory that cannot be moved does a GPU copy without the processor waiting for it.
        self._is_pinned = device != "cpu"
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="conditioning")
        self._read: dict[str, Future[Any]] = {}
        self.seconds_waited = 0.0

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def expect(self, items: list[dict[str, Any]]) -> None:
        """Says what will be asked for soon, in order; what is not among it is forgotten."""
        earlier, self._read = self._read, {}
        for name in dict.fromkeys(name for item in items for name in _read_for(item)):
            self._read[name] = earlier.pop(name, None) or self._pool.submit(self._load, name)
        for future in earlier.values():
            future.cancel()

    def read(self, item: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Returns the tensors of an expected item, and the image it starts from or None; raises what reading raised."""
        start = time.monotonic()
        try:
            tensors, *image = [self._read[name].result() for name in _read_for(item)]
            return tensors, image[0] if image else None
        finally:
            self.seconds_waited += time.monotonic() - start

    def _load(self, name: str) -> Any:
        if name in self._init_images:
            return _read_init_image(self._init_images[name], name)
        tensors = _read_conditioning(self._store, name)
        # Indices stay where the host reads them.
        pinned = {key: t for key, t in tensors.items() if self._is_pinned and key != "prompt_embeds_of_step"}
        return tensors | {key: tensor.pin_memory() for key, tensor in pinned.items()}


class _Writer:
    """Encodes and stores images behind the generator's back.

    Two threads: PNG encoding releases the interpreter lock, and the queue is bounded so that images waiting for a
    slow disk do not fill the memory. They also wait for the device, so that the generator can start the next batch. An
    error in a thread is that image's failure.

    Attributes:
        seconds_waited: How long the generator had to wait for a place in the queue.
    """

    def __init__(self, store: Store, record: JobRecord):
        self._store, self._record = store, record
        self._queue: queue.Queue[tuple[str, int, Result] | None] = queue.Queue(maxsize=64)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]
        self.seconds_waited = 0.0

    def __enter__(self) -> "_Writer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, key: str, row: int, result: Result) -> None:
        """Stores an image under its key, some time before the block ends.

        Args:
            key: Of the image.
            row: Of the batch.
            result: Gives the batch, waiting for it if need be.
        """
        start = time.monotonic()
        self._queue.put((key, row, result))
        self.seconds_waited += time.monotonic() - start

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            key, row, result = work
            try:
                images, finite = result()
                if not finite[row]:
                    self._record.fail(key, "the generator gave values that are not finite")
                    continue
                path: Path = self._store.image(key)
                write_atomic(path, encode_png(images[row]))
                self._record.made.append(key)
            except Exception as error:  # a full disk fails this image, not the ones that fit
                self._record.fail(key, error)
