"""A family of models with the real architectures, random weights and tiny sizes, for tests.

The folders are what the libraries' `save_pretrained` writes, so that everything that loads a published model
loads these too. The weights are scaled so that prompts, images and layers give visibly different hidden
states and images; the libraries' default initialisation makes them all alike.
"""

import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM, Qwen3VLForConditionalGeneration
from transformers.utils import logging

from graftwork.models.description import missing_files
from lab.small_parts import (
    SmallShape,
    new_image_processor,
    new_text_encoder,
    new_transformer,
    new_vae,
    new_vision_language_model,
    save_pipeline,
    train_tokenizer,
)
from lab.small_vocabulary import CAPTIONS, QWEN3_TEMPLATE, QWEN3_VL_TEMPLATE

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()

# Raise when a build gives other bytes for the same seed and shape.
FAMILY_VERSION = 2
MARKER = "small_family.json"
_OPENING = "{{- '<|im_start|>assistant\\n' }}"
VL_TEMPLATES = {
    "instruct": QWEN3_VL_TEMPLATE,
    "thinking": QWEN3_VL_TEMPLATE.replace(_OPENING, "{{- '<|im_start|>assistant\\n<think>\\n' }}"),
}
_QUERY_KEY_NORMS = ("q_norm.weight", "k_norm.weight", "norm_q.weight", "norm_k.weight")


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
            "qwen3-vl-thinking": {"family": "qwen3_vl", "path": str(folder / "qwen3-vl-thinking")},
            "qwen3-embedding": {
                "family": "qwen3",
                "path": str(folder / "qwen3-embedding"),
                "natural_format": "raw",
            },
        },
        "generators": {
            "z-image": {"family": "z_image", "path": str(folder / "z-image"), "text_encoder": "qwen3"},
        },
    }


def build_small_family(folder: Path, seed: int = 0, **shape: Any) -> None:
    """Builds the family: `z-image`, a whole ZImagePipeline, `qwen3-vl-instruct` and `-thinking`, `qwen3-embedding`.

    A complete family of the same seed and shape is left alone; another one is replaced. The folder appears
    whole or not at all.

    Args:
        folder: Folder to build in; its parents are made.
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
    tokenizer = train_tokenizer(CAPTIONS, sizes.vocab_size)
    text_encoder = new_text_encoder(sizes, tokenizer)
    initialise(text_encoder, seed)
    transformer = new_transformer(sizes)
    initialise(transformer, seed + 1, _transformer_gain)
    vae = new_vae(sizes)
    # Half the usual scale at the end keeps most pixels off the clamp at black and white.
    initialise(vae, seed + 2, lambda name: 0.5 if name.startswith("decoder.conv_out") else 1.0)
    tokenizer.chat_template = QWEN3_TEMPLATE
    save_pipeline(
        folder / "z-image",
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        vae=vae,
    )

    vision = new_vision_language_model(sizes, tokenizer)
    for number, (variant, template) in enumerate(VL_TEMPLATES.items()):
        initialise(vision, seed + 3)
        _descend(vision, text_encoder, sizes.parent_distance, seed + 4 + number)
        tokenizer.chat_template = template
        target = folder / f"qwen3-vl-{variant}"
        vision.save_pretrained(target)
        tokenizer.save_pretrained(target)
        new_image_processor(sizes).save_pretrained(target)

    embedding = new_text_encoder(sizes, tokenizer)
    initialise(embedding, seed + 6)
    # As published: the weights of the model without its head, and a tokenizer that closes every text.
    embedding.model.save_pretrained(folder / "qwen3-embedding")
    tokenizer.chat_template = QWEN3_TEMPLATE
    _closing(tokenizer).save_pretrained(folder / "qwen3-embedding")


def _closing(tokenizer: Qwen2Tokenizer) -> Qwen2Tokenizer:
    """Returns a copy that appends <|endoftext|>, in the form of Qwen3-Embedding's tokenizer.json."""
    copied, end = deepcopy(tokenizer), "<|endoftext|>"
    closing = processors.TemplateProcessing(
        single=f"$A {end}",
        pair=f"$A {end} $B {end}",
        special_tokens=[(end, copied.convert_tokens_to_ids(end))],
    )
    byte_level = processors.ByteLevel(trim_offsets=False)
    copied._tokenizer.post_processor = processors.Sequence([byte_level, closing])
    return copied


def _transformer_gain(name: str) -> float:
    """Lets captions outweigh the noise that sampling starts from."""
    if "adaLN_modulation" in name or "cap_embedder" in name:
        return 4.0
    return 3.0 if name.startswith("all_final_layer") else 1.0


@torch.no_grad()
def initialise(module: torch.nn.Module, seed: int, gain: Callable[[str], float] = lambda name: 1.0) -> None:
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
