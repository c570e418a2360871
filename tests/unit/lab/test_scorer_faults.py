"""Deliberate faults of the machinery, which the scores of images see: a wrong layer, shifted roles, a pattern planted.

What the scene reader sees of faults is in `test_faults.py`. Here the shipped judges look at the images, as for experiments with real
checkpoints, which no reader can read.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from graftwork.models.encoders.qwen3 import encoder as qwen3
from graftwork.models.encoders.qwen3_vl import encoder as qwen3_vl
from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_scorer
from graftwork.models.scorer import TEXT_COSINE, YES, Looked
from graftwork.scenes.world import sample_scenes
from graftwork.scores.artifacts import measure_artifacts
from graftwork.scores.registry import ImageBeside
from lab.miniature.calibration import plant
from lab.miniature.evaluation import Family, encode_captions, generate
from lab.miniature.recipes import SHIPPED_SCORERS, scorer_entries
from tests.unit.lab.test_faults import (
    REPOSITORY,
    SOURCE,
    TEXT,
    captions,
    conditioned,
    image_tokens_not_recognised,
    one_layer_deeper,
    stored,
)

CPU = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
COUNT = 10


@pytest.fixture(scope="module")
def family():
    configure_torch(CPU)
    return Family(REPOSITORY / "resources/miniature/family")


@pytest.fixture(scope="module")
def scorers():
    configure_torch(CPU)
    entries = scorer_entries(REPOSITORY / SHIPPED_SCORERS)
    return {role: load_scorer(role, entries[role], CPU) for role in ("judge", "semantic")}


def from_text(family) -> tuple[np.ndarray, list[str]]:
    """Images of the text alone, and their captions."""
    _, texts = captions(0, count=COUNT)
    states = [torch.from_numpy(stored(e).values) for e in encode_captions(family.encoder(TEXT), texts)]
    return generate(family.generator(), states), texts


def from_text_beside_pictures(family) -> tuple[np.ndarray, list[str]]:
    """Images of the text tokens of an extraction with an unrelated picture, and their captions."""
    _, texts = captions(0, count=COUNT)
    others = sample_scenes(200, len(texts), "held_out")
    source = encode_captions(family.encoder(SOURCE), texts, others)
    return generate(family.generator(), conditioned(source, source, token_mode="text_only")), texts


def roles_shifted_by_four(monkeypatch, family):
    """As where the tokens of the picture are counted wrongly. By one, images stay right: `test_faults.py` sees that in the states."""
    for module in (qwen3, qwen3_vl):
        real = module.assign_roles
        monkeypatch.setattr(module, "assign_roles", lambda *a, real=real: np.roll(real(*a), 4))


@pytest.fixture(scope="module")
def clean(family, scorers):
    """What the scores say without a fault, by the way that images are made."""
    kept = {}

    def of(make: Callable) -> dict[str, float]:
        if make not in kept:
            kept[make] = said(scorers, *make(family))
        return kept[make]

    return of


def said(scorers, images: np.ndarray, texts: list[str]) -> dict[str, float]:
    """Means of what scorers say of images and their captions."""
    looked = [Looked(f"{image.tobytes()!r}", Image.fromarray(image)) for image in images]
    return {
        name: float(
            np.mean(
                [
                    scorers[role].measure(quantity, one, text=text).value
                    for one, text in zip(looked, texts, strict=True)
                ]
            )
        )
        for name, role, quantity in (
            ("adherence", "judge", YES),
            ("siglip_text_cosine", "semantic", TEXT_COSINE),
        )
    }


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (from_text, one_layer_deeper),
        (from_text_beside_pictures, image_tokens_not_recognised),
        (from_text_beside_pictures, roles_shifted_by_four),
    ],
)
def test_scores_of_the_prompt_see_a_fault(family, scorers, clean, monkeypatch, make, fault):
    right = clean(make)
    fault(monkeypatch, family)
    wrong = said(scorers, *make(family))
    print(f"{make.__name__}, {fault.__name__}: {right} without, {wrong} with the fault")
    assert right["adherence"] > wrong["adherence"] + 0.25
    assert right["siglip_text_cosine"] > wrong["siglip_text_cosine"] + 0.1


def test_a_planted_pattern_is_seen_and_moves_no_score_of_the_prompt(family, scorers, clean):
    """Of 64 pixels, the tokens' grid has few frequencies: the mean over images shows 2 grey levels, single images need not."""
    images, texts = from_text(family)
    planted = np.stack([plant(image, 2.0) for image in images])
    combs = [
        [measure_artifacts(ImageBeside(one, baseline=image)) for one in (image, other)]
        for image, other in zip(images, planted, strict=True)
    ]
    rises = [float(after["comb"]) - float(before["comb"]) for before, after in combs]
    control = [float(after["comb_control"]) - float(before["comb_control"]) for before, after in combs]
    print(f"comb rises by {rises}, its control by {control}")
    assert np.mean(rises) > 0.15
    assert np.mean(rises) > np.mean(control) + 0.15
    said_of_it = said(scorers, planted, texts)
    assert said_of_it == pytest.approx(clean(from_text), abs=0.02)
