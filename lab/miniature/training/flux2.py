"""A second diffusion transformer, of the class of FLUX.2 [klein]: conditioned on three layers, padding visible.

It sees the same world through the same text encoder and the same autoencoder as the first one. What differs is
what differs between the published models: three layers side by side with no norm on them, padding tokens that are
attended to, one stream for text and image in most blocks, latents of 2 x 2 patches normalised per channel.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from graftwork.scenes.captions import write_partial
from graftwork.scenes.world import Scene, sample_scenes, scene_index, split_scenes
from lab.miniature.sizes import FLUX2_LAYERS, FLUX2_STEPS, FLUX2_TOKENS, PICTURE_SIZE, SIZES
from lab.miniature.training.autoencoder import encode_scenes
from lab.miniature.training.loop import TrainingRun, fit, step_generator, step_rng
from lab.miniature.training.transformer import (
    draw_captions,
    draw_noise_levels,
    plain_attention,
)

# Image tokens of a picture: the autoencoder divides by 8, the patches by 2.
IMAGE_TOKENS = (PICTURE_SIZE // 16) ** 2
# Shift of the noise levels that the pipeline's scheduler computes for such a picture: noise levels are drawn where
# sampling will ask for them.
SHIFT = math.exp(compute_empirical_mu(IMAGE_TOKENS, FLUX2_STEPS))


class CaptionStates:
    """States of captions as the pipeline makes them, each computed once and kept in float16.

    The captions of the world are few, and encoding them costs as much as training on them.

    Args:
        text_encoder: Language model on `device`, float32.
        tokenizer: The family's.
        device: Device that states are returned on.
    """

    def __init__(self, text_encoder: Any, tokenizer: Any, device: str = "cpu") -> None:
        # Neither the head nor the layers after the last one asked for; the entry after the last layer is normed, so
        # that one more is kept.
        self._model = copy.deepcopy(getattr(text_encoder, "model", text_encoder))
        del self._model.layers[max(FLUX2_LAYERS) + 1 :]
        self._tokenizer = tokenizer
        self._device = device
        self._known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Returns float32 (captions, FLUX2_TOKENS, 3 * channels), padding included."""
        missing = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        for start in range(0, len(missing), 64):
            part = missing[start : start + 64]
            states = encode_prompts(self._model, self._tokenizer, part)
            self._known.update(zip(part, states.to("cpu", torch.float16).unbind(0), strict=True))
        return torch.stack([self._known[caption] for caption in captions]).float().to(self._device)


def encode_prompts(text_encoder: Any, tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """Returns what conditions the transformer: (prompts, FLUX2_TOKENS, 3 * channels), as the pipeline makes it."""
    return Flux2KleinPipeline._get_qwen3_prompt_embeds(
        text_encoder,
        tokenizer,
        list(prompts),
        max_sequence_length=FLUX2_TOKENS,
        hidden_states_layers=FLUX2_LAYERS,
    )


@torch.no_grad()
def transplant_vae(vae: AutoencoderKL, device: str = "cpu") -> AutoencoderKLFlux2:
    """Returns an autoencoder of the second class with the weights of the first: the same pictures, the same latents.

    Only how latents are normalised differs: one mean and variance for each channel of a 2 x 2 patch, measured on
    pictures of the training scenes and rounded to bfloat16, in which they are stored.
    """
    keys = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "latent_channels")
    keys += ("norm_num_groups", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention", "act_fn")
    made = AutoencoderKLFlux2(**{key: vae.config[key] for key in keys}, sample_size=PICTURE_SIZE)
    statistics = {key: value for key, value in made.state_dict().items() if key.startswith("bn.")}
    made.load_state_dict(vae.state_dict() | statistics)
    made.to(device).eval()
    latents = Flux2KleinPipeline._patchify_latents(
        encode_scenes(vae, split_scenes("train")[::8], device, scaled=False)
    )
    made.bn.running_mean.copy_(latents.mean(dim=(0, 2, 3)).bfloat16())
    made.bn.running_var.copy_((latents.var(dim=(0, 2, 3)) - made.config.batch_norm_eps).bfloat16())
    return made


@torch.no_grad()
def encode_patches(vae: AutoencoderKLFlux2, scenes: Sequence[Scene], device: str = "cpu") -> torch.Tensor:
    """Returns normalised latents as the transformer takes them: float32 (scenes, IMAGE_TOKENS, 64) on the CPU."""
    latents = Flux2KleinPipeline._patchify_latents(encode_scenes(vae, scenes, device, scaled=False))
    mean = vae.bn.running_mean.view(1, -1, 1, 1).float().cpu()
    std = (vae.bn.running_var.float().cpu() + vae.config.batch_norm_eps).sqrt().view(1, -1, 1, 1)
    return Flux2KleinPipeline._pack_latents((latents - mean) / std).contiguous()


class Patches:
    """Normalised latents of scenes, each computed once and kept.

    Args:
        vae: VAE on `device`.
        device: Device that latents are returned on.
    """

    def __init__(self, vae: AutoencoderKLFlux2, device: str = "cpu") -> None:
        self._vae = vae
        self._device = device
        self._known: dict[int, torch.Tensor] = {}

    def __call__(self, scenes: Sequence[Scene]) -> torch.Tensor:
        """Returns float32 (scenes, IMAGE_TOKENS, 64)."""
        rows = [scene_index(scene) for scene in scenes]
        missing = {row: scene for row, scene in zip(rows, scenes, strict=True) if row not in self._known}
        if missing:
            encoded = encode_patches(self._vae, list(missing.values()), self._device)
            self._known.update(zip(missing, encoded.unbind(0), strict=True))
        return torch.stack([self._known[row] for row in rows]).to(self._device)


def new_flux2_transformer() -> Flux2Transformer2DModel:
    """Returns a transformer of the published proportions: few blocks of two streams, more of one, no guidance."""
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=len(FLUX2_LAYERS) * SIZES.hidden_size,
        timestep_guidance_channels=64,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )


def save_flux2_pipeline(
    folder: Path, *, transformer: Flux2Transformer2DModel, vae: AutoencoderKLFlux2
) -> None:
    """Writes a Flux2KleinPipeline without text encoder and tokenizer, which are those of the first pipeline."""
    Flux2KleinPipeline(
        scheduler=new_scheduler(),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        # No guidance: the transformer was not trained on empty prompts.
        is_distilled=True,
    ).save_pretrained(folder)


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Returns the published scheduler: a shift that depends on the tokens of the picture and the steps."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
        time_shift_type="exponential",
    )


@torch.no_grad()
def initialise_context(transformer: Flux2Transformer2DModel, states: torch.Tensor) -> None:
    """Divides the first weights of the text by the size of what they meet.

    There is no norm before them, layers differ in scale and position 0 has activations a hundred times the others.

    Args:
        transformer: Changed in place.
        states: (captions, tokens, 3 * channels).
    """
    size = states.square().mean(dim=(0, 1)).sqrt()
    weight = transformer.context_embedder.weight
    weight.mul_(math.sqrt(3.0) / size.clamp(min=1e-3).to(weight))


def predict_velocity(
    transformer: Flux2Transformer2DModel, noisy: torch.Tensor, sigmas: torch.Tensor, states: torch.Tensor
) -> torch.Tensor:
    """Returns what the pipeline integrates: noise minus latents, of the shape of `noisy`.

    Args:
        transformer: Transformer on the device of the other arguments.
        noisy: float32 (batch, IMAGE_TOKENS, 64).
        sigmas: float32 (batch,).
        states: float32 (batch, FLUX2_TOKENS, 3 * channels).
    """
    side = math.isqrt(noisy.shape[1])
    grid = torch.empty(1, 1, side, side)
    return transformer(
        hidden_states=noisy,
        timestep=sigmas,
        encoder_hidden_states=states,
        txt_ids=Flux2KleinPipeline._prepare_text_ids(states[:1]).to(noisy.device),
        img_ids=Flux2KleinPipeline._prepare_latent_ids(grid).to(noisy.device),
        return_dict=False,
    )[0]


def train_flux2(
    transformer: Flux2Transformer2DModel,
    vae: AutoencoderKLFlux2,
    text_encoder: Any,
    tokenizer: Any,
    run: TrainingRun,
) -> None:
    """Trains on the latents and captions of the training scenes; text encoder and VAE stay as they are."""
    text_encoder.to(run.device).eval().requires_grad_(False)
    scenes = split_scenes("train")
    patches_of = Patches(vae.to(run.device), run.device)
    states_of = CaptionStates(text_encoder, tokenizer, run.device)
    seed = run.recipe.seed
    first, _ = draw_captions(scenes, step_rng(seed, 0), 64)
    initialise_context(transformer.to(run.device), states_of(first))

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        captions, targets = draw_captions(scenes, step_rng(seed, step), run.recipe.batch_size)
        clean = patches_of(targets)
        generator = step_generator(seed, step)
        noise = torch.randn(clean.shape, generator=generator).to(run.device)
        # From the first step on: there are few steps, and what a caption says is learnt at the highest levels.
        sigmas = draw_noise_levels(len(clean), generator, True, SHIFT).to(run.device)
        levels = sigmas.view(-1, 1, 1)
        states = states_of(captions)
        with run.mixed_precision(), plain_attention(run.device):
            velocity = predict_velocity(transformer, (1 - levels) * clean + levels * noise, sigmas, states)
        error = (velocity.float() - (noise - clean)).square().mean(dim=(1, 2))
        high = sigmas > 0.95
        return {
            "loss": error.mean(),
            # At nearly pure noise only the caption says what to draw: this falls when captions are read.
            "high_noise": error[high].mean() if high.any() else error.mean(),
        }

    fit(transformer, losses, run)


@torch.no_grad()
def probe_flux2(
    transformer: Flux2Transformer2DModel,
    vae: AutoencoderKLFlux2,
    text_encoder: Any,
    tokenizer: Any,
    count: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """Returns the loss at pure noise with right and with shuffled captions, on scenes never seen."""
    scenes = sample_scenes(11, count, "held_out")
    states = CaptionStates(text_encoder, tokenizer, device)(
        [write_partial(scene, "everything", 3) for scene in scenes]
    )
    clean = encode_patches(vae, scenes, device).to(device)
    noise = torch.randn(clean.shape, generator=step_generator(11, 0)).to(device)
    ones = torch.ones(len(scenes), device=device)
    measured = {}
    for name, embeds in (("right_captions", states), ("shuffled_captions", states.roll(1, dims=0))):
        velocity = predict_velocity(transformer, noise, ones, embeds)
        measured[name] = float((velocity - (noise - clean)).square().mean())
    return measured
