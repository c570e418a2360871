"""Schedules, guidance and image-to-image: equal to the library's own pipelines, with rows that do not depend on others."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImageImg2ImgPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.models import attention_dispatch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from PIL import Image

from graftwork.models.families import first_step
from graftwork.models.generator import Batch, convert_rows, embeds_at
from graftwork.models.generators.z_image.blocks import compile_blocks
from graftwork.models.generators.z_image.generator import ZImageGenerator
from lab import real_shapes
from tests.unit.models.conftest import HARDWARE, PROMPT, SAMPLING, make_images

SEED = 7
STEPS = 4
SHORT = {**SAMPLING, "num_inference_steps": STEPS}
# 33 tokens and more are padded to 64, fewer to 32.
LONG = "no text, no people, no blur, no frame, a photo of nothing but the empty sea in the evening " * 2


@pytest.fixture(autouse=True)
def same_backend_afterwards():
    """The library keeps the backend that was set last for the whole process."""
    yield
    attention_dispatch._AttentionBackendRegistry.set_active_backend(
        attention_dispatch.AttentionBackendName.NATIVE
    )
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def maker(generator_entry, hardware):
    return ZImageGenerator.load(Path(generator_entry["path"]), generator_entry, hardware)


@pytest.fixture(scope="module")
def captions(qwen3):
    texts = (PROMPT, "a robot", "two children in the snow", LONG)
    return [qwen3.encode(text, None, None, [5]).hidden_states[5] for text in texts]


def make(generator, rows, seeds=None, **changes):
    seeds = seeds or [SEED + number for number in range(len(rows))]
    images, finite = make_images(generator, rows, seeds, **{**SHORT, **changes})
    assert finite.all()
    return images


def by_hand(pipeline, conditions, seed):
    """One image: Euler steps over a shifted schedule, the transformer called with what each step is to get."""
    shift = pipeline.scheduler.config.shift
    sigmas = torch.tensor(get_default_z_image_sigmas(len(conditions)))
    sigmas = torch.cat([shift * sigmas / (1 + (shift - 1) * sigmas), torch.zeros(1)])
    latents = torch.randn((1, 16, 8, 8), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for step, embeds in enumerate(conditions):
            time = (1000 - sigmas[step : step + 1] * 1000) / 1000
            (velocity,) = pipeline.transformer([latents[0][:, None]], time, [embeds], return_dict=False)[0]
            latents = latents + (sigmas[step + 1] - sigmas[step]) * -velocity[:, 0][None]
        vae = pipeline.vae
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample[0]
    return ((decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def ramp(one, other, steps=STEPS):
    """A schedule between two captions of one length."""
    rows = min(len(one), len(other))
    return [torch.lerp(one[:rows], other[:rows], step / (steps - 1)) for step in range(steps)]


def test_a_schedule_equals_a_loop_by_hand(maker, pipeline, captions):
    schedule = ramp(captions[0], captions[2])
    image = make(maker, [schedule])[0]
    expected = by_hand(pipeline, schedule, SEED)
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert (image != expected).mean() <= 0.001
    reversed_ = by_hand(pipeline, schedule[::-1], SEED)
    assert (image != reversed_).mean() > 0.1, "control: a schedule the wrong way round is another image"


def test_a_schedule_of_one_caption_is_that_caption(maker, captions):
    assert np.array_equal(make(maker, [[captions[0]] * STEPS]), make(maker, [captions[0]]))


def test_each_step_gets_its_own(maker, captions):
    """Another caption at one step alone is seen, whichever step it is."""
    plain = make(maker, [captions[0]])
    images = []
    for step in range(STEPS):
        schedule = [captions[0]] * STEPS
        schedule[step] = captions[2]
        images.append(make(maker, [schedule]))
    assert len({image.tobytes() for image in [plain, *images]}) == STEPS + 1


def test_rows_with_and_without_a_schedule_share_a_batch(maker, captions):
    schedule, other = ramp(captions[0], captions[2]), ramp(captions[2], captions[1])
    together = make(maker, [schedule, captions[1], other], [1, 2, 3])
    filler = maker.padding_row(20)
    assert np.array_equal(make(maker, [schedule, filler, filler], [1, 0, 0])[0], together[0])
    assert np.array_equal(make(maker, [filler, captions[1], schedule], [9, 2, 9])[1], together[1])
    assert np.array_equal(make(maker, [captions[0], captions[0], other], [5, 6, 3])[2], together[2])


def test_what_occurs_at_several_steps_is_copied_once(captions):
    one, other, copied = captions[0], captions[2], []
    rows = convert_rows(
        [[one, other, one, one], other, [one] * 4], lambda embeds: copied.append(embeds) or embeds + 1
    )
    assert len(copied) == 2
    assert torch.equal(rows[0][2], one + 1)
    assert rows[0][0] is rows[0][3] is rows[2][1]
    assert rows[0][1] is rows[1]
    assert [embeds is rows[1] for embeds in embeds_at(rows, 1)] == [True, True, False]


def guided_by_the_library(pipeline, caption, negative, **changes):
    return pipeline(
        prompt_embeds=[caption],
        negative_prompt_embeds=[negative],
        generator=[torch.Generator("cpu").manual_seed(SEED)],
        output_type="np",
        **{**SHORT, "guidance_scale": 3.0, **changes},
    ).images[0]


OPTIONS = [{}, {"cfg_normalization": 1.0}, {"cfg_truncation": 0.3}, {"guidance_scale": 1.0}]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
@pytest.mark.parametrize("negative", [1, 3], ids=["one padded length", "two padded lengths"])
def test_guidance_equals_the_library(maker, pipeline, captions, options, negative):
    ours = make(
        maker,
        [captions[0]],
        negative_prompt_embeds=[captions[negative]],
        **{"guidance_scale": 3.0, **options},
    )[0]
    theirs = guided_by_the_library(pipeline, captions[0], captions[negative], **options)
    assert np.array_equal(ours, (theirs * 255).round().astype(np.uint8))


def test_guidance_acts_and_knows_positive_from_negative(maker, captions):
    one, other = captions[0], captions[1]
    plain = make(maker, [one])
    guided = make(maker, [one], guidance_scale=3.0, negative_prompt_embeds=[other])
    swapped = make(maker, [other], guidance_scale=3.0, negative_prompt_embeds=[one])
    assert (guided != plain).mean() > 0.1
    assert (guided != swapped).mean() > 0.1
    for option in OPTIONS[1:]:
        changed = make(maker, [one], **{"guidance_scale": 3.0, "negative_prompt_embeds": [other], **option})
        assert (changed != guided).mean() > 0.01, option


def test_a_prompt_that_is_its_own_negative_is_not_guided(maker, captions):
    """pos + scale * (pos - pos), up to the rounding of a batch of another shape."""
    guided = make(maker, [captions[0]], guidance_scale=3.0, negative_prompt_embeds=[captions[0]])
    assert np.abs(guided.astype(int) - make(maker, [captions[0]])).max() <= 1


@pytest.mark.parametrize("negative", [1, 3], ids=["one padded length", "two padded lengths"])
def test_guided_rows_do_not_depend_on_their_neighbours(maker, captions, negative):
    sampling = {"guidance_scale": 2.0}
    against = captions[negative]
    filler, blank = maker.padding_row(20), maker.padding_row(len(against))
    together = make(
        maker, captions[:3], [1, 2, 3], negative_prompt_embeds=[against, against, against + 0.1], **sampling
    )
    alone = make(
        maker,
        [filler, captions[1], filler],
        [0, 2, 0],
        negative_prompt_embeds=[blank, against, blank],
        **sampling,
    )
    assert np.array_equal(alone[1], together[1])


def test_guidance_with_a_schedule(maker, pipeline, captions):
    """The pipeline's own callback, written out."""
    schedule = ramp(captions[0], captions[2])
    ours = make(maker, [schedule], guidance_scale=2.0, negative_prompt_embeds=[captions[1]])[0]
    theirs = guided_by_the_library(
        pipeline,
        schedule[0],
        captions[1],
        guidance_scale=2.0,
        callback_on_step_end=lambda _pipeline, step, _time, _values: (
            {"prompt_embeds": [schedule[step + 1]]} if step + 1 < STEPS else {}
        ),
    )
    assert np.array_equal(ours, (theirs * 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((64, 64), (48, 80))
    ]


@pytest.fixture
def library_img2img(pipeline, monkeypatch):
    """The library's pipeline, but for the mode of the VAE's posterior: its sample would come before the noise."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    made = ZImageImg2ImgPipeline(**pipeline.components)
    made.set_progress_bar_config(disable=True)

    def run(caption, picture, strength, seed=SEED, **changes):
        resized = made.image_processor.resize(picture, SHORT["height"], SHORT["width"])
        image = made(
            prompt_embeds=[caption],
            image=resized,
            strength=strength,
            generator=[torch.Generator("cpu").manual_seed(seed)],
            output_type="np",
            **{**SHORT, **changes},
        ).images[0]
        return (image * 255).round().astype(np.uint8)

    return run


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("picture", [0, 1], ids=["its own size", "another size"])
def test_image_to_image_equals_the_library(maker, library_img2img, captions, pictures, strength, picture):
    begun = {"init_images": [pictures[picture]], "first_step": first_step(STEPS, strength)}
    ours = make(maker, [captions[0]], **begun)[0]
    assert np.array_equal(ours, library_img2img(captions[0], pictures[picture], strength))


def test_image_to_image_with_guidance_equals_the_library(maker, library_img2img, captions, pictures):
    options = {"guidance_scale": 2.0, "negative_prompt_embeds": [captions[1]]}
    ours = make(maker, [captions[0]], init_images=[pictures[0]], first_step=2, **options)[0]
    assert np.array_equal(ours, library_img2img(captions[0], pictures[0], 0.5, **options))


def test_from_pure_noise_the_image_is_that_without_an_image(maker, captions, pictures):
    assert np.array_equal(make(maker, [captions[0]], init_images=[pictures[0]]), make(maker, [captions[0]]))


def test_image_strength_seed_and_caption_all_act(maker, captions, pictures):
    begun = {"init_images": [pictures[0]], "first_step": 2}
    variants = [
        make(maker, [captions[0]], **begun),
        make(maker, [captions[0]], **{**begun, "init_images": [pictures[1]]}),
        make(maker, [captions[0]], **{**begun, "first_step": 1}),
        make(maker, [captions[0]], [SEED + 1], **begun),
        make(maker, [captions[2]], **begun),
    ]
    assert len({image.tobytes() for image in variants}) == 5


def test_rows_that_start_from_images_do_not_depend_on_their_neighbours(maker, captions, pictures):
    one, other = pictures
    together = make(maker, captions[:3], [1, 2, 3], init_images=[one, other, one], first_step=2)
    filler = maker.padding_row(20)
    alone = make(maker, [filler, captions[1], filler], [0, 2, 0], init_images=[other] * 3, first_step=2)
    assert np.array_equal(alone[1], together[1])


def test_a_schedule_goes_with_the_steps_that_are_run(maker, captions, pictures):
    begun = {"init_images": [pictures[0]], "first_step": 2}
    schedule, steps = [captions[0], captions[2]], []
    hook = maker.pipeline.transformer.register_forward_pre_hook(lambda *_: steps.append(1))
    image = make(maker, [schedule], **begun)
    hook.remove()
    assert len(steps) == 2
    assert not np.array_equal(image, make(maker, [captions[0]], **begun))
    with pytest.raises(ValueError, match="schedule of row 0 has 4 entries: one for each of 2 steps"):
        make(maker, [[captions[0]] * 4], **begun)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_scale": 2.0}, "guidance_scale 2.0 without negative embeddings"),
        ({"negative_prompt_embeds": [torch.zeros(5, 64)]}, "guidance_scale 0.0 with negative embeddings"),
        ({"guidance_scale": -1.0}, "guidance_scale -1.0 is below 0"),
        ({"guidance_scale": 1.0, "negative_prompt_embeds": [torch.zeros(0, 64)]}, "negative caption 0 has 0"),
        ({"guidance_scale": 1.0, "negative_prompt_embeds": []}, "0 negative embeddings for 1 images"),
        ({"first_step": 4}, "first step 4 of 4 leaves nothing to run"),
        ({"first_step": 1}, "first step 1 needs init images"),
        ({"init_images": []}, "0 init images for 1 images"),
    ],
)
def test_bad_arguments_are_refused(maker, captions, changes, message):
    with pytest.raises(ValueError, match=message):
        make(maker, [captions[0]], **changes)


@pytest.mark.parametrize(
    ("steps", "strength", "first"),
    [
        (8, 1.0, 0),
        (8, 0.9, 0),
        (8, 0.875, 1),
        (8, 0.6, 3),
        (8, 0.5, 4),
        (8, 0.05, 7),
        (8, 0.0, 8),
        (1, 0.5, 0),
    ],
)
def test_the_first_step(steps, strength, first):
    assert first_step(steps, strength) == first


@pytest.mark.parametrize("steps", range(1, 30))
def test_the_first_step_is_that_of_the_library(steps):
    scheduler = SimpleNamespace(timesteps=torch.arange(steps), order=1)
    library = SimpleNamespace(scheduler=scheduler)
    for strength in [number / 40 for number in range(41)]:
        _, run = ZImageImg2ImgPipeline.get_timesteps(library, steps, strength, "cpu")
        assert first_step(steps, strength) == steps - run


def test_nothing_waits_for_the_device(pictures):
    """As in test_z_image_launch: on the meta device, whatever asks for a value raises."""
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel(**{**real_shapes.Z_IMAGE_TRANSFORMER, "n_layers": 1})
        vae = AutoencoderKL(**real_shapes.Z_IMAGE_VAE)
    scheduler = FlowMatchEulerDiscreteScheduler(**real_shapes.Z_IMAGE_SCHEDULER)
    pipeline = ZImagePipeline(scheduler, vae.to(torch.bfloat16), None, None, transformer.to(torch.bfloat16))
    pipeline.set_progress_bar_config(disable=True)
    caption = torch.zeros(32, 2560, dtype=torch.bfloat16)
    sampling = {
        "height": 256,
        "width": 256,
        "num_inference_steps": 4,
        "guidance_scale": 2.0,
        "negative_prompt_embeds": [caption] * 2,
        "init_images": [pictures[0], pictures[1]],
        "first_step": 2,
    }
    rows = [[caption, caption + 1], caption]
    launched = ZImageGenerator(pipeline, HARDWARE).launch(Batch(rows, [1, 2], **sampling))
    assert launched.images.device.type == "meta"
    noise = torch.zeros(2, 16, 32, 32, device="meta")
    with pytest.raises(NotImplementedError, match="meta"):  # The control: the library waits for the pixels.
        pipeline(
            prompt_embeds=[caption.to("meta")] * 2,
            latents=noise,
            height=256,
            width=256,
            num_inference_steps=1,
            guidance_scale=0.0,
            output_type="np",
        )


@pytest.mark.slow
def test_warming_up_compiles_what_a_guided_batch_needs(generator_entry, hardware, captions):
    generator = ZImageGenerator.load(Path(generator_entry["path"]), generator_entry, hardware)
    rows = []

    def counting(graph, examples):
        rows.append(next(e.shape[0] for e in examples if getattr(e, "ndim", 0) == 3))
        return graph.forward

    compile_blocks(generator.pipeline.transformer, "default", counting)
    generator.is_compiled = True
    filler, negative = generator.padding_row(20), captions[2][:9]
    guidance = {"guidance_scale": 3.0, "negative_prompt_embeds": [negative] * 2}
    generator.warm_up(Batch([filler] * 2, [0, 0], **{**SHORT, **guidance}))
    compiled = len(rows)
    assert set(rows) == {4}
    make(
        generator,
        [captions[0], captions[1]],
        guidance_scale=2.0,
        negative_prompt_embeds=[captions[2][:9]] * 2,
    )
    assert len(rows) == compiled


def test_a_kernel_without_masks_refuses_two_padded_lengths(generator_entry, hardware, captions):
    """What planning says of such a cell is true."""
    generator = ZImageGenerator.load(
        Path(generator_entry["path"]), generator_entry, {**hardware, "attention_backend": "_native_flash"}
    )
    with pytest.raises(ValueError, match="`attn_mask` is not supported"):
        make(generator, [captions[0]], guidance_scale=2.0, negative_prompt_embeds=[captions[3]])
