"""A family of models with the real architectures, random weights and tiny sizes, for tests.

The folders are what the libraries' `save_pretrained` writes, so that everything that loads a published model
loads these too. The weights are scaled so that prompts, images and layers give visibly different hidden
states and images; the libraries' default initialisation makes them all alike.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
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
from transformers.utils import logging

from workflow_scripts.lib.models.description import missing_files
from workflow_scripts.lib.models.small_vocabulary import (
    CAPTIONS,
    CONTROL_TOKENS,
    QWEN3_TEMPLATE,
    QWEN3_VL_TEMPLATE,
)

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()

# Raise when a build gives other bytes for the same seed and shape.
FAMILY_VERSION = 1
MARKER = "small_family.json"
_QUERY_KEY_NORMS = ("q_norm.weight", "k_norm.weight", "norm_q.weight", "norm_k.weight")


@dataclass(frozen=True)
class SmallShape:
    """Sizes of the family; the names are those of the libraries' configurations where they have one.

    `parent_distance` is how far the language model of Qwen3-VL lies from the text encoder it descends from:
    the standard deviation of the noise added, in units of each weight's own.
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
    parent_distance: float = 0.03
    longest_edge: int = 256 * 256
    dim: int = 96
    n_layers: int = 2
    n_heads: int = 4
    axes_dims: tuple[int, int, int] = (8, 8, 8)
    axes_lens: tuple[int, int, int] = (1536, 64, 64)
    vae_channels: tuple[int, int, int, int] = (8, 16, 16, 16)


def small_entries(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the entries of config/models.yaml for a family that was built into `folder`."""
    return {
        "encoders": {
            "qwen3": {
                "family": "qwen3",
                "path": str(folder / "z-image"),
                "subfolder": "text_encoder",
                "tokenizer_subfolder": "tokenizer",
            },
            "qwen3-vl-instruct": {"family": "qwen3_vl", "path": str(folder / "qwen3-vl-instruct")},
        },
        "generators": {
            "z-image": {"family": "z_image", "path": str(folder / "z-image"), "text_encoder": "qwen3"},
        },
    }


def build_small_family(folder: Path, seed: int = 0, **shape: Any) -> None:
    """Builds the family: `z-image`, a whole ZImagePipeline, and `qwen3-vl-instruct`.

    A complete family of the same seed and shape is left alone; another one is replaced. The folder appears
    whole or not at all.

    Args:
        folder: Where to build; its parents are made.
        seed: Decides all weights.
        **shape: Fields of `SmallShape` to change.

    Raises:
        FileExistsError: where the folder holds something that was not built here.
    """
    folder = Path(folder).absolute()
    sizes = replace(SmallShape(), **shape)
    marker = json.loads(json.dumps({"version": FAMILY_VERSION, "seed": seed, "shape": asdict(sizes)}))
    if _is_complete(folder, marker):
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise FileExistsError(f"{folder} holds files that are no small family; give an empty or a new folder")
    building = folder.with_name(f".{folder.name}.{os.getpid()}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        _build(building, sizes, seed)
        (building / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_complete(folder: Path, marker: dict[str, Any]) -> bool:
    file = folder / MARKER
    if not file.is_file() or json.loads(file.read_text(encoding="utf-8")) != marker:
        return False
    entries = small_entries(folder)
    return not any(
        missing_files(entry, kind, Path(entry["path"]))
        for kind in ("encoder", "generator")
        for entry in entries[f"{kind}s"].values()
    )


def _build(folder: Path, sizes: SmallShape, seed: int) -> None:
    tokenizer = _train_tokenizer(sizes.vocab_size)
    text_encoder = Qwen3ForCausalLM(_qwen3_config(sizes, tokenizer))
    _initialise(text_encoder, seed)

    transformer = ZImageTransformer2DModel(
        dim=sizes.dim,
        n_layers=sizes.n_layers,
        n_refiner_layers=1,
        n_heads=sizes.n_heads,
        n_kv_heads=sizes.n_heads,
        cap_feat_dim=sizes.hidden_size,
        axes_dims=list(sizes.axes_dims),
        axes_lens=list(sizes.axes_lens),
    )
    _initialise(transformer, seed + 1, _transformer_gain)
    vae = AutoencoderKL(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    # Half the usual scale at the end keeps most pixels off the clamp at black and white.
    _initialise(vae, seed + 2, lambda name: 0.5 if name.startswith("decoder.conv_out") else 1.0)

    tokenizer.chat_template = QWEN3_TEMPLATE
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False
        ),
        vae=vae,
        text_encoder=text_encoder.model,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipeline.save_pretrained(folder / "z-image")
    # As published: the index names the base model, the folder holds the language model's checkpoint.
    shutil.rmtree(folder / "z-image" / "text_encoder")
    text_encoder.save_pretrained(folder / "z-image" / "text_encoder")

    vision = Qwen3VLForConditionalGeneration(_qwen3_vl_config(sizes, tokenizer))
    _initialise(vision, seed + 3)
    _descend(vision, text_encoder, sizes.parent_distance, seed + 4)
    tokenizer.chat_template = QWEN3_VL_TEMPLATE
    vision.save_pretrained(folder / "qwen3-vl-instruct")
    tokenizer.save_pretrained(folder / "qwen3-vl-instruct")
    Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32, "longest_edge": sizes.longest_edge},
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(folder / "qwen3-vl-instruct")


def _transformer_gain(name: str) -> float:
    """Lets captions outweigh the noise that sampling starts from."""
    if "adaLN_modulation" in name or "cap_embedder" in name:
        return 4.0
    return 3.0 if name.startswith("all_final_layer") else 1.0


def _train_tokenizer(vocab_size: int) -> Qwen2Tokenizer:
    """Trains a byte-level BPE on a few captions; control tokens come last, as in the published vocabulary."""
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
    tokenizer.train_from_iterator(CAPTIONS, trainer)
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


def _qwen3_config(sizes: SmallShape, tokenizer: Qwen2Tokenizer) -> Qwen3Config:
    return Qwen3Config(
        **_text_sizes(sizes, tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )


def _qwen3_vl_config(sizes: SmallShape, tokenizer: Qwen2Tokenizer) -> Qwen3VLConfig:
    third = sizes.head_dim // 2 // 3
    section = [sizes.head_dim // 2 - 2 * third, third, third]
    ids = tokenizer.convert_tokens_to_ids
    return Qwen3VLConfig(
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
            "num_heads": 2,
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


@torch.no_grad()
def _initialise(module: torch.nn.Module, seed: int, gain: Callable[[str], float] = lambda name: 1.0) -> None:
    """Draws every parameter in the order of names: matrices keep the scale of inputs, norms are near one."""
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
            # Sharper queries and keys than one would give: else attention averages, and all prompts look
            # alike.
            value = (2.0 if name.endswith(_QUERY_KEY_NORMS) else 1.0) + 0.1 * noise
        elif "embed_tokens" in name or "pos_embed" in name or name.endswith("pad_token"):
            value = 0.5 * noise
        elif parameter.ndim >= 2:
            value = noise * gain(name) / (parameter.numel() / parameter.shape[0]) ** 0.5
        else:
            value = 0.05 * noise
        parameter.copy_(value)


@torch.no_grad()
def _descend(
    child: Qwen3VLForConditionalGeneration, parent: Qwen3ForCausalLM, distance: float, seed: int
) -> None:
    """Gives the child's language model the parent's weights plus noise, as if trained on from there."""
    generator = torch.Generator("cpu").manual_seed(seed)
    inherited = dict(parent.model.named_parameters())
    for name, parameter in sorted(child.model.language_model.named_parameters()):
        source = inherited[name]
        parameter.copy_(source + distance * source.std() * torch.randn(source.shape, generator=generator))
