"""The family as users find it: folders that `save_pretrained` wrote, and entries for config/models.yaml."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lab.miniature.recipes import SCORERS
from lab.miniature.sizes import FLUX2_LAYERS, FLUX2_TOKENS, SIZES
from lab.miniature.training.embedding import embedding_tokenizer
from lab.miniature.training.flux2 import save_flux2_pipeline
from lab.miniature.training.judge import judge_processor, judge_tokenizer
from lab.miniature.training.likeness import dinov2_processor, siglip_processor
from lab.miniature.training.stages import Workshop
from lab.small_parts import new_image_processor, save_pipeline
from lab.small_vocabulary import QWEN3_TEMPLATE, QWEN3_VL_TEMPLATE

# Stored as published models are. Measured on the miniature: see its card.
STORED_DTYPE = torch.bfloat16
_PROCESSORS = {"siglip": siglip_processor, "dinov2": dinov2_processor, "judge": judge_processor}


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
            "miniature-flux2-klein": {
                "family": "flux2_klein",
                "path": f"{folder}/flux2-klein",
                "text_encoder": "miniature-qwen3",
                "text_hidden_layer": list(FLUX2_LAYERS),
                "max_sequence_length": FLUX2_TOKENS,
            },
        },
    }


def assemble_scorers(workshop: Workshop, target: Path, names: Sequence[str] = SCORERS) -> None:
    """Writes finished judges as users find them; each folder appears whole or not at all.

    Args:
        workshop: Workshop in which they were trained.
        target: Their folders in it are replaced.
        names: Names of those that are wanted.
    """
    for name in names:
        with _building(Path(target) / name) as building:
            workshop.load(name).to(STORED_DTYPE).save_pretrained(building)
            tokenizer = workshop.tokenizer()
            tokenizer.chat_template = None
            if name == "judge":
                tokenizer = judge_tokenizer(tokenizer)
                tokenizer.chat_template = QWEN3_VL_TEMPLATE
            # SigLIP pools the last position, whatever stands there, and its scorer pads on the right.
            tokenizer.padding_side = "right"
            if name != "dinov2":
                tokenizer.save_pretrained(building)
            _PROCESSORS[name]().save_pretrained(building)


@contextmanager
def _building(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of the target in the end."""
    target = target.absolute()
    building = target.with_name(f".{target.name}.{os.getpid()}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        shutil.rmtree(target, ignore_errors=True)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def assemble_family(workshop: Workshop, target: Path) -> None:
    """Writes the finished models of all stages as one family; the folder appears whole or not at all.

    Args:
        workshop: Workshop with every stage done.
        target: Replaced if it is there.
    """
    with _building(Path(target)) as building:
        tokenizer = workshop.tokenizer()
        tokenizer.chat_template = QWEN3_TEMPLATE
        save_pipeline(
            building / "z-image",
            text_encoder=workshop.load("text_encoder").to(STORED_DTYPE),
            tokenizer=tokenizer,
            transformer=workshop.load("transformer").to(STORED_DTYPE),
            vae=workshop.load("vae").to(STORED_DTYPE),
        )
        save_flux2_pipeline(
            building / "flux2-klein",
            transformer=workshop.load("flux2").to(STORED_DTYPE),
            vae=workshop.flux2_vae().to(STORED_DTYPE),
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


def thinking_template() -> str:
    """Returns the chat template of the thinking variant, whose assistant begins with a thought."""
    opening = "{{- '<|im_start|>assistant\\n' }}"
    if QWEN3_VL_TEMPLATE.count(opening) != 1:
        raise AssertionError("the template opens the assistant's turn in one place")
    return QWEN3_VL_TEMPLATE.replace(opening, "{{- '<|im_start|>assistant\\n<think>\\n' }}")
