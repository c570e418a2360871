"""One training loop for all stages: resumable, with curves, the same however often it was interrupted.

A batch is a function of the seed and the step, so that a run that was killed goes on from its last checkpoint
with the batches it would have seen.
"""

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from graftwork.core.atomic import atomic_path, write_atomic
from lab.miniature.recipes import Recipe

CHECKPOINT_SECONDS = 60.0
CURVE_EVERY = 25


@dataclass(frozen=True)
class TrainingRun:
    """Recipe, folder and device of the training of one stage.

    Attributes:
        recipe: Steps, batch size, learning rate and seed.
        folder: Folder of `checkpoint.pt` and `curve.csv`.
        device: Device of the models that take part.
        say: Takes a line of progress now and then.
    """

    recipe: Recipe
    folder: Path
    device: str = "cpu"
    say: Callable[[str], None] = print

    @property
    def attention(self) -> str:
        """The attention implementation of transformers that is faster on the device."""
        return "eager" if torch.device(self.device).type == "cpu" else "sdpa"

    def mixed_precision(self) -> torch.autocast:
        """Returns the context of forward passes: products in bfloat16, where the device has them."""
        return torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=multiplies_bfloat16(self.device)
        )


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Returns whether products in bfloat16 are worth it on a device.

    A CPU without AVX-512 emulates them: a step of a transformer took 30 times as long as in float32.
    """
    return torch.device(device).type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2"


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
    run: TrainingRun,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Trains a module in place and resumes from the checkpoint of the run's folder, if there is one.

    A checkpoint of another recipe is renamed, and training starts anew.

    Args:
        module: Parameters without `requires_grad` are not trained.
        losses: Step -> named scalars. "loss" is minimised, the others are recorded.
        run: Recipe and folder.
        scales: Prefix of parameter names -> factor on their learning rate.

    Raises:
        FloatingPointError: If the gradient is not finite.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    training = _Training(module, run, scales or {})
    training.resume()
    module.train()
    for step in range(training.step, run.recipe.steps):
        training.update(losses)
        last = step + 1 == run.recipe.steps
        if (step + 1) % CURVE_EVERY == 0 or last:
            training.end_row()
            if (step + 1) % (10 * CURVE_EVERY) == 0 or last:
                run.say(" ".join(f"{name} {value}" for name, value in training.rows[-1].items()))
            # Only at the end of a row, so that the first row after a resumption is a mean over a whole row too.
            if training.is_save_due() or last:
                training.save()
    training.use_average()
    module.eval()


class _Training:
    """The state of a training, which its checkpoint holds.

    Attributes:
        step: Steps done.
        rows: Rows of the curve.
    """

    def __init__(self, module: torch.nn.Module, run: TrainingRun, scales: Mapping[str, float]) -> None:
        self.step = 0
        self.rows: list[dict] = []
        self._run = run
        self._recipe = run.recipe
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            _groups(self._trained, run.recipe, scales),
            lr=run.recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self._average = (
            {name: p.detach().clone() for name, p in self._trained.items()} if run.recipe.ema else {}
        )
        self._sums: dict[str, float] = {}
        self._in_row = 0
        self._spent = 0.0
        self._began = self._saved = time.monotonic()

    def update(self, losses: Callable[[int], Mapping[str, torch.Tensor]]) -> None:
        """Takes one optimizer step."""
        rate = learning_rate_at(self._recipe, self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        values = losses(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self._trained.values()), self._recipe.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"step {self.step}: the gradient is not finite; lower learning_rate {self._recipe.learning_rate}"
            )
        self._optimizer.step()
        self.step += 1
        if self._average:
            decay = min(self._recipe.ema, self.step / (self.step + 9))
            _update_average(self._average, self._trained, decay)
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._in_row += 1

    def end_row(self) -> None:
        """Adds the means since the last row to the curve."""
        means = {name: round(total / self._in_row, 6) for name, total in self._sums.items()}
        self.rows.append({"step": self.step, "seconds": round(self._seconds(), 1)} | means)
        self._sums, self._in_row = {}, 0

    def is_save_due(self) -> bool:
        """Returns whether the last checkpoint is older than `CHECKPOINT_SECONDS`."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    @torch.no_grad()
    def use_average(self) -> None:
        """Replaces the weights by their moving average, if the recipe has one."""
        for name, value in self._average.items():
            self._trained[name].copy_(value)

    def resume(self) -> None:
        """Goes back to the checkpoint in the folder, if it is of the same recipe."""
        path = self._run.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != asdict(self._recipe):
            aside = path.with_name(f"checkpoint-of-another-recipe-at-step-{state['step']}.pt")
            path.rename(aside)
            self._run.say(
                f"{path} is of the recipe {state['recipe']}, now it is {asdict(self._recipe)}: moved to {aside.name}"
            )
            return
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(state["parameters"][name])
            for name, value in self._average.items():
                value.copy_(state["average"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        with open(self._run.folder / "curve.csv", newline="", encoding="utf-8") as file:
            self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= state["step"]]
        self.step, self._spent = state["step"], state["seconds"]

    def save(self) -> None:
        """Writes the curve and the checkpoint."""
        # The curve first: rows after the checkpoint's step are dropped on resumption, missing ones would be lost.
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in self.rows)]
        write_atomic(self._run.folder / "curve.csv", "\n".join(lines) + "\n")
        with atomic_path(self._run.folder / "checkpoint.pt") as temporary:
            torch.save(
                {
                    "recipe": asdict(self._recipe),
                    "step": self.step,
                    "seconds": self._seconds(),
                    "parameters": {name: p.detach() for name, p in self._trained.items()},
                    "optimizer": self._optimizer.state_dict(),
                    "average": self._average,
                },
                temporary,
            )
        self._saved = time.monotonic()

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._began


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
