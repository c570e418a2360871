"""The published architectures at any size: tokenizer, text encoder, VAE, transformer, vision-language model.

Used by the trained miniature and by the random family of the tests. Weights are the libraries' own
initialisation; what is made of them is up to the caller.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lab.small_vocabulary import CONTROL_TOKENS


@dataclass(frozen=True)
class SmallShape:
    """Sizes of a family; the names are those of the libraries' configurations where they have one.

    Attributes:
        parent_distance: How far the random family's Qwen3-VL lies from the text encoder it descends from: the
            standard deviation of the noise added, in units of each weight's own.
        longest_edge: Most pixels of an image that Qwen3-VL is shown.
    """

    vocab_size: int = 500
    hidden_size: int = 64
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 16
    intermediate_size: int = 160
    vision_depth: int = 4
    vision_hidden_size: int = 32
    vision_num_heads: int = 2
    parent_distance: float = 0.03
    longest_edge: int = 256 * 256
    dim: int = 96
    n_layers: int = 2
    n_heads: int = 4
    axes_dims: tuple[int, int, int] = (8, 8, 8)
    axes_lens: tuple[int, int, int] = (1536, 64, 64)
    vae_channels: tuple[int, int, int, int] = (8, 16, 16, 16)


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """Trains a byte-level BPE; control tokens come last, as in the published vocabulary.

    Args:
        corpus: Texts to learn merges from.
        vocab_size: All tokens, the 256 bytes and the control tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    wrapped = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        extra_special_tokens=[token for token, special in CONTROL_TOKENS.items() if special],
        model_max_length=131072,
    )
    wrapped.add_tokens(
        [AddedToken(token, normalized=False) for token, special in CONTROL_TOKENS.items() if not special]
    )
    # Only now: the constructor gives ids to named tokens first, and the published order is that of
    # CONTROL_TOKENS.
    wrapped.eos_token = "<|im_end|>"
    return wrapped


def new_text_encoder(sizes: SmallShape, tokenizer: Qwen2Tokenizer) -> Qwen3ForCausalLM:
    """Returns a Qwen3 with rope_theta 1e6 and tied embeddings, as published."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            **_text_sizes(sizes, tokenizer),
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            tie_word_embeddings=True,
            bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        )
    )


def new_vision_language_model(
    sizes: SmallShape, tokenizer: Qwen2Tokenizer
) -> Qwen3VLForConditionalGeneration:
    """Returns a Qwen3-VL: rope_theta 5e6, interleaved M-RoPE, DeepStack after the first vision blocks."""
    third = sizes.head_dim // 2 // 3
    section = [sizes.head_dim // 2 - 2 * third, third, third]
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            **_text_sizes(sizes, tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": section,
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": sizes.vision_depth,
            "hidden_size": sizes.vision_hidden_size,
            "intermediate_size": 2 * sizes.vision_hidden_size,
            "num_heads": sizes.vision_num_heads,
            "out_hidden_size": sizes.hidden_size,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": list(range(min(3, sizes.vision_depth))),
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config)


def new_image_processor(sizes: SmallShape) -> Qwen2VLImageProcessorPil:
    """Returns the processor that cuts images into patches of 16 pixels, 2 x 2 of them to a token."""
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32, "longest_edge": sizes.longest_edge},
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def new_transformer(sizes: SmallShape) -> ZImageTransformer2DModel:
    """Returns a Z-Image transformer that takes captions of the family's text encoder."""
    return ZImageTransformer2DModel(
        dim=sizes.dim,
        n_layers=sizes.n_layers,
        n_refiner_layers=1,
        n_heads=sizes.n_heads,
        n_kv_heads=sizes.n_heads,
        cap_feat_dim=sizes.hidden_size,
        axes_dims=list(sizes.axes_dims),
        axes_lens=list(sizes.axes_lens),
    )


def new_vae(sizes: SmallShape, use_post_quant_conv: bool = False) -> AutoencoderKL:
    """Returns an autoencoder of factor 8 with 16 latent channels, scaled and shifted as the published one."""
    return AutoencoderKL(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=use_post_quant_conv,
        mid_block_add_attention=False,
    )


def save_pipeline(
    folder: Path,
    *,
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    transformer: ZImageTransformer2DModel,
    vae: AutoencoderKL,
) -> None:
    """Writes a whole ZImagePipeline as published: static shift 3, the language model's checkpoint with its head."""
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False
        ),
        vae=vae,
        text_encoder=text_encoder.model,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipeline.save_pretrained(folder)
    # As published: the index names the base model, the folder holds the language model's checkpoint.
    shutil.rmtree(folder / "text_encoder")
    text_encoder.save_pretrained(folder / "text_encoder")


def _text_sizes(sizes: SmallShape, tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_attention_heads": sizes.num_attention_heads,
        "num_key_value_heads": sizes.num_key_value_heads,
        "head_dim": sizes.head_dim,
        "max_position_embeddings": 4096,
        "attention_bias": False,
    }
