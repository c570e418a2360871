"""Models of the published sizes with random weights, made on the device in seconds, for benchmarks and tests of GPUs.

Nothing is downloaded. With `small=True` the same code makes models of a few hundred kilobytes.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model, Qwen3VLConfig, Qwen3VLModel

from graftwork.models.encoders.qwen3.encoder import Qwen3Encoder
from graftwork.models.encoders.qwen3_vl.encoder import Qwen3VLEncoder
from lab import real_shapes
from lab.small_parts import (
    SmallShape,
    new_image_processor,
    new_text_encoder,
    new_transformer,
    new_vae,
    new_vision_language_model,
    train_tokenizer,
)
from lab.small_vocabulary import CAPTIONS, QWEN3_TEMPLATE, QWEN3_VL_TEMPLATE

_SHARP = ("q_norm.weight", "k_norm.weight", "norm_q.weight", "norm_k.weight")


def random_pipeline(device: str, dtype: torch.dtype, *, small: bool = False, seed: int = 0) -> ZImagePipeline:
    """Returns Z-Image without its text encoder.

    Args:
        device: "meta" gives shapes without values.
        dtype: Type of all weights.
        small: Tiny sizes in place of the published ones.
        seed: Seed of the weights.
    """
    with _made_on(device, dtype):
        if small:
            transformer, vae = new_transformer(SmallShape()), new_vae(SmallShape())
        else:
            transformer = ZImageTransformer2DModel(**real_shapes.Z_IMAGE_TRANSFORMER)
            vae = AutoencoderKL(**real_shapes.Z_IMAGE_VAE)
    _draw(transformer, seed, _transformer_gain)
    _draw(vae, seed + 1, lambda name: 0.5 if name.startswith("decoder.conv_out") else 1.0)
    scheduler = FlowMatchEulerDiscreteScheduler(**real_shapes.Z_IMAGE_SCHEDULER)
    pipeline = ZImagePipeline(scheduler, vae.eval(), None, None, transformer.eval())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_text_encoder(device: str, dtype: torch.dtype, *, small: bool = False) -> Qwen3Encoder:
    """Returns Qwen3-4B at its whole depth, with a small tokenizer; see `random_pipeline`."""
    tokenizer = train_tokenizer(CAPTIONS, SmallShape().vocab_size)
    tokenizer.chat_template = QWEN3_TEMPLATE
    with _made_on(device, dtype):
        if small:
            model = new_text_encoder(SmallShape(), tokenizer).model
        else:
            model = Qwen3Model(Qwen3Config(**real_shapes.QWEN3))
    _draw(model, 2)
    return Qwen3Encoder(model.eval(), tokenizer, model.config.num_hidden_layers)


def random_vision_language_encoder(device: str, dtype: torch.dtype, *, small: bool = False) -> Qwen3VLEncoder:
    """Returns Qwen3-VL-4B at its whole depth, with a small tokenizer; see `random_pipeline`."""
    tokenizer = train_tokenizer(CAPTIONS, SmallShape().vocab_size)
    tokenizer.chat_template = QWEN3_VL_TEMPLATE
    # The ids of the tokenizer at hand, which are not those of the published one.
    tokens = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    with _made_on(device, dtype):
        if small:
            model = new_vision_language_model(SmallShape(), tokenizer).model
        else:
            model = Qwen3VLModel(Qwen3VLConfig(**{**real_shapes.QWEN3_VL, **ids}))
    _draw(model, 3)
    shape = SmallShape() if small else SmallShape(longest_edge=4096 * 4096)
    layers = model.config.text_config.num_hidden_layers
    return Qwen3VLEncoder(model.eval(), tokenizer, new_image_processor(shape), layers)


def keep_layers(encoder: Qwen3Encoder | Qwen3VLEncoder, deepest: int) -> None:
    """Removes the blocks above an entry of `hidden_states`, as loading a checkpoint does."""
    model = encoder.language_model
    model.layers = model.layers[:deepest]
    model.config.num_hidden_layers = encoder.deepest = deepest
    model.norm = torch.nn.Identity()


@contextlib.contextmanager
def _made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def _draw(module: torch.nn.Module, seed: int, gain: Callable[[str], float] = lambda name: 1.0) -> None:
    """Draws weights that keep the scale of what goes in, so that captions and noise both show in an image."""
    module.requires_grad_(False)
    first = next(module.parameters())
    if first.device.type == "meta":
        return
    generator = torch.Generator(first.device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith(_SHARP):
            parameter.fill_(2.0)
        elif name.endswith(("pad_token", "bias")):
            parameter.normal_(0.0, 0.5 if name.endswith("pad_token") else 0.05, generator=generator)
        elif parameter.ndim >= 2:
            fan_in = parameter.numel() / parameter.shape[0]
            parameter.normal_(0.0, gain(name) / fan_in**0.5, generator=generator)


def _transformer_gain(name: str) -> float:
    if "adaLN_modulation" in name or "cap_embedder" in name:
        return 4.0
    return 3.0 if name.startswith("all_final_layer") else 1.0
