"""Images of generators that are shown references: their keys, their shards, and the jobs that make them."""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from graftwork.jobs.generation import generate_images
from graftwork.jobs.planned import images_as_planned
from graftwork.models import loading
from graftwork.models.generator import Launched
from graftwork.planning.code import sampling_code
from graftwork.planning.shards import ImageShard, read_shard
from tests.unit.design.designs import expand, experiment
from tests.unit.design.test_reference_controls import EDIT, models
from tests.unit.jobs.test_generation import HARDWARE, Generator, item, keep
from tests.unit.planning.fake_store import Situation

LOG = logging.getLogger("test")


@pytest.fixture
def situation(tmp_path, monkeypatch):
    folder = tmp_path / "config" / "references"
    folder.mkdir(parents=True)
    for name, grey in (("barn", 10), ("lake", 20)):
        Image.fromarray(np.full((64, 80, 3), grey, dtype=np.uint8)).save(folder / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    situation = Situation(tmp_path)
    raw = experiment({"alpha": [0.5]}, {"references": ["barn", "lake"]}, controls=["edit"], edit=EDIT)
    situation.designs = [expand(tmp_path, raw, "e0", models=models())]
    return situation


def of_role(situation, role):
    return [cell.parameters for cell in situation.designs[0].cells if cell.role == role]


def test_a_reference_is_in_the_key_of_an_image_and_not_of_its_conditioning(situation):
    keys, controls = situation.keys, of_role(situation, "control")
    text = next(one for one in of_role(situation, "baseline") if one["generator"] == "content:editor")
    same = [one for one in controls if one["prompt"] == text["prompt"]]
    assert len({keys.recipe(one).key for one in (*same, text)}) == 1
    assert len({keys.image(one, "h").key for one in (*same, text)}) == 3
    for one in same:
        parts = keys.image(one, "h")
        assert parts.references == (one["reference"],)
        assert parts.code == sampling_code("flux2_klein", from_image=False, with_references=True)
    assert keys.image(text, "h").code == sampling_code("flux2_klein", from_image=False)
    assert keys.image(text, "h").references == ()


def test_images_with_references_have_jobs_of_their_own(situation):
    situation.extract()
    situation.condition()
    plan = situation.plan_images()
    shards = [read_shard(ImageShard, situation.store.shards, name) for name in plan.shards]
    kinds = {(shard.generator.name, bool(shard.references)) for shard in shards}
    assert kinds == {("images", False), ("editor", False), ("editor", True)}
    for shard in shards:
        assert {bool(one.parts.references) for one in shard.images} == {bool(shard.references)}
        assert set(shard.references) == {name for one in shard.images for name in one.parts.references}
    shown = {one["reference"] for one in of_role(situation, "control")}
    assert {name for shard in shards for name in shard.references} == shown


class Shown(Generator):
    """Notes what it is shown, and draws its grey."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def launch(self, batch):
        self.shown.append((list(batch.seeds), [one.getpixel((0, 0))[0] for one in batch.references]))
        images, finite = self.draw(batch)
        return Launched(torch.from_numpy(images), torch.from_numpy(finite))


def test_a_batch_has_one_set_of_references_and_a_changed_file_fails_alone(situation, monkeypatch):
    generator = Shown()
    monkeypatch.setattr(loading, "load_reference_generator", lambda name, entry, hardware: generator)
    store, folder = situation.store, situation.folder / "config" / "references"
    sha = {
        name: hashlib.sha256((folder / f"{name}.png").read_bytes()).hexdigest() for name in ("barn", "lake")
    }
    code = sampling_code("flux2_klein", from_image=False, with_references=True)
    conditioning = keep(store, 20)
    images = [
        item(conditioning, 1, references=(sha["barn"],), code=code),
        item(conditioning, 2, references=(sha["lake"],), code=code),
        item(conditioning, 3, references=(sha["barn"],), code=code),
        item(conditioning, 4, references=(sha["barn"], sha["lake"]), code=code),
    ]
    paths = {sha[name]: str(folder / f"{name}.png") for name in sha}
    shard = ImageShard(_model(situation), HARDWARE, tuple(images), {}, (), paths)
    record = generate_images(shard, store, LOG)
    assert not record.failures
    assert [(seeds[:2], greys) for seeds, greys in generator.shown] == [
        ([1, 3], [10]),
        ([2, 0], [20]),
        ([4, 0], [10, 20]),
    ]
    # Nothing is made twice.
    assert generate_images(shard, store, LOG).found == [one.key for one in images]

    Image.new("RGB", (80, 64), (99, 99, 99)).save(folder / "lake.png")
    again = (
        item(conditioning, 5, references=(sha["lake"],), code=code),
        item(conditioning, 6, references=(sha["barn"],), code=code),
    )
    record = generate_images(replace(shard, images=again), store, LOG)
    assert list(record.failures) == [again[0].key]
    assert "has changed since this run was planned" in record.failures[again[0].key]
    assert record.made == [again[1].key]


def _model(situation):
    from graftwork.planning.plan import MergedDesigns

    return MergedDesigns.of(situation.designs).model("content:editor")


def test_code_that_is_another_one_now_is_seen(situation):
    made = item("h", 1, references=("r",), code="another")
    shard = ImageShard(_model(situation), HARDWARE, (made,), {}, (), {"r": "r.png"})
    planned = images_as_planned(shard, situation.store)
    assert [used.present() for used in planned._code] == [sampling_code("flux2_klein", False, True)]
