"""Generation: a shard of images, in batches of one shape."""

import hashlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.core.atomic import remove_file, write_atomic
from graftwork.core.collector import importing
from graftwork.core.identity import digest
from graftwork.core.png import encode_png, is_complete_png
from graftwork.core.progress import Progress
from graftwork.core.records import write_record
from graftwork.jobs.devices import take_device
from graftwork.jobs.planned import ChangedSincePlanning, Planned, images_as_planned
from graftwork.jobs.rebuild import rebuild_apart
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.jobs.watchdog import Watchdog
from graftwork.models.families import generator_family
from graftwork.planning.shards import ImageItem, ImageShard, Rate, image_shard_name
from graftwork.store.images import DigestWriter
from graftwork.store.layout import Store

_log = logging.getLogger("graftwork")
_NOT_BUILT = "the shard does not say how it was built; the next run builds it"

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from graftwork.models.generator import Batch, BatchRow, Generator, Launched


def generate_images(shard: ImageShard, store: Store, log: logging.Logger) -> JobRecord:
    """Makes the images of the shard that the store lacks.

    The store is asked before torch is imported and again before each batch. A row that fails is replaced by padding
    and its error recorded; the others go on at the same batch shape, so that their bytes do not change.

    Raises:
        ChangedSincePlanning: where code or generator are others now than when the shard was planned.
    """
    record = JobRecord(log)
    pending = _missing(shard.images, store)
    waiting = {item.key for item in pending}
    record.found = [item.key for item in shard.images if item.key not in waiting]
    if pending:
        _generate(shard, pending, store, log, record)
    for hash_ in shard.drop if not record.failures else ():
        remove_file(store.conditioning(hash_))
    return record


def _generate(
    shard: ImageShard, pending: list[ImageItem], store: Store, log: logging.Logger, record: JobRecord
) -> None:
    with importing():
        from graftwork.models.hardware import configure_torch
        from graftwork.models.loading import load_generator, load_reference_generator

    hardware, name, entry = shard.hardware, shard.generator.name, shard.generator.entry
    planned = images_as_planned(shard, store)
    planned.require()
    take_device(hardware, log)
    with blaming_settings(log):
        configure_torch(hardware)
    load = load_reference_generator if shard.references else load_generator
    log.info("loading generator %s for %s images", name, len(pending))
    generator = load(name, entry, hardware)
    planned.require()
    progress = Progress("images made", len(pending))
    start, work = time.monotonic(), 0
    batches = list(_batches(pending, hardware["batch_shape"], entry["family"]))
    with (
        Watchdog(hardware.get("stall_limit"), "images", log) as watchdog,
        _Reader(store, shard) as reader,
        _Writer(store, record, planned, watchdog) as writer,
    ):
        launcher = _Launcher(generator, hardware["batch_shape"], reader, writer, record)
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            planned.require()
            reader.expect([*batch, *following])
            wanted = _missing(batch, store)
            record.found += [item.key for item in batch if item not in wanted]
            launcher.make(wanted)
            watchdog.beat()
            work += sum(item.parts.work for item in wanted)
            progress.advance(len(batch))
    progress.end(len(record.failures))
    # Warming up is no work: the next job's estimate would multiply it by its images.
    seconds = time.monotonic() - start - launcher.seconds_warming
    rate = record.rate = Rate(work, round(seconds, 3))
    write_record(store.rates / f"{digest([item.key for item in pending])[:16]}.json", rate)
    log.info(
        "the generator waited %.2f s for conditioning to be read and %.2f s for images to be written",
        reader.seconds_waited,
        writer.seconds_waited,
    )


def _batches(items: list[ImageItem], rows: int, family: str) -> Iterator[list[ImageItem]]:
    """Yields items that can share a batch, at most `rows` at a time."""
    padded_length = generator_family(family).captions.padded_length
    grouped: dict[Any, list[ImageItem]] = {}
    for item in items:
        grouped.setdefault(item.batch_group(padded_length), []).append(item)
    for group in grouped.values():
        yield from (group[at : at + rows] for at in range(0, len(group), rows))


class _Launcher:
    """Starts batches of one shape, and hands them to the writer.

    Attributes:
        seconds_warming: How long the generator took to warm up, such as to compile.
    """

    def __init__(
        self,
        generator: "Generator",
        batch_shape: int,
        reader: "_Reader",
        writer: "_Writer",
        record: JobRecord,
    ):
        self._generator, self._batch_shape = generator, batch_shape
        self._reader, self._writer, self._record = reader, writer, record
        self.seconds_warming = 0.0

    def make(self, items: Sequence[ImageItem]) -> None:
        """Starts a batch of items that can share one. An item whose conditioning cannot be read fails alone."""
        rows = []
        for item in items:
            try:
                rows.append((item, self._reader.read(item)))
            except Exception as error:  # this row's failure is that image's result
                self._record.fail(item.key, error)
        if rows:
            self._launch(rows)

    def _launch(self, rows: "list[tuple[ImageItem, BatchRow]]") -> None:
        from graftwork.models.generator import assemble_batch

        generator, sampling = self._generator, vars(rows[0][0].parts)
        try:
            batch = assemble_batch(
                [row for _, row in rows], sampling, self._batch_shape, generator.padding_row
            )
            batch = self._with_references(batch, rows[0][0])
        except Exception as error:
            return self._launch_apart(rows, error)
        self._warm_up(batch)
        try:
            launched = generator.launch(batch)
        except Exception as error:
            return self._launch_apart(rows, error)
        for index, (item, _) in enumerate(rows):
            self._writer.put(item.key, index, launched)

    def _with_references(self, batch: "Batch", item: ImageItem) -> "Batch":
        """Returns a batch with the references that its images share, if they have any."""
        if not item.parts.references:
            return batch
        from graftwork.models.reference_generator import with_references

        return with_references(batch, self._reader.references(item), item.parts.reference_scale)

    def _warm_up(self, batch: "Batch") -> None:
        start = time.monotonic()
        self._generator.warm_up(batch)
        self.seconds_warming += time.monotonic() - start

    def _launch_apart(self, rows: "list[tuple[ImageItem, BatchRow]]", error: Exception) -> None:
        """Tries each row of a batch that failed alone, at the same batch shape: which row it was is not known.

        Raises:
            RuntimeError: where the batch does not fit into memory, which no row alone would either.
        """
        if _is_out_of_memory(error):
            raise RuntimeError(
                f"a batch of {self._batch_shape} rows does not fit into memory ({error}); set "
                "hardware.generation.batch_shape in config/config.yaml to a smaller number, or offload: model"
            ) from error
        if len(rows) == 1:
            self._record.fail(rows[0][0].key, error)
            return
        for row in rows:
            self._launch([row])


def _read_conditioning(store: Store, hash_: str) -> "dict[str, torch.Tensor] | None":
    """Returns the tensors; None where they are gone, or damaged and now removed."""
    from safetensors.torch import load_file

    from graftwork.conditioning.build import conditioning_hash

    path = store.conditioning(hash_)
    try:
        tensors = load_file(path)
        intact = conditioning_hash(tensors) == hash_
    except FileNotFoundError:
        return None
    except Exception:  # safetensors has an error type of its own for each way of being damaged
        intact = False
    if not intact:
        _log.warning("%s is damaged: removed, and built again", path)
        remove_file(path)
        return None
    return tensors


def _read_image(path: str, sha256: str) -> Any:
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

    # On the CPU torch has no type for it.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(
        error
    )


def _missing(items: Sequence[ImageItem], store: Store) -> list[ImageItem]:
    return [item for item in items if not is_complete_png(store.image(item.key))]


def _read_for(item: ImageItem) -> list[str]:
    """Returns what is read for an item: the hash of its conditioning, and those of the images that it needs."""
    return [*_of_row(item), *item.parts.references]


def _of_row(item: ImageItem) -> list[str]:
    """Returns what is a row's own: the hash of its conditioning, and that of the image it starts from, if any."""
    init_image = item.parts.init_image
    return [item.parts.conditioning, *([] if init_image is None else [init_image])]


class _Reader:
    """Reads conditioning, and images to start from, ahead of the generator, in a thread.

    Attributes:
        seconds_waited: How long the generator waited for them.
    """

    def __init__(self, store: Store, shard: ImageShard):
        self._store, self._images = store, {**shard.init_images, **shard.references}
        self._shard_name = image_shard_name(shard)
        # Only from memory that cannot be moved does a GPU copy without the processor waiting for it.
        self._is_pinned = shard.hardware["device"] != "cpu"
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="conditioning")
        self._read: dict[str, Future[Any]] = {}
        # Hash of conditioning that is gone -> why it could not be built.
        self._not_built: dict[str, str] = {}
        self.seconds_waited = 0.0

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def expect(self, items: Sequence[ImageItem]) -> None:
        """Says what will be asked for soon, in order; what is not among it is forgotten."""
        earlier, self._read = self._read, {}
        for name in dict.fromkeys(name for item in items for name in _read_for(item)):
            self._read[name] = earlier.pop(name, None) or self._pool.submit(self._load, name)
        for future in earlier.values():
            future.cancel()

    def read(self, item: ImageItem) -> "BatchRow":
        """Returns the row of an expected item; raises what reading raised."""
        from graftwork.models.generator import BatchRow

        start = time.monotonic()
        try:
            tensors, *image = [self._read[name].result() for name in _of_row(item)]
        finally:
            self.seconds_waited += time.monotonic() - start
        return BatchRow(item.parts.seed, tensors, *image)

    def references(self, item: ImageItem) -> "list[Image.Image]":
        """Returns the references of an expected item; raises what reading raised."""
        return [self._read[name].result() for name in item.parts.references]

    def _load(self, name: str) -> Any:
        if name in self._images:
            return _read_image(self._images[name], name)
        tensors = _read_conditioning(self._store, name)
        if tensors is None and name not in self._not_built:
            # Another run, or another target of this one, had no more need of it.
            self._not_built |= rebuild_apart(self._store, self._shard_name)
            tensors = _read_conditioning(self._store, name)
        if tensors is None:
            why = self._not_built.setdefault(name, _NOT_BUILT)
            raise ValueError(f"{self._store.conditioning(name)} is gone, and {why}")
        # Indices stay where the host reads them.
        pinned = {key: t for key, t in tensors.items() if self._is_pinned and key != "prompt_embeds_of_step"}
        return tensors | {key: tensor.pin_memory() for key, tensor in pinned.items()}


class _Writer:
    """Encodes and stores images while the generator goes on.

    Two threads: PNG encoding releases the interpreter lock, and the queue is bounded so that images waiting for a
    slow disk do not fill the memory. They also wait for the device, so that the generator can start the next batch. An
    error in a thread is that image's failure.

    Attributes:
        seconds_waited: How long the generator waited for a place in the queue.
    """

    def __init__(self, store: Store, record: JobRecord, planned: Planned, watchdog: Watchdog):
        self._store, self._record, self._planned, self._watchdog = store, record, planned, watchdog
        self._digests = DigestWriter(store, f"{time.time_ns()}-{uuid.uuid4().hex[:8]}")
        self._queue: queue.Queue[tuple[str, int, Launched] | None] = queue.Queue(maxsize=64)
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

    def put(self, key: str, row: int, launched: "Launched") -> None:
        """Stores an image under its key, some time before the block ends.

        Args:
            key: Key of the image.
            row: Row of the batch.
            launched: The batch.
        """
        start = time.monotonic()
        self._queue.put((key, row, launched))
        self.seconds_waited += time.monotonic() - start

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            key, row, launched = work
            try:
                images, finite = launched.result()
                if not finite[row]:
                    self._record.fail(key, "the generator gave values that are not finite")
                    continue
                path: Path = self._store.image(key)
                data = encode_png(images[row])
                self._planned.require()
                self._digests.note(key, data)
                write_atomic(path, data)
                self._record.made.append(key)
            except ChangedSincePlanning as error:  # the sentence alone: where it was found says nothing
                self._record.fail(key, str(error))
            except Exception as error:  # a full disk fails this image, not the ones that fit
                self._record.fail(key, error)
            self._watchdog.beat()
