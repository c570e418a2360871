"""The diffusion transformer: flow matching on latents, conditioned on the text encoder's hidden states."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from graftwork.scenes.captions import write_partial
from graftwork.scenes.world import Scene, sample_scenes, scene_index, split_scenes
from lab.miniature.tasks import draw_scene_agreeing_with
from lab.miniature.training.autoencoder import encode_scenes
from lab.miniature.training.loop import TrainingRun, fit, multiplies_bfloat16, step_generator, step_rng
from lab.miniature.training.text_encoder import caption_states

# What captions speak of: some leave the setting or the object open, and then any will do.
ABOUT_WEIGHTS = {"everything": 0.7, "object": 0.18, "setting": 0.12}
# That of the pipeline's scheduler: noise levels are drawn where sampling will ask for them.
SHIFT = 3.0
# What is the same all over the picture, as a texture is, can be read off the noisy latents up to sigmas of 0.95, and
# with few higher ones nothing is learnt about what the caption says of it; but sampling starts at 1. So from this
# share of the steps on, this share of the noise levels is drawn from the highest ones.
HIGH_NOISE_AFTER = 0.6
HIGH_NOISE_SHARE = 0.35
HIGH_NOISE = (0.95, 1.0)


@torch.no_grad()
def initialise_padding(transformer: ZImageTransformer2DModel, seed: int) -> None:
    """Draws the learnt padding tokens, which the library leaves uninitialised."""
    generator = torch.Generator("cpu").manual_seed(seed)
    for parameter in (transformer.x_pad_token, transformer.cap_pad_token):
        parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def draw_noise_levels(
    count: int, generator: torch.Generator, high_noise: bool = False, shift: float = SHIFT
) -> torch.Tensor:
    """Returns sigmas in (0, 1]: logit-normal, shifted as the scheduler shifts its own; float32 (count,).

    Args:
        count: Number to draw.
        generator: Decides them.
        high_noise: Whether `HIGH_NOISE_SHARE` of them are drawn uniformly from `HIGH_NOISE`.
        shift: That of the scheduler.
    """
    levels = torch.sigmoid(torch.randn(count, generator=generator))
    levels = shift * levels / (1 + (shift - 1) * levels)
    if high_noise:
        low, high = HIGH_NOISE
        chosen = torch.rand(count, generator=generator) < HIGH_NOISE_SHARE
        levels = torch.where(chosen, high - (high - low) * torch.rand(count, generator=generator), levels)
    return levels


def draw_captions(
    scenes: tuple[Scene, ...], rng: np.random.Generator, count: int
) -> tuple[list[str], list[Scene]]:
    """Returns captions, and for each a scene that it is true of."""
    captions, targets = [], []
    for about in rng.choice(list(ABOUT_WEIGHTS), size=count, p=list(ABOUT_WEIGHTS.values())):
        scene = scenes[int(rng.integers(len(scenes)))]
        captions.append(write_partial(scene, str(about), int(rng.integers(2**31))))
        targets.append(draw_scene_agreeing_with(scene, str(about), int(rng.integers(2**31))))
    return captions, targets


def predict_velocity(
    transformer: ZImageTransformer2DModel,
    noisy: torch.Tensor,
    sigmas: torch.Tensor,
    states: list[torch.Tensor],
) -> torch.Tensor:
    """Returns what the pipeline integrates: noise minus latents, of the shape of `noisy`.

    The transformer takes 1 - sigma as its time and gives the negative of it, as in `ZImagePipeline.__call__`.

    Args:
        transformer: Transformer on the device of the other arguments.
        noisy: float32 (batch, 16, height, width).
        sigmas: float32 (batch,).
        states: (tokens_i, channels) each, ragged, of one padded length.
    """
    output = transformer(list(noisy.unsqueeze(2).unbind(0)), 1.0 - sigmas, states, return_dict=False)[0]
    return -torch.stack(list(output)).squeeze(2)


def plain_attention(device: str) -> AbstractContextManager:
    """On a CPU, torch's fused attention takes four times as long in bfloat16 as its parts."""
    slow = torch.device(device).type == "cpu" and multiplies_bfloat16(device)
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def train_transformer(
    transformer: ZImageTransformer2DModel,
    vae: AutoencoderKL,
    text_encoder: Any,
    tokenizer: Any,
    run: TrainingRun,
) -> None:
    """Trains on the latents and captions of the training scenes; text encoder and VAE stay as they are."""
    initialise_padding(transformer, run.recipe.seed)
    transformer.to(run.device)
    text_encoder.to(run.device).eval().requires_grad_(False)
    text_encoder.set_attn_implementation(run.attention)
    scenes = split_scenes("train")
    row_of = {scene_index(scene): row for row, scene in enumerate(scenes)}
    latents = encode_scenes(vae.to(run.device), scenes, run.device)

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        captions, targets = draw_captions(scenes, step_rng(run.recipe.seed, step), run.recipe.batch_size)
        clean = latents[[row_of[scene_index(scene)] for scene in targets]].to(run.device)
        generator = step_generator(run.recipe.seed, step)
        noise = torch.randn(clean.shape, generator=generator).to(run.device)
        late = step >= HIGH_NOISE_AFTER * run.recipe.steps
        sigmas = draw_noise_levels(len(clean), generator, late).to(run.device)
        levels = sigmas.view(-1, 1, 1, 1)
        with run.mixed_precision(), plain_attention(run.device):
            states = caption_states(text_encoder, tokenizer, captions, device=run.device)
            velocity = predict_velocity(transformer, (1 - levels) * clean + levels * noise, sigmas, states)
        error = (velocity.float() - (noise - clean)).square().mean(dim=(1, 2, 3))
        high = sigmas > 0.95
        return {
            "loss": error.mean(),
            # At nearly pure noise only the caption says what to draw: this falls when captions are read.
            "high_noise": error[high].mean() if high.any() else error.mean(),
        }

    fit(transformer, losses, run)


@torch.no_grad()
def probe_transformer(
    transformer: ZImageTransformer2DModel,
    vae: AutoencoderKL,
    text_encoder: Any,
    tokenizer: Any,
    count: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """Returns the loss at pure noise with right and with shuffled captions, on scenes never seen."""
    scenes = sample_scenes(11, count, "held_out")
    states = caption_states(
        text_encoder, tokenizer, [write_partial(scene, "everything", 3) for scene in scenes], device=device
    )
    clean = encode_scenes(vae, scenes, device).to(device)
    noise = torch.randn(clean.shape, generator=step_generator(11, 0)).to(device)
    ones = torch.ones(len(scenes), device=device)
    measured = {}
    for name, captions in (("right_captions", states), ("shuffled_captions", states[1:] + states[:1])):
        velocity = predict_velocity(transformer, noise, ones, captions)
        measured[name] = float((velocity - (noise - clean)).square().mean())
    return measured
