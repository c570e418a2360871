"""The tables of an experiment's cells: the one that people open, the full one, and what all cells have in common."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.core.cells import Cell
from graftwork.core.png import is_complete_png
from graftwork.core.tables import Row
from graftwork.design.cells import Design
from graftwork.design.controls import words_of
from graftwork.design.parameters import takes_part
from graftwork.design.sampling import sampling_warnings
from graftwork.design.schema import Base, CellParameters
from graftwork.design.sweep import INPUT_AXES
from graftwork.planning.no_ops import first_alike, settings_of
from graftwork.planning.plan import PlanEntry
from graftwork.store.layout import Store
from graftwork.store.records import ConditioningReport
from graftwork.transforms.registry import STAGES, transform

REPORT_COLUMNS = (
    "tokens",
    "negative_tokens",
    "source_tokens",
    "source_tokens_used",
    "visible_change",
    "masked_dimensions",
    "fixed_dimensions",
    "alphas",
    "warnings",
)
CONSTANT_COLUMNS = ("parameter", "value", "meaning")


def cell_rows(
    design: Design,
    resolved: Mapping[str, PlanEntry],
    failures: Mapping[str, str],
    store: Store,
) -> list[Row]:
    """Returns the rows of cells_full.csv without scores: the state of each cell, every parameter, and what was measured.

    Args:
        design: the experiment.
        resolved: cell -> what the store calls it, from the plan of images.
        failures: key of an image -> why it could not be made.
        store: store that has the images.
    """
    rows, first_with = [], {}
    alike = first_alike([cell.cell for cell in design.cells], resolved)
    columns = parameter_columns(design.cells)
    has_words = any(words_of(cell.parameters) is not None for cell in design.cells)
    for cell in design.cells:
        entry = resolved[cell.cell]
        image, path = entry.image, None
        error = entry.error or failures.get(image or "")
        if image is not None and is_complete_png(store.image(image)):
            status, error, path = "done", None, store.image(image)
        else:
            status = "failed" if error else "missing"
        parameters = {name: _as_text(cell.shown.get(name)) for name in columns}
        for name in ("reference", "init_image"):
            sha256 = cell.parameters.get(name)
            parameters[f"{name}_sha256"] = " ".join(sha256) if isinstance(sha256, list) else sha256
        rows.append(
            {
                "cell": cell.cell,
                "role": cell.role,
                "image": path and path.as_posix(),
                "conditioning": entry.conditioning,
                "same_as": first_with.get(image) if image else None,
                "same_up_to_scale": _other_bytes(cell.cell, alike[cell.cell], resolved),
                "status": status,
                "error": error,
                **({"words": entry.words} if has_words else {}),
                **parameters,
                **_report_columns(entry.report, sampling_warnings(cell.parameters)),
            }
        )
        if image:
            first_with.setdefault(image, cell.cell)
    return rows


def _report_columns(report: ConditioningReport | None, warnings: Sequence[str]) -> Row:
    """Returns what was recorded of a cell's conditioning, with what its sampling warns of."""
    columns = {name: _plain(getattr(report, name, None)) for name in REPORT_COLUMNS}
    return columns | {"warnings": "; ".join([*(report.warnings if report else ()), *warnings])}


def _other_bytes(cell: str, alike: str, resolved: Mapping[str, PlanEntry]) -> str | None:
    """Returns the cell that another one is like, where their bytes differ; where they are equal, same_as names it."""
    own, other = resolved[cell], resolved[alike]
    return alike if own.conditioning != other.conditioning else None


def parameter_columns(cells: Sequence[Cell]) -> list[str]:
    """Returns the names of all parameters: inputs and the parameters of the schema first, others after them."""
    names = {name for cell in cells for name in cell.shown}
    known = ["prompt_name", "prompt", "reference", "reference_sha256", "seed"]
    for name in CellParameters.model_fields:
        known += [name, f"{name}_sha256"] if name == "init_image" else [name]
    first = ["setting"] if "setting" in names else []
    return [*first, *known, *sorted(names - {*first, *known})]


def people_rows(design: Design, full: Sequence[Row], score_columns: Sequence[str]) -> list[Row]:
    """Returns the rows of cells.csv: the axes that vary, the state of each cell, and what was measured.

    Args:
        design: the experiment.
        full: rows of cells_full.csv.
        score_columns: columns of scores that are shown.
    """
    axes = [axis.name for axis in design.axes if axis.varies]
    columns = [
        "cell",
        "role",
        *axes,
        "image",
        "status",
        "error",
        "same_as",
        "same_up_to_scale",
        "conditioning",
    ]
    columns += ["words"] if full and "words" in full[0] else []
    columns += ["tokens", "visible_change", *score_columns, "warnings"]
    return [
        {name: row["prompt_name"] or row["prompt"] if name == "prompt" else row.get(name) for name in columns}
        for row in full
    ]


def constant_rows(design: Design, full: Sequence[Row]) -> list[Row]:
    """Returns the rows of constants.csv: what is equal in all cells but the baselines, as far as it takes part.

    Args:
        design: the experiment.
        full: rows of cells_full.csv.
    """
    cells = [row for row in full if row["role"] == "cell"]
    shown = {cell.cell: cell.shown for cell in design.cells}
    different = [shown[next(iter(setting.cells.values()))] for setting in settings_of(design)[0]]
    return [
        {"parameter": name, "value": cells[0][name], "meaning": _meaning(name, cells[0][name])}
        for name in parameter_columns(design.cells)
        if cells
        and cells[0][name] is not None
        and all(row[name] == cells[0][name] for row in cells)
        and any(takes_part(name, parameters) for parameters in different)
    ]


def _meaning(name: str, value: Any) -> str:
    """Returns what a parameter means, from the schema; of a transform, what it computes."""
    if name in STAGES:
        return transform(name, value).formula
    if name in INPUT_AXES:
        return Base.model_fields[INPUT_AXES[name]].description or ""
    if name.endswith("_sha256"):
        return "SHA-256 of the file, or of each file."
    field = CellParameters.model_fields.get(name)
    return (field.description or "") if field else ""


def _plain(value: Any) -> Any:
    return ("; ".join(map(str, value)) or None) if isinstance(value, tuple) else value


def _as_text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
