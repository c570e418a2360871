"""cells.csv: one row per cell, with everything that is known about it."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.core.png import is_complete_png
from graftwork.design.sampling import sampling_warnings
from graftwork.planning.no_ops import first_alike
from graftwork.store.layout import Store

STATE_COLUMNS = ("cell", "role", "image", "conditioning", "same_as", "same_up_to_scale", "status", "error")
PARAMETER_COLUMNS = (
    "prompt_name",
    "prompt",
    "reference",
    "reference_sha256",
    "encoder",
    "source",
    "hidden_layer",
    "neutral_reference",
    "source_text",
    "prompt_format",
    "system_prompt",
    "think_block",
    "rope_theta",
    "positions",
    "token_mode",
    "token_roles",
    "masking",
    "masking_tokens",
    "masking_direction",
    "masking_threshold",
    "masking_dimensions",
    "masking_sigma",
    "statistics",
    "dimension_fix",
    "fix_corpus",
    "fix_tokens",
    "normalization",
    "target_std",
    "clip_sigma",
    "hybrid_weight",
    "whiten_shrinkage",
    "length_matching",
    "pool_temperature",
    "combination",
    "reference_weights",
    "layer_weights",
    "blend",
    "alpha",
    "alpha_schedule",
    "delta_normalize",
    "delta_scale_to_text",
    "style_dimensions",
    "curve",
    "curve_start",
    "curve_end",
    "token_alphas",
    "token_importance",
    "noise_seed",
    "concat_tokens",
    "image_share",
    "seed",
    "generator",
    "text_hidden_layer",
    "text_prompt_format",
    "text_system_prompt",
    "text_think_block",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "cfg_normalization",
    "cfg_truncation",
    "init_image",
    "init_image_sha256",
    "strength",
)
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


def cell_rows(
    design: Mapping[str, Any],
    resolved: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    store: Store,
) -> list[dict[str, Any]]:
    """Returns the rows of an experiment's table.

    Args:
        design: As written to design.json.
        resolved: Cell id -> {conditioning, image, error, report}, from the plan of images.
        failures: Image key -> why it could not be made.
        store: Where images are.
    """
    rows, first_with = [], {}
    alike = first_alike([cell["cell"] for cell in design["cells"]], resolved)
    for cell in design["cells"]:
        entry = resolved[cell["cell"]]
        shown, report = cell["shown"], entry.get("report") or {}
        image, path = entry["image"], None
        error = entry["error"] or failures.get(image or "")
        if image is not None and is_complete_png(store.image(image)):
            status, error, path = "done", None, store.image(image)
        else:
            status = "failed" if error else "missing"
        parameters = {name: _as_text(shown.get(name)) for name in parameter_columns(design)}
        for name in ("reference", "init_image"):
            sha256 = cell["parameters"].get(name)
            parameters[f"{name}_sha256"] = " ".join(sha256) if isinstance(sha256, list) else sha256
        report = {
            **report,
            "warnings": [*report.get("warnings", ()), *sampling_warnings(cell["parameters"])],
        }
        rows.append(
            {
                "cell": cell["cell"],
                "role": cell["role"],
                "image": path and path.as_posix(),
                "conditioning": entry["conditioning"],
                "same_as": first_with.get(image) if image else None,
                "same_up_to_scale": _other_bytes(cell["cell"], alike[cell["cell"]], resolved),
                "status": status,
                "error": error,
                **parameters,
                **{name: _plain(report.get(name)) for name in REPORT_COLUMNS},
            }
        )
        if image:
            first_with.setdefault(image, cell["cell"])
    return rows


def _other_bytes(cell: str, alike: str, resolved: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the cell that another one is alike, where its bytes are others: equal ones are what same_as is for."""
    own, other = resolved[cell], resolved[alike]
    return alike if own["conditioning"] != other["conditioning"] else None


def parameter_columns(design: Mapping[str, Any]) -> list[str]:
    """Returns the names of all parameters: the usual order first, ones added later after them."""
    names = {name for cell in design["cells"] for name in cell["shown"]}
    first = ["setting"] if "setting" in names else []
    return [*first, *PARAMETER_COLUMNS, *sorted(names - {*first, *PARAMETER_COLUMNS})]


def write_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Returns the table as CSV (RFC 4180, but with line feeds); None is an empty field.

    Args:
        rows: At least one, or none where `columns` are given.
        columns: Those of the first row where missing.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Returns the rows of a table; every value is text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _plain(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _as_text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
