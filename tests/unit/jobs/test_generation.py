"""A shard of images on a generator that only notes what it was asked for."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from graftwork.conditioning.build import conditioning_hash
from graftwork.jobs import generation
from graftwork.jobs.generation import generate_images
from graftwork.models import generator as generator_module
from graftwork.models import loading
from graftwork.models.generator import Batch
from graftwork.planning.shards import ImageItem, ImageShard, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import ImageParts

LOG = logging.getLogger("test")
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1, "batch_shape": 4}


class Generator(generator_module.Generator):
    """Makes images that show their seed; `fail` may raise or return rows that are not finite."""

    def __init__(self):
        self.batches: list[tuple[list[int], list[int]]] = []
        self.fail: Callable[[list[int]], set[int]] = lambda seeds: set()

    @classmethod
    def load(cls, folder, entry, hardware):
        return cls()

    def padding_row(self, tokens: int) -> torch.Tensor:
        return torch.ones(32, 4)

    def launch(self, batch: Batch) -> generator_module.Launched:
        assert batch == Batch(
            batch.prompt_embeds,
            batch.seeds,
            height=batch.height,
            width=batch.width,
            num_inference_steps=batch.num_inference_steps,
            guidance_scale=batch.guidance_scale,
        ), "nothing else takes part"
        return generator_module.Launched(*map(torch.from_numpy, self.draw(batch)))

    def draw(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        seeds = list(batch.seeds)
        self.batches.append((seeds, [len(embeds) for embeds in batch.prompt_embeds]))
        bad = self.fail(seeds)
        images = np.stack([np.full((batch.height, batch.width, 3), seed, dtype=np.uint8) for seed in seeds])
        return images, np.array([seed not in bad for seed in seeds])

    def warm_up(self, batch: Batch) -> None:
        pass


@pytest.fixture
def generator(monkeypatch):
    made = Generator()
    made.loads = 0

    def load(name, entry, hardware):
        made.loads += 1
        return made

    monkeypatch.setattr(loading, "load_generator", load)
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def keep(store: Store, tokens: int, value: float = 0.0) -> str:
    tensors = {"prompt_embeds": torch.full((tokens, 4), value)}
    hash_ = conditioning_hash(tensors)
    path = store.conditioning(hash_)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return hash_


def item(
    conditioning: str,
    seed: int,
    tokens: int = 20,
    size: int = 16,
    negative_tokens: int | None = None,
    **parts: Any,
) -> ImageItem:
    made = ImageParts(
        **{
            "dtype": "float32",
            "device": "cpu",
            "cpu_threads": 1,
            "conditioning": conditioning,
            "generator": "g",
            "seed": seed,
            "height": size,
            "width": size,
            "num_inference_steps": 2,
            "guidance_scale": 0.0,
            "batch_shape": 4,
            "attention_backend": "native",
            "compile": False,
            "code": "code",
            **parts,
        }
    )
    return ImageItem(made.key, made, tokens, negative_tokens)


def shard(
    images: list[ImageItem], drop: list[str] | None = None, init_images: dict[str, str] | None = None
) -> ImageShard:
    return ImageShard(
        ModelToLoad("g", {"family": "z_image"}), HARDWARE, tuple(images), init_images or {}, tuple(drop or ())
    )


def test_batches_are_filled_to_their_shape(store, generator):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in range(1, 7)]
    record = generate_images(shard(images), store, LOG)
    assert generator.batches == [([1, 2, 3, 4], [20] * 4), ([5, 6, 0, 0], [20, 20, 32, 32])]
    assert sorted(record.made) == sorted(image.key for image in images)
    assert record.failures == {}
    for image in images:
        with Image.open(store.image(image.key)) as png:
            assert (np.asarray(png) == image.parts.seed).all()
            assert png.size == (16, 16)
    assert record.rate.work == 6 * 16 * 16 * 2


def test_sizes_and_padded_lengths_are_not_mixed(store, generator):
    short, longer, long = keep(store, 20), keep(store, 32), keep(store, 33)
    images = [item(short, 1), item(long, 2, 33), item(longer, 3, 32), item(short, 4, size=32)]
    generate_images(shard(images), store, LOG)
    assert [[seed for seed in seeds if seed] for seeds, _ in generator.batches] == [[1, 3], [2], [4]]
    assert {len(seeds) for seeds, _ in generator.batches} == {4}


def test_nothing_missing_loads_nothing(store, generator):
    images = [item(keep(store, 20), 1)]
    generate_images(shard(images), store, LOG)
    record = generate_images(shard(images), store, LOG)
    assert generator.loads == 1
    assert record.found == [images[0].key]
    assert record.made == []
    assert record.rate is None


def test_an_image_that_appears_meanwhile_is_not_made_again(store, generator):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in range(1, 6)]

    def another_job_made_the_last(seeds):
        path = store.image(images[-1].key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generation.encode_png(np.zeros((16, 16, 3), dtype=np.uint8)))
        return set()

    generator.fail = another_job_made_the_last
    record = generate_images(shard(images), store, LOG)
    assert len(generator.batches) == 1
    assert record.found == [images[-1].key]


def test_a_row_that_is_not_finite_fails_alone(store, generator):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in (1, 2, 3)]
    generator.fail = lambda seeds: {2}
    record = generate_images(shard(images, [hash_]), store, LOG)
    assert set(record.failures) == {images[1].key}
    assert "not finite" in record.failures[images[1].key]
    assert not store.image(images[1].key).exists()
    assert len(record.made) == 2
    # What failed is tried again, and needs its conditioning.
    assert store.conditioning(hash_).exists()


def test_a_batch_that_raises_is_tried_row_by_row_at_the_same_shape(store, generator):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in (1, 2, 3)]

    def fail(seeds):
        if 2 in seeds:
            raise ValueError("cannot draw a two")
        return set()

    generator.fail = fail
    record = generate_images(shard(images), store, LOG)
    assert [seeds for seeds, _ in generator.batches] == [
        [1, 2, 3, 0],
        [1, 0, 0, 0],
        [2, 0, 0, 0],
        [3, 0, 0, 0],
    ]
    assert record.failures == {images[1].key: "ValueError: cannot draw a two"}
    assert len(record.made) == 2


def no_memory(seeds):
    raise MemoryError("full")


def more_than_there_is(seeds):
    torch.empty(2**50)


@pytest.mark.parametrize("fail", [no_memory, more_than_there_is])
def test_too_little_memory_ends_the_job_in_words(store, generator, fail):

    generator.fail = fail
    with pytest.raises(RuntimeError, match=r"a batch of 4 rows does not fit into memory .*batch_shape"):
        generate_images(shard([item(keep(store, 20), 1)]), store, LOG)


def test_conditioning_that_is_gone_or_damaged_fails_its_images_only(store, generator):
    good, damaged = keep(store, 20), keep(store, 20, 1.0)
    path = store.conditioning(damaged)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    images = [item(good, 1), item(damaged, 2), item("0" * 32, 3)]
    record = generate_images(shard(images, [good]), store, LOG)
    assert len(record.made) == 1
    assert "is gone, and the shard does not say how it was built" in record.failures[images[1].key]
    assert "is gone, and the shard does not say how it was built" in record.failures[images[2].key]
    assert not path.exists()
    assert generator.batches == [([1, 0, 0, 0], [20, 32, 32, 32])]


def test_conditioning_is_dropped_when_all_images_are_there(store, generator):
    one, other = keep(store, 20), keep(store, 20, 1.0)
    generate_images(shard([item(one, 1), item(other, 2)], [one]), store, LOG)
    assert not store.conditioning(one).exists()
    assert store.conditioning(other).exists()


def test_an_image_that_cannot_be_written_fails_alone(store, generator, monkeypatch):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in (1, 2)]
    write = generation.write_atomic

    def full_disk(path, data):
        if path == store.image(images[0].key):
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(generation, "write_atomic", full_disk)
    record = generate_images(shard(images), store, LOG)
    assert record.made == [images[1].key]
    assert "No space left" in record.failures[images[0].key]


class Launched:
    """A batch that is finished when somebody says so."""

    def __init__(self, images, finite):
        self.made, self.done = (images, finite), threading.Event()

    def result(self):
        assert self.done.wait(20), "nobody finished this batch"
        return self.made


class LaunchingGenerator(Generator):
    """Starts batches and finishes each when the next one is started, as a GPU that is kept busy does."""

    def __init__(self):
        super().__init__()
        self.launched: list[Launched] = []
        self.warmed: list[tuple[list[int], int, int]] = []

    def launch(self, batch):
        self.launched.append(Launched(*self.draw(batch)))
        for earlier in self.launched[:-1]:
            earlier.done.set()
        return self.launched[-1]

    def warm_up(self, batch):
        self.warmed.append(([len(embeds) for embeds in batch.prompt_embeds], batch.height, batch.width))
        if len(self.batches) == 0:
            time.sleep(1)


@pytest.fixture
def launching(monkeypatch):
    made = LaunchingGenerator()
    monkeypatch.setattr(loading, "load_generator", lambda name, entry, hardware: made)
    # The last batch has no next one: it is finished when the job has started all and waits for its writer.
    close = generation._Writer.__exit__

    def finish_and_close(self, *arguments):
        for batch in made.launched:
            batch.done.set()
        close(self, *arguments)

    monkeypatch.setattr(generation._Writer, "__exit__", finish_and_close)
    return made


def test_the_next_batch_is_started_before_the_last_is_finished(store, launching):
    """The writer's threads wait for a batch, the generator does not: else this would wait for ever."""
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in range(1, 11)]
    record = generate_images(shard(images), store, LOG)
    assert [seeds for seeds, _ in launching.batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]]
    assert sorted(record.made) == sorted(image.key for image in images)
    for image in images:
        with Image.open(store.image(image.key)) as png:
            assert (np.asarray(png) == image.parts.seed).all()


def test_launched_rows_that_are_not_finite_fail_alone(store, launching):
    hash_ = keep(store, 20)
    images = [item(hash_, seed) for seed in (1, 2, 3)]
    launching.fail = lambda seeds: {2}
    record = generate_images(shard(images), store, LOG)
    assert list(record.failures) == [images[1].key]
    assert len(record.made) == 2


def test_a_batch_that_cannot_be_launched_is_tried_row_by_row(store, launching):
    hash_ = keep(store, 20)

    def fail(seeds):
        if 2 in seeds:
            raise ValueError("cannot draw a two")
        return set()

    launching.fail = fail
    images = [item(hash_, seed) for seed in (1, 2, 3)]
    record = generate_images(shard(images), store, LOG)
    assert record.failures == {images[1].key: "ValueError: cannot draw a two"}
    assert len(record.made) == 2


def test_compiling_is_not_counted_as_work(store, launching):
    images = [item(keep(store, 20), 1), item(keep(store, 20), 2, size=32), item(keep(store, 20), 3)]
    start = time.monotonic()
    record = generate_images(shard(images), store, LOG)
    assert time.monotonic() - start - record.rate.seconds > 1
    assert launching.warmed == [([20, 20, 32, 32], 16, 16), ([20, 32, 32, 32], 32, 32)]


def test_conditioning_is_read_one_batch_ahead(store, generator, monkeypatch):
    hashes = [keep(store, 20, float(value)) for value in range(6)]
    monkeypatch.setitem(HARDWARE, "batch_shape", 2)
    read, seen = generation._read_conditioning, []
    monkeypatch.setattr(
        generation, "_read_conditioning", lambda s, hash_: seen.append(hash_) or read(s, hash_)
    )
    known = []

    def look(seeds):
        deadline = time.monotonic() + 20
        ahead = min(2 * len(generator.batches) + 2, 6)
        while len(seen) < ahead and time.monotonic() < deadline:
            time.sleep(0.01)
        known.append(len(seen))
        return set()

    generator.fail = look
    generate_images(shard([item(hash_, seed) for seed, hash_ in enumerate(hashes, 1)]), store, LOG)
    assert known == [4, 6, 6], "while a batch is made, those of the next have been read, and no more"
    assert seen == hashes, "each once"


def test_conditioning_that_several_images_share_is_read_once(store, generator, monkeypatch):
    hash_ = keep(store, 20)
    read, seen = generation._read_conditioning, []
    monkeypatch.setattr(
        generation, "_read_conditioning", lambda s, hash_: seen.append(hash_) or read(s, hash_)
    )
    generate_images(shard([item(hash_, seed) for seed in range(1, 10)]), store, LOG)
    assert seen == [hash_]


def test_a_slow_disk_does_not_hold_up_the_generator(store, generator, monkeypatch):
    """Up to as many images as the queue holds; the rest is what the log says that the generator waited."""
    write, written = generation.write_atomic, threading.Semaphore(0)

    def slow(path, data):
        assert written.acquire(timeout=20)
        write(path, data)

    monkeypatch.setattr(generation, "write_atomic", slow)
    close = generation._Writer.__exit__
    batches_at_the_end = []

    def note_and_close(self, *arguments):
        batches_at_the_end.append((len(generator.batches), self.seconds_waited))
        written.release(1000)
        close(self, *arguments)

    monkeypatch.setattr(generation._Writer, "__exit__", note_and_close)
    images = [item(keep(store, 20), seed) for seed in range(1, 61)]
    record = generate_images(shard(images), store, LOG)
    assert batches_at_the_end[0][0] == 15
    assert batches_at_the_end[0][1] < 1
    assert len(record.made) == 60
