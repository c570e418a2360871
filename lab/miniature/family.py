"""The family as users find it: folders that `save_pretrained` wrote, and entries for config/models.yaml."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from lab.miniature.sizes import SIZES
from lab.miniature.training.embedding import embedding_tokenizer
from lab.miniature.training.stages import Workshop
from lab.small_parts import new_image_processor, save_pipeline
from lab.small_vocabulary import QWEN3_TEMPLATE, QWEN3_VL_TEMPLATE

# Stored as published models are. Measured on the miniature: see its card.
STORED_DTYPE = torch.bfloat16


def miniature_entries(folder: Path | str) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the entries of config/models.yaml for a family in `folder`."""
    folder = str(folder)
    return {
        "encoders": {
            "miniature-qwen3": {
                "family": "qwen3",
                "path": f"{folder}/z-image",
                "subfolder": "text_encoder",
                "tokenizer_subfolder": "tokenizer",
            },
            "miniature-qwen3-vl-instruct": {"family": "qwen3_vl", "path": f"{folder}/qwen3-vl-instruct"},
            "miniature-qwen3-vl-thinking": {"family": "qwen3_vl", "path": f"{folder}/qwen3-vl-thinking"},
            "miniature-qwen3-embedding": {
                "family": "qwen3",
                "path": f"{folder}/qwen3-embedding",
                "natural_format": "raw",
            },
        },
        "generators": {
            "miniature-z-image": {
                "family": "z_image",
                "path": f"{folder}/z-image",
                "text_encoder": "miniature-qwen3",
            },
        },
    }


def assemble_family(workshop: Workshop, target: Path) -> None:
    """Writes the finished models of all stages as one family; the folder appears whole or not at all.

    Args:
        workshop: Workshop with every stage done.
        target: Replaced if it is there.
    """
    target = Path(target).absolute()
    building = target.with_name(f".{target.name}.{os.getpid()}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        tokenizer = workshop.tokenizer()
        tokenizer.chat_template = QWEN3_TEMPLATE
        save_pipeline(
            building / "z-image",
            text_encoder=workshop.load("text_encoder").to(STORED_DTYPE),
            tokenizer=tokenizer,
            transformer=workshop.load("transformer").to(STORED_DTYPE),
            vae=workshop.load("vae").to(STORED_DTYPE),
        )
        for variant, template in (("instruct", QWEN3_VL_TEMPLATE), ("thinking", thinking_template())):
            folder = building / f"qwen3-vl-{variant}"
            workshop.load(f"vl_{variant}").to(STORED_DTYPE).save_pretrained(folder)
            tokenizer.chat_template = template
            tokenizer.save_pretrained(folder)
            new_image_processor(SIZES).save_pretrained(folder)
        tokenizer.chat_template = QWEN3_TEMPLATE
        folder = building / "qwen3-embedding"
        workshop.load("embedding").to(STORED_DTYPE).save_pretrained(folder)
        embedding_tokenizer(tokenizer).save_pretrained(folder)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def thinking_template() -> str:
    """Returns the chat template of the thinking variant, whose assistant begins with a thought."""
    opening = "{{- '<|im_start|>assistant\\n' }}"
    if QWEN3_VL_TEMPLATE.count(opening) != 1:
        raise AssertionError("the template opens the assistant's turn in one place")
    return QWEN3_VL_TEMPLATE.replace(opening, "{{- '<|im_start|>assistant\\n<think>\\n' }}")
