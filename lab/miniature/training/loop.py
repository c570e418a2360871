"""One training loop for all stages: resumable, with curves, the same however often it was interrupted.

A batch is a function of the seed and the step, so that a run that was killed goes on from its last checkpoint
with the batches it would have seen.
"""

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from graftwork.core.atomic import atomic_path, write_atomic
from lab.miniature.recipes import Recipe

CHECKPOINT_SECONDS = 60.0
CURVE_EVERY = 25


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Returns the random numbers of one step, which depend on the seed and the step only."""
    return np.random.default_rng([seed, step])


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns torch's random numbers of one step."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """Returns the learning rate of a step, 0 to steps - 1."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def fit(
    module: torch.nn.Module,
    losses: Callable[[int], Mapping[str, torch.Tensor]],
    recipe: Recipe,
    folder: Path,
    say: Callable[[str], None] = print,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Trains a module in place; goes on from the checkpoint in `folder` if there is one.

    A checkpoint of another recipe is moved aside, and training starts anew.

    Args:
        module: Module to train; parameters without `requires_grad` are left alone.
        losses: Step to named scalars. "loss" is minimised, the others are recorded.
        recipe: How.
        folder: Folder of `checkpoint.pt` and `curve.csv`.
        say: Takes a line of progress now and then.
        scales: Prefix of parameter names to a factor on their learning rate.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        _groups(trained, recipe, scales or {}), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
    )
    average = {name: p.detach().clone() for name, p in trained.items()} if recipe.ema else {}
    first, rows, spent = _resume(folder, recipe, trained, optimizer, average, say)
    began = saved = time.monotonic()
    sums: dict[str, float] = {}
    module.train()
    for step in range(first, recipe.steps):
        rate = learning_rate_at(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        values = losses(step)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), recipe.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"step {step}: the gradient is not finite; lower learning_rate {recipe.learning_rate}"
            )
        optimizer.step()
        if average:
            _update_average(average, trained, min(recipe.ema, (step + 1) / (step + 10)))
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % CURVE_EVERY == 0 or step + 1 == recipe.steps:
            count = (step % CURVE_EVERY) + 1
            seconds = spent + time.monotonic() - began
            rows.append(
                {"step": step + 1, "seconds": round(seconds, 1)}
                | {k: round(v / count, 6) for k, v in sums.items()}
            )
            sums = {}
            if (step + 1) % (10 * CURVE_EVERY) == 0 or step + 1 == recipe.steps:
                say(" ".join(f"{k} {v}" for k, v in rows[-1].items()))
            # At a row's end only, so that the row after a resumption is a mean over whole rows too.
            if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == recipe.steps:
                _save(folder, recipe, step + 1, seconds, trained, optimizer, average, rows)
                saved = time.monotonic()
    if average:
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(average[name])
    module.eval()


def _groups(
    trained: Mapping[str, torch.nn.Parameter], recipe: Recipe, scales: Mapping[str, float]
) -> list[dict]:
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in trained.items():
        decay = recipe.weight_decay if parameter.ndim >= 2 else 0.0
        scale = next((s for prefix, s in scales.items() if name.startswith(prefix)), 1.0)
        groups.setdefault((decay, scale), []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, "scale": scale}
        for (decay, scale), members in groups.items()
    ]


@torch.no_grad()
def _update_average(
    average: dict[str, torch.Tensor], trained: Mapping[str, torch.Tensor], decay: float
) -> None:
    torch._foreach_lerp_(list(average.values()), [p.detach() for p in trained.values()], 1 - decay)


def _resume(folder, recipe, trained, optimizer, average, say) -> tuple[int, list[dict], float]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0, [], 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != asdict(recipe):
        aside = folder / f"checkpoint-of-another-recipe-at-step-{state['step']}.pt"
        path.rename(aside)
        say(f"{path} is of the recipe {state['recipe']}, now it is {asdict(recipe)}: moved to {aside.name}")
        return 0, [], 0.0
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state["parameters"][name])
        for name, value in average.items():
            value.copy_(state["average"][name])
    optimizer.load_state_dict(state["optimizer"])
    with open(folder / "curve.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= state["step"]]
    return state["step"], rows, state["seconds"]


def _save(folder, recipe, step, seconds, trained, optimizer, average, rows) -> None:
    # The curve first: rows after the checkpoint's step are dropped on resumption, missing ones would be lost.
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    write_atomic(folder / "curve.csv", "\n".join(lines) + "\n")
    with atomic_path(folder / "checkpoint.pt") as temporary:
        torch.save(
            {
                "recipe": asdict(recipe),
                "step": step,
                "seconds": seconds,
                "parameters": {name: p.detach() for name, p in trained.items()},
                "optimizer": optimizer.state_dict(),
                "average": average,
            },
            temporary,
        )
