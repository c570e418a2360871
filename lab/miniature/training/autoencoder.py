"""The VAE: pictures of 64 px to latents of 8 x 8 with 16 channels, and back."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL

from graftwork.scenes.world import Scene, render_scenes, split_scenes
from lab.miniature.training.loop import TrainingRun, fit, step_generator, step_rng

# Enough to keep latents near the scale that the decoder sees noise at, too little to cost sharpness.
KL_WEIGHT = 1e-6
# Latents of a small autoencoder are centred, and nobody would see that a shift factor was forgotten. The published
# one has 0.1159; here training is followed by an exact change of variables that makes it matter.
LATENT_OFFSET = 1.0


def to_model(pictures: np.ndarray) -> torch.Tensor:
    """Returns uint8 (n, h, w, 3) as the VAE takes them: float32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def train_vae(
    vae: AutoencoderKL,
    run: TrainingRun,
) -> None:
    """Trains on pictures of the training scenes, then sets scaling and shift from their latents.

    The loss is the squared error and a little of the absolute one, which keeps edges from blurring.
    """
    _start_unchanged(vae.post_quant_conv)
    pictures = render_scenes(split_scenes("train"))
    vae.to(run.device)

    def losses(step: int) -> dict[str, torch.Tensor]:
        chosen = step_rng(run.recipe.seed, step).integers(0, len(pictures), run.recipe.batch_size)
        x = to_model(pictures[chosen]).to(run.device)
        # 1.6 times as fast as float32 on a CPU with AVX512-BF16, and channels_last is slower there.
        with run.mixed_precision():
            posterior = vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=step_generator(run.recipe.seed, step)).to(
                run.device
            )
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        squared = (decoded - x).square().mean()
        absolute = (decoded - x).abs().mean()
        kl = posterior.kl().float().mean()
        return {
            "loss": squared + 0.1 * absolute + KL_WEIGHT * kl,
            "squared": squared,
            "absolute": absolute,
            "kl": kl,
        }

    fit(vae, losses, run)
    offset_latents(vae)
    set_latent_scale(vae, split_scenes("train")[::8], run.device)


@torch.no_grad()
def _start_unchanged(convolution: torch.nn.Conv2d) -> None:
    """Makes a 1 x 1 convolution the identity and keeps it from being trained."""
    convolution.requires_grad_(False)
    convolution.weight.copy_(torch.eye(len(convolution.weight))[..., None, None])
    convolution.bias.zero_()


@torch.no_grad()
def offset_latents(vae: AutoencoderKL) -> None:
    """Adds `LATENT_OFFSET` to all latents, which the convolution before the decoder takes away again."""
    vae.encoder.conv_out.bias[: vae.config.latent_channels] += LATENT_OFFSET
    vae.post_quant_conv.bias -= LATENT_OFFSET


@torch.no_grad()
def set_latent_scale(vae: AutoencoderKL, scenes: Sequence[Scene], device: str = "cpu") -> None:
    """Sets scaling and shift factor so that latents given to the transformer have mean 0 and std 1."""
    latents = encode_scenes(vae, scenes, device, scaled=False)
    vae.register_to_config(
        scaling_factor=round(float(1 / latents.std()), 6), shift_factor=round(float(latents.mean()), 6)
    )


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, scenes: Sequence[Scene], device: str = "cpu", scaled: bool = True
) -> torch.Tensor:
    """Returns the latents that scenes have: float32 (scenes, 16, 8, 8) on the CPU.

    Args:
        vae: VAE in any dtype, on `device`.
        scenes: To render and encode; the mode of the posterior is taken.
        device: Device of the VAE.
        scaled: Whether to shift and scale, as for the transformer.
    """
    parts = []
    for start in range(0, len(scenes), 64):
        x = to_model(render_scenes(scenes[start : start + 64])).to(device, vae.dtype)
        parts.append(vae.encode(x).latent_dist.mode().float().cpu())
    latents = torch.cat(parts)
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor if scaled else latents


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, scenes: Sequence[Scene], device: str = "cpu") -> np.ndarray:
    """Returns pictures after encoding and decoding: uint8 (scenes, 64, 64, 3)."""
    parts = []
    for start in range(0, len(scenes), 64):
        x = to_model(render_scenes(scenes[start : start + 64])).to(device, vae.dtype)
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.float().cpu()
        parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def psnr(reference: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Returns the peak signal-to-noise ratio of each picture in dB: float64 (n,), of uint8 (n, h, w, 3)."""
    error = np.square(reference.astype(np.float64) - picture).mean(axis=(1, 2, 3))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-12))
