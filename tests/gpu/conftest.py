"""Tests that need an NVIDIA GPU: collected everywhere, skipped where there is none. tests/gpu/run says how to run them.

Weights are random and drawn on the device, so nothing is downloaded.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from graftwork.models.generators.z_image.generator import ZImageGenerator
from lab.random_models import random_pipeline

HERE = Path(__file__).parent
HARDWARE = {"device": "cuda", "dtype": "bfloat16", "offload": "none", "cpu_threads": 2}
SAMPLING = {"height": 1024, "width": 1024, "num_inference_steps": 8, "guidance_scale": 0.0}
FAST = {"attention_backend": "_native_cudnn", "compile": "default", "compile_vae": True, "fuse_blocks": True}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = not torch.cuda.is_available()
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.gpu)
            if absent:
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU, or torch is a CPU build"))


@pytest.fixture(scope="session", autouse=True)
def configured():
    if torch.cuda.is_available():
        from graftwork.models.hardware import configure_torch

        configure_torch(HARDWARE)


@pytest.fixture
def build():
    """Makes generators of the published size; the memory of all is given back afterwards."""
    made = []

    def build_generator(**settings) -> ZImageGenerator:
        pipeline = random_pipeline("cuda", torch.bfloat16)
        if settings.get("offload") == "model":
            pipeline.enable_model_cpu_offload(device="cuda")  # As `ZImageGenerator.load` does.
        made.append(ZImageGenerator(pipeline, {**HARDWARE, **settings}))
        return made[-1]

    yield build_generator
    made.clear()
    torch._dynamo.reset()
    torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def captions() -> list[torch.Tensor]:
    """Four captions of one padded length, and different lengths."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(tokens, 2560, generator=generator).to(torch.bfloat16) for tokens in (128, 127, 120, 97)
    ]


def mean_difference(images: np.ndarray, others: np.ndarray) -> float:
    """Returns the mean difference in grey levels."""
    return float(np.abs(images.astype(int) - others).mean())
