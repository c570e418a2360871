"""Scorers of the published classes at any size with random weights, in the form in which they are published."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from graftwork.models.scorers.csd import STYLE_FILE, STYLE_WEIGHT
from lab.small_parts import SmallShape, new_image_processor, new_vision_language_model, train_tokenizer
from lab.small_vocabulary import CAPTIONS, QWEN3_VL_TEMPLATE

SIDE, PATCH, WIDTH = 32, 8, 32
CLIP_LENGTH, SIGLIP_LENGTH = 16, 12
_TOWER = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_VISION = {**_TOWER, "image_size": SIDE, "patch_size": PATCH}


def build_small_scorers(folder: Path, seed: int = 0) -> None:
    """Writes `siglip`, `clip`, `dinov2` and `csd` into a folder.

    Weights are drawn with a spread at which images and texts give different vectors, which the libraries' own do not.
    """
    torch.manual_seed(seed)
    words = _word_tokenizer()
    siglip = SiglipModel(
        SiglipConfig(
            text_config={
                **_TOWER,
                "vocab_size": len(words),
                "max_position_embeddings": SIGLIP_LENGTH,
                "projection_size": WIDTH,
                "pad_token_id": words.pad_token_id,
                "eos_token_id": words.eos_token_id,
                "bos_token_id": None,
            },
            vision_config=_VISION,
        )
    )
    _save(siglip, folder / "siglip")
    words.save_pretrained(folder / "siglip")
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder / "siglip")
    clip = CLIPModel(
        CLIPConfig(
            text_config={
                **_TOWER,
                "vocab_size": len(words),
                "max_position_embeddings": CLIP_LENGTH,
                "eos_token_id": words.eos_token_id,
                "bos_token_id": words.bos_token_id,
                "pad_token_id": words.pad_token_id,
            },
            vision_config=_VISION,
            projection_dim=24,
        )
    )
    _save(clip, folder / "clip")
    words.save_pretrained(folder / "clip")
    crop = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    crop.save_pretrained(folder / "clip")
    _save(Dinov2Model(Dinov2Config(**_VISION, mlp_ratio=2)), folder / "dinov2")
    BitImageProcessorPil(
        size={"shortest_edge": SIDE + PATCH},
        crop_size={"height": SIDE, "width": SIDE},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder / "dinov2")
    _save(CLIPVisionModel(CLIPVisionConfig(**_VISION)), folder / "csd")
    crop.save_pretrained(folder / "csd")
    save_file({STYLE_WEIGHT: torch.randn(WIDTH, 24)}, folder / "csd" / STYLE_FILE)


@torch.no_grad()
def make_small_judge(folder: Path, seed: int = 1) -> None:
    """Writes a vision-language model whose tokenizer has the answers as single tokens, which small vocabularies do not."""
    answers = ["Does this figure show? Please answer yes or no. Yes No yes no Yes No"] * 50
    tokenizer = train_tokenizer([*CAPTIONS, *answers], 600)
    tokenizer.chat_template = QWEN3_VL_TEMPLATE
    torch.manual_seed(seed)
    model = new_vision_language_model(SmallShape(), tokenizer)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            spread = 0.15 if "embed_tokens" in name else 2.0
            parameter.normal_(0.0, spread / (parameter.numel() / parameter.shape[0]) ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    new_image_processor(SmallShape()).save_pretrained(folder)


@torch.no_grad()
def _save(model: Any, folder: Path) -> None:
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.normal_(0.0, 1.5 / (parameter.numel() / parameter.shape[0]) ** 0.5)
    model.save_pretrained(folder)


def _word_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of letters, which ends every text with a mark, as those of SigLIP and CLIP do."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,.0123456789"
    # The mark of the end has the highest id, where CLIP looks for it.
    tokens = ["<pad>", "<unk>", "<s>", *letters, "</s>"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", len(tokens) - 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
    )
