"""The score `scene_attributes`: which attributes of a picture follow the prompt, and which the reference.

For experiments on the miniature world: prompts are captions of its scenes, references are pictures of them. What a
caption states and what a reference shows is known exactly, and every image is read as the nearest scene. An image that
shows no scene is read too, with a confidence near 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from graftwork.core.errors import DesignError
from graftwork.core.tables import Row
from graftwork.models.images import load_reference_image
from graftwork.scenes.captions import parse_partial
from graftwork.scenes.reader import Reading, SceneReader
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY
from graftwork.scores.registry import (
    NO_IMAGE,
    UNSCORED,
    CellToScore,
    Column,
    Score,
    ScoreInputs,
    Summary,
    register,
)
from graftwork.scores.scene_attributes.by_setting import TABLE as BY_SETTING
from graftwork.scores.scene_attributes.by_setting import summarize_by_setting
from graftwork.scores.scene_attributes.finding import describe_settings
from graftwork.scores.scene_attributes.following import follows_prompt, follows_reference
from graftwork.scores.scene_attributes.plots import attribute_chart, attribute_plots
from graftwork.scores.scene_attributes.setting_plot import setting_chart, setting_plots
from graftwork.scores.scene_attributes.summary import describe_attributes, summarize_attributes
from graftwork.scores.table import read_image

# Between what is a scene and what is not: renders have 1, renders with noise of 16 levels 0.97, photographs and
# drawings of other things below 0.1.
LEAST_REFERENCE_CONFIDENCE = 0.5
# The reader takes pictures of one size, whose side is a multiple of this.
_SIDE = 64
# Images that are read at once, which limits the memory.
_BATCH = 256

_MEANING_OF = {
    "read": "{} in the image",
    "prompt": "{} that the prompt states",
    "reference": "{} in the reference",
}


def _text_columns(prefix: str, is_detail: bool) -> list[Column]:
    return [
        Column(
            f"{prefix}_{attribute}",
            _MEANING_OF[prefix].format(attribute),
            is_number=False,
            is_detail=is_detail,
        )
        for attribute in ATTRIBUTES
    ]


def _follow_columns(measure: Literal["prompt", "reference"]) -> list[Column]:
    return [
        Column(
            f"follows_{measure}_{attribute}",
            f"{attribute} follows the {measure}",
            unit="share",
            bounds=(0, 1),
            better="higher",
            against="reference",
            chance=1 / len(VOCABULARY[attribute]),
            is_detail=True,
        )
        for attribute in ATTRIBUTES
    ]


COLUMNS = (
    *_text_columns("read", is_detail=False),
    *(
        Column(
            f"confidence_{attribute}",
            f"confidence of the reading of {attribute}",
            bounds=(0, 1),
            better="higher",
            is_detail=True,
        )
        for attribute in ATTRIBUTES
    ),
    Column(
        "least_confidence",
        "least confidence of a reading",
        bounds=(0, 1),
        better="higher",
    ),
    *_text_columns("prompt", is_detail=True),
    *_text_columns("reference", is_detail=True),
    *_follow_columns("prompt"),
    *_follow_columns("reference"),
    Column(
        "prompt_kept",
        "share of the prompt's attributes that the image has",
        unit="share",
        bounds=(0, 1),
        better="higher",
        against="prompt",
    ),
    Column(
        "reference_arrived",
        "share of the reference's attributes, not stated by the prompt, that the image has",
        unit="share",
        bounds=(0, 1),
        better="higher",
        against="reference",
        text_alone="reference_arrived_text_alone",
    ),
    Column(
        "reference_arrived_text_alone",
        "the same of the text alone",
        unit="share",
        bounds=(0, 1),
        against="reference",
        is_detail=True,
    ),
)


def check_inputs(inputs: ScoreInputs) -> None:
    """Refuses prompts, references and sizes that cannot be scored.

    Raises:
        DesignError: names the value, what is allowed, and the file.
    """
    where = f"{inputs.file}: scores: scene_attributes"
    for prompt in inputs.prompts:
        try:
            stated = parse_partial(prompt.text)
        except ValueError:
            named = f"prompt {prompt.name!r}" + (f", {prompt.text!r}," if prompt.name != prompt.text else "")
            raise DesignError(
                f"{where}: {named} is no caption of the miniature world; allowed: full captions such as 'a large red "
                "circle on the left of a plain blue background', of the object alone, 'a large red circle on the "
                "left', or of the setting alone, 'a plain blue background'; change the prompt, or remove the score"
            ) from None
        if stated.get("colour", "") == stated.get("background"):
            raise DesignError(
                f"{where}: prompt {prompt.name!r} asks for a {stated['colour']} object on a {stated['background']} "
                "background, which no scene has; allowed: two different colours"
            )
    for height, width in inputs.sizes:
        if height != width or height % _SIDE:
            raise DesignError(
                f"{where}: images of height {height} and width {width} cannot be read; allowed: square ones whose "
                f"side is a multiple of {_SIDE}; set height and width in {inputs.file}"
            )
    try:
        read_references({item.name: inputs.root / item.path for item in inputs.references})
    except ValueError as error:
        raise DesignError(f"{where}: {error}") from error


def read_references(paths: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Reads the scenes that reference images show; there is no other record of them.

    Args:
        paths: name -> file.

    Returns:
        name -> attribute -> value.

    Raises:
        ValueError: names the first reference whose scene cannot be read.
    """
    reader, found = SceneReader(), {}
    for name, path in paths.items():
        pixels = np.asarray(load_reference_image(path))
        height, width = pixels.shape[:2]
        if height != width or height % _SIDE:
            raise ValueError(
                f"reference {name!r} ({path}) has {width} x {height} pixels; allowed: pictures of the miniature "
                f"world, square, with a side that is a multiple of {_SIDE}"
            )
        reading = reader.read(pixels[None])
        confidence = float(reading.least_confidence[0])
        if confidence < LEAST_REFERENCE_CONFIDENCE:
            raise ValueError(
                f"reference {name!r} ({path}) does not look like a scene of the miniature world: the reader's least "
                f"confidence is {confidence:.3f}; allowed: at least {LEAST_REFERENCE_CONFIDENCE}, as renders have"
            )
        found[name] = {attribute: reading.names(attribute)[0] for attribute in ATTRIBUTES}
    return found


def common_attributes(scenes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Returns what all scenes have in common, attribute -> value: what a set of references shows."""
    return {
        attribute: value
        for attribute, value in (scenes[0].items() if scenes else ())
        if all(scene[attribute] == value for scene in scenes)
    }


def measure_cells(cells: Sequence[CellToScore], references: Mapping[str, Path]) -> list[Row]:
    """Returns the columns of each cell.

    Without an image, what the prompt states and the reference shows is there all the same; `unscored` says why the rest
    is empty.

    Args:
        cells: cells to score.
        references: SHA-256 -> path of reference images.
    """
    truths = read_references(references)
    wanted = {path for cell in cells for path in (cell.image, cell.baseline) if path is not None}
    seen = _read_images(sorted(wanted))
    rows = []
    for cell in cells:
        stated = parse_partial(cell.prompt)
        shown = common_attributes([truths[reference] for reference in cell.references])
        row: Row = dict.fromkeys([UNSCORED, *(column.name for column in COLUMNS)])
        row |= {f"prompt_{attribute}": value for attribute, value in stated.items()}
        row |= {f"reference_{attribute}": value for attribute, value in shown.items()}
        reading = seen[cell.image] if cell.image is not None else NO_IMAGE
        if isinstance(reading, str):
            row[UNSCORED] = reading
        else:
            row |= _reading_columns(reading)
            for attribute in ATTRIBUTES:
                value, p, r = row[f"read_{attribute}"], stated.get(attribute), shown.get(attribute)
                row[f"follows_prompt_{attribute}"] = follows_prompt(value, p)
                row[f"follows_reference_{attribute}"] = follows_reference(value, p, r)
            row["prompt_kept"] = _mean(row[f"follows_prompt_{attribute}"] for attribute in ATTRIBUTES)
            row["reference_arrived"] = _arrived(reading, stated, shown)
            baseline = seen[cell.baseline] if cell.baseline is not None else NO_IMAGE
            if not isinstance(baseline, str):
                row["reference_arrived_text_alone"] = _arrived(baseline, stated, shown)
        rows.append(row)
    return rows


def _arrived(reading: Reading, stated: Mapping[str, str], shown: Mapping[str, str]) -> float | None:
    return _mean(
        follows_reference(reading.names(attribute)[0], stated.get(attribute), shown.get(attribute))
        for attribute in ATTRIBUTES
    )


def _mean(follows: Iterable[int | None]) -> float | None:
    counted = [one for one in follows if one is not None]
    return round(sum(counted) / len(counted), 6) if counted else None


def _read_images(paths: Sequence[Path]) -> dict[Path, Reading | str]:
    """Returns for each image its reading, of one picture, or why it cannot be read."""
    reader, found = SceneReader(), {}
    for start in range(0, len(paths), _BATCH):
        by_shape: dict[tuple[int, ...], list[tuple[Path, np.ndarray]]] = {}
        for path in paths[start : start + _BATCH]:
            pixels = read_image(path)
            if isinstance(pixels, str):
                found[path] = pixels
            else:
                by_shape.setdefault(pixels.shape, []).append((path, pixels))
        for group in by_shape.values():
            reading = reader.read(np.stack([pixels for _, pixels in group]))
            found |= {path: _single(reading, i) for i, (path, _) in enumerate(group)}
    return found


def _single(reading: Reading, index: int) -> Reading:
    at = slice(index, index + 1)
    return Reading(
        {name: values[at] for name, values in reading.values.items()},
        {name: values[at] for name, values in reading.confidence.items()},
        reading.error[at],
    )


def _reading_columns(reading: Reading) -> Row:
    # Four digits: the low bits depend on what else was read at once.
    confidence = {name: round(float(values[0]), 4) for name, values in reading.confidence.items()}
    return {
        **{f"read_{attribute}": reading.names(attribute)[0] for attribute in ATTRIBUTES},
        **{f"confidence_{attribute}": confidence[attribute] for attribute in ATTRIBUTES},
        "least_confidence": min(confidence.values()),
    }


register(
    Score(
        name="scene_attributes",
        meaning="Reads every image as a scene of the miniature world, and says for each attribute whether it follows "
        "the prompt or the reference.",
        needs="Prompts that are captions of the world, full or of the object or the setting alone; references that are "
        "pictures of its scenes; square images whose side is a multiple of 64.",
        columns=COLUMNS,
        check=check_inputs,
        measure=measure_cells,
        summaries=(
            Summary(BY_SETTING, summarize_by_setting, setting_plots, setting_chart, describe_settings),
            Summary(
                "attributes", summarize_attributes, attribute_plots, attribute_chart, describe_attributes
            ),
        ),
    )
)
