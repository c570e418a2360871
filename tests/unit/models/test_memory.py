"""What is loaded and how large it is at the published sizes, on the meta device: arithmetic, not a measurement."""

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model, Qwen3VLConfig, Qwen3VLModel

from graftwork.models.generators.z_image.blocks import fuse_blocks
from graftwork.models.loading import load_encoder, load_generator
from lab import real_shapes
from lab.real_shapes import component_bytes
from tests.unit.lab.published_sizes import PARAMETERS

GIB = 2**30
CARDS = {"24 GB": 24 * GIB, "16 GB": 16 * GIB}


def bytes_on_device(components: dict[str, int], offload: str) -> int:
    """The most bytes of weights on the device at one time; "model" as `enable_model_cpu_offload` in diffusers moves them."""
    return {"none": sum, "model": max}[offload](components.values())


def pipeline_of(dtype):
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel(**real_shapes.Z_IMAGE_TRANSFORMER).to(dtype)
        vae = AutoencoderKL(**real_shapes.Z_IMAGE_VAE).to(dtype)
    scheduler = FlowMatchEulerDiscreteScheduler(**real_shapes.Z_IMAGE_SCHEDULER)
    return ZImagePipeline(scheduler, vae, None, None, transformer)


@pytest.fixture(scope="module")
def components():
    return component_bytes(pipeline_of(torch.bfloat16))


def test_generation_loads_transformer_and_vae_and_no_text_encoder(generator_entry, hardware, components):
    loaded = load_generator("z", generator_entry, hardware).pipeline
    assert set(component_bytes(loaded)) == set(components) == {"transformer", "vae"}
    assert loaded.text_encoder is loaded.tokenizer is None


def test_bytes_of_the_components(components):
    assert components["transformer"] == 2 * PARAMETERS["z_image"] == 12_309_817_472
    assert components["vae"] == 2 * 83_819_683
    full = component_bytes(pipeline_of(torch.float32))
    assert full == {name: 2 * count for name, count in components.items()}


@pytest.mark.parametrize(("offload", "expected_gib"), [("none", 11.62), ("model", 11.46)])
def test_bytes_on_the_device_by_offload(components, offload, expected_gib):
    assert bytes_on_device(components, offload) / GIB == pytest.approx(expected_gib, abs=0.01)


def test_offloading_saves_the_vae_only(components):
    """Without a text encoder there is little to move out of the way, and 12 GB are moved for it, per batch."""
    saved = bytes_on_device(components, "none") - bytes_on_device(components, "model")
    assert saved == components["vae"]


@pytest.mark.parametrize(("card", "left_gib"), [("24 GB", 12.3), ("16 GB", 4.3)])
def test_what_the_weights_leave_of_a_card(components, card, left_gib):
    left = (CARDS[card] - bytes_on_device(components, "none")) / GIB
    assert left == pytest.approx(left_gib, abs=0.1)
    # In float32 the 16 GB card does not hold them, and the other hardly.
    full = 2 * bytes_on_device(components, "model")
    assert (full < CARDS[card]) == (card == "24 GB")


def test_fusing_adds_no_bytes(components):
    pipeline = pipeline_of(torch.bfloat16)
    fuse_blocks(pipeline.transformer)
    assert component_bytes(pipeline)["transformer"] == components["transformer"]


@pytest.mark.parametrize(
    ("model", "config", "gib"),
    [
        (Qwen3Model, lambda: Qwen3Config(**real_shapes.QWEN3), 7.49),
        (Qwen3VLModel, lambda: Qwen3VLConfig(**real_shapes.QWEN3_VL), 8.27),
    ],
)
def test_encoders_fit_either_card_whole(model, config, gib):
    with torch.device("meta"):
        built = model(config()).to(torch.bfloat16)
    assert sum(p.numel() * 2 for p in built.parameters()) / GIB == pytest.approx(gib, abs=0.01)


def test_an_encoder_is_loaded_up_to_the_deepest_layer(qwen3_entry, hardware):
    counts = [
        sum(p.numel() for p in load_encoder("t", qwen3_entry, [layer], hardware).model.parameters())
        for layer in (2, 5)
    ]
    assert counts[0] < counts[1]
