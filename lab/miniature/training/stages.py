"""The stages that make the family, in the order they need each other, each behind a gate.

A stage keeps everything in a folder of its own: `checkpoint.pt` and `curve.csv` while it trains, `model/` when
it is done, `probes.json` when what it learnt was measured. A stage whose probes miss its gate fails, and what
needs it is not started.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2Transformer2DModel,
    ZImageTransformer2DModel,
)
from transformers import (
    Dinov2Model,
    Qwen2Tokenizer,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLForConditionalGeneration,
    SiglipModel,
)
from transformers.utils import logging

from graftwork.core.atomic import write_atomic
from graftwork.scenes.world import render_scenes, sample_scenes
from lab.miniature.recipes import Recipe
from lab.miniature.sizes import SIZES, new_tokenizer
from lab.miniature.training.autoencoder import psnr, reconstruct, train_vae
from lab.miniature.training.embedding import (
    embedding_tokenizer,
    new_embedding_model,
    probe_embedding,
    train_embedding,
)
from lab.miniature.training.flux2 import new_flux2_transformer, probe_flux2, train_flux2, transplant_vae
from lab.miniature.training.judge import judge_tokenizer, new_judge, probe_judge, train_judge
from lab.miniature.training.likeness import (
    new_dinov2,
    new_siglip,
    probe_pictures,
    probe_siglip,
    train_dinov2,
    train_siglip,
)
from lab.miniature.training.loop import TrainingRun
from lab.miniature.training.text_encoder import probe_text_encoder, train_text_encoder
from lab.miniature.training.transformer import probe_transformer, train_transformer
from lab.miniature.training.vision import probe_vision, train_vision
from lab.miniature.training.vision_language import (
    probe_vision_language_model,
    train_vision_language_model,
)
from lab.small_parts import (
    new_text_encoder,
    new_transformer,
    new_vae,
    new_vision_language_model,
)

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()


@dataclass(frozen=True)
class Workshop:
    """Folder and device for the training of a family.

    Attributes:
        folder: Has one folder per stage.
        device: Device to train on.
        say: Takes lines of progress.
        probe_count: Scenes that each probe looks at.
    """

    folder: Path
    device: str = "cpu"
    say: Callable[[str], None] = print
    probe_count: int = 256

    def model_folder(self, stage: str) -> Path:
        """Returns the folder of a stage's finished model."""
        return self.folder / stage / "model"

    def run(self, stage: str, recipe: Recipe) -> TrainingRun:
        """Returns the run that trains a stage in this workshop."""
        return TrainingRun(recipe, self.folder / stage, self.device, self.say)

    def tokenizer(self) -> Qwen2Tokenizer:
        """Returns the family's tokenizer, which the text encoder's stage wrote."""
        return Qwen2Tokenizer.from_pretrained(self.model_folder("text_encoder"), local_files_only=True)

    @property
    def flux2_vae_folder(self) -> Path:
        """Folder of the autoencoder that the stage `flux2` transplants."""
        return self.folder / "flux2" / "vae"

    def flux2_vae(self) -> AutoencoderKLFlux2:
        """Returns the autoencoder of the stage `flux2`, float32, on the device."""
        vae = AutoencoderKLFlux2.from_pretrained(self.flux2_vae_folder, local_files_only=True)
        return vae.to(self.device).eval()

    def load(self, stage: str) -> Any:
        """Returns the finished model of a stage, float32, on the device."""
        return (
            _CLASSES[stage]
            .from_pretrained(self.model_folder(stage), local_files_only=True, dtype=torch.float32)
            .to(self.device)
            .eval()
        )


def train_stage(stage: str, recipe: Recipe, workshop: Workshop, gated: bool = True) -> dict[str, float]:
    """Trains a stage, or goes on where it was interrupted, measures it and checks its gate.

    Args:
        stage: One of `STAGES`.
        recipe: Recipe of its training.
        workshop: Where; must hold what the stage needs.
        gated: Whether a missed gate is an error; a test of a few steps cannot pass it.

    Returns:
        The measurements.

    Raises:
        ValueError: If there is no such stage.
        RuntimeError: If the gate is missed.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage!r} is not known; allowed: {', '.join(STAGES)}")
    made = STAGES[stage]
    torch.manual_seed(recipe.seed)
    model, tokenizer = made.train(workshop, workshop.run(stage, recipe))
    target = workshop.model_folder(stage)
    building = target.with_name("model.building")
    shutil.rmtree(building, ignore_errors=True)
    model.save_pretrained(building)
    if tokenizer is not None:
        tokenizer.save_pretrained(building)
    shutil.rmtree(target, ignore_errors=True)
    building.replace(target)
    probes = {name: round(value, 4) for name, value in made.probe(workshop).items()}
    missed = missed_gates(made.gates, probes)
    write_atomic(
        workshop.folder / stage / "probes.json",
        json.dumps({"recipe": asdict(recipe), "measured": probes, "missed": missed}, indent=2) + "\n",
    )
    if missed and gated:
        (workshop.folder / stage / "probes.json").rename(workshop.folder / stage / "probes.missed.json")
        raise RuntimeError(
            f"stage {stage} missed its gate: {'; '.join(missed)}. What needs it is not trained. Raise its steps in "
            f"resources/miniature/recipes.yaml: {stage}.steps, and remove {workshop.folder / stage}"
        )
    return probes


def missed_gates(gates: Mapping[str, tuple[str, float]], measured: Mapping[str, float]) -> list[str]:
    """Returns one sentence for each measure that is on the wrong side of its gate."""
    return [
        f"{name} is {measured[name]}, must be {side} {limit}"
        for name, (side, limit) in gates.items()
        if not (measured[name] >= limit if side == "at least" else measured[name] <= limit)
    ]


def _train_vae(workshop: Workshop, run: TrainingRun):
    vae = new_vae(SIZES, use_post_quant_conv=True)
    train_vae(vae, run)
    return vae, None


def _probe_vae(workshop: Workshop) -> dict[str, float]:
    scenes = sample_scenes(3, workshop.probe_count, "held_out")
    values = psnr(render_scenes(scenes), reconstruct(workshop.load("vae"), scenes, workshop.device))
    return {"psnr_mean": float(values.mean()), "psnr_lowest": float(values.min())}


def _train_text_encoder(workshop: Workshop, run: TrainingRun):
    tokenizer = new_tokenizer()
    model = new_text_encoder(SIZES, tokenizer)
    train_text_encoder(model, tokenizer, run)
    return model, tokenizer


def _probe_text_encoder(workshop: Workshop) -> dict[str, float]:
    return probe_text_encoder(
        workshop.load("text_encoder"),
        workshop.tokenizer(),
        count=workshop.probe_count,
        device=workshop.device,
    )


def _train_vision(workshop: Workshop, run: TrainingRun):
    tokenizer = workshop.tokenizer()
    model = new_vision_language_model(SIZES, tokenizer)
    embeddings = workshop.load("text_encoder").get_input_embeddings().weight.detach()
    train_vision(model, embeddings, tokenizer, run)
    return model, None


def _probe_vision(workshop: Workshop) -> dict[str, float]:
    embeddings = workshop.load("text_encoder").get_input_embeddings().weight.detach()
    return probe_vision(
        workshop.load("vision"),
        embeddings,
        workshop.tokenizer(),
        count=workshop.probe_count,
        device=workshop.device,
    )


def _train_vision_language(variant: str) -> Callable:
    def train(workshop: Workshop, run: TrainingRun):
        model = workshop.load("vision")
        train_vision_language_model(model, workshop.load("text_encoder"), workshop.tokenizer(), variant, run)
        return model, None

    return train


def _probe_vision_language(variant: str) -> Callable:
    def probe(workshop: Workshop) -> dict[str, float]:
        return probe_vision_language_model(
            workshop.load(f"vl_{variant}"),
            workshop.load("text_encoder"),
            workshop.tokenizer(),
            variant,
            count=workshop.probe_count,
            device=workshop.device,
        )

    return probe


def _train_embedding(workshop: Workshop, run: TrainingRun):
    tokenizer = embedding_tokenizer(workshop.tokenizer())
    model = new_embedding_model(workshop.load("text_encoder"))
    train_embedding(model, tokenizer, run)
    return model, tokenizer


def _probe_embedding(workshop: Workshop) -> dict[str, float]:
    tokenizer = embedding_tokenizer(workshop.tokenizer())
    return probe_embedding(
        workshop.load("embedding"), tokenizer, count=workshop.probe_count, device=workshop.device
    )


def _train_transformer(workshop: Workshop, run: TrainingRun):
    transformer = new_transformer(SIZES)
    train_transformer(
        transformer, workshop.load("vae"), workshop.load("text_encoder"), workshop.tokenizer(), run
    )
    return transformer, None


def _probe_transformer(workshop: Workshop) -> dict[str, float]:
    return probe_transformer(
        workshop.load("transformer"),
        workshop.load("vae"),
        workshop.load("text_encoder"),
        workshop.tokenizer(),
        count=workshop.probe_count,
        device=workshop.device,
    )


def _train_flux2(workshop: Workshop, run: TrainingRun):
    transformer = new_flux2_transformer()
    vae = transplant_vae(workshop.load("vae"), workshop.device)
    vae.save_pretrained(workshop.flux2_vae_folder)
    train_flux2(transformer, vae, workshop.load("text_encoder"), workshop.tokenizer(), run)
    return transformer, None


def _probe_flux2(workshop: Workshop) -> dict[str, float]:
    return probe_flux2(
        workshop.load("flux2"),
        workshop.flux2_vae(),
        workshop.load("text_encoder"),
        workshop.tokenizer(),
        count=workshop.probe_count,
        device=workshop.device,
    )


def _train_siglip(workshop: Workshop, run: TrainingRun):
    tokenizer = workshop.tokenizer()
    model = new_siglip(tokenizer)
    train_siglip(model, tokenizer, run)
    return model, tokenizer


def _probe_siglip(workshop: Workshop) -> dict[str, float]:
    return probe_siglip(
        workshop.load("siglip"), workshop.tokenizer(), workshop.probe_count, device=workshop.device
    )


def _train_dinov2(workshop: Workshop, run: TrainingRun):
    model = new_dinov2()
    train_dinov2(model, run)
    return model, None


def _probe_dinov2(workshop: Workshop) -> dict[str, float]:
    return probe_pictures(workshop.load("dinov2"), workshop.probe_count, device=workshop.device)


def _train_judge(workshop: Workshop, run: TrainingRun):
    tokenizer = judge_tokenizer(workshop.tokenizer())
    model = new_judge(workshop.load("vl_instruct"), tokenizer)
    train_judge(model, tokenizer, run)
    return model, tokenizer


def _probe_judge(workshop: Workshop) -> dict[str, float]:
    tokenizer = judge_tokenizer(workshop.tokenizer())
    return probe_judge(workshop.load("judge"), tokenizer, workshop.probe_count, device=workshop.device)


@dataclass(frozen=True)
class Stage:
    """One stage: how to train it, what to measure and what must come out.

    Attributes:
        train: Trains and returns the model, and a tokenizer to save beside it or None.
        probe: Loads the saved model and measures it.
        gates: Measure -> ("at least" or "at most", limit).
    """

    train: Callable[[Workshop, TrainingRun], tuple[Any, Any]]
    probe: Callable[[Workshop], dict[str, float]]
    gates: Mapping[str, tuple[str, float]]


_SEES = {
    attribute: ("at least", 0.9)
    for attribute in ("shape", "colour", "size", "position", "background", "texture")
}
_LIKENESS = {
    "likeness": ("at least", 0.9),
    "same_scene": ("at least", 0.95),
    **{f"sees_{attribute}": ("at least", 0.9) for attribute in _SEES},
}
STAGES: dict[str, Stage] = {
    "vae": Stage(_train_vae, _probe_vae, {"psnr_mean": ("at least", 30.0)}),
    "text_encoder": Stage(
        _train_text_encoder,
        _probe_text_encoder,
        {
            "answer_loss": ("at most", 0.03),
            "repeat": ("at least", 0.95),
            "std_between_prompts": ("at least", 0.5),
            "sink_ratio": ("at least", 50.0),
            "sink_ratio_normed": ("at most", 10.0),
            **{f"probe_{attribute}": ("at least", 0.8) for attribute in _SEES},
        },
    ),
    "vision": Stage(_train_vision, _probe_vision, {name: ("at least", 0.8) for name in _SEES}),
    "vl_instruct": Stage(
        _train_vision_language("instruct"),
        _probe_vision_language("instruct"),
        {**_SEES, "parent_cosine": ("at least", 0.9)},
    ),
    "vl_thinking": Stage(
        _train_vision_language("thinking"),
        _probe_vision_language("thinking"),
        {"parent_cosine": ("at least", 0.9), "describe": ("at least", 0.5)},
    ),
    "embedding": Stage(_train_embedding, _probe_embedding, {"retrieval": ("at least", 0.9)}),
    "transformer": Stage(_train_transformer, _probe_transformer, {"right_captions": ("at most", 0.35)}),
    "flux2": Stage(_train_flux2, _probe_flux2, {"right_captions": ("at most", 0.35)}),
    "siglip": Stage(
        _train_siglip,
        _probe_siglip,
        {
            **_LIKENESS,
            "captions": ("at least", 0.9),
            **{f"reads_{attribute}": ("at least", 0.9) for attribute in (*_SEES, "partial")},
        },
    ),
    "dinov2": Stage(_train_dinov2, _probe_dinov2, _LIKENESS),
    "judge": Stage(
        _train_judge,
        _probe_judge,
        {"right": ("at least", 0.9), **{f"judges_{attribute}": ("at least", 0.9) for attribute in _SEES}},
    ),
}
_CLASSES = {
    "vae": AutoencoderKL,
    "text_encoder": Qwen3ForCausalLM,
    "vision": Qwen3VLForConditionalGeneration,
    "vl_instruct": Qwen3VLForConditionalGeneration,
    "vl_thinking": Qwen3VLForConditionalGeneration,
    "embedding": Qwen3Model,
    "transformer": ZImageTransformer2DModel,
    "flux2": Flux2Transformer2DModel,
    "siglip": SiglipModel,
    "dinov2": Dinov2Model,
    "judge": Qwen3VLForConditionalGeneration,
}
