"""Launched batches: equal to the library's pipeline bit for bit, close to it with each setting, never waiting inside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from diffusers.models import attention_dispatch
from diffusers.models.transformers.transformer_z_image import RopeEmbedder

from graftwork.models import families
from graftwork.models.generator import Batch
from graftwork.models.generators.z_image.blocks import (
    RealRopeEmbedder,
    compile_blocks,
    compile_decoder,
    rotate,
)
from graftwork.models.generators.z_image.generator import KeptSchedule, ZImageGenerator
from graftwork.models.loading import load_generator
from lab import real_shapes
from tests.unit.models.conftest import HARDWARE, PROMPT, SAMPLING, make_images

SEEDS = [7, 8, 9]


@pytest.fixture(autouse=True)
def same_backend_afterwards():
    """The library keeps the backend that was set last for the whole process."""
    yield
    attention_dispatch._AttentionBackendRegistry.set_active_backend(
        attention_dispatch.AttentionBackendName.NATIVE
    )
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def captions(qwen3):
    texts = (PROMPT, "a robot", "two children in the snow")
    return [qwen3.encode(text, None, None, [5]).hidden_states[5] for text in texts]


@pytest.fixture(scope="module")
def expected(pipeline, captions):
    """Pixels of the library's own pipeline, none of our code in between."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]
    images = pipeline(prompt_embeds=list(captions), generator=generators, output_type="np", **SAMPLING).images
    return (images * 255).round().astype(np.uint8)


def loaded(entry, hardware, **settings):
    return ZImageGenerator.load(Path(entry["path"]), entry, {**hardware, **settings})


def test_pixels_are_those_of_the_library(generator_entry, hardware, captions, expected):
    images, finite = loaded(generator_entry, hardware).generate(Batch(captions, SEEDS, **SAMPLING))
    assert (images.dtype, finite.dtype) == (np.uint8, bool)
    assert images.flags["C_CONTIGUOUS"]
    assert np.array_equal(images, expected)
    assert finite.all()


def test_one_class_takes_every_setting(generator_entry, hardware):
    plain = load_generator("z", generator_entry, hardware)
    slicing = load_generator("z", generator_entry, {**hardware, "vae_slicing": True})
    assert type(plain) is type(slicing) is ZImageGenerator
    assert slicing.pipeline.vae.use_slicing
    assert not plain.pipeline.vae.use_slicing


def test_settings_that_a_family_does_not_have_are_refused(generator_entry, hardware, monkeypatch):
    family = replace(
        families.generator_family("z_image"),
        acceleration=("attention_backend",),
        attention_backends=("native",),
    )
    monkeypatch.setattr(families, "generator_families", lambda: {"z_image": family})
    with pytest.raises(
        ValueError, match=r"vae_slicing cannot be used .*family z_image, which has attention_"
    ):
        load_generator("z", generator_entry, {**hardware, "vae_slicing": True})
    with pytest.raises(ValueError, match=r"attention_backend '_native_math' .*allowed: native"):
        load_generator("z", generator_entry, {**hardware, "attention_backend": "_native_math"})
    assert load_generator("z", generator_entry, hardware).pipeline is not None


# Each is another order of the same sums. A caption of other tokens differs in a hundred times as many values.
@pytest.mark.parametrize(
    "settings",
    [
        {"fuse_blocks": True},
        {"attention_backend": "_native_math"},
        {"vae_channels_last": True},
        {"vae_slicing": True},
        {"fuse_blocks": True, "vae_channels_last": True, "vae_slicing": True},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_each_setting_gives_the_same_image_up_to_rounding(
    generator_entry, hardware, captions, expected, settings
):
    images, finite = loaded(generator_entry, hardware, **settings).generate(
        Batch(captions, SEEDS, **SAMPLING)
    )
    assert finite.all()
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert (images != expected).mean() <= 0.001


def test_settings_act(generator_entry, hardware):
    """What a comparison of pixels cannot see."""
    pipeline = loaded(
        generator_entry, hardware, attention_backend="_native_math", fuse_blocks=True, vae_channels_last=True
    ).pipeline
    blocks = [
        *pipeline.transformer.noise_refiner,
        *pipeline.transformer.context_refiner,
        *pipeline.transformer.layers,
    ]
    for block in blocks:
        assert block.attention.processor._attention_backend.value == "_native_math"
        assert not hasattr(block.attention, "to_q")
        assert isinstance(block.attention_norm1, torch.nn.RMSNorm)
        assert isinstance(block.attention.norm_q, torch.nn.RMSNorm)
    weight = pipeline.vae.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_fusing_keeps_the_number_of_weights(generator_entry, hardware):
    counts = {
        sum(
            parameter.numel()
            for parameter in loaded(generator_entry, hardware, **s).pipeline.transformer.parameters()
        )
        for s in ({}, {"fuse_blocks": True})
    }
    assert len(counts) == 1


def test_a_row_does_not_depend_on_its_neighbours(generator_entry, hardware, captions):
    generator = loaded(generator_entry, hardware, fuse_blocks=True)
    filler = generator.padding_row(len(captions[0]))
    together = generator.generate(Batch(captions, SEEDS, **SAMPLING))[0]
    alone = generator.generate(Batch([captions[0], filler, filler], [7, 0, 0], **SAMPLING))[0]
    assert np.array_equal(together[0], alone[0])


def test_rows_that_are_not_finite_are_reported(generator_entry, hardware, captions, expected):
    generator = loaded(generator_entry, hardware)
    broken = captions[1].clone()
    broken[3, 5] = float("nan")
    images, finite = generator.generate(Batch([captions[0], broken, captions[2]], SEEDS, **SAMPLING))
    assert finite.tolist() == [True, False, True]
    assert np.array_equal(images[0], expected[0])
    with torch.no_grad():
        generator.pipeline.vae.decoder.conv_out.bias[0] = float("inf")
    assert not generator.generate(Batch(captions, SEEDS, **SAMPLING))[1].any()


def test_every_step_is_run_and_embeddings_stay(generator_entry, hardware, captions):
    generator, steps = loaded(generator_entry, hardware), []
    copies = [caption.clone() for caption in captions]
    generator.pipeline.transformer.register_forward_pre_hook(lambda *_: steps.append(1))
    make_images(generator, captions, SEEDS)
    assert len(steps) == 8
    assert all(torch.equal(one, other) for one, other in zip(captions, copies, strict=True))


def test_bad_arguments_are_refused(generator_entry, hardware, captions):
    generator = loaded(generator_entry, hardware)
    with pytest.raises(ValueError, match="height 72"):
        generator.launch(Batch(captions, SEEDS, **{**SAMPLING, "height": 72}))


def test_schedules_are_kept_and_equal():
    config = FlowMatchEulerDiscreteScheduler(**real_shapes.Z_IMAGE_SCHEDULER).config
    plain, kept = FlowMatchEulerDiscreteScheduler.from_config(config), KeptSchedule.from_config(config)
    for sigmas in ([1.0, 0.5, 0.25], [1.0, 0.5], [1.0, 0.5, 0.25]):
        for scheduler in (plain, kept):
            scheduler.set_timesteps(len(sigmas), "cpu", sigmas=sigmas, mu=1.0)
            scheduler.set_begin_index(0)
        assert torch.equal(plain.timesteps, kept.timesteps)
        assert torch.equal(plain.sigmas, kept.sigmas)
        sample, output = torch.ones(1, 2), torch.full((1, 2), 0.5)
        for step in plain.timesteps:
            one = plain.step(output, step, sample, return_dict=False)[0]
            assert torch.equal(one, kept.step(output, step, sample, return_dict=False)[0])
    assert len(kept._kept) == 2
    kept.set_timesteps(2, "cpu", sigmas=[1.0, 0.5], mu=2.0)
    assert len(kept._kept) == 3


def test_nothing_waits_for_the_device_between_launch_and_result():
    """At the published size on the meta device, which has no values: whatever asks for one, or copies one, raises."""
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel(**real_shapes.Z_IMAGE_TRANSFORMER)
        vae = AutoencoderKL(**real_shapes.Z_IMAGE_VAE)
    scheduler = FlowMatchEulerDiscreteScheduler(**real_shapes.Z_IMAGE_SCHEDULER)
    pipeline = ZImagePipeline(scheduler, vae, None, None, transformer.to(torch.bfloat16))
    pipeline.vae.to(torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    captions = [torch.zeros(128, 2560, dtype=torch.bfloat16)] * 2
    sampling = {"height": 1024, "width": 1024, "num_inference_steps": 1, "guidance_scale": 0.0}
    generator = ZImageGenerator(pipeline, HARDWARE)
    launched = generator.launch(Batch(captions, [1, 2], **sampling))
    assert launched.images.device.type == "meta"
    assert (launched.images.shape, launched.images.dtype) == ((2, 1024, 1024, 3), torch.uint8)
    noise = torch.zeros(2, 16, 128, 128, device="meta")
    on_device = [caption.to("meta") for caption in captions]
    with pytest.raises(NotImplementedError, match="meta"):  # The control: the library waits for the pixels.
        pipeline(prompt_embeds=on_device, latents=noise, output_type="np", **sampling)


def test_rotation_is_that_of_complex_numbers():
    embedder = [kind(256.0, [8, 4, 4], [64, 16, 16]) for kind in (RopeEmbedder, RealRopeEmbedder)]
    ids = torch.randint(0, 16, (10, 3), dtype=torch.int32)
    states = torch.randn(2, 10, 3, 16, dtype=torch.float64).float()
    angles = embedder[0](ids).expand(2, -1, -1)
    as_complex = torch.view_as_complex(states.reshape(2, 10, 3, 8, 2)) * angles.unsqueeze(2)
    turned = rotate(states, embedder[1](ids).expand(2, -1, -1, -1))
    torch.testing.assert_close(turned, torch.view_as_real(as_complex).flatten(3), rtol=0, atol=1e-6)


class Counting:
    """A compiler that changes nothing and notes the number of tokens of each graph."""

    def __init__(self):
        self.lengths = []

    def __call__(self, graph, examples):
        self.lengths.append(next(e.shape[1] for e in examples if getattr(e, "ndim", 0) == 3))
        return graph.forward


@pytest.mark.parametrize("fused", [False, True])
def test_one_graph_per_shape_and_none_for_the_caption_alone(generator_entry, hardware, captions, fused):
    generator, counting = loaded(generator_entry, hardware, fuse_blocks=fused), Counting()
    reference = generator.generate(Batch(captions, SEEDS, **SAMPLING))[0]
    compile_blocks(generator.pipeline.transformer, "default", counting)
    images = generator.generate(Batch(captions, SEEDS, **SAMPLING))[0]
    assert np.array_equal(images, reference), "the counting compiler changes nothing"
    # 64 pixels are 16 tokens, padded to 32, and the captions have another 32.
    assert counting.lengths == [32, 64]
    generator.generate(Batch(captions, SEEDS, **SAMPLING))
    assert counting.lengths == [32, 64], "a shape is compiled once"


@pytest.mark.slow
def test_more_shapes_than_the_compilers_own_limit(generator_entry, hardware):
    """Its limit is 8; past it, it refuses."""
    generator, counting = loaded(generator_entry, hardware, fuse_blocks=True), Counting()
    compile_blocks(generator.pipeline.transformer, "default", counting)
    for length in range(32, 352, 32):
        make_images(generator, [torch.ones(length, 64)], [1], num_inference_steps=1)
    assert counting.lengths == [32, *range(64, 384, 32)]


def test_decoder_is_compiled_once_per_shape(generator_entry, hardware, captions, expected):
    generator, counting = loaded(generator_entry, hardware), []
    compile_decoder(generator.pipeline.vae, lambda graph, examples: counting.append(1) or graph.forward)
    for _ in range(2):
        assert np.array_equal(generator.generate(Batch(captions, SEEDS, **SAMPLING))[0], expected)
    assert len(counting) == 1


def test_warming_up_compiles_what_a_batch_needs(generator_entry, hardware, captions):
    generator, counting = loaded(generator_entry, hardware), Counting()
    compile_blocks(generator.pipeline.transformer, "default", counting)
    batch = Batch(captions, SEEDS, **SAMPLING)
    generator.warm_up(batch)
    assert counting.lengths == [], "nothing was asked to be compiled"
    generator.is_compiled = True
    generator.warm_up(batch)
    assert counting.lengths == [32, 64]
    generator.generate(batch)
    assert counting.lengths == [32, 64]


def test_warming_up_runs_once_for_a_shape(generator_entry, hardware, captions, monkeypatch):
    generator, made = loaded(generator_entry, hardware), []
    generator.is_compiled = True
    monkeypatch.setattr(generator, "generate", lambda batch: made.append((batch.height, batch.steps)))
    one, other = Batch(captions, SEEDS, **SAMPLING), Batch(captions, SEEDS, **{**SAMPLING, "height": 32})
    for batch in (one, other, one, Batch(captions[::-1], [4, 5, 6], **SAMPLING)):
        generator.warm_up(batch)
    assert made == [(64, 1), (32, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_images_are_the_same_up_to_rounding(generator_entry, hardware, captions, expected, mode):
    """With the real compiler, which needs a C++ compiler here."""
    generator = loaded(generator_entry, hardware, compile=mode, fuse_blocks=True)
    images = generator.generate(Batch(captions, SEEDS, **SAMPLING))[0]
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert (images != expected).mean() <= 0.001
    assert np.array_equal(generator.generate(Batch(captions, SEEDS, **SAMPLING))[0], images)


def test_a_backend_that_is_not_installed_is_named(generator_entry, hardware):
    with pytest.raises(RuntimeError, match=r"attention backend 'flash' .*attention_backend to native"):
        loaded(generator_entry, hardware, attention_backend="flash")


def test_offloading_decodes_after_the_transformer_has_left(generator_entry, hardware, captions, expected):
    """The library's hooks, with the CPU in the place of the GPU: who is where when."""
    generator = loaded(generator_entry, hardware)
    pipeline, seen = generator.pipeline, []
    pipeline.enable_model_cpu_offload(device="cpu")
    pipeline.vae.decoder.register_forward_pre_hook(lambda *_: seen.append("decoder"))
    pipeline.transformer.layers[0].register_forward_pre_hook(lambda *_: seen.append("transformer"))
    assert np.array_equal(generator.generate(Batch(captions, SEEDS, **SAMPLING))[0], expected)
    assert seen == ["transformer"] * 8 + ["decoder"]
