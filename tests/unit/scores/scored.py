"""A small experiment on the miniature world, its images painted by a rule instead of a model."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.cells import Axis, Cell
from graftwork.core.png import encode_png
from graftwork.design.cells import Design
from graftwork.scenes.captions import write_caption, write_partial
from graftwork.scenes.world import Scene, render_scene

ALPHAS = (0.0, 0.5, 1.0)
# Prompt and reference differ in everything, and the object of one can stand before the background of the other.
WANTED = Scene("circle", "red", "large", "left", "blue", "plain")
SHOWN = Scene("cross", "green", "small", "top", "yellow", "striped")
CAPTIONS = {
    "full": write_caption(WANTED),
    "object": write_partial(WANTED, "object", 0),
    "setting": write_partial(WANTED, "setting", 0),
}

Painter = Callable[[dict[str, Any]], np.ndarray | None]


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))
    return path


def plain_axes(**values: list[Any]) -> list[Axis]:
    """Axes, as far as scoring reads them."""
    return [Axis(name, items, [str(item) for item in items]) for name, items in values.items()]


def make_design(
    captions: dict[str, str],
    references: dict[str, Scene],
    alphas: tuple[float, ...] = ALPHAS,
    baseline: bool = True,
    seeds: tuple[int, ...] = (1,),
    **axes: list[Any],
) -> Design:
    """A design: the product of all; a reference's name stands for its content."""
    axes = {"hidden_layer": [-2], "token_mode": ["full"], **axes}
    positions, cells, baselines, baseline_of = [], [], {}, {}
    values = [captions, list(references) or [None], seeds, *axes.values(), alphas]
    indices = itertools.product(*(range(len(items)) for items in values))
    for place, (prompt, reference, seed, *more, alpha) in zip(
        indices, itertools.product(*values), strict=True
    ):
        parameters = {"prompt": captions[prompt], "seed": seed, "alpha": alpha}
        parameters |= {"reference": reference, **dict(zip(axes, more, strict=True))}
        cell = f"cell {len(cells)}"
        cells.append(Cell(cell, "cell", parameters, parameters))
        positions.append((list(place), cell))
        if baseline:
            plain = {"prompt": captions[prompt], "seed": seed, "alpha": 0.0}
            name = f"baseline {prompt} {seed}"
            baselines[name] = Cell(name, "baseline", plain, plain)
            baseline_of[cell] = name
    return Design(
        experiment="test",
        title="A test",
        question="",
        axes=plain_axes(
            prompt=list(captions),
            reference=list(references) or [None],
            seed=list(seeds),
            **axes,
            alpha=list(alphas),
        ),
        cells=[*baselines.values(), *cells],
        positions=positions,
        baselines=baseline_of,
        grids=[],
        references={name: f"references/{name}.png" for name in references},
    )


def paint_table(design: Design, folder: Path, painter: Painter) -> list[dict[str, str]]:
    """Paints an image for each cell and returns rows as of cells.csv, as far as scoring reads them.

    Args:
        design: The experiment.
        folder: Folder of the images; equal pixels have one file.
        painter: Parameters of a cell -> pixels, or None for a cell that failed.
    """
    rows, files = [], {}
    for cell in design.cells:
        pixels = painter(cell.parameters)
        row = {
            "cell": cell.cell,
            "role": cell.role,
            "image": "",
            "status": "failed",
            "error": "it broke",
        }
        if pixels is not None:
            name = files.setdefault(pixels.tobytes(), f"{len(files)}.png")
            row |= {"image": str(save_picture(folder / name, pixels)), "status": "done", "error": ""}
        rows.append(row)
    return rows


def images_of(rows: list[dict[str, str]]) -> dict[str, str]:
    """Cell -> path of its image, or nothing."""
    return {row["cell"]: row["image"] for row in rows}


def save_references(references: dict[str, Scene], root: Path) -> None:
    for name, scene in references.items():
        save_picture(root / "references" / f"{name}.png", render_scene(scene, 128))
