"""SDXL with IP-Adapter Plus: texts and images equal those of its pipeline, with and without a reference."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from graftwork.models.description import describe_model, missing_files
from graftwork.models.families import generator_family
from graftwork.models.generator import Batch
from graftwork.models.generators.sdxl import ADAPTER, ADAPTER_WEIGHTS, IMAGE_ENCODER
from graftwork.models.loading import load_encoder, load_generator, load_reference_generator
from graftwork.models.prompts import InputOptions
from graftwork.models.reference_generator import with_references
from tests.small_sdxl import save_sdxl
from tests.unit.models.test_generator_families import ALLOWED, FACTOR, distance
from tests.unit.models.test_reference_generators import picture

PROMPT, OTHER, SEED, SCALE = "a red bird in a tree", "a house by the sea", 7, 0.6
SAMPLING = {"height": 64, "width": 96, "num_inference_steps": 4, "guidance_scale": 1.5}
RAW = InputOptions(prompt_format="raw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def entry(folder):
    return {"family": "sdxl", "path": str(folder), "text_encoder": "clip"}


@pytest.fixture(scope="module")
def encoder(folder, hardware):
    return load_encoder("clip", {"family": "clip_pair", "path": str(folder)}, [0], hardware)


@pytest.fixture(scope="module")
def plain(entry, hardware):
    return load_generator("sdxl", entry, hardware)


@pytest.fixture(scope="module")
def adapted(entry, hardware):
    return load_reference_generator("sdxl", entry, hardware)


def pipeline_of(folder):
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline(folder):
    return pipeline_of(folder)


@pytest.fixture(scope="module")
def adapted_pipeline(folder):
    pipeline = pipeline_of(folder)
    subfolder, name = ADAPTER_WEIGHTS
    pipeline.load_ip_adapter(
        str(folder / ADAPTER), subfolder=subfolder, weight_name=name, image_encoder_folder=IMAGE_ENCODER
    )
    return pipeline


def caption(encoder, prompt):
    return encoder.encode(prompt, None, None, [0], RAW).hidden_states[0]


def batch(encoder, prompts=(PROMPT,), seeds=(SEED,), **changes):
    sampling = {**SAMPLING, **changes}
    guided = sampling["guidance_scale"] > 0
    negatives = [caption(encoder, "")] * len(prompts) if guided else None
    return Batch(
        [caption(encoder, one) for one in prompts], seeds, **sampling, negative_prompt_embeds=negatives
    )


def images(generator, made):
    pixels, finite = generator.generate(made)
    assert finite.all()
    return pixels


def expected(pipeline, prompt=PROMPT, guidance_scale=2.5, **arguments):
    made = pipeline(
        prompt=prompt,
        negative_prompt="",
        generator=torch.Generator("cpu").manual_seed(SEED),
        **{**SAMPLING, "guidance_scale": guidance_scale},
        **arguments,
    )
    return np.asarray(made.images[0])


def shown(pipeline, pictures, prompt=PROMPT, scale=SCALE):
    pipeline.set_ip_adapter_scale(scale)
    return expected(pipeline, prompt, ip_adapter_image=[list(pictures)])


def test_the_caption_is_that_of_the_pipeline(encoder, pipeline):
    own = caption(encoder, PROMPT)
    states, _, pooled, _ = pipeline.encode_prompt(PROMPT)
    assert torch.equal(own[:-1], states[0])
    assert torch.equal(own[-1, : pooled.shape[1]], pooled[0])
    assert not own[-1, pooled.shape[1] :].any()
    encoded = encoder.encode(PROMPT, None, None, [0], RAW)
    # The prompt, between a token at its beginning and those at its end.
    assert encoded.in_prompt.sum() == len(PROMPT.replace(" ", ""))
    with pytest.raises(ValueError, match="does not fit into the 77"):
        caption(encoder, "a" * 80)
    with pytest.raises(ValueError, match="take no images"):
        encoder.encode(PROMPT, picture(1), None, [0], RAW)


def test_the_text_alone_gives_the_image_of_the_pipeline(encoder, plain, pipeline):
    assert distance(images(plain, batch(encoder))[0], expected(pipeline)) < ALLOWED
    own = images(plain, batch(encoder, guidance_scale=0.0))[0]
    assert distance(own, expected(pipeline, guidance_scale=1.0)) < ALLOWED
    for other in (expected(pipeline, OTHER), expected(pipeline, guidance_scale=1.0)):
        assert distance(images(plain, batch(encoder))[0], other) > FACTOR * ALLOWED
    # Without the pooled text, which is the last row of the caption.
    made = batch(encoder)
    for row in made.prompt_embeds:
        row[-1] = 0.0
    assert distance(images(plain, made)[0], expected(pipeline)) > FACTOR * ALLOWED


def test_an_image_with_a_reference_is_that_of_the_pipeline(encoder, adapted, adapted_pipeline):
    one, other = picture(1), picture(2, 130, 70)

    def own(pictures, scale=SCALE):
        return images(adapted, with_references(batch(encoder), pictures, scale))[0]

    for pictures in ([one], [other], [one, other]):
        assert distance(own(pictures), shown(adapted_pipeline, pictures)) < ALLOWED
    assert distance(own([one], 0.2), shown(adapted_pipeline, [one], scale=0.2)) < ALLOWED
    controls = {
        "another reference": shown(adapted_pipeline, [other]),
        "another scale": shown(adapted_pipeline, [one], scale=0.2),
        "no reference": shown(adapted_pipeline, [one], scale=0.0),
        "another prompt": shown(adapted_pipeline, [one], OTHER),
    }
    for name, image in controls.items():
        assert distance(own([one]), image) > FACTOR * ALLOWED, name


def test_rows_do_not_depend_on_their_neighbours(encoder, adapted):
    prompts = (PROMPT, OTHER, "a boat")
    together = images(adapted, with_references(batch(encoder, prompts, (1, 2, 3)), [picture(1)], SCALE))
    for row, prompt in enumerate(prompts):
        others = ["x"] * 3
        others[row] = prompt
        seeds = [9 if place != row else row + 1 for place in range(3)]
        alone = images(adapted, with_references(batch(encoder, others, seeds), [picture(1)], SCALE))
        assert np.array_equal(alone[row], together[row])


def test_facts_are_read_and_what_is_missing_is_named(folder, entry, plain, tmp_path):
    facts = describe_model(entry, "generator", folder)
    assert (facts.conditioning_layers, facts.caption_channels, facts.size_multiple) == ((0,), 64, 8)
    assert generator_family("sdxl").sampling.guidance_problem(facts) is None
    text = describe_model({"family": "clip_pair", "path": str(folder)}, "encoder", folder)
    assert (text.num_hidden_layers, text.hidden_size) == (0, 64)
    with pytest.raises(ValueError, match="says nothing of family"):
        describe_model({**entry, "is_distilled": True}, "generator", folder)
    lacking = missing_files(entry, "generator", tmp_path)
    assert any(ADAPTER_WEIGHTS[1] in file for file in lacking)
    sigmas = generator_family("sdxl").scheduler_sigmas(facts.scheduler_config, 4, 0, 1)
    plain.pipeline.scheduler.set_timesteps(4)
    assert torch.equal(sigmas, plain.pipeline.scheduler.sigmas[1:])


def test_what_is_refused(encoder, plain, adapted):
    with pytest.raises(ValueError, match="without references"):
        images(adapted, batch(encoder))
    with pytest.raises(ValueError, match="not between 0 and 1"):
        images(adapted, with_references(batch(encoder), [picture(1)], None))
    with pytest.raises(ValueError, match="height 60 is not a positive multiple of 8"):
        images(plain, batch(encoder, height=60))
    with pytest.raises(ValueError, match="takes no init_image"):
        images(plain, batch(encoder, cfg_truncation=0.5))
    made = batch(encoder, guidance_scale=0.0)
    with pytest.raises(ValueError, match=r"a caption has shape \(20, 64\)"):
        images(plain, Batch([made.prompt_embeds[0][:20]], [1], **{**SAMPLING, "guidance_scale": 0.0}))
