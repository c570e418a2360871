"""Tasks as token sequences: rendered as the adapters render prompts, padded on the right, answers marked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graftwork.scenes.world import Scene
from lab.miniature.tasks import Task
from lab.miniature.training.loop import step_rng

# Prompts are learnt a little as well, as in pretraining; what decides is the answer.
PROMPT_WEIGHT = 0.05


@dataclass(frozen=True)
class ChatBatch:
    """Right-padded sequences. Attention is causal, so that padding changes nothing before it.

    Attributes:
        input_ids: int64 (batch, tokens).
        weights: float32 (batch, tokens), the weight of predicting the token at this place: 1 in answers,
            `PROMPT_WEIGHT` in prompts, 0 in padding and at images.
        lengths: int64 (batch,), tokens that are not padding.
        prompt_lengths: int64 (batch,), tokens up to where the answer begins.
    """

    input_ids: torch.Tensor
    weights: torch.Tensor
    lengths: torch.Tensor
    prompt_lengths: torch.Tensor


def render_prompt(text: str, image_tokens: int = 0, opening: str = "") -> str:
    """Returns what goes to the tokenizer for a prompt, as the chat templates of the family write it.

    Args:
        text: The prompt.
        image_tokens: Tokens of the picture before it, 0 for none.
        opening: Beginning of the assistant's turn, such as "<think>\\n".
    """
    picture = f"<|vision_start|>{'<|image_pad|>' * image_tokens}<|vision_end|>" if image_tokens else ""
    return f"<|im_start|>user\n{picture}{text}<|im_end|>\n<|im_start|>assistant\n{opening}"


def collate(
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str] | None = None,
    vision_ids: Sequence[int] = (),
) -> ChatBatch:
    """Tokenizes rendered prompts and their answers into one batch.

    Args:
        tokenizer: The family's.
        prompts: From `render_prompt`.
        answers: One answer per prompt, without the closing token, which is added; None for prompts alone.
        vision_ids: Tokens that nobody has to predict.
    """
    encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    replies = [[] for _ in prompts]
    if answers is not None:
        replies = tokenizer([f"{answer}<|im_end|>" for answer in answers], add_special_tokens=False)[
            "input_ids"
        ]
    longest = max(len(p) + len(a) for p, a in zip(encoded, replies, strict=True))
    ids = torch.full((len(prompts), longest), tokenizer.pad_token_id, dtype=torch.int64)
    weights = torch.zeros(len(prompts), longest)
    hidden = set(vision_ids)
    for row, (prompt, reply) in enumerate(zip(encoded, replies, strict=True)):
        ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
        weights[row, : len(prompt)] = torch.tensor([0.0 if t in hidden else PROMPT_WEIGHT for t in prompt])
        weights[row, len(prompt) : len(prompt) + len(reply)] = 1.0
    weights[:, 0] = 0.0
    prompt_lengths = torch.tensor([len(p) for p in encoded])
    return ChatBatch(ids, weights, prompt_lengths + torch.tensor([len(a) for a in replies]), prompt_lengths)


def answer_loss(logits: torch.Tensor, batch: ChatBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the weighted cross entropy, and the unweighted one of answers alone, in nats a token.

    Args:
        logits: (batch, tokens, vocabulary), of the token after each place.
        batch: Batch that they were computed for.
    """
    device = logits.device
    targets = batch.input_ids[:, 1:].to(device)
    weights = batch.weights[:, 1:].to(device)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none"
    ).view_as(weights)
    answers = (weights == 1.0).float()
    return (losses * weights).sum() / weights.sum(), (losses * answers).sum() / answers.sum().clamp(min=1)


def right_answers(logits: torch.Tensor, batch: ChatBatch) -> torch.Tensor:
    """Returns which rows' answers would be written right by greedy decoding: bool (batch,).

    Given the right beginning, every next token must be the most likely one, which is what greedy decoding needs.
    """
    guesses = logits[:, :-1].argmax(-1).cpu()
    return ((guesses == batch.input_ids[:, 1:]) | (batch.weights[:, 1:] != 1.0)).all(dim=1)


def draw_tasks(
    makers: Sequence[Callable[[Scene, int], Task]],
    probabilities: Sequence[float],
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    count: int,
) -> list[Task]:
    """Draws tasks about random scenes.

    Args:
        makers: Functions of a scene and a seed.
        probabilities: Probability of each; they sum to 1.
        scenes: To draw from.
        rng: Decides everything.
        count: Number to draw.
    """
    kinds = rng.choice(len(makers), size=count, p=probabilities)
    chosen = rng.integers(0, len(scenes), size=count)
    seeds = rng.integers(0, 2**31, size=count)
    return [makers[k](scenes[c], int(s)) for k, c, s in zip(kinds, chosen, seeds, strict=True)]


class TaskStream:
    """Batches of tasks of about the same length, so that little of a batch is padding.

    The tasks of `ROUND` steps are drawn together, sorted by length and dealt out in random order: a batch still
    depends on the seed and the step only.
    """

    ROUND = 8

    def __init__(
        self, draw: Callable[[np.random.Generator, int], list[Task]], seed: int, batch_size: int
    ) -> None:
        self._draw = draw
        self._seed = seed
        self._batch_size = batch_size
        self._round: tuple[int, list[list[Task]]] | None = None

    def batch(self, step: int) -> list[Task]:
        """Returns the tasks of a step."""
        number, place = divmod(step, self.ROUND)
        if self._round is None or self._round[0] != number:
            rng = step_rng(self._seed, number)
            tasks = sorted(
                self._draw(rng, self.ROUND * self._batch_size),
                # What a picture adds is the same for all that have one, and more than any caption.
                key=lambda t: (t.picture is not None, len(t.prompt) + len(t.answer)),
            )
            batches = [tasks[i : i + self._batch_size] for i in range(0, len(tasks), self._batch_size)]
            rng.shuffle(batches)
            self._round = (number, batches)
        return self._round[1][place]
