"""How well scores agree with the scene reader, on images of the miniature, as they are and with a pattern planted in them.

A score agrees where it puts images that have what it is about before those that have not: AUC is how often it does so, of all pairs of
one image of each kind; 0.5 is chance. Spearman's correlation is with how much of it an image has. Intervals resample prompts, which
keep all their images.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from graftwork.core.atomic import write_atomic
from graftwork.models.loading import load_scorer
from graftwork.models.scorer import Looked
from graftwork.scenes.captions import ABOUT, parse_partial, write_caption, write_partial
from graftwork.scenes.world import ATTRIBUTES, Scene
from graftwork.scores.artifacts import TOKEN, measure_artifacts
from graftwork.scores.registry import ImageBeside, Question, scores
from graftwork.statistics.compare import spearman

LEVELS = (0.0, 0.5, 1.0, 2.0)
RESAMPLES = 400
# Images that are looked at, spread over all there are.
MOST_IMAGES = 400
# Ends of the interval of AUC that make a verdict.
AGREES, CHANCE = 0.8, 0.5
ASKING = ("adherence", "reference", "siglip_text")


@dataclass(frozen=True)
class Seen:
    """An image of an experiment, and what the scene reader says of it.

    Attributes:
        prompt: text of the prompt.
        image: path of the image.
        baseline: path of the image of the text alone; None for a baseline.
        reference: path of the reference; None without one.
        read: attribute -> value, in the image.
        stated: attribute -> value, in the prompt.
        shown: attribute -> value, in the reference; empty without one.
        read_alone: attribute -> value, in the image of the text alone; empty for a baseline.
    """

    prompt: str
    image: Path
    baseline: Path | None
    reference: Path | None
    read: Mapping[str, str]
    stated: Mapping[str, str]
    shown: Mapping[str, str]
    read_alone: Mapping[str, str]

    def share(self, what: Mapping[str, str], of: Iterable[str] = ATTRIBUTES) -> float | None:
        """Returns the share of some attributes that the image has; None where there are none."""
        compared = [attribute for attribute in of if attribute in what]
        return (
            sum(self.read[attribute] == what[attribute] for attribute in compared) / len(compared)
            if compared
            else None
        )


@dataclass(frozen=True)
class Claim:
    """What a column is about.

    Attributes:
        amount: how much of it an image has, by the scene reader; None where the question does not arise.
        least: from which amount on an image counts as having it.
        words: what that means.
        sign: -1 where a low value says more of it.
    """

    amount: Callable[[Seen], float | None]
    least: float
    words: str
    sign: int = 1


def _moved(seen: Seen) -> float | None:
    kept = seen.share(seen.read_alone)
    return None if kept is None else 1 - kept


# Ending of a second claim about a column: the caption of the reference says everything.
_FULL = " full"
_OF_PROMPT = Claim(lambda one: one.share(one.stated), 1.0, "has all that the prompt states")
_OF_REFERENCE = Claim(
    lambda one: one.share(one.shown), 0.5, "has at least half of the reference's attributes"
)
_OF_BASELINE = Claim(lambda one: one.share(one.read_alone), 1.0, "shows the scene that the text alone does")
CLAIMS = {
    "adherence": _OF_PROMPT,
    "siglip_text_cosine": _OF_PROMPT,
    "content_override": Claim(
        lambda one: one.share(one.shown, ABOUT["setting"]),
        1.0,
        "has the reference's background and texture, which the caption names",
    ),
    f"content_override{_FULL}": Claim(
        lambda one: one.share(one.shown),
        0.5,
        "has at least half of the reference's attributes, where the caption names all",
    ),
    "semantic_reference": _OF_REFERENCE,
    "structural_reference": _OF_REFERENCE,
    "semantic_baseline": _OF_BASELINE,
    "structural_baseline": _OF_BASELINE,
    "histogram_distance": Claim(
        lambda one: one.share(one.shown, ("colour", "background")),
        0.5,
        "has the reference's colour of the object or of the background",
        sign=-1,
    ),
    "moved": Claim(_moved, 1 / len(ATTRIBUTES), "shows another scene than the text alone"),
}
# What says whether a pattern was planted.
PLANTED = ("comb", "axis_comb", "comb_control")


@dataclass(frozen=True)
class Agreement:
    """How a column agrees with the scene reader, or finds a planted pattern.

    Attributes:
        column: column of scores.csv.
        claim: what an image is to have.
        level: grey levels of the pattern that was planted in all images, or, where that is what is to be found, in half of them.
        images: images, each with its own reference.
        have: how many of them have it.
        prompts: how many prompts they are of.
        spearman: correlation with how much of it an image has; None where it is had or not.
        auc: how often an image that has it is put before one that has not; 0.5 is chance.
        low, high: 95 % interval of `auc`.
        within: the same for pairs of images of one prompt.
        verdict: what follows for the user.
    """

    column: str
    claim: str
    level: float
    images: int
    have: int
    prompts: int
    spearman: float | None
    auc: float | None
    low: float | None
    high: float | None
    within: float | None
    verdict: str


def plant(pixels: np.ndarray, levels: float, period: int = TOKEN) -> np.ndarray:
    """Returns an image with a pattern that repeats after `period` pixels, uint8 as given.

    Args:
        pixels: uint8 (height, width, 3).
        levels: standard deviation of the pattern in grey levels.
        period: pixels of a tile.
    """
    height, width = pixels.shape[:2]
    tile = np.random.default_rng(7).standard_normal((period, period))
    pattern = np.tile(tile, (-(-height // period), -(-width // period)))[:height, :width, None]
    return np.clip(np.rint(pixels + levels * pattern), 0, 255).astype(np.uint8)


def seen_images(design: Any, rows: Sequence[Mapping[str, str]]) -> list[Seen]:
    """Returns the images of an experiment, each once for each prompt and reference.

    Args:
        design: the experiment.
        rows: rows of its scores.csv, with the columns of `scene_attributes`.
    """
    row_of = {row["cell"]: row for row in rows}
    found: dict[tuple[str, str, str], Seen] = {}
    for cell in design.cells:
        row = row_of[cell.cell]
        reference = cell.parameters.get("reference") or ""
        if not row["image"] or row["unscored"] or not isinstance(reference, str):
            continue
        beside = row_of.get(design.baselines.get(cell.cell, ""), {})
        prompt = cell.parameters["prompt"]
        found.setdefault(
            (prompt, row["image"], reference),
            Seen(
                prompt,
                Path(row["image"]),
                Path(beside["image"]) if beside else None,
                Path(design.references[reference]) if reference else None,
                _attributes(row, "read"),
                parse_partial(prompt),
                _attributes(row, "reference"),
                _attributes(beside, "read"),
            ),
        )
    return list(found.values())


def spread(seen: Sequence[Seen], most: int = MOST_IMAGES) -> list[Seen]:
    """Returns at most so many images, spread evenly over all, and the images of the text alone that they are compared with."""
    chosen = {round(place) for place in np.linspace(0, len(seen) - 1, min(most, len(seen)))}
    beside = {seen[row].baseline for row in chosen}
    return [one for row, one in enumerate(seen) if row in chosen or one.image in beside]


def _attributes(row: Mapping[str, str], what: str) -> dict[str, str]:
    return {a: row[f"{what}_{a}"] for a in ATTRIBUTES if row.get(f"{what}_{a}")}


class Asker:
    """Asks scorers about images, which are planted as they are read.

    Args:
        entries: role -> entry of the scorer.
        hardware: as of `hardware.scoring`.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]], hardware: Mapping[str, Any]) -> None:
        self._scorers = {role: load_scorer(role, entry, hardware) for role, entry in entries.items()}
        self._read = lru_cache(maxsize=4096)(_pixels)

    def columns(self, seen: Seen, level: float) -> dict[str, float]:
        """Returns the columns of an image: what scorers say, and what is measured without them."""
        pixels = plant(self._read(seen.image), level)
        looked = Looked(f"{seen.image}/{level}", Image.fromarray(pixels))
        found = {}
        for question in (one for name in ASKING for one in scores()[name].questions):
            for key in (question.column, question.column + _FULL):
                if (
                    key in CLAIMS
                    and (beside := self._beside(question, seen, key.endswith(_FULL))) is not None
                ):
                    measured = self._scorers[question.role].measure(question.quantity, looked, **beside)
                    found[key] = measured.value
        references = () if seen.reference is None else (self._read(seen.reference),)
        baseline = None if seen.baseline is None else self._read(seen.baseline)
        artifacts = measure_artifacts(ImageBeside(pixels, references, baseline))
        found |= {
            name: value
            for name, value in artifacts.items()
            if name in (*CLAIMS, *PLANTED) and value is not None
        }
        return found

    def _beside(self, question: Question, seen: Seen, in_full: bool) -> dict[str, Any] | None:
        if question.about == "prompt":
            return {"text": seen.prompt}
        if question.about == "reference_caption":
            if not seen.shown:
                return None
            scene = Scene(**seen.shown)
            return {"text": write_caption(scene) if in_full else write_partial(scene, "setting", 0)}
        path = seen.reference if question.about == "reference" else seen.baseline
        return None if path is None else {"other": Looked(str(path), Image.fromarray(self._read(path)))}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def calibrate(
    seen: Sequence[Seen],
    entries: Mapping[str, Mapping[str, Any]],
    hardware: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> list[Agreement]:
    """Returns how all columns agree with the scene reader, with patterns of each of `LEVELS`.

    Args:
        seen: images.
        entries: role -> entry of the scorer.
        hardware: as of `hardware.scoring`.
        say: takes a line for each level.
    """
    asker = Asker(entries, hardware)
    measured = {}
    for level in LEVELS:
        measured[level] = [asker.columns(one, level) for one in seen]
        say(f"{len(seen)} images with a pattern of {level} grey levels")
    found = [
        agreement(name, claim, seen, measured[level], level)
        for name, claim in CLAIMS.items()
        for level in LEVELS
    ]
    for name in PLANTED:
        found += [_planted(name, seen, measured[0.0], measured[level], level) for level in LEVELS if level]
    return found


def agreement(
    name: str, claim: Claim, seen: Sequence[Seen], measured: Sequence[Mapping[str, float]], level: float
) -> Agreement:
    """Returns how one column agrees with what it claims.

    Args:
        name: the column.
        claim: what it is about.
        seen: images.
        measured: columns of each image.
        level: grey levels of what was planted in them.
    """
    known = [
        _Known(one.prompt, claim.sign * values[name], amount >= claim.least - 1e-9, amount)
        for one, values in zip(seen, measured, strict=True)
        if name in values and (amount := claim.amount(one)) is not None
    ]
    return _agreement(name, claim.words, level, known)


def _planted(
    name: str,
    seen: Sequence[Seen],
    clean: Sequence[Mapping[str, float]],
    planted: Sequence[Mapping[str, float]],
    level: float,
) -> Agreement:
    """Compares differences to the image of the text alone, of images with a pattern and without: what the summary reads."""
    once = {one.image: row for row, one in enumerate(seen)}
    rows = [
        (one, clean[once[one.baseline]], row)
        for row, one in enumerate(seen)
        if one.baseline in once and once[one.image] == row
    ]
    known = [
        _Known(one.prompt, values[row][name] - alone[name], has)
        for one, alone, row in rows
        for values, has in ((clean, False), (planted, True))
        if name in values[row] and name in alone
    ]
    words = "has the pattern of 16 pixels (by the difference to the text alone)"
    return _agreement(name, words, level, known)


@dataclass(frozen=True)
class _Known:
    """What is known of an image: its prompt, the value of the column, whether it has what is claimed, and how much of it."""

    prompt: str
    value: float
    has: bool
    amount: float | None = None


def _agreement(name: str, words: str, level: float, known: Sequence[_Known]) -> Agreement:
    prompts = np.array([one.prompt for one in known])
    values = np.array([one.value for one in known])
    has = np.array([one.has for one in known], dtype=bool)
    amounts = [one.amount for one in known if one.amount is not None]
    low, high = _interval(prompts, values, has)
    within, pairs = 0.0, 0
    for prompt in set(prompts.tolist()):
        of = prompts == prompt
        count = int(has[of].sum()) * int((~has[of]).sum())
        found = auc(values[of], has[of])
        if found is not None:
            within, pairs = within + count * found, pairs + count
    return Agreement(
        name.removesuffix(_FULL),
        words,
        level,
        len(values),
        int(has.sum()),
        len(set(prompts.tolist())),
        _rounded(spearman(values, np.array(amounts)) if len(amounts) > 1 else None),
        _rounded(auc(values, has)),
        _rounded(low),
        _rounded(high),
        _rounded(within / pairs if pairs else None),
        _verdict(low, high),
    )


def auc(values: np.ndarray, has: np.ndarray) -> float | None:
    """Returns how often a value of those that have it lies above one of those that have not, equal ones counting half.

    Args:
        values: (n,).
        has: bool (n,).

    Returns:
        None where one kind is missing.
    """
    ones, others = values[has], np.sort(values[~has])
    if not len(ones) or not len(others):
        return None
    below, up_to = (np.searchsorted(others, ones, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(others))


def _interval(prompts: np.ndarray, values: np.ndarray, has: np.ndarray) -> tuple[float | None, float | None]:
    places = [np.flatnonzero(prompts == prompt) for prompt in dict.fromkeys(prompts.tolist())]
    if len(places) < 2:
        return None, None
    random = np.random.Generator(np.random.PCG64(0))
    found = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([places[i] for i in random.integers(0, len(places), len(places))])
        found.append(auc(values[rows], has[rows]))
    kept = [one for one in found if one is not None]
    low, high = np.quantile(kept, [0.025, 0.975]) if kept else (None, None)
    return (None, None) if low is None else (float(low), float(high))


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "not known"
    if low >= AGREES:
        return "agrees"
    return (
        "agrees in part"
        if low > CHANCE
        else "agrees the other way round"
        if high < CHANCE
        else "does not agree"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def write_agreements(found: Sequence[Agreement], weights: Mapping[str, str], target: Path) -> None:
    """Writes what was found as JSON.

    Args:
        found: what was found.
        weights: file of weights -> its SHA-256: what it holds for.
        target: file.
    """
    content = {"weights": dict(weights), "agreements": [asdict(one) for one in found]}
    write_atomic(target, json.dumps(content, indent=1) + "\n")


def format_agreements(found: Sequence[Agreement]) -> str:
    """Returns the table in Markdown."""
    lines = [
        "| column | an image | grey levels | images | Spearman | AUC | 95 % interval | of one prompt | verdict |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for one in found:
        interval = "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        numbers = ["" if n is None else f"{n:.3f}" for n in (one.spearman, one.auc, one.within)]
        lines.append(
            f"| `{one.column}` | {one.claim} | {one.level:g} | {one.have} of {one.images} | {numbers[0]} | {numbers[1]} | "
            f"{interval} | {numbers[2]} | {one.verdict} |"
        )
    return "\n".join(lines) + "\n"
