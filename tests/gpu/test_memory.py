"""What fits on smaller cards, each in a process that may take no more memory than such a card has."""

import json
import subprocess
import sys

import pytest
import torch

from graftwork.core.code_digest import REPOSITORY

GIB = 2**30
# A card of 16 GB has a little less for one process; the context of CUDA is not counted by torch.
CARDS = {"16 GB": 15.0 * GIB, "24 GB": 22.5 * GIB}
PROGRAM = """
import json, sys, torch
limit, rows, size, settings = json.loads(sys.argv[1])
torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
from graftwork.models.hardware import configure_torch
from lab.random_models import random_pipeline
from graftwork.models.generator import Batch
from graftwork.models.generators.z_image.generator import ZImageGenerator
hardware = {"device": "cuda", "dtype": "bfloat16", "offload": "none", "cpu_threads": 2, **settings}
configure_torch(hardware)
pipeline = random_pipeline("cuda", torch.bfloat16)
if hardware["offload"] == "model":
    pipeline.enable_model_cpu_offload(device="cuda")
generator = ZImageGenerator(pipeline, hardware)
captions = [torch.ones(128, 2560, dtype=torch.bfloat16)] * rows
for _ in range(2):
    generator.generate(
        Batch(captions, list(range(rows)), height=size, width=size, num_inference_steps=2, guidance_scale=0.0)
    )
print(json.dumps([torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]))
"""


@pytest.mark.parametrize(
    ("card", "rows", "size", "settings"),
    [
        ("24 GB", 1, 1024, {}),
        ("24 GB", 4, 1024, {"vae_slicing": True}),
        ("24 GB", 4, 512, {}),
        ("16 GB", 1, 1024, {"vae_slicing": True}),
        ("16 GB", 2, 512, {"vae_slicing": True}),
        ("16 GB", 1, 1024, {"offload": "model"}),
    ],
)
def test_a_batch_fits(card, rows, size, settings, record_property):
    given = json.dumps([CARDS[card], rows, size, settings])
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, given], cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-2000:]
    allocated, reserved = json.loads(run.stdout.splitlines()[-1])
    record_property("allocated_gib", allocated / GIB)
    print(
        f"{card}, {rows} rows at {size}, {settings}: {allocated / GIB:.2f} GiB, reserved {reserved / GIB:.2f}"
    )
    assert reserved <= CARDS[card]


def test_the_weights_take_what_arithmetic_says(build):
    before = torch.cuda.memory_allocated()
    build()
    taken = torch.cuda.memory_allocated() - before
    assert taken == pytest.approx(12_309_817_472 + 2 * 83_819_683, rel=0.01)
