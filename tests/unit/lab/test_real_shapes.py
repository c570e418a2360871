"""The published sizes, on the meta device: nothing is allocated."""

import pytest
import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model, Qwen3VLConfig, Qwen3VLModel

from lab import real_shapes
from tests.unit.lab.published_sizes import PARAMETERS


@pytest.fixture(scope="module")
def models():
    with torch.device("meta"):
        return {
            "z_image": ZImageTransformer2DModel(**real_shapes.Z_IMAGE_TRANSFORMER),
            "qwen3": Qwen3Model(Qwen3Config(**real_shapes.QWEN3)),
            "qwen3_vl": Qwen3VLModel(Qwen3VLConfig(**real_shapes.QWEN3_VL)),
        }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("z_image", 6_154_908_736), ("qwen3", 4_022_468_096), ("qwen3_vl", 4_437_815_808)],
)
def test_parameter_counts(models, name, parameters):
    assert sum(parameter.numel() for parameter in models[name].parameters()) == parameters
    assert PARAMETERS[name] == parameters


def test_models_fit_each_other(models):
    width = models["z_image"].config.cap_feat_dim
    assert models["qwen3"].config.hidden_size == width
    assert models["qwen3_vl"].config.text_config.hidden_size == width
    assert models["qwen3_vl"].config.vision_config.out_hidden_size == width
    assert sum(real_shapes.QWEN3_VL["text_config"]["rope_parameters"]["mrope_section"]) == 128 // 2
    with torch.device("meta"):
        vae = AutoencoderKL(**real_shapes.Z_IMAGE_VAE)
    assert vae.config.latent_channels == models["z_image"].in_channels
    assert 2 ** (len(vae.config.block_out_channels) - 1) == 8
