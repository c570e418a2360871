"""Images equal those of `ZImagePipeline`, rows do not depend on each other, and bad arguments are refused."""

import shutil

import numpy as np
import pytest
import torch

from graftwork.models.generator import initial_noise
from graftwork.models.loading import load_generator
from tests.unit.models.conftest import PROMPT, SAMPLING, make_images

SEED = 7
# At most one grey level in this share of all values; a control must differ in a hundred times as many.
SHARE = 0.001


@pytest.fixture(scope="module")
def expected(pipeline):
    image = pipeline(prompt=PROMPT, generator=torch.Generator("cpu").manual_seed(SEED), **SAMPLING).images[0]
    return np.asarray(image)


@pytest.fixture(scope="module")
def embeds(qwen3):
    return qwen3.encode(PROMPT, None, None, [4, 5]).hidden_states


def make(generator, *captions, seeds=None, **changes):
    images, finite = make_images(generator, list(captions), seeds or [SEED] * len(captions), **changes)
    assert images.dtype == np.uint8
    assert finite.dtype == bool
    return images, finite


def share_of_differences(image, other):
    return float((image != other).mean())


def test_pixels_equal_the_pipeline_when_fed_its_embeddings(pipeline, generator, expected):
    theirs = pipeline.encode_prompt([PROMPT], device="cpu", do_classifier_free_guidance=False)[0][0].detach()
    images, finite = make(generator, theirs)
    assert np.array_equal(images[0], expected)
    assert finite.tolist() == [True]


def test_own_states_give_the_pipeline_image(generator, embeds, expected):
    image = make(generator, embeds[5])[0][0]
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert share_of_differences(image, expected) <= SHARE


def test_control_layer_off_by_one(generator, embeds, expected):
    assert share_of_differences(make(generator, embeds[4])[0][0], expected) > 100 * SHARE


@pytest.mark.parametrize("first", [1, 2])
def test_control_tokens_off_by_one(generator, embeds, expected, first):
    assert share_of_differences(make(generator, embeds[5][first:])[0][0], expected) > 100 * SHARE


def test_control_padding_kept(pipeline, generator, expected):
    text = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    inputs = pipeline.tokenizer(text, padding="max_length", max_length=512, return_tensors="pt")
    with torch.no_grad():
        padded = pipeline.text_encoder(**inputs, output_hidden_states=True).hidden_states[-2][0]
    assert share_of_differences(make(generator, padded)[0][0], expected) > 100 * SHARE


def test_control_vae_shift_forgotten(generator_entry, hardware, embeds, expected):
    other = load_generator("z-image", generator_entry, hardware)
    other.pipeline.vae.register_to_config(shift_factor=0.0)
    assert share_of_differences(make(other, embeds[5])[0][0], expected) > 100 * SHARE


def test_same_seed_same_image_other_seed_other_image(generator, embeds):
    one, again = make(generator, embeds[5])[0], make(generator, embeds[5])[0]
    other = make(generator, embeds[5], seeds=[SEED + 1])[0]
    assert np.array_equal(one, again)
    assert share_of_differences(one, other) > 0.5


def test_prompts_make_visibly_different_images(generator, qwen3, embeds):
    other = qwen3.encode("a red apple by the sea, pixel art", None, None, [5]).hidden_states[5]
    one, two = make(generator, embeds[5])[0].astype(int), make(generator, other)[0].astype(int)
    assert np.abs(one - two).mean() > 5


def test_row_is_bit_equal_whatever_its_neighbours(generator, qwen3, embeds):
    others = [qwen3.encode(text, None, None, [5]).hidden_states[5] for text in ("a robot", "two children")]
    filler = generator.padding_row(len(embeds[5]))
    reference = make(generator, embeds[5], *others, seeds=[1, 2, 3])[0]
    for captions, seeds in (
        ((embeds[5], others[1], others[0]), [1, 5, 6]),
        ((embeds[5], filler, filler), [1, 0, 0]),
        ((embeds[5], embeds[5], filler), [1, 1, 9]),
    ):
        images = make(generator, *captions, seeds=seeds)[0]
        assert np.array_equal(images[0], reference[0])
        assert share_of_differences(images[1], reference[1]) > 0.5, "control: another row is another image"
    changed = make(generator, embeds[5] + 1e-3, *others, seeds=[1, 2, 3])[0]
    assert not np.array_equal(changed[0], reference[0]), "control: the row itself matters"


def test_rows_that_are_not_finite_are_reported_and_harm_no_other(generator, embeds):
    reference = make(generator, embeds[5], generator.padding_row(20), seeds=[1, 2])[0]
    broken = generator.padding_row(20)
    broken[3, 5] = float("nan")
    images, finite = make(generator, embeds[5], broken, seeds=[1, 2])
    assert finite.tolist() == [True, False]
    assert np.array_equal(images[0], reference[0])


def test_infinities_of_the_decoder_are_reported(generator_entry, hardware, embeds):
    other = load_generator("z-image", generator_entry, hardware)
    with torch.no_grad():
        other.pipeline.vae.decoder.conv_out.bias[0] = float("inf")
    assert make(other, embeds[5])[1].tolist() == [False]


def test_embeddings_are_not_changed(generator, embeds):
    given, copy = [embeds[5]], embeds[5].clone()
    make_images(generator, given, [1])
    assert len(given) == 1
    assert torch.equal(given[0], copy)


def test_sizes_other_than_square(generator, embeds):
    assert make(generator, embeds[5], height=32, width=80)[0].shape == (1, 32, 80, 3)


def test_latents_of_a_row_depend_on_its_seed_alone():
    alone, together = initial_noise([3], 16, 8, 8), initial_noise([1, 3], 16, 8, 8)
    assert alone.dtype == torch.float32
    assert torch.equal(alone[0], together[1])


@pytest.mark.parametrize(("tokens", "length"), [(1, 32), (32, 32), (33, 64)])
def test_padding_row_has_the_padded_length(generator, tokens, length):
    assert generator.padding_row(tokens).shape == (length, 64)


@pytest.mark.parametrize(
    ("lengths", "changes", "message"),
    [
        ([20, 40], {}, r"padded lengths \[32, 64\]"),
        ([0], {}, "0 tokens, this generator takes 1 to 1504"),
        ([1505], {}, "1505 tokens"),
        ([20], {"guidance_scale": 2.0}, "guidance_scale 2.0"),
        ([20], {"height": 72}, "height 72 is not a positive multiple of 16"),
        ([20], {"width": 0}, "width 0"),
        ([20], {"num_inference_steps": 0}, "num_inference_steps 0"),
        ([], {}, "0 embeddings"),
    ],
)
def test_bad_arguments_are_refused_before_sampling(generator, monkeypatch, lengths, changes, message):
    monkeypatch.setattr(type(generator.pipeline), "__call__", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=message):
        make(generator, *[torch.zeros(n, 64) for n in lengths], **changes)


def test_wrong_width_of_embeddings_is_refused(generator):
    with pytest.raises(ValueError, match=r"\(tokens, 64\)"):
        make(generator, torch.zeros(20, 32))


def test_longest_caption_works(generator):
    images, finite = make(generator, torch.randn(1504, 64), height=16, width=16, num_inference_steps=1)
    assert finite.all()
    assert images.shape == (1, 16, 16, 3)


def test_text_encoder_is_not_touched(family, tmp_path, generator_entry, hardware, generator, embeds):
    folder = tmp_path / "z-image"
    shutil.copytree(family / "z-image", folder, ignore=shutil.ignore_patterns("text_encoder", "tokenizer"))
    alone = load_generator("z-image", {**generator_entry, "path": str(folder)}, hardware)
    assert alone.pipeline.text_encoder is None
    assert np.array_equal(make(alone, embeds[5])[0], make(generator, embeds[5])[0])


def test_bfloat16_takes_embeddings_of_any_dtype(generator_entry, hardware, embeds, expected):
    other = load_generator("z-image", generator_entry, {**hardware, "dtype": "bfloat16"})
    assert other.pipeline.transformer.dtype == torch.bfloat16
    image = make(other, embeds[5])[0][0].astype(int)
    assert 0 < np.abs(image - expected).mean() < 10
