"""Which pages an experiment's grids have, and what is on each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftwork.core.cells import Axis, Parameters
from graftwork.core.labels import label
from graftwork.design.cells import Design
from graftwork.design.pages import Page, page_names
from graftwork.design.parameters import format_of, label_of, takes_part
from graftwork.reports.grid_layout import GridPage, Strip, Tile

# Constants that say nothing to somebody who looks at a grid, or that are elsewhere on it.
_UNSHOWN = {"prompt_name", "reference", "reference_sha256"}
_LONGEST_CONSTANT = 160


def stale_pages(design: Design, folder: Path) -> list[Path]:
    """Returns the grids in `folder` that the design no longer has: beside the others they look current."""
    lengths = {axis.name: len(axis.values) for axis in design.axes}
    current = {f"{name}.png" for name in page_names(lengths, design.grids)}
    return [path for path in sorted(folder.glob("*.png")) if path.name not in current]


def build_page(design: Design, page: Page, rows: Sequence[Mapping[str, str]], root: Path) -> GridPage:
    """Returns what is on a page.

    Args:
        design: the experiment.
        page: one page of its grids.
        rows: rows of cells.csv.
        root: folder that paths are relative to.
    """
    axes = {axis.name: axis for axis in design.axes}
    order = list(axes)
    row_of = {row["cell"]: row for row in rows}
    inputs = {cell.cell: _input_files(design, cell.parameters, root) for cell in design.cells}
    cell_at = {tuple(indices): cell for indices, cell in design.positions}
    labels_of = {cell: _coordinates(axes, indices) for indices, cell in reversed(design.positions)}
    x, y = page.x, page.y

    def at(row: int, column: int) -> str:
        indices = {**page.fixed, x: column, **({y: row} if y else {})}
        return cell_at[tuple(indices[name] for name in order)]

    columns = range(len(axes[x].values))
    lines = range(len(axes[y].values)) if y else range(1)
    places = list(itertools.product(lines, columns))
    cells = {place: at(*place) for place in places}
    tiles = {
        place: _tile(row_of[cell], row_of, labels_of, labels_of[cell], root) for place, cell in cells.items()
    }
    subtitle = [
        _axis_labels(axes[name])[index]
        for name, index in page.fixed.items()
        if axes[name].varies or name in ("prompt", "reference")
    ]
    subtitle = [text for text in subtitle if text != "reference = none"]
    return GridPage(
        title=design.title,
        subtitle="\n".join(filter(None, [design.question, ", ".join(subtitle)])),
        x_labels=_axis_labels(axes[x]),
        y_labels=_axis_labels(axes[y]) if y else [""],
        tiles=tiles,
        companions=_companions(design, cells, inputs, row_of, root),
        footer=_footer(design, list(cells.values()), (x, y), page.fixed),
    )


def _axis_labels(axis: Axis) -> list[str]:
    if axis.name == "prompt":
        return [f"prompt = {value['text']}" for value in axis.values]
    return [label(label_of(axis.name), text) for text in axis.labels]


def _coordinates(axes: Mapping[str, Axis], indices: Sequence[int]) -> dict[str, str]:
    return {name: axes[name].labels[index] for name, index in zip(axes, indices, strict=True)}


def _tile(
    row: Mapping[str, str],
    row_of: Mapping[str, Mapping[str, str]],
    labels_of: Mapping[str, Mapping[str, str]],
    own: Mapping[str, str],
    root: Path,
) -> Tile:
    if row["status"] != "done":
        return Tile(None, error=row["error"] or None)
    note = None
    if row["same_as"]:
        other = row["same_as"]
        if row_of[other]["role"] == "baseline":
            note = "same image as the text alone"
        else:
            differing = [
                label(label_of(name), text) for name, text in labels_of[other].items() if own[name] != text
            ]
            note = f"same image as {', '.join(differing)}" if differing else "same image as another cell"
    return Tile(root / row["image"], note=note)


@dataclass(frozen=True)
class _Inputs:
    """The images that a cell is made from.

    Attributes:
        references: files of its references.
        init_image: file that sampling starts from; None where there is none, or where it is the reference.
    """

    references: tuple[Path, ...]
    init_image: Path | None


def _input_files(design: Design, parameters: Parameters, root: Path) -> _Inputs:
    reference, init = parameters.get("reference"), parameters.get("init_image")
    parts = reference if isinstance(reference, list | tuple) else [reference] if reference else []
    return _Inputs(
        tuple(root / design.references[part] for part in parts),
        root / design.references[init] if init and init != reference else None,
    )


def _companions(
    design: Design,
    cells: Mapping[tuple[int, int], str],
    inputs: Mapping[str, _Inputs],
    row_of: Mapping[str, Mapping[str, str]],
    root: Path,
) -> list[Strip]:
    references, beginnings, baselines = {}, {}, {}
    for place, cell in cells.items():
        files, init_image = inputs[cell].references, inputs[cell].init_image
        references[place] = Tile(files[0] if len(files) == 1 else files) if files else None
        beginnings[place] = Tile(init_image) if init_image else None
        baseline = row_of.get(design.baselines.get(cell, ""))
        if baseline is None:
            baselines[place] = None
        elif baseline["status"] == "done":
            baselines[place] = Tile(root / baseline["image"])
        else:
            baselines[place] = Tile(None, error=baseline["error"] or None)
    strips = [
        _strip("reference", references),
        _strip("init image", beginnings),
        _strip("text alone", baselines),
    ]
    return [strip for strip in strips if strip is not None]


def _strip(name: str, tiles: Mapping[tuple[int, int], Tile | None]) -> Strip | None:
    """Returns the tiles once for each row, column or place that they differ by."""
    if not any(tiles.values()):
        return None
    empty = Tile(None, error="none")
    full = {place: tile or empty for place, tile in tiles.items()}
    constant_along_x = all(tile == full[row, 0] for (row, _), tile in full.items())
    constant_along_y = all(tile == full[0, column] for (_, column), tile in full.items())
    if constant_along_x and constant_along_y:
        return Strip(name, {(0, 0): full[0, 0]}, "none")
    if constant_along_x:
        return Strip(name, {place: tile for place, tile in full.items() if place[1] == 0}, "y")
    if constant_along_y:
        return Strip(name, {place: tile for place, tile in full.items() if place[0] == 0}, "x")
    return Strip(name, full, "both")


def _footer(
    design: Design,
    cells: Sequence[str],
    shown_axes: Sequence[str | None],
    fixed: Mapping[str, int],
) -> list[str]:
    shown_of = {cell.cell: cell.shown for cell in design.cells}
    first = shown_of[cells[0]]
    varying = {axis.name for axis in design.axes if axis.varies}
    constants = []
    for name, value in first.items():
        if name in _UNSHOWN or name in shown_axes or name in varying or value is None:
            continue
        if not takes_part(name, first):
            continue
        if any(shown_of[cell].get(name) != value for cell in cells):
            continue
        (text,) = [value] if isinstance(value, str) else format_of(name)([value])
        if len(text) <= _LONGEST_CONSTANT and not (name == "prompt" and "prompt" in fixed):
            constants.append(label(label_of(name), text))
    return [", ".join(constants), f"experiment {design.experiment}"]
