"""Fifty cells from end to end: the whole workflow with small models, and the job of images at the published size."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from graftwork.conditioning.build import conditioning_hash
from graftwork.core.identity import digest
from graftwork.jobs.generation import generate_images
from graftwork.jobs.planned import Planned
from graftwork.models import loading
from graftwork.store.layout import Store
from tests.gpu.conftest import FAST, HARDWARE
from tests.workflow.harness import Workspace

CELLS = 50
LOG = logging.getLogger("test")


def test_the_workflow_on_a_gpu(tmp_path):
    from tests.small_family import build_small_family

    build_small_family(tmp_path / "small")
    workspace = Workspace(tmp_path / "w", tmp_path / "small")
    hardware = {"device": "cuda", "dtype": "bfloat16"}
    workspace.config["hardware"] = {
        "extraction": hardware,
        "generation": {**hardware, "batch_shape": 4, "fuse_blocks": True, "vae_slicing": True},
    }
    workspace.experiment["base"]["prompts"] = [f"{number} red apples" for number in range(1, 6)]
    workspace.experiment["base"]["seeds"] = [1, 2]
    workspace.experiment["axes"] = {"alpha": [0.2, 0.4, 0.6, 0.8, 1.0]}
    workspace.save()
    run = workspace.run()
    assert run.returncode == 0, run.output
    cells = [row for row in workspace.rows() if row["role"] == "cell"]
    assert len(cells) == CELLS
    assert {row["status"] for row in workspace.rows()} == {"done"}
    images = workspace.stored("images/**/*.png")
    again = workspace.run()
    assert "Nothing to be done" in again.output
    lost = sorted((workspace.folder / "results/store/images").glob("*/*.png"))[:12]
    for path in lost:
        path.unlink()
    run = workspace.run()
    assert run.returncode == 0, run.output
    assert run.made["images"] == 12
    assert workspace.stored("images/**/*.png") == images, "made again at the same batch shape: equal bytes"


@pytest.mark.parametrize("settings", [{}, FAST], ids=["plain", "fast"])
def test_the_job_at_the_published_size(tmp_path, build, monkeypatch, settings):
    hardware = {**HARDWARE, "batch_shape": 4, **settings}
    store = Store(tmp_path / "store")
    items = []
    for number in range(CELLS):
        # Two padded lengths, and neither a multiple of the batch shape.
        tokens = 120 if number % 3 else 150
        embeds = torch.randn(tokens, 2560, generator=torch.Generator().manual_seed(number)).to(torch.bfloat16)
        hash_ = conditioning_hash({"prompt_embeds": embeds})
        path = store.conditioning(hash_)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"prompt_embeds": embeds}, path)
        parts = {"conditioning": hash_, "generator": "random", "seed": number, "height": 512, "width": 512}
        parts |= {"num_inference_steps": 8, "guidance_scale": 0.0}
        items.append({"key": digest(parts), "parts": parts, "tokens": tokens})
    shard = {
        "generator": {"name": "random", "entry": {"family": "z_image"}},
        "hardware": hardware,
        "images": items,
        "drop": [],
    }
    generator = build(**settings)
    monkeypatch.setattr(loading, "load_generator", lambda *_: generator)
    monkeypatch.setattr(Planned, "require", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    record = generate_images(shard, store, LOG)
    assert record.failures == {}
    assert len(record.made) == CELLS
    images = {item["key"]: store.image(item["key"]).read_bytes() for item in items}
    assert len(set(images.values())) == CELLS
    for item in items:
        with Image.open(store.image(item["key"])) as image:
            assert image.size == (512, 512)
    for item in items[5:17]:
        Path(store.image(item["key"])).unlink()
    record = generate_images(shard, store, LOG)
    assert (len(record.made), len(record.found)) == (12, 38)
    assert {item["key"]: store.image(item["key"]).read_bytes() for item in items} == images
