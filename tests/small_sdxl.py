"""SDXL with IP-Adapter Plus at tiny sizes, with random weights, in the folders that the libraries write and read."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from graftwork.models.generators.sdxl import ADAPTER, ADAPTER_WEIGHTS, IMAGE_ENCODER
from tests.small_family import initialise

WIDTH, POOLED, TIME = 32, 24, 8
IMAGE_WIDTH, IMAGE_TOKENS = 32, 4
# The published adapter has four layers of heads of 64.
RESAMPLER_LAYERS, RESAMPLER_WIDTH, HEAD = 4, 64, 64


def save_sdxl(folder: Path) -> Path:
    """Writes the pipeline and its adapter, and returns the folder."""
    vocabulary = _write_tokenizer(folder / "words")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "words", model_max_length=77)
    pipeline = StableDiffusionXLPipeline(
        vae=_new_vae(),
        text_encoder=_new_text_encoder(CLIPTextModel, vocabulary, 21),
        text_encoder_2=_new_text_encoder(CLIPTextModelWithProjection, vocabulary, 22),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_new_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    # The published tokenizers are of these two files.
    for name in ("tokenizer", "tokenizer_2"):
        for file in ("vocab.json", "merges.txt"):
            (folder / name / file).write_text((folder / "words" / file).read_text())
    _save_adapter(folder / ADAPTER, pipeline.unet)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Writes a vocabulary of single bytes, and returns its size."""
    folder.mkdir(parents=True)
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return len(words)


def _new_text_encoder(model_class, vocabulary: int, seed: int):
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=POOLED,
        hidden_act="gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    model = model_class(config).eval()
    initialise(model, seed, lambda name: 1.0)
    return model


def _new_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=POOLED + 6 * TIME,
        cross_attention_dim=2 * WIDTH,
    )
    initialise(unet, 23, lambda name: 3.0 if "attn2" in name or "add_embedding" in name else 1.0)
    return unet


def _new_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.13025,
    )
    initialise(vae, 24, lambda name: 0.5 if name.startswith("decoder.conv_out") else 1.0)
    return vae


def _save_adapter(folder: Path, unet: UNet2DConditionModel) -> None:
    """Writes an adapter with the names of the published file, and its image encoder."""
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=POOLED,
        )
    ).eval()
    initialise(encoder, 25, lambda name: 1.0)
    encoder.save_pretrained(folder / IMAGE_ENCODER)
    subfolder, name = ADAPTER_WEIGHTS
    (folder / subfolder).mkdir(parents=True)
    save_file(_adapter_weights(unet), folder / subfolder / name)


def _adapter_weights(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    width = RESAMPLER_WIDTH
    shapes = {
        "latents": (1, IMAGE_TOKENS, width),
        "proj_in.weight": (width, IMAGE_WIDTH),
        "proj_in.bias": (width,),
        "proj_out.weight": (2 * WIDTH, width),
        "proj_out.bias": (2 * WIDTH,),
        "norm_out.weight": (2 * WIDTH,),
        "norm_out.bias": (2 * WIDTH,),
    }
    for layer in range(RESAMPLER_LAYERS):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"layers.{layer}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        shapes |= {
            f"layers.{layer}.0.to_q.weight": (HEAD, width),
            f"layers.{layer}.0.to_kv.weight": (2 * HEAD, width),
            f"layers.{layer}.0.to_out.weight": (width, HEAD),
            f"layers.{layer}.1.1.weight": (4 * width, width),
            f"layers.{layer}.1.3.weight": (width, 4 * width),
        }
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    weights = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    for index, name in enumerate(names):
        module = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * index + 1}.{part}.weight"] = (module.inner_dim, 2 * WIDTH)
    generator = torch.Generator().manual_seed(26)
    return {
        name: torch.ones(shape)
        if len(shape) == 1 and name.endswith("weight")
        else torch.randn(shape, generator=generator) * (0.5 if len(shape) == 1 else 2.0 * shape[-1] ** -0.5)
        for name, shape in weights.items()
    }
