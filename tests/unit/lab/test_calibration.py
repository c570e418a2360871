"""How agreement is measured: a score that agrees, one that does not, and one that says the opposite are told apart."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graftwork.scenes.world import ATTRIBUTES
from lab.miniature import calibration
from lab.miniature.calibration import (
    CLAIMS,
    Agreement,
    Seen,
    agreement,
    auc,
    format_agreements,
    plant,
    seen_images,
    spread,
    write_agreements,
)

SCENE = dict(zip(ATTRIBUTES, ("circle", "red", "large", "left", "blue", "plain"), strict=True))


def image(number: int, right: int, prompt: str = "p0") -> Seen:
    """An image that has so many of the six attributes that the prompt states."""
    read = {a: v if i < right else "?" for i, (a, v) in enumerate(SCENE.items())}
    path = Path(f"{number}.png")
    return Seen(prompt, path, Path("alone.png"), Path("reference.png"), read, SCENE, SCENE, SCENE)


IMAGES = [image(i, right, f"p{i % 12}") for i, right in enumerate([6, 5, 4, 3, 2, 1, 0] * 12)]


def read_agreements(source: Path) -> list[Agreement]:
    """What `write_agreements` wrote."""
    content = json.loads(source.read_text(encoding="utf-8"))
    return [Agreement(**one) for one in content["agreements"]]


def test_auc_counts_pairs():
    assert auc(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1.0
    assert auc(np.array([1.0, 2.0, 3.0]), np.array([True, True, False])) == 0.0
    assert auc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert auc(np.array([2.0, 1.0, 3.0]), np.array([True, False, False])) == 0.5
    assert auc(np.array([1.0]), np.array([True])) is None


def measured(value):
    random = np.random.default_rng(0)
    return [{"adherence": value(one.share(one.stated), random)} for one in IMAGES]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (lambda share, random: share, "agrees"),
        (lambda share, random: float(random.random()), "does not agree"),
        (lambda share, random: -share, "agrees the other way round"),
    ],
)
def test_the_verdict_is_that_of_the_interval(value, verdict):
    found = agreement("adherence", CLAIMS["adherence"], IMAGES, measured(value), 0.0)
    assert (found.images, found.have, found.prompts) == (84, 12, 12)
    assert found.verdict == verdict
    assert found.low <= found.auc <= found.high


def test_a_low_distance_says_more():
    rows = [{"histogram_distance": 1 - one.share(one.shown, ("colour", "background"))} for one in IMAGES]
    found = agreement("histogram_distance", CLAIMS["histogram_distance"], IMAGES, rows, 0.0)
    assert (found.auc, found.spearman, found.verdict) == (1.0, 1.0, "agrees")


def test_levels_of_prompts_do_not_count_within_a_prompt():
    """A judge that gives each prompt a level of its own orders the images of one prompt all the same."""
    rows = [{"adherence": one.share(one.stated) + 10 * int(one.prompt[1:])} for one in IMAGES]
    found = agreement("adherence", CLAIMS["adherence"], IMAGES, rows, 0.0)
    assert found.within == 1.0
    assert found.auc < 0.8


def test_a_planted_pattern_repeats_and_has_the_strength_that_was_asked_for():
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert np.array_equal(plant(grey, 0.0), grey)
    planted = plant(grey, 2.0).astype(int) - 128
    assert np.array_equal(planted[:16], planted[16:32])
    assert planted.std() == pytest.approx(2.0, abs=0.2)


def test_images_are_those_of_the_table_with_what_they_are_compared_with():
    def cell(name, **parameters):
        return SimpleNamespace(cell=name, parameters={"prompt": "a plain red background", **parameters})

    design = SimpleNamespace(
        cells=[
            cell("alone"),
            cell("one", reference="sha"),
            cell("twin", reference="sha"),
            cell("none", reference="sha"),
        ],
        baselines={"one": "alone", "twin": "alone", "none": "alone"},
        references={"sha": "reference.png"},
    )

    def row(cell, path):
        read = {f"read_{a}": v for a, v in SCENE.items()}
        shown = {f"reference_{a}": v for a, v in SCENE.items()} if cell != "alone" else {}
        return {"cell": cell, "image": path, "unscored": "", **read, **shown}

    rows = [row("alone", "a.png"), row("one", "b.png"), row("twin", "b.png"), row("none", "")]
    alone, one = seen_images(design, rows)
    assert (alone.baseline, alone.reference, alone.shown, alone.read_alone) == (None, None, {}, {})
    assert (one.image, one.baseline, one.reference) == (Path("b.png"), Path("a.png"), Path("reference.png"))
    assert one.stated == {"background": "red", "texture": "plain"}
    assert one.share(one.stated) == 0.5


def test_a_sample_is_spread_over_all_images_and_keeps_the_text_alone():
    alone = replace(image(999, 6), image=Path("alone.png"), baseline=None)
    images = [image(i, 3) for i in range(200)]
    chosen = spread([*images, alone], 20)
    assert len(chosen) in (20, 21)
    assert chosen[-1] is alone
    assert chosen[0] is images[0]
    numbers = [int(one.image.stem) for one in chosen[:-1]]
    assert max(np.diff(numbers)) <= 12
    assert spread(images, 500) == images


def test_agreements_round_trip(tmp_path):
    found = [
        Agreement("a", "has it", 0.5, 10, 4, 3, 0.5, 0.9, 0.85, 0.95, 0.9, "agrees"),
        Agreement("b", "has it", 0.0, 10, 0, 1, None, None, None, None, None, "not known"),
    ]
    write_agreements(found, {"judge/model.safetensors": "0" * 64}, tmp_path / "c.json")
    assert read_agreements(tmp_path / "c.json") == found
    assert (
        "| `a` | has it | 0.5 | 4 of 10 | 0.500 | 0.900 | 0.850 to 0.950 | 0.900 | agrees |"
        in format_agreements(found)
    )


def test_every_claim_is_about_a_column_of_a_score():
    known = {column.name for score in calibration.scores().values() for column in score.columns}
    assert {name.removesuffix(" full") for name in CLAIMS} | set(calibration.PLANTED) <= known
