"""Designs made of plain values, without any model: for tests of what happens to cells."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import require_known
from graftwork.core.fact_cache import FactCache
from graftwork.design.cells import Design
from graftwork.design.settings import Limits
from graftwork.design.sweep import Expander
from graftwork.models.catalog import Model
from graftwork.models.families import EncoderFacts, GeneratorFacts

SPECIAL_TOKENS = ["<|im_start|>", "<|im_end|>", "<|image_pad|>"]
ENCODER = {
    "num_hidden_layers": 8,
    "hidden_size": 64,
    "rope_theta": 1.0,
    "special_tokens": SPECIAL_TOKENS,
    "has_chat_template": True,
}
GENERATOR = {
    "family": "z_image",
    "conditioning_layers": (-2,),
    "caption_channels": 64,
    "caption_padding": 0,
    "max_caption_tokens": 96,
    "size_multiple": 16,
    "latent_channels": 16,
    "scheduler_config": {},
    "max_height": None,
    "max_width": None,
    "max_steps": None,
    "is_distilled": True,
}


def some_models() -> list[Model]:
    """A text encoder, two encoders of images, one of another width, and a generator."""
    return [
        _model("text", "encoder", family="qwen3", accepts_images=False, **ENCODER),
        _model("vision", "encoder", family="qwen3_vl", accepts_images=True, **ENCODER),
        _model("other-vision", "encoder", family="qwen3_vl", accepts_images=True, **ENCODER),
        _model("wide", "encoder", family="qwen3_vl", accepts_images=True, **{**ENCODER, "hidden_size": 128}),
        _model("images", "generator", **GENERATOR),
    ]


def _model(name: str, kind: str, **facts: Any) -> Model:
    entry = {
        "family": facts["family"],
        "path": f"/nowhere/{name}",
        **({"text_encoder": "text"} if kind == "generator" else {}),
    }
    record = EncoderFacts if kind == "encoder" else GeneratorFacts
    return Model(name, kind, entry, f"content:{name}", record(**facts))


class Catalog:
    """Answers like `ModelCatalog`, from a list."""

    file = "config/models.yaml"

    def __init__(self, models: list[Model]):
        self._models = {(model.kind, model.name): model for model in models}

    def names(self, kind: str) -> list[str]:
        return [name for of, name in self._models if of == kind]

    def get(self, kind: str, name: str, where: str) -> Model:
        require_known(name, self.names(kind), kind, where)
        return self._models[kind, name]


def draw_references(root: Path) -> None:
    """Writes references: house, tree, and home, which has the same content as house."""
    folder = root / "config" / "references"
    folder.mkdir(parents=True, exist_ok=True)
    for name, grey in (("house", 50), ("home", 50), ("tree", 90)):
        Image.fromarray(np.full((8, 12, 3), grey, dtype=np.uint8)).save(folder / f"{name}.png")


def experiment(
    axes: dict[str, Any] | None = None, base: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Returns the content of an experiment file."""
    plain = {
        "prompts": [{"name": "apple", "text": "a red apple"}, {"name": "boat", "text": "a blue boat"}],
        "references": ["house"],
        "encoder": "vision",
        "generator": "images",
        "height": 64,
        "width": 64,
    }
    return {"base": {**plain, **(base or {})}, "axes": axes or {}, **more}


def expand(
    root: Path,
    raw: dict[str, Any],
    name: str = "test",
    limits: Limits | None = None,
    defaults: dict[str, Any] | None = None,
    models: list[Model] | None = None,
) -> Design:
    """Expands the content of an experiment file."""
    draw_references(root)
    facts = FactCache(root / "facts.json")
    expander = Expander(root, Catalog(models or some_models()), facts, limits or Limits(), defaults or {})
    return expander.expand(name, raw, f"config/experiments/{name}.yaml")


def shipped(folder: str, root: Path = REPOSITORY, pattern: str = "*.yaml") -> list[Path]:
    """Returns the files of a folder of the configuration, by a pattern, that git tracks; without git, all of them.

    What users add to their checkout is theirs.
    """
    found = sorted((root / folder).glob(pattern))
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--", folder], capture_output=True, text=True, check=False
    )
    tracked = {root / line for line in listed.stdout.splitlines()}
    return [path for path in found if path in tracked] if listed.returncode == 0 else found
