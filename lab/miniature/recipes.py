"""Stages of the training, their order and their recipes (resources/miniature/recipes.yaml); imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

CONFIG = "resources/miniature/recipes.yaml"
# Stage -> the stages that must be done before it.
STAGE_NEEDS: dict[str, tuple[str, ...]] = {
    "vae": (),
    "text_encoder": (),
    "vision": ("text_encoder",),
    "vl_instruct": ("text_encoder", "vision"),
    "vl_thinking": ("text_encoder", "vision"),
    "embedding": ("text_encoder",),
    "transformer": ("vae", "text_encoder"),
    "flux2": ("vae", "text_encoder"),
    # Judges. The first needs the tokenizer alone.
    "siglip": ("text_encoder",),
    "dinov2": (),
    "judge": ("vl_instruct", "text_encoder"),
}
# Stages whose models are scorers: stage -> the role it plays in experiments, and the family of its entry in config/models.yaml.
SCORERS = {"siglip": ("semantic", "siglip"), "dinov2": ("structural", "dinov2"), "judge": ("judge", "vqa")}
SHIPPED_SCORERS = "resources/miniature/scorers"
# Experiments whose images scorers are calibrated on: few prompts in many settings, many prompts in few.
CALIBRATED = ("demo", "diverse_prompts")


@dataclass(frozen=True)
class Recipe:
    """Length and learning rate of the training of one stage.

    Attributes:
        steps: Optimizer steps.
        batch_size: Examples a step.
        learning_rate: Peak; reached after `warmup` steps, falls along a cosine to a twentieth.
        warmup: Steps of linear rise.
        weight_decay: Weight decay of AdamW, on matrices only.
        clip: Largest norm of the gradient.
        ema: Decay of the moving average of the weights that is kept in the end; 0 keeps the last weights.
        seed: Decides initial weights, batches and noise.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema {self.ema} is not in 0 to below 1")


@dataclass(frozen=True)
class Plan:
    """resources/miniature/recipes.yaml.

    Attributes:
        device: Device that stages train on, cpu or cuda.
        threads: Processor threads of each stage on a CPU.
        stages: Stage -> recipe.
    """

    device: str
    threads: int
    stages: Mapping[str, Recipe]


def read_plan(path: Path | str = CONFIG) -> Plan:
    """Reads the recipes of all stages.

    Raises:
        ValueError: where a key is missing or unknown, or a value is not allowed; names file and key.
    """
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    _check_keys(values, {"device", "threads", "stages"}, str(path))
    _check_keys(values["stages"], set(STAGE_NEEDS), f"{path}: stages")
    known = {field.name for field in fields(Recipe)}
    recipes = {}
    for stage, given in values["stages"].items():
        if unknown := set(given) - known:
            raise ValueError(
                f"{path}: stages.{stage}: {', '.join(sorted(unknown))} not known; allowed: {', '.join(sorted(known))}"
            )
        try:
            recipes[stage] = Recipe(**given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: stages.{stage}: {error}") from None
    return Plan(values["device"], values["threads"], recipes)


def scorer_entries(folder: Path | str) -> dict[str, dict[str, str]]:
    """Returns role -> entry of config/models.yaml, for scorers in `folder`."""
    return {role: {"family": family, "path": f"{folder}/{name}"} for name, (role, family) in SCORERS.items()}


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe as plain values."""
    return asdict(recipe)


def _check_keys(values: Any, wanted: set[str], where: str) -> None:
    if not isinstance(values, dict) or set(values) != wanted:
        found = ", ".join(sorted(values)) if isinstance(values, dict) else repr(values)
        raise ValueError(
            f"{where} must have the keys {', '.join(sorted(wanted))}, and no others; it has {found}"
        )
