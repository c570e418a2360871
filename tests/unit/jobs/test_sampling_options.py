"""Shards with schedules, guidance and images to start from: what reaches the generator, row by row."""

import hashlib
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from graftwork.conditioning.build import conditioning_hash
from graftwork.jobs.generation import generate_images
from graftwork.models import generator as generator_module
from graftwork.models import loading
from graftwork.models.generator import Batch
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes
from tests.unit.jobs.recipes import condition_plain
from tests.unit.jobs.test_conditioning import recipe
from tests.unit.jobs.test_conditioning import store as store_with_states  # noqa: F401, a fixture
from tests.unit.jobs.test_generation import HARDWARE, shard
from tests.unit.jobs.test_generation import item as plain_item

LOG = logging.getLogger("test")


class Generator(generator_module.Generator):
    """Notes what it was asked for, and makes images that show their seed."""

    def __init__(self):
        self.calls: list[Batch] = []
        self.warmed: list[Batch] = []

    @classmethod
    def load(cls, folder, entry, hardware):
        return cls()

    def padding_row(self, tokens):
        return torch.ones(32, 4)

    def launch(self, batch):
        self.calls.append(batch)
        images = np.stack([np.full((16, 16, 3), seed, dtype=np.uint8) for seed in batch.seeds])
        return generator_module.Launched(torch.from_numpy(images), torch.ones(len(images), dtype=torch.bool))

    def warm_up(self, batch):
        self.warmed.append(batch)


@pytest.fixture
def generator(monkeypatch):
    made = Generator()
    monkeypatch.setattr(loading, "load_generator", lambda name, entry, hardware: made)
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def keep(store, **tensors):
    hash_ = conditioning_hash(tensors)
    path = store.conditioning(hash_)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return hash_


def item(conditioning, seed, tokens=20, negative_tokens=None, **parts):
    return plain_item(
        conditioning, seed, tokens, negative_tokens=negative_tokens, **{"num_inference_steps": 3, **parts}
    )


def scheduled(store, order=(0, 1, 0)):
    embeds = torch.stack([torch.full((20, 4), 1.0), torch.full((20, 4), 2.0)])
    return keep(store, prompt_embeds=embeds, prompt_embeds_of_step=torch.tensor(order))


def test_rows_with_and_without_a_schedule_go_into_one_batch(store, generator):
    plain = keep(store, prompt_embeds=torch.full((20, 4), 5.0))
    images = [item(scheduled(store), 1), item(plain, 2), item(scheduled(store, (1, 1, 0)), 3)]
    record = generate_images(shard(images), store, LOG)
    assert len(record.made) == 3
    (batch,) = generator.calls
    rows = batch.prompt_embeds
    assert batch.seeds == [1, 2, 3, 0]
    assert [float(embeds[0, 0]) for embeds in rows[0]] == [1.0, 2.0, 1.0]
    assert rows[0][0] is rows[0][2], "one object: it is copied to the device once"
    assert float(rows[1][0, 0]) == 5.0
    assert [float(embeds[0, 0]) for embeds in rows[2]] == [2.0, 2.0, 1.0]
    assert rows[3].shape == (32, 4)
    assert batch == Batch(rows, batch.seeds, 16, 16, 3, 0.0), "nothing else takes part"


def test_a_damaged_order_of_steps_fails_its_image(store, generator):
    hash_ = scheduled(store)
    tensors = load_file(store.conditioning(hash_))
    save_file({**tensors, "prompt_embeds_of_step": torch.tensor([0, 1, 1])}, store.conditioning(hash_))
    record = generate_images(shard([item(hash_, 1)]), store, LOG)
    assert "is gone, and the shard does not say how it was built" in next(iter(record.failures.values()))
    assert not store.conditioning(hash_).exists()
    assert generator.calls == []


def guided(store, value, negative_tokens=5):
    return keep(
        store,
        prompt_embeds=torch.full((20, 4), value),
        negative_prompt_embeds=torch.full((negative_tokens, 4), -value),
    )


def test_negatives_go_with_their_rows(store, generator):
    images = [item(guided(store, v), int(v), 20, 5, guidance_scale=2.0) for v in (1.0, 2.0)]
    record = generate_images(shard(images), store, LOG)
    (batch,) = generator.calls
    assert [float(row[0, 0]) for row in batch.prompt_embeds] == [1.0, 2.0, 1.0, 1.0]
    negatives = batch.negative_prompt_embeds
    assert [float(row[0, 0]) for row in negatives] == [-1.0, -2.0, 1.0, 1.0]
    assert [len(row) for row in negatives] == [5, 5, 32, 32]
    assert batch.guidance_scale == 2.0
    assert generator.warmed == [batch], "warmed up with what is about to run"
    assert record.rate.work == 2 * 16 * 16 * 3 * 2


def test_guidance_padded_lengths_and_first_steps_are_not_mixed(store, generator):
    path = picture(store, "a")
    images = [
        item(guided(store, 1.0), 1, 20, 5, guidance_scale=2.0),
        item(guided(store, 2.0, 40), 2, 20, 40, guidance_scale=2.0),
        item(guided(store, 3.0), 3, 20, 5, guidance_scale=1.0),
        item(guided(store, 4.0), 4, 20, 5, guidance_scale=2.0),
        item(guided(store, 4.0), 5, 20, 5, guidance_scale=2.0, cfg_normalization=1.0),
        item(guided(store, 4.0), 6, 20, 5, guidance_scale=2.0, init_image=sha(path), first_step=1),
    ]
    generate_images(shard(images, init_images={sha(path): str(path)}), store, LOG)
    assert [[s for s in batch.seeds if s] for batch in generator.calls] == [[1, 4], [2], [3], [5], [6]]
    assert [batch.cfg_normalization for batch in generator.calls][3] == 1.0


def picture(store, name, grey=100):
    path = store.root / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (grey,) * 3).save(path)
    return path


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begun(store, *paths, order=None):
    plain = keep(store, prompt_embeds=torch.full((20, 4), 5.0))
    images = [item(plain, n, init_image=sha(path), first_step=1) for n, path in enumerate(paths, 1)]
    return shard(images, init_images={sha(path): str(path) for path in paths})


def test_each_row_starts_from_its_own_image(store, generator):
    one, other = picture(store, "one", 10), picture(store, "other", 20)
    record = generate_images(begun(store, one, other, one), store, LOG)
    (batch,) = generator.calls
    greys = [image.getpixel((0, 0))[0] for image in batch.init_images]
    assert greys == [10, 20, 10, 10], "padding starts from an image that is encoded anyway"
    assert batch.init_images[0] is batch.init_images[2], "one object: it is encoded once"
    assert batch.first_step == 1
    assert record.rate.work == 3 * 16 * 16 * 2


def test_an_image_that_is_another_one_now_fails_its_rows_only(store, generator):
    one, other = picture(store, "one", 10), picture(store, "other", 20)
    job = begun(store, one, other)
    picture(store, "other", 21)
    record = generate_images(job, store, LOG)
    assert len(record.made) == 1
    (error,) = record.failures.values()
    assert "other.png has changed since this run was planned" in error
    (batch,) = generator.calls
    assert batch.seeds == [1, 0, 0, 0]


def test_an_image_that_is_gone_fails_its_rows_only(store, generator):
    one, other = picture(store, "one", 10), picture(store, "other", 20)
    job = begun(store, one, other)
    one.unlink()
    record = generate_images(job, store, LOG)
    assert "does not exist" in record.failures[job.images[0].key]
    assert len(record.made) == 1


def test_images_that_exist_are_not_made_again(store, generator):
    job = begun(store, picture(store, "one"))
    generate_images(job, store, LOG)
    again = generate_images(job, store, LOG)
    assert len(generator.calls) == 1
    assert again.made == []


def test_what_conditioning_stores_is_what_generation_reads(store_with_states, generator):  # noqa: F811
    """From recipe to rows, schedule and negative included."""
    text = recipe()["text"]
    chosen = recipe(alpha=[1.0, 0.5, 0.0], negative=text[0])
    record = condition_plain({"r": chosen}, store_with_states)
    assert record.failures == {}
    row = read_recipes(store_with_states.recipes)["r"]
    assert (row.tokens, row.negative_tokens, row.alphas) == (5, 5, (1.0, 0.5, 0.0))
    hash_ = row.conditioning
    tensors = load_file(store_with_states.conditioning(hash_))
    assert conditioning_hash(tensors) == hash_
    generate_images(shard([item(hash_, 1, 5, 5, guidance_scale=1.0)]), store_with_states, LOG)
    (batch,) = generator.calls
    rows = batch.prompt_embeds
    assert len(rows[0]) == HARDWARE["batch_shape"] - 1
    assert torch.equal(rows[0][2], batch.negative_prompt_embeds[0]), "alpha 0 is the text"
    assert not torch.equal(rows[0][0], rows[0][1])


def test_a_conditioning_without_a_schedule_is_stored_as_ever(store_with_states):  # noqa: F811
    """Bytes of the file, of which the hash is the name."""
    condition_plain({"r": recipe()}, store_with_states)
    hash_ = read_recipes(store_with_states.recipes)["r"].conditioning
    tensors = load_file(store_with_states.conditioning(hash_))
    assert set(tensors) == {"prompt_embeds"}
    path = store_with_states.root / "by_hand.safetensors"
    save_file({"prompt_embeds": tensors["prompt_embeds"]}, path)
    assert path.read_bytes() == store_with_states.conditioning(hash_).read_bytes()
