"""Images for people and other programs: well-named PNGs that carry their parameters as text.

Pixels are not encoded again: text chunks are inserted into the stored file, so that an exported image has the very
pixels of the store.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.core.cells import Parameters
from graftwork.core.labels import slugify
from graftwork.core.png import insert_text_chunks
from graftwork.design.cells import Design
from graftwork.design.parameters import takes_part
from graftwork.reports.infotext import GRAFTWORK_KEY, PARAMETERS_KEY, format_infotext
from graftwork.store.images import DamagedImage, read_stored_image

_INFOTEXT_NAMES = {
    "num_inference_steps": "Steps",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "generator": "Model",
}
_NOT_IN_INFOTEXT = ("prompt", "prompt_name", "height", "width", "negative_prompt", "reference_sha256")
EXPORT_COLUMNS = ("file", "cell", "error")
_OTHER_NAMES = {"strength": "Denoising strength"}


def export_cell(row: Mapping[str, str], parameters: Parameters, versions: Mapping[str, str]) -> bytes:
    """Returns the PNG of a cell with the A1111 `parameters` infotext and one JSON text of our own.

    Args:
        row: row of cells.csv, with status `done`.
        parameters: parameters of the cell for people: names of prompts, references and models.
        versions: name -> version of the workflow and its libraries.
    """
    infotext = {_INFOTEXT_NAMES[name]: parameters[name] for name in _INFOTEXT_NAMES}
    infotext["Size"] = f"{parameters['width']}x{parameters['height']}"
    for name, value in parameters.items():
        said_elsewhere = name in (*_INFOTEXT_NAMES, *_NOT_IN_INFOTEXT)
        if value is not None and not said_elsewhere and takes_part(name, parameters):
            infotext[_OTHER_NAMES.get(name, name.replace("_", " ").capitalize())] = value
    own = {"cell": row["cell"], "role": row["role"], "conditioning": row["conditioning"]}
    texts = {
        PARAMETERS_KEY: format_infotext(
            parameters["prompt"], negative_prompt=parameters.get("negative_prompt"), parameters=infotext
        ),
        GRAFTWORK_KEY: json.dumps(
            {**own, "parameters": dict(parameters), "versions": dict(versions)},
            sort_keys=True,
            ensure_ascii=False,
        ),
    }
    return insert_text_chunks(read_stored_image(Path(row["image"])), texts)


def export_name(row: Mapping[str, str], number: int, varying: Sequence[str]) -> str:
    """Returns a file name that sorts like the table and says where the cell is on the axes.

    Args:
        row: row of cells.csv.
        number: number of the row, from 1.
        varying: names of the axes with more than one value.
    """
    words = [row[name] if name == "prompt" else f"{name} {row[name]}" for name in varying]
    if row["role"] != "cell":
        words = [row["role"], *words[:1]]
    return f"{number:05d}_{slugify(' '.join(words), max_length=80)}_{row['cell']}.png"


def export_images(
    design: Design, rows: Sequence[Mapping[str, str]], folder: Path, versions: Mapping[str, str]
) -> list[dict[str, str]]:
    """Writes one PNG per finished cell into `folder`, removes those of cells that are gone, and returns an index.

    A cell that cannot be exported does not keep the others from it.

    Returns:
        {file, cell, error} for each finished cell; `file` is empty where `error` says why there is none.
    """
    shown = {cell.cell: cell.shown for cell in design.cells}
    varying = [axis.name for axis in design.axes if axis.varies]
    index = []
    for number, row in enumerate(rows, start=1):
        if row["status"] != "done":
            continue
        name = export_name(row, number, varying)
        try:
            content = export_cell(row, shown[row["cell"]], versions)
        except (OSError, ValueError) as error:
            why = str(error) if isinstance(error, DamagedImage) else f"{row['image']}: {error}"
            index.append({"file": "", "cell": row["cell"], "error": why})
            continue
        write_atomic(folder / name, content)
        index.append({"file": name, "cell": row["cell"], "error": ""})
    written = {entry["file"] for entry in index}
    for old in folder.glob("*.png"):
        if old.name not in written:
            old.unlink()
    return index
