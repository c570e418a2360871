"""The shipped judges, through the code that experiments use: what they tell apart, and that their card is theirs."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_scorer
from graftwork.models.scorer import IMAGE_COSINE, TEXT_COSINE, YES, Looked
from graftwork.scenes.captions import write_partial
from graftwork.scenes.world import ATTRIBUTES, all_scenes, render_scenes
from lab.miniature.calibration import CLAIMS, LEVELS, format_agreements
from lab.miniature.recipes import SCORERS, SHIPPED_SCORERS, scorer_entries
from lab.miniature.training.views import change_some, disturb, pictures_of, split_places
from tests.unit.lab.test_calibration import read_agreements

REPOSITORY = Path(__file__).resolve().parents[3]
MINIATURE = REPOSITORY / "resources/miniature"
FOLDER = REPOSITORY / SHIPPED_SCORERS
LIMIT_BYTES = 6_000_000
CPU = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
COUNT = 32


@pytest.fixture(scope="module")
def ask():
    """Asks the scorer of a role about pictures of scenes: (role, quantity, index of a picture, text or index of another)."""
    configure_torch(CPU)
    loaded = {role: load_scorer(role, entry, CPU) for role, entry in scorer_entries(FOLDER).items()}

    def looked(place: int, seed: int = 0) -> Looked:
        picture = disturb(pictures_of(np.array([place])), np.random.default_rng(seed))[0]
        return Looked(f"{place} {seed}", Image.fromarray(picture))

    def asked(role: str, quantity: str, place: int, beside: str | Looked) -> float:
        if isinstance(beside, str):
            return loaded[role].measure(quantity, looked(place), text=beside).value
        return loaded[role].measure(quantity, looked(place), other=beside).value

    return asked


def pairs():
    """Held-out scenes, each with one that differs in one attribute; the attributes take turns."""
    rng = np.random.default_rng(21)
    places = rng.choice(split_places("held_out"), size=COUNT, replace=False)
    return [
        (int(place), change_some(int(place), [ATTRIBUTES[row % len(ATTRIBUTES)]], 1, rng, "all"), row)
        for row, place in enumerate(places)
    ]


def test_they_are_those_of_the_models_file_and_small_enough():
    models = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text(encoding="utf-8"))
    chosen = models["families"]["miniature"]["scorers"]
    assert {role: models["scorers"][name] for role, name in chosen.items()} == scorer_entries(SHIPPED_SCORERS)
    assert {path.name for path in FOLDER.iterdir()} == set(SCORERS)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= LIMIT_BYTES


@pytest.mark.parametrize(("role", "quantity"), [("semantic", TEXT_COSINE), ("judge", YES)])
def test_a_true_caption_is_put_before_one_that_is_wrong_in_one_attribute(ask, role, quantity):
    right = []
    for place, other, row in pairs():
        texts = [write_partial(all_scenes()[of], "everything", row) for of in (place, other)]
        true, wrong = (ask(role, quantity, place, text) for text in texts)
        right.append(true > wrong)
    assert np.mean(right) >= 0.9


def test_the_judge_says_yes_to_what_is_true_and_no_to_what_is_not(ask):
    """Not in order alone: half is where it decides."""
    right = []
    for place, other, row in pairs():
        about = ("everything", "object", "setting")[row % 3]
        true, wrong = (write_partial(all_scenes()[of], about, row) for of in (place, other))
        right.append(ask("judge", YES, place, true) > 0.5)
        if wrong != true:
            right.append(ask("judge", YES, place, wrong) < 0.5)
    assert np.mean(right) >= 0.85


@pytest.mark.parametrize("role", ["semantic", "structural"])
def test_a_picture_is_nearer_to_its_scene_than_to_one_that_differs_in_one_attribute(ask, role):
    """References have 128 pixels, images 64."""
    right = []
    for place, other, _ in pairs():
        own, changed = (
            Looked(f"reference {of}", Image.fromarray(render_scenes([all_scenes()[of]], 128)[0]))
            for of in (place, other)
        )
        right.append(ask(role, IMAGE_COSINE, place, own) > ask(role, IMAGE_COSINE, place, changed))
    assert np.mean(right) >= 0.9


def test_the_card_is_about_these_weights():
    content = json.loads((MINIATURE / "calibration.json").read_text(encoding="utf-8"))
    found = {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.rglob("*.safetensors")
    }
    assert content["weights"] == found
    agreements = read_agreements(MINIATURE / "calibration.json")
    assert (MINIATURE / "calibration.md").read_text(encoding="utf-8") == format_agreements(agreements)
    assert {(one.claim, one.level) for one in agreements} >= {
        (claim.words, level) for claim in CLAIMS.values() for level in LEVELS
    }
