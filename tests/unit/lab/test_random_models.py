"""Random models of the published shapes: the same for the same seed, and alive."""

import numpy as np
import pytest
import torch

from graftwork.models.generator import Batch
from graftwork.models.generators.z_image.generator import ZImageGenerator
from lab.random_models import (
    keep_layers,
    random_pipeline,
    random_text_encoder,
    random_vision_language_encoder,
)
from tests.unit.lab.published_sizes import PARAMETERS

SAMPLING = {"height": 64, "width": 64, "num_inference_steps": 2, "guidance_scale": 0.0}


def weights(module):
    return dict(module.named_parameters())


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_equal_seeds_give_equal_weights(part):
    one, same, other = (
        weights(getattr(random_pipeline("cpu", torch.float32, small=True, seed=seed), part))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_images_depend_on_caption_and_noise():
    pipeline = random_pipeline("cpu", torch.float32, small=True)
    generator = ZImageGenerator(pipeline, {"device": "cpu", "dtype": "float32"})
    captions = [torch.randn(20, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    first = generator.generate(Batch(captions[:1], [1], **SAMPLING))[0].astype(int)
    for caption, seed in ((captions[1], 1), (captions[0], 2)):
        other = generator.generate(Batch([caption], [seed], **SAMPLING))[0]
        assert np.abs(first - other).mean() > 1
    assert ((first > 0) & (first < 255)).mean() > 0.5, "most values are not clamped"


def test_published_sizes_without_values():
    pipeline = random_pipeline("meta", torch.bfloat16)
    count = sum(parameter.numel() for parameter in pipeline.transformer.parameters())
    assert count == PARAMETERS["z_image"]
    assert {parameter.dtype for parameter in pipeline.vae.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    for name, load in (("qwen3", random_text_encoder), ("qwen3_vl", random_vision_language_encoder)):
        model = load("meta", torch.bfloat16).model
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_layers_above_the_deepest_go():
    encoder = random_text_encoder("cpu", torch.float32, small=True)
    whole = encoder.encode("a cat", None, None, [4, 5]).hidden_states
    keep_layers(encoder, 5)
    assert len(encoder.model.layers) == 5
    assert torch.equal(encoder.encode("a cat", None, None, [5]).hidden_states[5], whole[5])
    assert not torch.equal(whole[4], whole[5])
