"""The vision tower's first stage: to say, at each image token, which words are true of that part of the picture.

Its tokens are regressed to means of the text encoder's word embeddings, as an alignment stage does for large
models; the language model then learns to read them in `vision_language.py`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration

from graftwork.scenes.captions import ABOUT
from graftwork.scenes.world import (
    VOCABULARY,
    Scene,
    object_mask,
    render_scenes,
    sample_scenes,
    scene_index,
    split_scenes,
)
from lab.miniature.sizes import REFERENCE_SIZE
from lab.miniature.training.loop import TrainingRun, fit, step_rng

PATCH = 16
MERGE = 2
GRID = REFERENCE_SIZE // PATCH
IMAGE_TOKENS = (GRID // MERGE) ** 2


class Pictures:
    """Pictures of scenes as patches, what `Qwen2VLImageProcessorPil` makes of them; rendered once."""

    def __init__(self) -> None:
        self._pictures: dict[int, np.ndarray] = {}

    def patches(self, scenes: Sequence[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns float32 (scenes * 64, 1536) patches and int64 (scenes, 3) grids."""
        missing = [s for s in dict.fromkeys(scenes) if scene_index(s) not in self._pictures]
        for scene, picture in zip(missing, render_scenes(missing, REFERENCE_SIZE), strict=True):
            self._pictures[scene_index(scene)] = picture
        return cut_patches(np.stack([self._pictures[scene_index(s)] for s in scenes]))


def cut_patches(pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns uint8 (n, 128, 128, 3) as patches, float32 (n * 64, 1536), and grids, int64 (n, 3)."""
    x = torch.from_numpy(pictures).float().div(127.5).sub(1.0)
    blocks = GRID // MERGE
    # Patches of one token are neighbours; a still picture is two equal frames.
    x = x.view(len(pictures), blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3)
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    patches = x.reshape(len(pictures) * GRID * GRID, 3 * 2 * PATCH * PATCH)
    return patches, torch.tensor([[1, GRID, GRID]] * len(pictures))


@cache
def covered_share(scene: Scene) -> np.ndarray:
    """Returns how much of each image token the object covers: float64 (16,), 0 to 1."""
    mask = object_mask(scene.shape, scene.size, scene.position, REFERENCE_SIZE)
    side = PATCH * MERGE
    blocks = GRID // MERGE
    full = (512 // REFERENCE_SIZE) ** 2
    return mask.reshape(blocks, side, blocks, side).mean(axis=(1, 3)).ravel() / full


def word_ids(tokenizer: Any) -> dict[tuple[str, str], int]:
    """Returns (attribute, value) to the token of its word, as written inside a text."""
    ids = {}
    for attribute, values in VOCABULARY.items():
        for value in values:
            tokens = tokenizer(f" {value}", add_special_tokens=False)["input_ids"]
            if len(tokens) != 1:
                raise ValueError(f"{value!r} is {len(tokens)} tokens; the tokenizer must know it as one")
            ids[attribute, value] = tokens[0]
    return ids


def word_shares(scenes: Sequence[Scene], ids: dict[tuple[str, str], int], size: int) -> torch.Tensor:
    """Returns which words are true where: float32 (scenes, 16, vocabulary), rows sum to 1.

    A token's share of the object counts double, so that objects that cover little are seen.
    """
    shares = torch.zeros(len(scenes), IMAGE_TOKENS, size)
    for row, scene in enumerate(scenes):
        of_object = torch.from_numpy(np.minimum(1.0, 2.0 * covered_share(scene))).float()
        for attributes, share in ((ABOUT["object"], of_object), (ABOUT["setting"], 1.0 - of_object)):
            for attribute in attributes:
                shares[row, :, ids[attribute, getattr(scene, attribute)]] += share / len(attributes)
    return shares


def train_vision(
    model: Qwen3VLForConditionalGeneration,
    embeddings: torch.Tensor,
    tokenizer: Any,
    run: TrainingRun,
) -> None:
    """Trains `model.model.visual` towards word embeddings, float32 (vocabulary, channels).

    The initial weights are the libraries' own, drawn from the recipe's seed by the caller.
    """
    visual = model.model.visual.to(run.device)
    visual.set_attn_implementation(run.attention)
    scenes = split_scenes("train")
    ids, pictures, embeddings = word_ids(tokenizer), Pictures(), embeddings.to(run.device)
    scale = embeddings[list(ids.values())].square().mean()

    def losses(step: int) -> dict[str, torch.Tensor]:
        chosen = step_rng(run.recipe.seed, step).integers(0, len(scenes), run.recipe.batch_size)
        batch = [scenes[i] for i in chosen]
        patches, grid = pictures.patches(batch)
        target = word_shares(batch, ids, len(embeddings)).to(run.device) @ embeddings
        with run.mixed_precision():
            tokens = visual(patches.to(run.device), grid_thw=grid.to(run.device)).pooler_output
        return {"loss": (tokens.float().view_as(target) - target).square().mean() / scale}

    fit(visual, losses, run)


@torch.no_grad()
def probe_vision(
    model: Qwen3VLForConditionalGeneration,
    embeddings: torch.Tensor,
    tokenizer: Any,
    count: int = 256,
    device: str = "cpu",
) -> dict[str, float]:
    """Returns for each attribute how often the nearest word, over all image tokens, is right on unseen scenes."""
    scenes = sample_scenes(5, count, "held_out")
    ids = word_ids(tokenizer)
    patches, grid = Pictures().patches(scenes)
    tokens = model.model.visual(patches.to(device), grid_thw=grid.to(device)).pooler_output
    tokens = tokens.float().view(count, IMAGE_TOKENS, -1)
    known = torch.tensor(sorted(set(ids.values())))
    column = {token: i for i, token in enumerate(known.tolist())}
    # Least squares finds the shares of words in a mean of embeddings; they are nearly orthogonal, not quite.
    flat = tokens.flatten(0, 1).T.double().cpu()
    shares = torch.linalg.lstsq(embeddings[known].T.double().cpu(), flat).solution.T.view(
        count, IMAGE_TOKENS, -1
    )
    columns = {a: [column[ids[a, value]] for value in values] for a, values in VOCABULARY.items()}
    # Object and background share their colour words: tokens that speak of a shape say the object's colour.
    weight = {
        "shape": shares[..., columns["shape"]].sum(-1),
        "texture": shares[..., columns["texture"]].sum(-1),
    }
    measured, found = {}, {}
    # The background first: an object never has its colour, and small objects share all their tokens with it.
    for attribute in sorted(VOCABULARY, key=lambda a: a != "background"):
        values = VOCABULARY[attribute]
        about = weight["texture" if attribute in ABOUT["setting"] else "shape"].clamp(min=0).unsqueeze(-1)
        scores = (shares[..., columns[attribute]] * about).sum(dim=1)
        if attribute == "colour":
            scores.scatter_(1, found["background"].unsqueeze(1), -torch.inf)
        found[attribute] = scores.argmax(dim=1)
        right = [
            values[i] == getattr(s, attribute) for i, s in zip(found[attribute].tolist(), scenes, strict=True)
        ]
        measured[attribute] = float(np.mean(right))
    return measured
