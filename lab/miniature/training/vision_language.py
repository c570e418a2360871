"""The vision-language models: they start as the text encoder, learn to see, and stay close to what they were."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from transformers import Qwen3ForCausalLM, Qwen3VLForConditionalGeneration

from graftwork.scenes.world import ATTRIBUTES, Scene, sample_scenes, split_scenes
from lab.miniature.sizes import CONDITIONING_LAYER
from lab.miniature.tasks import (
    TASKS,
    TEXT_TASKS,
    Task,
    complete_object,
    complete_setting,
    ignore_picture,
    parse_answer,
    questions,
    write_headline,
)
from lab.miniature.training.chat import (
    ChatBatch,
    TaskStream,
    answer_loss,
    collate,
    draw_tasks,
    render_prompt,
    right_answers,
)
from lab.miniature.training.loop import TrainingRun, fit, step_rng
from lab.miniature.training.text_encoder import SINK_WEIGHT, sink_loss
from lab.miniature.training.vision import IMAGE_TOKENS, Pictures, word_ids, word_shares

MAKERS: dict[str, Callable[[Scene, int], Task]] = {
    **TASKS,
    **TEXT_TASKS,
    "complete_object": complete_object,
    "complete_setting": complete_setting,
    "ignore_picture": ignore_picture,
}
TASK_WEIGHTS = {
    "describe": 0.22,
    "answer_picture": 0.20,
    "complete_object": 0.14,
    "complete_setting": 0.10,
    "ignore_picture": 0.10,
    "borrow_style": 0.05,
    "borrow_object": 0.05,
    "restate": 0.05,
    "restate_object": 0.02,
    "restate_setting": 0.02,
    "rephrase": 0.05,
}
# Text tasks whose hidden states are held to the parent's, with and without a picture before them.
KEPT_TASKS = {"restate": 0.6, "restate_object": 0.15, "restate_setting": 0.1, "rephrase": 0.15}
KEPT_ROWS = 8
KEPT_LAYERS = (-2, -4, -7)
PARENT_WEIGHT = 1.0
# Large models' late states at image tokens can be decoded into words that are true there; here an auxiliary
# term on the last layer's logits trains this in.
LENS_WEIGHT = 0.05
# The language model moves slowly, the vision tower at full rate.
RATE_SCALES = {"model.visual": 1.0, "model.language_model": 0.3}
OPENINGS = {"instruct": "", "thinking": "<think>\n"}


def inherit(child: Qwen3VLForConditionalGeneration, parent: Qwen3ForCausalLM) -> None:
    """Gives the child's language model the parent's weights.

    Raises:
        RuntimeError: If the two have other parameters or shapes.
    """
    child.model.language_model.load_state_dict(parent.model.state_dict(), strict=True)
    child.tie_weights()


def answer_of(task: Task, variant: str) -> str:
    """Returns what the assistant writes: the thinking variant first writes the headline of the answer's scene."""
    if variant == "instruct":
        return task.answer
    return f"{write_headline(task.target)}\n</think>\n\n{task.answer}"


def forward(
    model: Qwen3VLForConditionalGeneration,
    batch: ChatBatch,
    pictures: Sequence[Scene],
    cache_of_pictures: Pictures,
    device: str,
    hidden_states: bool = False,
) -> Any:
    """Runs the model on sequences of which all have one picture, or none has.

    Args:
        model: Instruct or thinking.
        batch: Sequences.
        pictures: One scene a row, or none at all.
        cache_of_pictures: Renders them.
        device: Device of the model.
        hidden_states: Whether the output contains hidden states.
    """
    ids = batch.input_ids.to(device)
    inputs: dict[str, Any] = {}
    if pictures:
        patches, grid = cache_of_pictures.patches(pictures)
        inputs = {"pixel_values": patches.to(device), "image_grid_thw": grid.to(device)}
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    return model(input_ids=ids, use_cache=False, output_hidden_states=hidden_states, **inputs)


def collate_tasks(tokenizer: Any, tasks: Sequence[Task], variant: str, config: Any) -> ChatBatch:
    """Tokenizes tasks that all have a picture, or none."""
    shown = IMAGE_TOKENS if tasks[0].picture is not None else 0
    return collate(
        tokenizer,
        [render_prompt(t.prompt, shown, OPENINGS[variant]) for t in tasks],
        [answer_of(t, variant) for t in tasks],
        (config.image_token_id, config.vision_start_token_id, config.vision_end_token_id),
    )


def lens_loss(logits: torch.Tensor, batch: ChatBatch, shares: torch.Tensor, image_token: int) -> torch.Tensor:
    """Returns the cross entropy of logits at image tokens against the words that are true there."""
    rows, places = torch.nonzero(batch.input_ids == image_token, as_tuple=True)
    predicted = logits[rows.to(logits.device), places.to(logits.device)].float()
    return -(shares.flatten(0, 1).to(logits.device) * predicted.log_softmax(-1)).sum(-1).mean()


def train_vision_language_model(
    model: Qwen3VLForConditionalGeneration,
    parent: Qwen3ForCausalLM,
    tokenizer: Any,
    variant: str,
    run: TrainingRun,
) -> None:
    """Trains a model whose vision tower has had its first stage; its language model starts as the parent's.

    Args:
        model: Model with its initial weights.
        parent: The text encoder; stays as it is.
        tokenizer: The family's.
        variant: "instruct" or "thinking".
        run: Recipe, folder and device.
    """
    inherit(model, parent)
    attention = run.attention
    for part in (model.to(run.device), parent.to(run.device).eval().requires_grad_(False)):
        part.set_attn_implementation(attention)
    scenes, config, pictures = split_scenes("train"), model.config, Pictures()
    ids = word_ids(tokenizer)
    makers, probabilities = [MAKERS[k] for k in TASK_WEIGHTS], list(TASK_WEIGHTS.values())
    stream = TaskStream(
        lambda rng, count: draw_tasks(makers, probabilities, scenes, rng, count),
        run.recipe.seed,
        run.recipe.batch_size,
    )

    def kept(step: int) -> torch.Tensor:
        """The relative distance of text states to the parent's, where the text says it all."""
        rng = step_rng(run.recipe.seed + 1, step)
        tasks = draw_tasks(
            [TEXT_TASKS[k] for k in KEPT_TASKS], list(KEPT_TASKS.values()), scenes, rng, KEPT_ROWS
        )
        plain = collate(tokenizer, [render_prompt(t.prompt) for t in tasks])
        with torch.no_grad():
            wanted = parent(
                input_ids=plain.input_ids.to(run.device), use_cache=False, output_hidden_states=True
            )
        shown: list[Scene] = []
        batch = plain
        if step % 2 and all(t.kind in ("restate_everything", "rephrase") for t in tasks):
            shown = [scenes[i] for i in rng.integers(0, len(scenes), KEPT_ROWS)]
            batch = collate(tokenizer, [render_prompt(t.prompt, IMAGE_TOKENS) for t in tasks])
        output = forward(model, batch, shown, pictures, run.device, hidden_states=True)
        return parent_distance(output.hidden_states, wanted.hidden_states, plain, batch)

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        tasks = stream.batch(step)
        values: dict[str, torch.Tensor] = {}
        total = torch.zeros((), device=run.device)
        with run.mixed_precision():
            for part in ([t for t in tasks if t.picture], [t for t in tasks if not t.picture]):
                if not part:
                    continue
                batch = collate_tasks(tokenizer, part, variant, config)
                shown = [t.picture for t in part if t.picture]
                output = forward(model, batch, shown, pictures, run.device, hidden_states=True)
                loss, answers = answer_loss(output.logits, batch)
                sink = sink_loss(output.hidden_states, model.model.language_model.norm)
                total = total + (loss + SINK_WEIGHT * sink) * (len(part) / len(tasks))
                if shown:
                    shares = word_shares(shown, ids, output.logits.shape[-1])
                    lens = lens_loss(output.logits, batch, shares, config.image_token_id)
                    total = total + LENS_WEIGHT * lens * (len(part) / len(tasks))
                    values |= {"lens": lens}
                values |= {"answers_picture" if shown else "answers_text": answers, "sink": sink}
            distance = kept(step)
        for name in ("answers_picture", "answers_text", "lens"):
            values.setdefault(name, torch.zeros(()))
        return {"loss": total + PARENT_WEIGHT * distance, "parent_distance": distance, **values}

    fit(model, losses, run, RATE_SCALES)


def parent_distance(
    states: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], plain: ChatBatch, batch: ChatBatch
) -> torch.Tensor:
    """Returns the squared distance to the parent's states relative to their size, over `KEPT_LAYERS`.

    Position 0 is left out: its massive activations would be all that counts.

    Args:
        states: The child's, of `batch`.
        wanted: The parent's, of `plain`.
        plain: Prompts.
        batch: The same prompts, perhaps with a picture after the first tokens.
    """
    extra = batch.input_ids.shape[1] - plain.input_ids.shape[1]
    # The picture and its markers stand after "<|im_start|>user\n".
    start = 3
    keep = torch.arange(plain.input_ids.shape[1])[None] < plain.lengths[:, None]
    keep[:, :start] = False
    keep = keep.to(states[0].device)
    total = torch.zeros((), device=states[0].device)
    for layer in KEPT_LAYERS:
        child, parent = states[layer].float(), wanted[layer].float()
        if extra:
            child = torch.cat([child[:, :start], child[:, start + extra :]], dim=1)
        total = total + (child - parent)[keep].square().sum() / parent[keep].square().sum()
    return total / len(KEPT_LAYERS)


@cache
def probe_pictures() -> Pictures:
    """Pictures that probes share."""
    return Pictures()


@torch.no_grad()
def probe_vision_language_model(
    model: Qwen3VLForConditionalGeneration,
    parent: Qwen3ForCausalLM,
    tokenizer: Any,
    variant: str = "instruct",
    count: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """Returns what the model reads from pictures it never saw, and how far it is from its parent.

    Returns:
        For each attribute, the share of questions about it that greedy decoding answers right; for each task with a
        picture, the share of right answers; "parent_cosine", the mean over tokens of the cosine of text-only states
        at the conditioning layer to the parent's, without position 0, and "parent_cosine_picture" of the same
        texts after a picture.
    """
    model.eval()
    scenes = sample_scenes(13, count, "held_out")
    measured: dict[str, float] = {}

    def right(tasks: list[Task]) -> float:
        shares = []
        for start in range(0, len(tasks), 64):
            part = tasks[start : start + 64]
            batch = collate_tasks(tokenizer, part, variant, model.config)
            output = forward(model, batch, [t.picture for t in part if t.picture], probe_pictures(), device)
            shares.append(right_answers(output.logits, batch).float())
        return float(torch.cat(shares).mean())

    for index, attribute in enumerate(ATTRIBUTES):
        tasks = [Task("answer_picture", s, *questions(s, 1)[index], s) for s in scenes]
        assert all(parse_answer(attribute, t.answer) for t in tasks)
        measured[attribute] = right(tasks)
    for kind in ("describe", "complete_object", "complete_setting", "ignore_picture", "borrow_style"):
        measured[kind] = right([MAKERS[kind](scene, 1) for scene in scenes])
    prompts = [MAKERS["restate"](scene, 1).prompt for scene in scenes]
    plain = collate(tokenizer, [render_prompt(p) for p in prompts])
    wanted = parent(input_ids=plain.input_ids.to(device), use_cache=False, output_hidden_states=True)
    keep = torch.arange(plain.input_ids.shape[1])[None] < plain.lengths[:, None]
    keep[:, :3] = False
    for name, tokens in (("parent_cosine", 0), ("parent_cosine_picture", IMAGE_TOKENS)):
        batch = collate(tokenizer, [render_prompt(p, tokens) for p in prompts])
        shown = sample_scenes(17, count, "held_out") if tokens else []
        states = forward(model, batch, shown, probe_pictures(), device, hidden_states=True).hidden_states
        child = states[CONDITIONING_LAYER]
        extra = batch.input_ids.shape[1] - plain.input_ids.shape[1]
        child = torch.cat([child[:, :3], child[:, 3 + extra :]], dim=1)[keep.to(device)]
        cosine = torch.cosine_similarity(
            child, wanted.hidden_states[CONDITIONING_LAYER][keep.to(device)], dim=-1
        )
        measured[name] = float(cosine.mean())
    return measured
