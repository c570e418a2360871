"""Deliberate faults, each of which must be seen in measured attributes of the shipped family.

For every fault there is one number, measured clean at three seeds and again with the fault: all clean values lie above
the threshold, all faulty ones below.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import FrozenDict

from graftwork.conditioning import build
from graftwork.models import transformers_encoder
from graftwork.models.encoders.qwen3 import encoder as qwen3
from graftwork.models.encoders.qwen3_vl import encoder as qwen3_vl
from graftwork.models.generators.z_image import generator as z_image
from graftwork.models.hardware import configure_torch
from graftwork.models.tokens import ROLE_CODES
from graftwork.scenes.captions import ABOUT, write_partial
from graftwork.scenes.reader import SceneReader
from graftwork.scenes.world import VOCABULARY, sample_scenes
from graftwork.store.hidden_states import HiddenStates
from graftwork.transforms import token_modes
from lab.miniature.evaluation import (
    Family,
    attributes_right,
    encode_captions,
    generate,
)
from lab.miniature.training.vision import word_ids
from tests.unit.jobs.recipes import as_recipe
from tests.unit.transforms.samples import DEFAULT_TRANSFORMS

REPOSITORY = Path(__file__).resolve().parents[3]
SEEDS = (0, 1, 2)
CAPTIONS = 24
TEXT, SOURCE = "qwen3", "qwen3-vl-instruct"


@pytest.fixture(scope="module")
def family():
    configure_torch({"device": "cpu", "dtype": "float32"})
    return Family(REPOSITORY / "resources/miniature/family")


def stored(sequence) -> HiddenStates:
    """An encoded sequence as the store gives it back."""
    (values,) = sequence.hidden_states.values()
    return HiddenStates(
        values.float().numpy(), "float32", sequence.token_ids, sequence.roles, sequence.positions
    )


def recipe(**changes):
    """A recipe as the plan writes it, that replaces the text by the source."""
    given = {**DEFAULT_TRANSFORMS, "length_matching": "none", "alpha": 1.0, **changes}
    stages = {stage: {"name": given[stage], "parameters": {}} for stage in DEFAULT_TRANSFORMS}
    return {
        "text": ["text", 0],
        "sources": [["source", 0]],
        "alpha": given["alpha"],
        "dtype": "float32",
        **stages,
    }


def conditioned(text, source, **changes):
    """What the generator gets for each pair of encoded sequences."""
    return [
        build.build_conditioning(
            as_recipe(recipe(**changes)), lambda key, _, t=t, s=s: stored({"text": t, "source": s}[key])
        ).tensors["prompt_embeds"]
        for t, s in zip(text, source, strict=True)
    ]


def captions(seed: int, about: str = "everything", count: int = CAPTIONS):
    """Scenes that training never saw, another set for each seed, and a caption for each."""
    scenes = sample_scenes(100 + seed, count, "held_out")
    return scenes, [write_partial(scene, about, seed) for scene in scenes]


def prompt_following(family, seed: int, **encoding) -> float:
    """How many attributes of pictures are those of the caption, at alpha 0."""
    scenes, texts = captions(seed)
    states = [stored(e) for e in encode_captions(family.encoder(TEXT), texts, **encoding)]
    images = generate(family.generator(), [torch.from_numpy(s.values) for s in states], seed)
    return float(np.mean(list(attributes_right(images, scenes).values())))


def following_at_alpha(family, seed: int, alpha: float = 0.15) -> float:
    """How many attributes are those of the prompt where a little of another prompt is blended in."""
    scenes, texts = captions(seed)
    text = encode_captions(family.encoder(TEXT), texts)
    states = conditioned(text, text[1:] + text[:1], alpha=alpha, length_matching="area")
    return float(np.mean(list(attributes_right(generate(family.generator(), states, seed), scenes).values())))


def following_beside_picture(family, seed: int) -> float:
    """How many attributes are the prompt's, from the text tokens of an extraction with an unrelated picture."""
    scenes, texts = captions(seed)
    others = sample_scenes(200 + seed, len(texts), "held_out")
    source = encode_captions(family.encoder(SOURCE), texts, others)
    states = conditioned(source, source, token_mode="text_only")
    return float(np.mean(list(attributes_right(generate(family.generator(), states, seed), scenes).values())))


def share_of_words(family, seed: int) -> float:
    """How many stated words are found again in the tokens of the prompt, read from the embedding layer."""
    scenes, texts = captions(seed, "object")
    encoder = family.encoder(TEXT)
    table = encoder.model.embed_tokens.weight.float()
    tokens = encoder.tokenizer
    encoded = encode_captions(encoder, texts, layer=-13)
    found = []
    for scene, states in zip(scenes, conditioned(encoded, encoded, token_mode="prompt_only"), strict=True):
        text = tokens.decode(torch.cdist(states, table).argmin(dim=1))
        words = set(text.replace(",", " ").replace(".", " ").split())
        found += [getattr(scene, attribute) in words for attribute in ABOUT["object"]]
    return float(np.mean(found))


def picture_read_from_image_tokens(family, seed: int) -> float:
    """How many attributes of the reference the image tokens name, read through the model's own word embeddings."""
    scenes, _ = captions(seed)
    encoder = family.encoder(SOURCE)
    encoded = encode_captions(encoder, ["describe the picture"] * len(scenes), scenes, layer=-1)
    ids = word_ids(encoder.tokenizer)
    table = encoder.model.language_model.embed_tokens.weight.float()
    right = []
    for scene, states in zip(
        scenes, conditioned(encoded, encoded, token_mode="image_no_markers"), strict=True
    ):
        scores = (states @ table.T).softmax(dim=-1).mean(dim=0)
        for attribute in ("shape", "background", "texture"):
            values = VOCABULARY[attribute]
            best = values[int(scores[[ids[attribute, v] for v in values]].argmax())]
            right.append(best == getattr(scene, attribute))
    return float(np.mean(right))


def variety_of_what_is_open(family, seed: int) -> float:
    """How often two seeds give different pictures where the caption leaves the object open."""
    _, texts = captions(seed, "setting", 12)
    states = [torch.from_numpy(stored(e).values) for e in encode_captions(family.encoder(TEXT), texts)]
    readings = [
        SceneReader().read(generate(family.generator(), states, number)) for number in (seed, seed + 50)
    ]
    differs = np.zeros(len(texts), dtype=bool)
    for attribute in ABOUT["object"]:
        differs |= readings[0].values[attribute] != readings[1].values[attribute]
    return float(differs.mean())


def one_layer_deeper(monkeypatch, family):
    real = transformers_encoder.check_layers
    for module in (qwen3, transformers_encoder):
        monkeypatch.setattr(
            module, "check_layers", lambda layers, deepest: [k + 1 for k in real(layers, deepest)]
        )


def padding_kept(monkeypatch, family):
    """As if captions were padded to one length and the padding's states were not dropped."""
    real = qwen3.tokenize

    def tokenize(tokenizer, layout):
        ids, offsets = real(tokenizer, layout)
        padding = 64 - ids.shape[1]
        ids = torch.nn.functional.pad(ids, (0, padding), value=tokenizer.pad_token_id)
        return ids, [*offsets, *[(len(layout.text), len(layout.text))] * padding]

    monkeypatch.setattr(qwen3, "tokenize", tokenize)


def roles_shifted(monkeypatch, family):
    for module in (qwen3, qwen3_vl):
        real = module.assign_roles
        monkeypatch.setattr(module, "assign_roles", lambda *a, real=real: np.roll(real(*a), 1))


def image_tokens_not_recognised(monkeypatch, family):
    real = qwen3_vl.assign_roles

    def assign(*arguments):
        roles = real(*arguments)
        roles[roles == ROLE_CODES["image"]] = ROLE_CODES["template"]
        return roles

    monkeypatch.setattr(qwen3_vl, "assign_roles", assign)


def text_tokens_selected_for_image_tokens(monkeypatch, family):
    real = token_modes.has_role
    monkeypatch.setattr(token_modes, "has_role", lambda roles, *names: ~real(roles, "image", "vision_marker"))


def seed_ignored(monkeypatch, family):
    real = z_image.initial_noise
    monkeypatch.setattr(z_image, "initial_noise", lambda seeds, *a: real([0] * len(seeds), *a))


def shift_forgotten(monkeypatch, family):
    vae = family.generator().pipeline.vae
    monkeypatch.setattr(vae, "_internal_dict", FrozenDict({**vae.config, "shift_factor": 0.0}))


def alpha_reversed(monkeypatch, family):
    real = build.transform

    def transform(stage, name):
        found = real(stage, name)
        if stage != "blend":
            return found
        return replace(found, function=lambda t, s, alpha, *rest: found.function(t, s, 1 - alpha, *rest))

    monkeypatch.setattr(build, "transform", transform)


# Name -> (number, fault, threshold)
FAULTS: dict[str, tuple[Callable, Callable, float]] = {
    "one layer deeper": (prompt_following, one_layer_deeper, 0.98),
    "one layer deeper, at the embeddings": (share_of_words, one_layer_deeper, 0.98),
    "padding kept": (prompt_following, padding_kept, 0.96),
    "shift factor forgotten": (prompt_following, shift_forgotten, 0.98),
    "alpha reversed": (following_at_alpha, alpha_reversed, 0.8),
    "roles shifted by one": (share_of_words, roles_shifted, 0.95),
    "image tokens not recognised": (following_beside_picture, image_tokens_not_recognised, 0.95),
    "text tokens in place of image tokens": (
        picture_read_from_image_tokens,
        text_tokens_selected_for_image_tokens,
        0.8,
    ),
    "seed ignored": (variety_of_what_is_open, seed_ignored, 0.5),
}


# Read from encoders alone. The others generate some hundred pictures each, which is why they are slow.
OF_ENCODERS = (share_of_words, picture_read_from_image_tokens)


def cases():
    """Yields the names of faults; those that need pictures to be seen are marked slow."""
    for name, (number, _, _) in FAULTS.items():
        yield pytest.param(name, marks=() if number in OF_ENCODERS else pytest.mark.slow)


@cache
def clean(number: Callable, family: Family, seed: int) -> float:
    return number(family, seed)


@pytest.mark.parametrize("name", list(cases()))
def test_a_fault_is_seen(name, family, monkeypatch):
    number, fault, threshold = FAULTS[name]
    right = [clean(number, family, seed) for seed in SEEDS]
    fault(monkeypatch, family)
    wrong = [number(family, seed) for seed in SEEDS]
    print(f"{name}: {right} without, {wrong} with the fault")
    assert min(right) > threshold > max(wrong)
