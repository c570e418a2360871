"""summary.md and no_ops.csv: what an experiment gave, for somebody who opens it for the first time."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.progress import format_seconds
from graftwork.core.records import from_json
from graftwork.design.cells import Design
from graftwork.planning.no_ops import (
    KINDS,
    NoOps,
    find_no_ops,
    groups,
    one_line,
    setting_text,
    settings_of,
)
from graftwork.planning.plan import PlanEntry

NO_OP_COLUMNS = ("setting", "equals", "kind", "cells", "images")
# Pairs of images of which the pixels are compared, over a whole experiment, and rows of the table of settings.
MOST_PAIRS = 200
MOST_SETTINGS = 100


@dataclass(frozen=True)
class Difference:
    """How the images of a no-op differ from those that they should equal.

    Attributes:
        compared: Pairs of images that were looked at.
        largest: Greatest difference of a value, in grey levels of 255; 0 where all are identical.
        share: Share of the values that differ.
    """

    compared: int
    largest: int
    share: float

    @property
    def text(self) -> str:
        """In words; `not compared` where there was no pair of images."""
        if not self.compared:
            return "not compared"
        named = "1 pair" if self.compared == 1 else f"{self.compared} pairs"
        if not self.largest:
            return f"identical in {named}"
        return f"differ by at most {self.largest} of 255 levels, in {100 * self.share:.2g} % of the values ({named})"


def compare_settings(
    design: Mapping[str, Any], resolved: Mapping[str, PlanEntry], rows: Sequence[Mapping[str, str]]
) -> tuple[NoOps, list[Difference]]:
    """Returns the settings that do nothing, by conditioning and by the images there are, and how their images differ.

    Args:
        design: As in design.json.
        resolved: Cell -> what the store calls it, from the plan of images.
        rows: Of cells.csv.
    """
    images = {row["cell"]: Path(row["image"]) for row in rows if row["image"]}
    pixels = identical_images({resolved[cell].image: path for cell, path in images.items()})
    found = find_no_ops(from_json(Design, design), resolved, pixels.get)
    return found, image_differences(found, images.get)


def identical_images(paths: Mapping[str, Path]) -> dict[str, str]:
    """Returns for each image what it shares with those of the same pixels and with no other.

    Equal pixels are equal bytes in the store (`encode_png`), and only files of equal length are read.

    Args:
        paths: Key of an image -> its file.
    """
    sizes = {image: path.stat().st_size for image, path in paths.items()}
    several = Counter(sizes.values())
    return {
        image: hashlib.sha256(path.read_bytes()).hexdigest()
        if several[sizes[image]] > 1
        else f"size {sizes[image]}"
        for image, path in paths.items()
    }


def image_differences(found: NoOps, path_of: Callable[[str], Path | None]) -> list[Difference]:
    """Compares the pixels of no-ops with those that they equal, as far as there are images.

    Args:
        found: Of the experiment.
        path_of: Cell -> its image, or None.

    Returns:
        One for each no-op, in order. Equal bytes are equal images and are not read.
    """
    left, differences = MOST_PAIRS, []
    for item in found.found:
        largest, differing, values, compared = 0, 0, 0, 0
        for cell, other in item.pairs:
            one, two = path_of(cell), path_of(other)
            if one is None or two is None or (one != two and left == 0):
                continue
            compared += 1
            if one == two:
                continue
            left -= 1
            difference = np.abs(_pixels(one).astype(int) - _pixels(two))
            largest = max(largest, int(difference.max()))
            differing, values = differing + int((difference > 0).sum()), values + difference.size
        differences.append(Difference(compared, largest, differing / values if values else 0.0))
    return differences


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def no_op_rows(found: NoOps, differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Returns the rows of no_ops.csv, one for each setting that does nothing."""
    return [
        {
            "setting": setting_text(item.values),
            "equals": setting_text(item.equals),
            "kind": KINDS[item.kind],
            "cells": len(item.pairs),
            "images": difference.text,
        }
        for item, difference in zip(found.found, differences, strict=True)
    ]


def summarize(
    design: Mapping[str, Any],
    resolved: Mapping[str, PlanEntry],
    rows: Sequence[Mapping[str, str]],
    found: NoOps,
    differences: Sequence[Difference],
    pictures: Mapping[str, Mapping[str, str]],
    scores: Sequence[str],
    made: Mapping[str, Any],
) -> str:
    """Returns summary.md.

    Args:
        design: As in design.json.
        resolved: Cell -> what the store calls it, from the plan of images.
        rows: Of cells.csv.
        found: Settings that do nothing.
        differences: Of their images, as `image_differences` returns them.
        pictures: Heading -> path relative to the summary -> what is constant on the picture, if anything.
        scores: Lines that the experiment's scores say of themselves, in Markdown.
        made: `images` and `seconds` of the jobs that generated in the last run, 0 for none, and `packages`, name ->
            version.
    """
    experiment = design["experiment"]
    reports = [report for row in rows if (report := resolved[row["cell"]].report) is not None]
    lines = [
        f"> {_escaped(one_line(found, experiment))}",
        "",
        f"# {_escaped(design['title'])}",
        "",
        *([_escaped(design["question"]), ""] if design["question"] else []),
        *_counts(design, rows),
        *_no_ops(found, differences),
        *_settings_table(design, rows, found),
        *_links(pictures),
        *(["## Scores", "", *scores, ""] if scores else []),
        *_warnings(text for report in reports for text in report.warnings),
        *_origin(design, made),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _counts(design: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> list[str]:
    status, roles = Counter(row["status"] for row in rows), Counter(row["role"] for row in rows)
    factors = " x ".join(
        f"{len(axis['values'])} {axis['name']}" for axis in design["axes"] if len(axis["values"]) > 1
    )
    named = ", ".join(
        f"{count} of role {role}" + (f" ({factors})" if role == "cell" and factors else "")
        for role, count in roles.items()
    )
    images = len({row["image"] for row in rows if row["image"]})
    lines = [
        f"{len(rows)} cells, {named}: {status['done']} done, {status['failed']} failed, {status['missing']} missing; "
        f"{images} different images. One row for each: [cells.csv](cells.csv).",
        "",
    ]
    errors = Counter(row["error"] for row in rows if row["status"] != "done")
    if errors:
        lines += ["## Cells that are not done", ""]
        lines += [
            f"* {count} x {_escaped(error or 'no reason is known')}" for error, count in errors.most_common()
        ]
        lines += [""]
    return lines


def _no_ops(found: NoOps, differences: Sequence[Difference]) -> list[str]:
    lines = ["## Settings that do nothing", ""]
    lines += [f"* {_escaped(text)}: {KINDS[kind]}" for kind, text in groups(found)] or ["None was found."]
    scaled = [
        difference for item, difference in zip(found.found, differences, strict=True) if item.kind == "scale"
    ]
    if scaled:
        # The generator computes with rounded numbers, so a scale may show in low bits. Only the pixels tell.
        lines += ["", f"Images of settings that differ by a scale alone: {_together(scaled).text}."]
    if found.found:
        lines += ["", "Setting by setting: [no_ops.csv](no_ops.csv)."]
    return [*lines, ""]


def _together(differences: Sequence[Difference]) -> Difference:
    compared = sum(difference.compared for difference in differences)
    share = sum(difference.compared * difference.share for difference in differences)
    largest = max(difference.largest for difference in differences)
    return Difference(compared, largest, share / compared if compared else 0.0)


def _settings_table(design: Mapping[str, Any], rows: Sequence[Mapping[str, str]], found: NoOps) -> list[str]:
    row_of = {row["cell"]: row for row in rows}
    settings, axes = settings_of(from_json(Design, design))
    equals = {setting_text(item.values): setting_text(item.equals) for item in found.found}
    lines = [
        "## Settings",
        "",
        "Visible change: |y - t| / |t|, y the conditioning and t the text alone, both after the generator's caption norm; the "
        "median over prompts, references and seeds. 0 is the text alone, and two that have nothing in common are about 1.41 "
        "apart. Empty where y has another number of tokens than t.",
        "",
        _line([*axes, "cells", "done", "visible change", "does nothing: equals"]),
        "|" + "---|" * (len(axes) + 4),
    ]
    for setting in settings[:MOST_SETTINGS]:
        own = [row_of[cell] for cell in setting.cells.values()]
        changes = [float(row["visible_change"]) for row in own if row["visible_change"]]
        lines.append(
            _line(
                [
                    *setting.values.values(),
                    len(own),
                    sum(row["status"] == "done" for row in own),
                    f"{statistics.median(changes):.3g}" if changes else "",
                    "(alpha 0)" if setting.at_zero else equals.get(setting_text(setting.values), ""),
                ]
            )
        )
    if len(settings) > MOST_SETTINGS:
        lines += ["", f"and {len(settings) - MOST_SETTINGS} settings more, in [cells.csv](cells.csv)."]
    return [*lines, ""]


def _links(pictures: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines = []
    for heading, constants in pictures.items():
        if constants:
            lines += [f"## {heading}", ""]
            for path, constant in constants.items():
                lines.append(
                    f"* [{Path(path).stem}]({path})" + (f": {_escaped(constant)}" if constant else "")
                )
            lines.append("")
    return lines


def _warnings(warnings: Iterable[str]) -> list[str]:
    counted = Counter(warnings)
    if not counted:
        return []
    return [
        "## Warnings",
        "",
        *(f"* {count} x {_escaped(text)}" for text, count in counted.most_common()),
        "",
    ]


def _origin(design: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    lines = ["## How it was made", ""]
    if made["images"]:
        lines.append(
            f"* Generation: {made['images']} images in {format_seconds(made['seconds'])} of the last run's jobs, loading "
            "and images for other experiments included"
        )
    lines += [
        f"* {model['kind']} {_escaped(model['name'])}: `{identity}`"
        for identity, model in sorted(design["models"].items(), key=lambda item: item[1]["name"])
    ]
    versions = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    return [*lines, f"* Installed when this was written: {versions}", ""]


def _line(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(_escaped(str(cell)) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line."""
    one_lined = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\|<>*`[" else char for char in one_lined)
