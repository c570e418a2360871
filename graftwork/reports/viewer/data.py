"""Everything that the page of the viewer knows, as plain values for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from graftwork.core.cells import CONTROL, COORDINATES, Axis, Parameters
from graftwork.core.identity import canonical_json
from graftwork.core.records import to_json
from graftwork.design.cells import Design
from graftwork.design.controls import keys_of
from graftwork.design.parameters import takes_part
from graftwork.design.schema import Experiment
from graftwork.planning.no_ops import KINDS, NoOps, groups, headline, setting_text
from graftwork.reports.viewer.columns import (
    Column,
    encode_column,
    encode_texts,
    mean_columns,
    number_column,
)
from graftwork.reports.viewer.thumbnails import Thumbnail, image_difference

# A part of what the page reads, ready for JSON: its keys are those that the scripts of the page name.
ViewerData = dict[str, Any]

FORMAT_VERSION = 1
# Columns of the table of cells that the page reads by name. The rest are parameters, scores, or say something of the conditioning.
_STATE = frozenset(
    {"cell", "role", "image", "conditioning", "same_as", "same_up_to_scale", "status", "error"}
    | {"reference_sha256", "init_image_sha256"}
)
# Parameters of cells that stand beside `base` in an experiment file.
_BESIDE_BASE = frozenset(Experiment.model_fields) - {"base"}
# Parameters that `base` of an experiment file has as lists, or under another name.
_LISTS = {"prompt": "prompts", "reference": "references", "seed": "seeds"}
_NOT_IN_FILE = frozenset({"prompt_name", "setting", CONTROL})
DIFFERENCE = "difference_to_baseline"
_DIFFERENCE_MEANING = "mean absolute difference of the pixels to the baseline, 0 to 1, at 32 x 32 pixels"


@dataclass(frozen=True)
class Findings:
    """Facts about an experiment beside its design and its table of cells.

    Attributes:
        no_ops: Settings that do nothing.
        thumbnails: Key of an image -> its record. Images without one are shown in full size.
        score_columns: Columns of the table that are scores -> what they mean, or "".
        links: Text -> path relative to the page, of other files of the experiment.
    """

    no_ops: NoOps
    thumbnails: Mapping[str, Thumbnail] = field(default_factory=dict)
    score_columns: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def image_key(path: str) -> str:
    """Returns the name of an image in the store; `path` ends with it."""
    return path.rpartition("/")[2].rpartition(".")[0]


def reference_key(sha256: str) -> str:
    """Returns the name of a reference image among thumbnails."""
    return sha256[:32]


def viewer_data(design: Design, rows: Sequence[Mapping[str, str]], findings: Findings) -> ViewerData:
    """Returns everything that the page knows.

    Args:
        design: design of the experiment.
        rows: Rows of the full table of cells.
        findings: facts beside them.
    """
    place_of = {row["cell"]: place for place, row in enumerate(rows)}
    baseline_of = design.baselines
    images = _images(design, rows, findings.thumbnails)
    image_place = {key: place for place, key in enumerate(images["keys"])}
    roles, role_codes = encode_texts([row["role"] for row in rows])
    statuses, status_codes = encode_texts([row["status"] for row in rows])
    errors, error_codes = encode_texts([row["error"] for row in rows])
    references, reference_codes = encode_texts([row.get("reference_sha256") or "" for row in rows])
    return {
        "format": FORMAT_VERSION,
        "experiment": design.experiment,
        "title": design.title,
        "question": design.question,
        "look_for": design.look_for,
        "notes": list(design.notes),
        "links": dict(findings.links),
        "axes": [_axis(axis) for axis in design.axes],
        "grids": [to_json(grid) for grid in design.grids],
        "places": _places(design, place_of),
        "cells": {
            "ids": [row["cell"] for row in rows],
            "roles": {"texts": roles, "codes": role_codes},
            "statuses": {"texts": statuses, "codes": status_codes},
            "errors": {"texts": errors, "codes": error_codes},
            "images": [
                image_place[image_key(row["image"])] if row["status"] == "done" else -1 for row in rows
            ],
            "baselines": [place_of.get(baseline_of.get(row["cell"], ""), -1) for row in rows],
            "same_as": [place_of.get(row["same_as"], -1) for row in rows],
            "same_up_to_scale": [place_of.get(row["same_up_to_scale"], -1) for row in rows],
            "references": {
                "sets": [[image_place[reference_key(part)] for part in text.split()] for text in references],
                "codes": reference_codes,
            },
        },
        "images": images,
        "columns": _columns(design, rows, findings),
        "no_ops": _no_ops(findings.no_ops, design.experiment, place_of),
        "recipe": _recipe(design),
    }


def _axis(axis: Axis) -> ViewerData:
    """Returns an axis: its name, labels, and where a label says less than the value, the value in words."""
    details = [_detail(axis.name, value) for value in axis.values]
    return {"name": axis.name, "labels": list(axis.labels), "details": details if any(details) else []}


def _detail(name: str, value: Any) -> str:
    if name == "prompt":
        return value["text"]
    if name == "setting":
        return ", ".join(f"{key}: {_yaml(item)}" for key, item in value["parameters"].items())
    return ""


def _places(design: Design, place_of: Mapping[str, int]) -> list[int]:
    """Returns the row of the cell at each combination of values, the last axis fastest; -1 where there is none."""
    sizes = [len(axis.values) for axis in design.axes]
    places = [-1] * math.prod(sizes)
    for indices, cell in design.positions:
        flat = 0
        for index, size in zip(indices, sizes, strict=True):
            flat = flat * size + index
        places[flat] = place_of[cell]
    return places


def _images(
    design: Design, rows: Sequence[Mapping[str, str]], thumbnails: Mapping[str, Thumbnail]
) -> ViewerData:
    """Returns distinct images, those of cells first, then the references."""
    keys = list(dict.fromkeys(image_key(row["image"]) for row in rows if row["status"] == "done"))
    parts = [part for row in rows for part in (row.get("reference_sha256") or "").split()]
    references = {reference_key(part): part for part in parts}
    files = {
        key: f"{key}.{design.references[part].rpartition('.')[2].lower()}" for key, part in references.items()
    }
    names = {key: design.references[part].rpartition("/")[2] for key, part in references.items()}
    everything = [*keys, *(key for key in references if key not in set(keys))]
    known = [thumbnails.get(key) for key in everything]
    return {
        "keys": everything,
        "sha256": [record.sha256 if record else "" for record in known],
        "widths": [record.width if record else 0 for record in known],
        "heights": [record.height if record else 0 for record in known],
        # Of references: files that are not {key}.png, and what they are called.
        "files": files,
        "names": names,
    }


def _columns(design: Design, rows: Sequence[Mapping[str, str]], findings: Findings) -> list[Column]:
    parameters = {name for cell in design.cells for name in cell.shown}
    scores = findings.score_columns
    columns: list[Column] = []
    for name in rows[0] if rows else ():
        if name in _STATE:
            continue
        if name in scores:
            group = "score"
        elif name in parameters:
            group = "parameter"
        else:
            group = "conditioning"
        column = encode_column(name, group, [row[name] or "" for row in rows])
        if column is not None:
            columns.append({**column, "meaning": scores[name]} if scores.get(name) else column)
    differences = baseline_differences(design, rows, findings.thumbnails)
    cells = [row["cell"] for row in rows]
    difference = number_column(DIFFERENCE, "image", differences, cells, _DIFFERENCE_MEANING)
    return [*([difference] if difference else []), *mean_columns(columns), *columns]


def baseline_differences(
    design: Design, rows: Sequence[Mapping[str, str]], thumbnails: Mapping[str, Thumbnail]
) -> dict[str, float]:
    """Returns cell -> how much its image differs from that of its baseline, for cells where both are known."""
    record_of = {
        row["cell"]: thumbnails.get(image_key(row["image"])) for row in rows if row["status"] == "done"
    }
    differences = {}
    for cell, record in record_of.items():
        baseline = record_of.get(design.baselines.get(cell, ""))
        if record is not None and baseline is not None:
            differences[cell] = image_difference(record, baseline)
    return differences


def _no_ops(found: NoOps, experiment: str, place_of: Mapping[str, int]) -> ViewerData:
    return {
        "headline": headline(found, experiment).partition(": ")[2],
        "groups": [{"kind": kind, "meaning": KINDS[kind], "text": text} for kind, text in groups(found)],
        "settings": [
            {
                "setting": setting_text(item.values),
                "equals": setting_text(item.equals),
                "meaning": KINDS[item.kind],
                "pairs": [[place_of[cell], place_of[other]] for cell, other in item.pairs],
            }
            for item in found.found
        ],
    }


def _recipe(design: Design) -> ViewerData:
    """Returns what an experiment file has to say to make each cell: key in `base` -> its distinct values as YAML.

    The value of a key that a cell does not need is the empty text. Keys with `top` stand beside `base`.
    """
    wanted = _Wanted()
    chosen = [{**wanted.values(cell.shown), **_control_keys(cell.parameters)} for cell in design.cells]
    keys = list(dict.fromkeys(key for values in chosen for key in values))
    lines = []
    for key in keys:
        texts, codes = encode_texts([values.get(key, "") for values in chosen])
        place = {"top": True} if key in _BESIDE_BASE else {}
        lines.append({"key": key, "texts": texts, **({"codes": codes} if len(texts) > 1 else {}), **place})
    return {"cells": [cell.cell for cell in design.cells], "lines": lines}


def _control_keys(parameters: Parameters) -> dict[str, str]:
    """Returns what an experiment file has to say beside `base` to make a control; of other cells nothing."""
    return {key: _yaml(value) for key, value in keys_of(parameters).items()}


class _Wanted:
    """Parameters that have to be written down to make a cell. What a setting needs is worked out once."""

    def __init__(self) -> None:
        self._of_settings: dict[str, dict[str, str]] = {}

    def values(self, shown: Parameters) -> dict[str, str]:
        """Returns key in `base` -> value as YAML in one line.

        Args:
            shown: Parameters of a cell as people know them.
        """
        prompt = (
            {"name": shown["prompt_name"], "text": shown["prompt"]}
            if shown.get("prompt_name")
            else shown["prompt"]
        )
        reference = shown.get("reference")
        lists = {"prompt": prompt, "reference": reference, "seed": shown["seed"]}
        first = {_LISTS[name]: _yaml([value]) for name, value in lists.items() if value is not None}
        setting = {
            name: value
            for name, value in shown.items()
            if name not in COORDINATES and name not in _NOT_IN_FILE and value is not None
        }
        key = canonical_json(setting)
        if key not in self._of_settings:
            # Null is a value of its own for a parameter whose default is another one.
            self._of_settings[key] = {
                name: _yaml(value)
                for name, value in shown.items()
                if name not in COORDINATES and name not in _NOT_IN_FILE and takes_part(name, shown)
            }
        return {**first, **self._of_settings[key]}


def _yaml(value: Any) -> str:
    """Returns a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
