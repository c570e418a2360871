"""summary.md and no_ops.csv: what an experiment gave, for somebody who opens it for the first time."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.cells import CONTROL
from graftwork.core.tables import Row
from graftwork.design.cells import Design
from graftwork.design.controls import controls_in_words
from graftwork.design.maps import MapsOfCells
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
from graftwork.planning.scope import RESULTS
from graftwork.planning.shards import Work
from graftwork.reports.index import Card
from graftwork.reports.templates import render
from graftwork.scores.registry import Section
from graftwork.store.images import require_undamaged

TEMPLATE = "experiment.md.j2"
NO_OP_COLUMNS = ("setting", "equals", "kind", "cells", "images")
# Pairs of images of which the pixels are compared, over a whole experiment, and rows of the table of settings.
MOST_PAIRS = 200
MOST_SETTINGS = 100
# Pages of grids that are named but not drawn.
MOST_PAGES = 50


@dataclass(frozen=True)
class Difference:
    """How the images of a no-op differ from those that they should equal.

    Attributes:
        compared: number of pairs of images that were compared.
        largest: largest difference of a value, in grey levels of 255; 0 where all are identical.
        share: share of the values that differ, 0 to 1.
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
    design: Design, resolved: Mapping[str, PlanEntry], rows: Sequence[Mapping[str, str]]
) -> tuple[NoOps, list[Difference]]:
    """Returns the settings that do nothing, by conditioning and by the images there are, and how their images differ.

    Args:
        design: the experiment.
        resolved: cell -> what the store calls it, from the plan of images.
        rows: rows of cells.csv.
    """
    images = {row["cell"]: Path(row["image"]) for row in rows if row["image"]}
    pixels = identical_images({resolved[cell].image: path for cell, path in images.items()})
    found = find_no_ops(design, resolved, pixels.get)
    return found, image_differences(found, images.get)


def identical_images(paths: Mapping[str, Path]) -> dict[str, str]:
    """Returns for each image what it shares with those of the same pixels and with no other.

    Equal pixels are equal bytes in the store (`encode_png`), and only files of equal length are read.

    Args:
        paths: key of an image -> its file.
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
        found: settings that do nothing.
        path_of: given a cell, returns its image, or None.

    Returns:
        One difference for each no-op, in order. Equal bytes are equal images and are not read.
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
            try:
                difference = np.abs(_pixels(one).astype(int) - _pixels(two))
            except (OSError, ValueError):
                compared -= 1  # Damaged: nothing can be said of this pair, and grids say so.
                continue
            largest = max(largest, int(difference.max()))
            differing, values = differing + int((difference > 0).sum()), values + difference.size
        differences.append(Difference(compared, largest, differing / values if values else 0.0))
    return differences


def _pixels(path: Path) -> np.ndarray:
    from graftwork.models.images import read_image

    require_undamaged(path)
    return np.asarray(read_image(path))


def no_op_rows(found: NoOps, differences: Sequence[Difference]) -> list[Row]:
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


@dataclass(frozen=True)
class Report:
    """Contents of summary.md.

    Attributes:
        design: the experiment.
        resolved: cell -> what the store calls it, from the plan of images.
        rows: rows of cells.csv.
        found: settings that do nothing.
        differences: differences of their images, as `image_differences` returns them.
        pictures: heading -> path relative to the summary -> what is constant on the picture, or nothing.
        scores: what the experiment's scores say.
        made: what the jobs that generated in the last run did.
        more_pages: file of a page of a grid that is drawn when it is asked for -> what is constant on it.
    """

    design: Design
    resolved: Mapping[str, PlanEntry]
    rows: Sequence[Mapping[str, str]]
    found: NoOps
    differences: Sequence[Difference]
    pictures: Mapping[str, Mapping[str, str]]
    scores: Sequence[Section]
    made: Work
    more_pages: Mapping[str, str] = field(default_factory=dict)


def summarize(report: Report) -> str:
    """Returns summary.md."""
    design, found = report.design, report.found
    reports = [one for row in report.rows if (one := report.resolved[row["cell"]].report) is not None]
    scaled = [
        difference
        for item, difference in zip(found.found, report.differences, strict=True)
        if item.kind == "scale"
    ]
    return render(
        TEMPLATE,
        headline=one_line(found, design.experiment),
        title=design.title,
        question=design.question,
        look_for=design.look_for,
        leakage=MapsOfCells.notes(design),
        counts=_counts(design, report.rows),
        errors=Counter(row["error"] for row in report.rows if row["status"] != "done").most_common(),
        no_ops=[f"{text}: {KINDS[kind]}" for kind, text in groups(found)],
        # The generator computes with rounded numbers, so a scale may show in low bits. Only the pixels tell.
        scaled=_together(scaled).text if scaled else "",
        settings=_settings_table(design, report.rows, found),
        findings=[section.finding for section in report.scores if section.finding],
        pictures=report.pictures,
        page=(RESULTS / design.experiment / "summary.html").as_posix(),
        more_pages=dict(list(report.more_pages.items())[:MOST_PAGES]),
        unnamed_pages=max(0, len(report.more_pages) - MOST_PAGES),
        scores=report.scores,
        warnings=Counter(text for one in reports for text in one.warnings).most_common(),
        models=sorted(design.models.items(), key=lambda item: item[1].name),
        made=report.made,
    )


def card_of(report: Report) -> Card:
    """Returns what the index of all results says of the experiment: the findings of its scores, or which settings do nothing."""
    counts = _counts(report.design, report.rows)
    findings = [section.finding for section in report.scores if section.finding]
    return Card(
        report.design.experiment,
        report.design.title,
        report.design.question,
        tuple(findings or [one_line(report.found, report.design.experiment)]),
        counts.cells,
        counts.failed,
        counts.missing,
    )


@dataclass(frozen=True)
class _Counts:
    """How many cells there are.

    Attributes:
        cells: all of them.
        roles: by role, in words.
        images: different images.
        done: cells with an image.
        failed: cells that failed.
        missing: cells that have no image yet.
    """

    cells: int
    roles: Sequence[str]
    images: int
    done: int
    failed: int
    missing: int


def _counts(design: Design, rows: Sequence[Mapping[str, str]]) -> _Counts:
    status, roles = Counter(row["status"] for row in rows), Counter(row["role"] for row in rows)
    factors = " x ".join(
        f"{len(axis.values)} {axis.name}" for axis in design.axes if axis.varies and axis.name != CONTROL
    )
    details = {"cell": factors, "control": controls_in_words(design.cells)}
    return _Counts(
        cells=len(rows),
        roles=[
            f"{count} of role {role}" + (f" ({details[role]})" if details.get(role) else "")
            for role, count in roles.items()
        ],
        images=len({row["image"] for row in rows if row["image"]}),
        **{name: status[name] for name in ("done", "failed", "missing")},
    )


def _together(differences: Sequence[Difference]) -> Difference:
    compared = sum(difference.compared for difference in differences)
    share = sum(difference.compared * difference.share for difference in differences)
    largest = max(difference.largest for difference in differences)
    return Difference(compared, largest, share / compared if compared else 0.0)


@dataclass(frozen=True)
class _SettingsTable:
    """The table of settings.

    Attributes:
        columns: headings.
        rows: the first settings, one value per column.
        more: how many settings have no row.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: int


def _settings_table(design: Design, rows: Sequence[Mapping[str, str]], found: NoOps) -> _SettingsTable:
    """Returns the table of settings."""
    row_of = {row["cell"]: row for row in rows}
    settings, axes = settings_of(design)
    equals = {setting_text(item.values): setting_text(item.equals) for item in found.found}
    lines = []
    for setting in settings[:MOST_SETTINGS]:
        own = [row_of[cell] for cell in setting.cells.values()]
        changes = [float(row["visible_change"]) for row in own if row["visible_change"]]
        lines.append(
            [
                *setting.values.values(),
                len(own),
                sum(row["status"] == "done" for row in own),
                f"{statistics.median(changes):.3g}" if changes else None,
                "(alpha 0)" if setting.at_zero else equals.get(setting_text(setting.values)),
            ]
        )
    columns = [*axes, "cells", "done", "visible change", "does nothing: equals"]
    return _SettingsTable(columns, lines, max(0, len(settings) - MOST_SETTINGS))
