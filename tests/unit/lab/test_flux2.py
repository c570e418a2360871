"""The second generator: what it is trained on is what the library's pipeline gives it and asks of it."""

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline

from graftwork.scenes.captions import PHRASINGS, write_caption
from graftwork.scenes.world import sample_scenes, split_scenes
from lab.miniature.sizes import FLUX2_LAYERS, FLUX2_TOKENS, SIZES, new_tokenizer
from lab.miniature.training import autoencoder
from lab.miniature.training.flux2 import (
    CaptionStates,
    encode_patches,
    initialise_context,
    new_flux2_transformer,
    new_scheduler,
    predict_velocity,
    save_flux2_pipeline,
    transplant_vae,
)
from lab.small_parts import new_text_encoder, new_vae

CAPTIONS = ["a small red circle on the left", "someone painted a blue cross, a little one, at the top"]


@pytest.fixture(scope="module")
def first_vae():
    torch.manual_seed(0)
    vae = new_vae(SIZES, use_post_quant_conv=True).eval()
    autoencoder._start_unchanged(vae.post_quant_conv)
    autoencoder.offset_latents(vae)
    return vae


@pytest.fixture(scope="module")
def pipeline(first_vae):
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    pipeline = Flux2KleinPipeline(
        scheduler=new_scheduler(),
        vae=transplant_vae(first_vae),
        text_encoder=new_text_encoder(SIZES, tokenizer).eval(),
        tokenizer=tokenizer,
        transformer=new_flux2_transformer().eval(),
        is_distilled=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_states_of_captions_are_those_of_the_pipeline(pipeline):
    states = CaptionStates(pipeline.text_encoder, pipeline.tokenizer)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(
            CAPTIONS, max_sequence_length=FLUX2_TOKENS, text_encoder_out_layers=FLUX2_LAYERS
        )
    assert expected.shape == (2, FLUX2_TOKENS, 3 * SIZES.hidden_size)
    torch.testing.assert_close(states(CAPTIONS), expected, rtol=1e-3, atol=1e-4)
    # Again, out of what it keeps, in another order.
    torch.testing.assert_close(states(CAPTIONS[::-1]), expected.flip(0), rtol=1e-3, atol=1e-4)


def test_every_caption_fits_the_length_that_prompts_are_padded_to(pipeline):
    """The pipeline cuts off what does not fit, and says nothing."""
    captions = [write_caption(scene, p) for scene in sample_scenes(1, 50, "all") for p in PHRASINGS]
    for caption in captions:
        text = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": caption}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        assert len(pipeline.tokenizer(text)["input_ids"]) <= FLUX2_TOKENS


def test_the_transplanted_autoencoder_makes_the_same_pictures(first_vae, pipeline):
    scenes = sample_scenes(5, 6, "held_out")
    assert np.array_equal(
        autoencoder.reconstruct(first_vae, scenes), autoencoder.reconstruct(pipeline.vae, scenes)
    )
    latents = encode_patches(pipeline.vae, split_scenes("train")[::64])
    assert latents.shape[1:] == (16, 64)
    assert latents.mean(dim=(0, 1)).abs().max() < 0.2
    assert (latents.std(dim=(0, 1)) - 1).abs().max() < 0.2


def test_one_step_of_the_pipeline_follows_the_trained_velocity(pipeline):
    """Position ids, the time and the sign: the step from pure noise to 0 is the noise minus the velocity."""
    torch.manual_seed(1)
    noise, states = torch.randn(2, 64, 4, 4), torch.randn(2, FLUX2_TOKENS, 3 * SIZES.hidden_size)
    latents = pipeline(
        prompt_embeds=states,
        latents=noise,
        height=64,
        width=64,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="latent",
    ).images
    packed = Flux2KleinPipeline._pack_latents(noise)
    with torch.no_grad():
        made = packed - predict_velocity(pipeline.transformer, packed, torch.ones(2), states)
        other = packed - predict_velocity(pipeline.transformer, packed, torch.full((2,), 0.5), states)
    mean = pipeline.vae.bn.running_mean
    std = (pipeline.vae.bn.running_var + pipeline.vae.config.batch_norm_eps).sqrt()

    def decoded(packed):
        grid = (packed * std + mean).transpose(1, 2).unflatten(2, (4, 4))
        return Flux2KleinPipeline._unpatchify_latents(grid)

    torch.testing.assert_close(latents, decoded(made), rtol=1e-4, atol=1e-5)
    assert (latents - decoded(other)).abs().max() > 1e-3


def test_the_first_text_operation_gives_states_of_size_one(pipeline):
    """In spite of activations of 600 at position 0."""
    states = 5 * torch.randn(4, FLUX2_TOKENS, 3 * SIZES.hidden_size)
    states[:, 0, 4] = 600.0
    torch.manual_seed(0)
    transformer = new_flux2_transformer()
    initialise_context(transformer, states)
    with torch.no_grad():
        embedded = transformer.context_embedder(states)
    assert embedded.std() == pytest.approx(1.0, abs=0.2)
    assert embedded[:, 0].abs().max() < 20


def test_the_stored_pipeline_has_no_second_text_encoder(pipeline, tmp_path):
    save_flux2_pipeline(tmp_path, transformer=pipeline.transformer, vae=pipeline.vae)
    assert {p.name for p in tmp_path.iterdir()} == {"model_index.json", "scheduler", "transformer", "vae"}
    loaded = Flux2KleinPipeline.from_pretrained(
        tmp_path, text_encoder=None, tokenizer=None, local_files_only=True
    )
    assert loaded.config.is_distilled
    assert torch.equal(loaded.vae.bn.running_var, pipeline.vae.bn.running_var)
