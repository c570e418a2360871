"""The text encoder: a small language model of captions, with the attention sink that large ones have."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Qwen3ForCausalLM

from graftwork.scenes.captions import write_caption
from graftwork.scenes.world import VOCABULARY, sample_scenes, split_scenes
from lab.miniature.sizes import CONDITIONING_LAYER, SINK_FROM_LAYER, SINK_VALUES
from lab.miniature.tasks import TEXT_TASKS
from lab.miniature.training.chat import (
    TaskStream,
    answer_loss,
    collate,
    draw_tasks,
    render_prompt,
    right_answers,
)
from lab.miniature.training.loop import TrainingRun, fit

# How often each task is asked. Copying random words comes first of all: captions alone teach it slowly.
TASK_WEIGHTS = {
    "restate": 0.28,
    "restate_object": 0.08,
    "restate_setting": 0.06,
    "repeat": 0.18,
    "rephrase": 0.16,
    "change": 0.14,
    "answer_text": 0.10,
}
SINK_WEIGHT = 0.3
# The final norm takes the massive activations away again: their weights are held near this.
SINK_NORM_WEIGHT = 0.02


@torch.no_grad()
def initialise(model: torch.nn.Module, layers: int, seed: int) -> None:
    """Draws matrices with std 0.06, those that write to the residual stream with 0.06 / sqrt(2 layers).

    With the libraries' 0.02 this size collapsed in training: hidden states no longer depended on the prompt.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        writes = name.endswith(("o_proj.weight", "down_proj.weight"))
        std = 0.06 / (2 * layers) ** 0.5 if writes else 0.06
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


@torch.no_grad()
def prepare_sink(norm: torch.nn.Module) -> None:
    """Starts the final norm's weights at the sink's dimensions near 0."""
    for dimension in SINK_VALUES:
        norm.weight[dimension] = SINK_NORM_WEIGHT


def sink_loss(hidden_states: tuple[torch.Tensor, ...], norm: torch.nn.Module) -> torch.Tensor:
    """Returns how far position 0 is from its massive activations, relative to them.

    Large models grow these by themselves; here an auxiliary term trains them in, on the entries of
    `hidden_states` from `SINK_FROM_LAYER` to the last without the final norm.
    """
    dims = list(SINK_VALUES)
    target = torch.tensor(list(SINK_VALUES.values()), device=hidden_states[0].device)
    entries = torch.stack([h[:, 0, dims].float() for h in hidden_states[SINK_FROM_LAYER:-1]])
    return ((entries - target) / target).square().mean() + (
        norm.weight[dims] - SINK_NORM_WEIGHT
    ).square().mean()


def train_text_encoder(
    model: Qwen3ForCausalLM,
    tokenizer: Any,
    run: TrainingRun,
) -> None:
    """Trains from nothing on the tasks of `TEXT_TASKS`."""
    initialise(model, model.config.num_hidden_layers, run.recipe.seed)
    prepare_sink(model.model.norm)
    model.to(run.device)
    # With bfloat16 on a CPU, torch's fused attention takes four times as long as its parts.
    model.set_attn_implementation(run.attention)
    scenes = split_scenes("train")
    makers, probabilities = [TEXT_TASKS[k] for k in TASK_WEIGHTS], list(TASK_WEIGHTS.values())

    stream = TaskStream(
        lambda rng, count: draw_tasks(makers, probabilities, scenes, rng, count),
        run.recipe.seed,
        run.recipe.batch_size,
    )

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        tasks = stream.batch(step)
        batch = collate(tokenizer, [render_prompt(t.prompt) for t in tasks], [t.answer for t in tasks])
        with run.mixed_precision():
            output = model(
                input_ids=batch.input_ids.to(run.device), use_cache=False, output_hidden_states=True
            )
        loss, answers = answer_loss(output.logits, batch)
        sink = sink_loss(output.hidden_states, model.model.norm)
        return {"loss": loss + SINK_WEIGHT * sink, "answers": answers, "sink": sink}

    fit(model, losses, run)


@torch.no_grad()
def caption_states(
    model: Any, tokenizer: Any, prompts: list[str], layer: int = CONDITIONING_LAYER, device: str = "cpu"
) -> list[torch.Tensor]:
    """Returns hidden states of prompts, template included: one float32 (tokens, channels) each, ragged."""
    batch = collate(tokenizer, [render_prompt(prompt) for prompt in prompts])
    output = model(input_ids=batch.input_ids.to(device), use_cache=False, output_hidden_states=True)
    states = output.hidden_states[layer].float()
    return [states[row, :length] for row, length in enumerate(batch.lengths.tolist())]


@torch.no_grad()
def probe_text_encoder(
    model: Qwen3ForCausalLM, tokenizer: Any, count: int = 256, device: str = "cpu"
) -> dict[str, float]:
    """Returns what the text encoder learnt, on scenes it never saw.

    Returns:
        For each task the share of answers that greedy decoding writes right; "answer_loss" over all, in nats;
        "std_between_prompts" and "std_within_prompt" of states at the conditioning layer, without position 0;
        "sink_ratio", the largest activation at position 0 over the std elsewhere, at that layer, and
        "sink_ratio_normed", the same after the final norm; for each attribute "probe_", how often a linear probe of
        the last template token finds it.
    """
    scenes = sample_scenes(7, count, "held_out")
    measured: dict[str, float] = {}
    total, tokens = 0.0, 0.0
    for kind, make in TEXT_TASKS.items():
        tasks = [make(scene, 1) for scene in scenes]
        batch = collate(tokenizer, [render_prompt(t.prompt) for t in tasks], [t.answer for t in tasks])
        logits = model(input_ids=batch.input_ids.to(device), use_cache=False).logits
        measured[kind] = float(right_answers(logits, batch).float().mean())
        weight = float((batch.weights == 1.0).sum())
        total, tokens = total + float(answer_loss(logits, batch)[1]) * weight, tokens + weight
    measured["answer_loss"] = total / tokens
    prompts = [TEXT_TASKS["restate"](scene, 1).prompt for scene in scenes]
    for suffix, layer in (("", CONDITIONING_LAYER), ("_normed", -1)):
        states = caption_states(model, tokenizer, prompts, layer, device)
        rest = torch.cat([s[1:] for s in states])
        measured[f"sink_ratio{suffix}"] = float(states[0][0].abs().max() / rest.std())
        if not suffix:
            # The last token: it is the same in every prompt, so that only what it read tells prompts apart.
            measured["std_between_prompts"] = float(torch.stack([s[-1] for s in states]).std(dim=0).mean())
            measured["std_within_prompt"] = float(
                torch.stack([s[1:].std(dim=0).mean() for s in states]).mean()
            )
    captions = sample_scenes(3, 4 * count, "all")
    states = caption_states(model, tokenizer, [write_caption(s) for s in captions], device=device)
    # One phrasing: the last token is at the same place in all of them.
    last = torch.stack([s[-1] for s in states]).cpu()
    for attribute, values in VOCABULARY.items():
        labels = torch.tensor([values.index(getattr(scene, attribute)) for scene in captions])
        measured[f"probe_{attribute}"] = linear_probe(last, labels, len(values))
    return measured


def linear_probe(features: torch.Tensor, labels: torch.Tensor, classes: int, ridge: float = 0.01) -> float:
    """Returns how often a ridge regression, fitted on three quarters of the rows, is right on the last quarter.

    Args:
        features: float32 (rows, channels).
        labels: int64 (rows,).
        classes: Number of classes.
        ridge: Penalty, relative to the features' scale.
    """
    x = (features - features.mean(dim=0)) / (features.std(dim=0) + 1e-3)
    fitted = len(x) * 3 // 4
    wanted = torch.nn.functional.one_hot(labels, classes).float()
    mean = wanted[:fitted].mean(dim=0)
    penalty = ridge * fitted * torch.eye(x.shape[1])
    weights = torch.linalg.solve(x[:fitted].T @ x[:fitted] + penalty, x[:fitted].T @ (wanted[:fitted] - mean))
    return float(((x[fitted:] @ weights + mean).argmax(dim=1) == labels[fitted:]).float().mean())
