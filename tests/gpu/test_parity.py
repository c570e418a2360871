"""Images and hidden states equal those of the libraries, at the published sizes."""

import numpy as np
import pytest
import torch

from graftwork.models.acceleration import find_conflict
from graftwork.models.generator import Batch, initial_noise
from lab.random_models import keep_layers, random_pipeline, random_text_encoder
from tests.gpu.conftest import FAST, SAMPLING, mean_difference

SEEDS = [1, 2, 3, 4]


def theirs(pipeline, captions, seeds, **sampling):
    """What `ZImagePipeline` makes of the same noise, without any of our code after that."""
    noise = initial_noise(seeds, 16, sampling["height"] // 8, sampling["width"] // 8).to("cuda")
    made = pipeline(
        prompt_embeds=[caption.to("cuda") for caption in captions],
        latents=noise,
        output_type="np",
        **sampling,
    )
    return (made.images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("size", [512, 1024])
def test_pixels_are_those_of_the_pipeline(build, captions, size):
    sampling = {**SAMPLING, "height": size, "width": size}
    images, finite = build().generate(Batch(captions, SEEDS, **sampling))
    assert finite.all()
    pipeline = random_pipeline("cuda", torch.bfloat16)
    assert np.array_equal(images, theirs(pipeline, captions, SEEDS, **sampling))


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_backend": "_native_cudnn"},
        {"attention_backend": "_native_flash"},
        {"fuse_blocks": True},
        {"compile": "default"},
        {"compile": "reduce-overhead", "fuse_blocks": True},
        {"compile_vae": True},
        {"vae_channels_last": True},
        {"vae_slicing": True},
        FAST,
    ],
    ids=lambda settings: "+".join(f"{name}={value}" for name, value in settings.items()),
)
def test_every_setting_gives_the_same_image_up_to_rounding(build, captions, settings):
    """The measure is a control: what another caption changes."""
    assert find_conflict({"device": "cuda", "dtype": "bfloat16", **settings}) is None
    sampling = {**SAMPLING, "height": 512, "width": 512}
    plain = build()
    expected = plain.generate(Batch(captions[:2], SEEDS[:2], **sampling))[0]
    control = plain.generate(Batch([captions[1], captions[0]], SEEDS[:2], **sampling))[0]
    images, finite = build(**settings).generate(Batch(captions[:2], SEEDS[:2], **sampling))
    assert finite.all()
    assert mean_difference(images, expected) < mean_difference(control, expected) / 10


def test_offloading_changes_no_byte(build, captions):
    """It is in no image's key: the parts of the model wait elsewhere, but are the same and run at the same place."""
    sampling = {**SAMPLING, "height": 512, "width": 512}
    expected = build().generate(Batch(captions, SEEDS, **sampling))[0]
    offloaded = build(offload="model")
    for _ in range(2):
        assert np.array_equal(offloaded.generate(Batch(captions, SEEDS, **sampling))[0], expected)
        assert offloaded.pipeline.transformer.device.type == "cpu", "control: it is offloaded"


def test_hidden_states_are_those_of_the_whole_model():
    encoder = random_text_encoder("cuda", torch.bfloat16)
    prompt = "a painting of a cat and a dog"
    ids = encoder.tokenizer(encoder.render(prompt), return_tensors="pt")["input_ids"].to("cuda")
    with torch.no_grad():
        whole = encoder.model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-2]
    keep_layers(encoder, 35)
    states = encoder.encode(prompt, None, None, [35]).hidden_states[35]
    assert torch.equal(states, whole[0].cpu())
