"""A judge that answers yes or no: the first layers of the instruct model, trained on to say whether a picture shows a caption.

One bit for each question teaches little. So heads, which are not kept, read two more things from the layer before the last: at each
word of the caption that states an attribute, whether it is true of the picture; and at the place of the answer, which attributes the
picture has and which the caption states. Without the latter, answers were as by chance after 175 steps. The vision tower stays as it is: its
tokens of disturbed pictures have a cosine of 0.9995 to those of clean ones. So they are computed once.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import Qwen2Tokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from graftwork.models.scorers.vqa import QUESTION, answer_tokens
from graftwork.scenes.captions import ABOUT, write_partial
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes
from lab.miniature.sizes import REFERENCE_SIZE
from lab.miniature.training.chat import ChatBatch, collate, render_prompt
from lab.miniature.training.loop import TrainingRun, fit, step_rng
from lab.miniature.training.views import (
    attribute_table,
    change_some,
    disturb,
    pictures_of,
    split_places,
)
from lab.miniature.training.vision import GRID, IMAGE_TOKENS, cut_patches

LAYERS = 4
# The answers and other words of the question, none of which occurs in captions: in pieces of words the question would be longer than
# most captions.
WORDS = ("yes", "no", "Does", "this", "figure", "show", "Please", "answer")
# What texts speak of, how many are true, and how many of the others are wrong in one attribute; the rest is wrong in any number.
SPEAKS_OF = {"everything": 0.6, "object": 0.2, "setting": 0.2}
TRUE_SHARE, ONE_WRONG = 0.5, 0.4
# Most pictures that training shows.
PICTURES = 1536
HEADS_WEIGHT = 0.5
# Values that some phrasings call by another word.
_OTHER_WORDS = {"small": "little", "large": "big", "centre": "middle"}
_PATTERNS = {
    (attribute, value): re.compile(rf"\b(?:{'|'.join([value, *filter(None, [_OTHER_WORDS.get(value)])])})\b")
    for attribute, values in VOCABULARY.items()
    for value in values
}


@dataclass(frozen=True)
class Asked:
    """Questions about pictures.

    Attributes:
        pictures: indexes of the scenes that are shown, (questions,).
        captioned: indexes of the scenes that the texts are captions of, (questions,).
        about: what each text speaks of.
        texts: the captions.
        is_true: whether all that a text states is so, bool (questions,).
    """

    pictures: np.ndarray
    captioned: np.ndarray
    about: Sequence[str]
    texts: Sequence[str]
    is_true: np.ndarray


def judge_tokenizer(tokenizer: Qwen2Tokenizer) -> Qwen2Tokenizer:
    """Returns a copy of the family's tokenizer that has yes, no and the words of the question as single tokens."""
    copied = deepcopy(tokenizer)
    # With the space before them, as words inside a text are.
    copied.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=False) for word in WORDS])
    return copied


def judge_processor() -> Qwen2VLImageProcessorPil:
    """Returns the image processor: every picture has the size of a reference, which the family's towers were trained on."""
    pixels = REFERENCE_SIZE * REFERENCE_SIZE
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels, "longest_edge": pixels},
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def new_judge(
    parent: Qwen3VLForConditionalGeneration, tokenizer: Qwen2Tokenizer
) -> Qwen3VLForConditionalGeneration:
    """Returns a model with the parent's vision tower, first layers and last norm, and with rows for the new tokens.

    Args:
        parent: The instruct model; stays as it is.
        tokenizer: That of the judge.
    """
    config = deepcopy(parent.config)
    config.text_config.num_hidden_layers = LAYERS
    judge = Qwen3VLForConditionalGeneration(config)
    wanted = judge.state_dict()
    judge.load_state_dict({name: value for name, value in parent.state_dict().items() if name in wanted})
    judge.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = judge.get_input_embeddings().weight
    with torch.no_grad():
        known = rows[: len(rows) - len(WORDS)]
        rows[len(rows) - len(WORDS) :] = known.std() * torch.randn(len(WORDS), rows.shape[1])
    judge.tie_weights()
    return judge


def ask(rng: np.random.Generator, places: np.ndarray, near: str = "train") -> Asked:
    """Draws a question about each scene, about half of them to be answered with yes.

    Args:
        rng: decides everything.
        places: indexes of the scenes that are shown.
        near: "train" or "all": where scenes come from whose captions are asked about.
    """
    count = len(places)
    about = rng.choice(list(SPEAKS_OF), size=count, p=list(SPEAKS_OF.values()))
    wrong = [
        1 if rng.random() < ONE_WRONG else int(rng.integers(1, len(ABOUT[str(kind)]) + 1)) for kind in about
    ]
    is_true = rng.random(count) < TRUE_SHARE
    captioned = np.array(
        [
            place if true else change_some(int(place), ABOUT[str(kind)], number, rng, near)
            for place, kind, number, true in zip(places, about, wrong, is_true, strict=True)
        ]
    )
    seeds = rng.integers(0, 2**31, size=count)
    texts = [
        write_partial(all_scenes()[place], str(kind), int(seed))
        for place, kind, seed in zip(captioned, about, seeds, strict=True)
    ]
    return Asked(places, captioned, [str(kind) for kind in about], texts, is_true)


def enlarge(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures at the size of references, as the image processor enlarges them: uint8 (n, 128, 128, 3)."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    # `antialias` changes nothing of an enlargement but the cubic, which is then that of Pillow.
    x = torch.nn.functional.interpolate(x, size=(REFERENCE_SIZE,) * 2, mode="bicubic", antialias=True)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def questions_batch(tokenizer: Any, texts: Sequence[str], config: Any) -> ChatBatch:
    """Tokenizes questions after a picture as the judge's chat template does."""
    prompts = [render_prompt(QUESTION.format(text=text), IMAGE_TOKENS) for text in texts]
    return collate(
        tokenizer,
        prompts,
        vision_ids=(config.image_token_id, config.vision_start_token_id, config.vision_end_token_id),
    )


def word_places(tokenizer: Any, asked: Asked) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns where words state attributes: rows, tokens and whether they are true, each (words,)."""
    rows, tokens, true = [], [], []
    prompts = [render_prompt(QUESTION.format(text=text), IMAGE_TOKENS) for text in asked.texts]
    offsets = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for row, (prompt, text, kind) in enumerate(zip(prompts, asked.texts, asked.about, strict=True)):
        start = prompt.index(text)
        said, shown = all_scenes()[asked.captioned[row]], all_scenes()[asked.pictures[row]]
        for attribute in ABOUT[kind]:
            value = getattr(said, attribute)
            found = _PATTERNS[attribute, value].search(text)
            if found is None:
                raise ValueError(f"{text!r} does not name the {attribute} {value}")
            last = start + found.end() - 1
            rows.append(row)
            tokens.append(next(i for i, (a, b) in enumerate(offsets[row]) if a <= last < b))
            true.append(value == getattr(shown, attribute))
    return torch.tensor(rows), torch.tensor(tokens), torch.tensor(true)


class _WithHeads(torch.nn.Module):
    """The judge and the heads that read its layer before the last."""

    def __init__(self, judge: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.judge = judge
        width, values = judge.config.text_config.hidden_size, sum(map(len, VOCABULARY.values()))
        self.norm = torch.nn.LayerNorm(width)
        self.word = torch.nn.Linear(width, 1)
        self.of_picture, self.of_caption = (torch.nn.Linear(width, values) for _ in range(2))

    def losses(
        self, states: torch.Tensor, batch: ChatBatch, asked: Asked, places: tuple[torch.Tensor, ...]
    ) -> dict[str, torch.Tensor]:
        """Returns the cross entropy of words, and of attributes of pictures and captions, each summed over the six.

        Args:
            states: of the layer before the last, (questions, tokens, width).
            batch: the questions.
            asked: what they are about.
            places: of words, from `word_places`.
        """
        states = self.norm(states)
        rows, tokens, true = (part.to(states.device) for part in places)
        words = torch.nn.functional.binary_cross_entropy_with_logits(
            self.word(states[rows, tokens]).squeeze(-1), true.float()
        )
        last = states[torch.arange(len(states)), batch.prompt_lengths.to(states.device) - 1]
        stated = np.array([[a in ABOUT[kind] for a in ATTRIBUTES] for kind in asked.about])
        return {
            "words": words,
            "pictures": _reading_loss(self.of_picture(last), asked.pictures, np.ones_like(stated)),
            "captions": _reading_loss(self.of_caption(last), asked.captioned, stated),
        }


def _reading_loss(logits: torch.Tensor, places: np.ndarray, counts: np.ndarray) -> torch.Tensor:
    values = torch.from_numpy(attribute_table()[places]).to(logits.device)
    weights = torch.from_numpy(counts).float().to(logits.device)
    total = torch.zeros((), device=logits.device)
    for column, part in enumerate(logits.split([len(v) for v in VOCABULARY.values()], dim=-1)):
        losses = torch.nn.functional.cross_entropy(part, values[:, column], reduction="none")
        total = total + (losses * weights[:, column]).sum() / weights[:, column].sum().clamp(min=1)
    return total


class SeenPictures:
    """What the vision tower makes of pictures: its tokens, and those for the first layers, each computed once.

    Args:
        judge: the model, whose vision tower is not trained.
        pictures: uint8 (n, 64, 64, 3).
        device: device of the model.
    """

    @torch.no_grad()
    def __init__(
        self, judge: Qwen3VLForConditionalGeneration, pictures: np.ndarray, device: str = "cpu"
    ) -> None:
        parts = []
        for start in range(0, len(pictures), 32):
            patches, grid = cut_patches(enlarge(pictures[start : start + 32]))
            seen = judge.model.visual(patches.to(device), grid_thw=grid.to(device))
            tokens = torch.stack([seen.pooler_output, *seen.deepstack_features])
            parts.append(tokens.unflatten(1, (len(grid), IMAGE_TOKENS)))
        self._tokens = torch.cat(parts, dim=1)

    def __len__(self) -> int:
        return self._tokens.shape[1]

    def of(self, rows: np.ndarray) -> SimpleNamespace:
        """Returns what the model's forward pass takes in place of pixels, for some of the pictures."""
        first, *deeper = self._tokens[:, torch.from_numpy(rows)]
        return SimpleNamespace(pooler_output=tuple(first), deepstack_features=[tuple(d) for d in deeper])


def answer(
    judge: Qwen3VLForConditionalGeneration,
    batch: ChatBatch,
    seen: SimpleNamespace,
    device: str = "cpu",
    hidden_states: bool = False,
) -> tuple[torch.Tensor, Any]:
    """Returns the logits of the first token of the answers, (questions, vocabulary), and the model's output.

    Args:
        judge: The model.
        batch: Questions, one to a picture.
        seen: The pictures, from `SeenPictures`.
        device: Device of the model.
        hidden_states: Whether the output contains hidden states.
    """
    ids = batch.input_ids.to(device)
    output = judge(
        input_ids=ids,
        mm_encoder_outputs={"image": seen},
        image_grid_thw=torch.tensor([[1, GRID, GRID]] * len(ids), device=device),
        mm_token_type_ids=(ids == judge.config.image_token_id).int(),
        use_cache=False,
        output_hidden_states=hidden_states,
    )
    last = (batch.prompt_lengths - 1).to(device)
    return output.logits[torch.arange(len(last), device=device), last].float(), output


def train_judge(judge: Qwen3VLForConditionalGeneration, tokenizer: Any, run: TrainingRun) -> None:
    """Trains the language model: the answers, and what the heads read."""
    both = _WithHeads(judge).to(run.device)
    judge.set_attn_implementation(run.attention)
    judge.model.visual.requires_grad_(False)
    (yes,), (no,) = answer_tokens(tokenizer)
    rng = step_rng(run.recipe.seed, run.recipe.steps)
    count = min(PICTURES, run.recipe.steps * run.recipe.batch_size)
    shown = rng.choice(split_places("train"), size=count, replace=False)
    pictures = SeenPictures(judge, disturb(pictures_of(shown), rng), run.device)

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        rng = step_rng(run.recipe.seed, step)
        chosen = rng.integers(0, count, size=run.recipe.batch_size)
        asked = ask(rng, shown[chosen])
        batch = questions_batch(tokenizer, asked.texts, judge.config)
        logits, output = answer(judge, batch, pictures.of(chosen), run.device, hidden_states=True)
        said = torch.from_numpy(np.where(asked.is_true, yes, no)).to(run.device)
        answers = torch.nn.functional.cross_entropy(logits, said)
        read = both.losses(output.hidden_states[-2], batch, asked, word_places(tokenizer, asked))
        right = ((logits[:, yes] > logits[:, no]) == (said == yes)).float().mean()
        return {
            "loss": answers + HEADS_WEIGHT * sum(read.values()),
            "answers": answers,
            "right": right,
            **read,
        }

    fit(both, losses, run)
    judge.requires_grad_(True)


@torch.no_grad()
def probe_judge(
    judge: Qwen3VLForConditionalGeneration, tokenizer: Any, count: int = 256, device: str = "cpu"
) -> dict[str, float]:
    """Returns how the judge answers about disturbed pictures of scenes that were never trained on.

    Returns:
        "right": share of answers that are right, half of the texts being true and most others wrong in one attribute; for each
        attribute "judges_...": how often P(yes) of the true caption is above that of one that is wrong in this attribute alone.
    """
    judge.eval()
    (yes,), (no,) = answer_tokens(tokenizer)
    rng = np.random.default_rng(9)
    places = rng.choice(split_places("held_out"), size=count)
    asked = ask(rng, places, "all")

    def margins(places: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(places), 32):
            rows = slice(start, start + 32)
            batch = questions_batch(tokenizer, texts[rows], judge.config)
            seen = SeenPictures(judge, disturb(pictures_of(places[rows]), rng), device)
            logits, _ = answer(judge, batch, seen.of(np.arange(len(seen))), device)
            parts.append((logits[:, yes] - logits[:, no]).cpu().numpy())
        return np.concatenate(parts)

    measured = {"right": float(((margins(places, asked.texts) > 0) == asked.is_true).mean())}

    def captions(of: np.ndarray) -> list[str]:
        return [write_partial(all_scenes()[place], "everything", row) for row, place in enumerate(of)]

    true = margins(places, captions(places))
    for attribute in ATTRIBUTES:
        near = np.array([change_some(int(p), [attribute], 1, rng, "all") for p in places])
        measured[f"judges_{attribute}"] = float((true > margins(places, captions(near))).mean())
    return measured
