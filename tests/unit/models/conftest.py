"""The small family, built once per session, and what is loaded from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graftwork.models.generator import Batch
from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_encoder, load_generator
from tests.small_family import build_small_family, small_entries

HARDWARE = {"device": "cpu", "dtype": "float32", "offload": "none", "cpu_threads": 1}
SAMPLING = {"height": 64, "width": 64, "num_inference_steps": 8, "guidance_scale": 0.0}
PROMPT = "a cat on a wooden table, watercolor painting"


@pytest.fixture(scope="session")
def hardware():
    configure_torch(HARDWARE)
    return dict(HARDWARE)


@pytest.fixture(scope="session")
def family(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    build_small_family(folder)
    return folder


@pytest.fixture(scope="session")
def entries(family):
    return small_entries(family)


@pytest.fixture(scope="session")
def qwen3_entry(entries):
    return entries["encoders"]["qwen3"]


@pytest.fixture(scope="session")
def vl_entry(entries):
    return entries["encoders"]["qwen3-vl-instruct"]


@pytest.fixture(scope="session")
def generator_entry(entries):
    return entries["generators"]["z-image"]


@pytest.fixture(scope="session")
def qwen3(qwen3_entry, hardware):
    return load_encoder("qwen3", qwen3_entry, None, hardware)


@pytest.fixture(scope="session")
def vl(vl_entry, hardware):
    return load_encoder("qwen3-vl-instruct", vl_entry, None, hardware)


@pytest.fixture(scope="session")
def thinking(entries, hardware):
    return load_encoder("qwen3-vl-thinking", entries["encoders"]["qwen3-vl-thinking"], None, hardware)


@pytest.fixture(scope="session")
def embedding(entries, hardware):
    return load_encoder("qwen3-embedding", entries["encoders"]["qwen3-embedding"], None, hardware)


@pytest.fixture(scope="session")
def generator(generator_entry, hardware):
    return load_generator("z-image", generator_entry, hardware)


@pytest.fixture(scope="session")
def pipeline(family, hardware):
    """The library's own pipeline with its text encoder: what the workflow is held against."""
    from diffusers import ZImagePipeline

    loaded = ZImagePipeline.from_pretrained(family / "z-image", dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_images(generator, captions, seeds, **changes) -> tuple[np.ndarray, np.ndarray]:
    """Images of a batch, and which of them are finite."""
    return generator.generate(Batch(captions, seeds, **{**SAMPLING, **changes}))


def relative_distance(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of the reference, in fp64."""
    value, reference = value.detach().double(), reference.detach().double()
    return float((value - reference).norm() / reference.norm())
