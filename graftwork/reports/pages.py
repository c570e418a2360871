"""Which pages an experiment's grids have, and what is on each."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from graftwork.core.cells import Axis, Parameters
from graftwork.core.labels import label
from graftwork.design.axes import SETTING
from graftwork.design.cells import Design
from graftwork.design.pages import Page, page_names
from graftwork.design.parameters import belongs_to_a_choice, format_of, label_of, takes_part
from graftwork.reports.grid_layout import GridPage, Strip, Tile

# Constants that say nothing to somebody who looks at a grid, or that are elsewhere on it.
_UNSHOWN = {"prompt_name", "reference", "reference_sha256"}
_LONGEST_CONSTANT = 160
# Rows or columns that a heading names one by one.
_MOST_NAMED = 3


def stale_pages(design: Design, folder: Path) -> list[Path]:
    """Returns the grids in `folder` that the design no longer has: beside the others they look current."""
    current = {f"{name}.png" for name in page_names(design.lengths, design.grids)}
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
    row_of = {row["cell"]: row for row in rows}
    labels_of = {cell: _coordinates(axes, indices) for indices, cell in reversed(design.positions)}
    cells = _cells_at(design, page)
    tiles = {
        place: _tile(row_of[cell], row_of, labels_of, labels_of[cell], root) for place, cell in cells.items()
    }
    x, y = page.x, page.y
    columns, lines = slice(*page.columns), slice(*page.rows)
    return GridPage(
        title=design.title,
        subtitle="\n".join(filter(None, [design.question, _subtitle(axes, page)])),
        x_labels=_side_labels(axes[x])[columns],
        y_labels=_side_labels(axes[y])[lines] if y else [""],
        tiles=tiles,
        companions=_companions(
            design, cells, row_of, (axes[y].labels[lines] if y else [""], axes[x].labels[columns]), root
        ),
        footer=_footer(design, list(cells.values()), (x, y), page.fixed),
    )


def _cells_at(design: Design, page: Page) -> dict[tuple[int, int], str]:
    """Returns the cells of a page by (row, column) on it."""
    order = [axis.name for axis in design.axes]
    cell_at = {tuple(indices): cell for indices, cell in design.positions}
    cells = {}
    for (row, line), (column, place) in itertools.product(
        enumerate(range(*page.rows)), enumerate(range(*page.columns))
    ):
        indices = {**page.fixed, page.x: place, **({page.y: line} if page.y else {})}
        cells[row, column] = cell_at[tuple(indices[name] for name in order)]
    return cells


def _subtitle(axes: Mapping[str, Axis], page: Page) -> str:
    """Returns what is constant on a page, and which part of a long axis it shows."""
    texts = [
        _axis_labels(axes[name])[index]
        for name, index in page.fixed.items()
        if len(axes[name].values) > 1 or name in ("prompt", "reference")
    ]
    for name, (first, end) in ((page.y, page.rows), (page.x, page.columns)):
        if name and end - first < len(axes[name].values):
            texts.append(f"{label_of(name)} {first + 1} to {end} of {len(axes[name].values)}")
    return ", ".join(text for text in texts if text != "reference = none")


def _side_labels(axis: Axis) -> list[str]:
    """Returns the labels of rows or columns; under the name of a setting stands what it sets."""
    if axis.name != SETTING:
        return _axis_labels(axis)
    return [
        "\n".join(filter(None, [text, _parameters_text(value["parameters"])]))
        for text, value in zip(_axis_labels(axis), axis.values, strict=True)
    ]


def _parameters_text(parameters: Parameters) -> str:
    return ", ".join(label(label_of(name), format_of(name)([value])[0]) for name, value in parameters.items())


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


def _companions(
    design: Design,
    cells: Mapping[tuple[int, int], str],
    row_of: Mapping[str, Mapping[str, str]],
    labels: tuple[Sequence[str], Sequence[str]],
    root: Path,
) -> list[Strip]:
    """Returns what stands beside the images of a page; `labels` are those of rows and of columns."""
    parameters_of = {cell.cell: cell.parameters for cell in design.cells}
    chosen = {place: parameters_of[cell] for place, cell in cells.items()}
    files = design.references
    references, beginnings, baselines = {}, {}, {}
    is_start_new = any(_starts_apart(parameters) for parameters in chosen.values())
    for place, parameters in chosen.items():
        shown = tuple(root / files[part] for part in _parts(parameters))
        references[place] = Tile(shown[0] if len(shown) == 1 else shown) if shown else None
        start = parameters.get("init_image") if is_start_new else None
        beginnings[place] = Tile(root / files[start]) if start else None
        baselines[place] = _baseline_tile(row_of.get(design.baselines.get(cells[place], "")), root)
    if all(
        tile is None or (tile.image and tile.image == root / row_of[cells[place]]["image"])
        for place, tile in baselines.items()
    ):
        # The whole page is the text alone, as the notes under its images say.
        baselines = dict.fromkeys(baselines)
    return [
        *_strips("reference", references, labels),
        *_strips("init image", beginnings, labels),
        *_strips("text alone", baselines, labels),
    ]


def _parts(parameters: Parameters) -> list[str]:
    """Returns the SHA-256 of a cell's reference images."""
    reference = parameters.get("reference")
    return list(reference) if isinstance(reference, list | tuple) else [reference] if reference else []


def _starts_apart(parameters: Parameters) -> bool:
    """Returns whether a cell starts from an image that is not its reference, which is shown anyway."""
    start = parameters.get("init_image")
    return bool(start) and start != parameters.get("reference")


def _baseline_tile(row: Mapping[str, str] | None, root: Path) -> Tile | None:
    if row is None:
        return None
    return Tile(root / row["image"]) if row["status"] == "done" else Tile(None, error=row["error"] or None)


def _strips(
    name: str, tiles: Mapping[tuple[int, int], Tile | None], labels: tuple[Sequence[str], Sequence[str]]
) -> list[Strip]:
    """Returns the tiles once for each row, column or place that they differ by, and not once for each place.

    Where most rows have the same tiles, there is one strip for each kind of row, and so for columns.

    Args:
        name: heading.
        tiles: (row, column) -> tile, or None where there is none.
        labels: labels of the rows, and of the columns.
    """
    if not any(tiles.values()):
        return []
    full = {place: tile or Tile(None, absent=f"no {name}") for place, tile in tiles.items()}
    lines, columns = (range(1 + max(place[side] for place in full)) for side in (0, 1))
    by_row, by_column = defaultdict(list), defaultdict(list)
    for row in lines:
        by_row[tuple(full[row, column] for column in columns)].append(row)
    for column in columns:
        by_column[tuple(full[row, column] for row in lines)].append(column)
    rows_repeat = 2 * len(by_row) <= len(lines)
    columns_repeat = 2 * len(by_column) <= len(columns)
    if len(by_column) == 1 and rows_repeat:
        return _named(name, {kind[:1]: rows for kind, rows in by_row.items()}, labels[0], "none")
    if len(by_row) == 1 and columns_repeat:
        return _named(name, {kind[:1]: places for kind, places in by_column.items()}, labels[1], "none")
    if len(by_column) == 1:
        return [Strip(name, {place: tile for place, tile in full.items() if place[1] == 0}, "y")]
    if len(by_row) == 1:
        return [Strip(name, {place: tile for place, tile in full.items() if place[0] == 0}, "x")]
    if rows_repeat:
        return _named(name, by_row, labels[0], "x")
    if columns_repeat:
        return _named(name, by_column, labels[1], "y")
    return [Strip(name, full, "both")]


def _named(
    name: str,
    kinds: Mapping[tuple[Tile, ...], Sequence[int]],
    labels: Sequence[str],
    along: Literal["none", "x", "y"],
) -> list[Strip]:
    """Returns a strip for each kind of row or column; all but the commonest say of which ones they are."""
    shown = {kind: places for kind, places in kinds.items() if not all(tile.absent for tile in kind)}
    usual = max(kinds, key=lambda kind: len(kinds[kind]))
    strips = []
    for kind, places in shown.items():
        text = name if kind == usual else f"{name}: {_enumerate([labels[place] for place in places])}"
        tiles = {((at, 0) if along == "y" else (0, at)): tile for at, tile in enumerate(kind)}
        strips.append(Strip(text, tiles, along))
    return strips


def _enumerate(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _footer(
    design: Design,
    cells: Sequence[str],
    shown_axes: Collection[str | None],
    fixed: Mapping[str, int],
) -> list[str]:
    shown_of = {cell.cell: cell.shown for cell in design.cells}
    constants = _constants([shown_of[cell] for cell in cells])
    elsewhere = {
        *_UNSHOWN,
        *shown_axes,
        *(axis.name for axis in design.axes if len(axis.values) > 1),
    }
    elsewhere |= _set_by_rows(design, shown_axes) | ({"prompt"} & set(fixed))
    texts = {
        name: value if isinstance(value, str) else format_of(name)([value])[0]
        for name, value in constants.items()
        if name not in elsewhere
    }
    shown = [label(label_of(name), text) for name, text in texts.items() if len(text) <= _LONGEST_CONSTANT]
    return [", ".join(shown), f"experiment {design.experiment}"]


def _set_by_rows(design: Design, shown_axes: Collection[str | None]) -> set[str]:
    """Returns the parameters that stand in the labels of settings."""
    settings = (axis for axis in design.axes if axis.name == SETTING and SETTING in shown_axes)
    return {name for axis in settings for value in axis.values for name in value["parameters"]}


def _constants(shown: Sequence[Parameters]) -> Parameters:
    """Returns the parameters that have one value in all cells of a page, over the cells in which they say something.

    Args:
        shown: parameters of each cell, as they are shown.
    """
    constants = {}
    for name in dict.fromkeys(name for one in shown for name in one):
        telling = [one for one in shown if takes_part(name, one)]
        # What belongs to no choice says something of every cell, even where it is neutral.
        if not telling or (len(telling) < len(shown) and not belongs_to_a_choice(name)):
            continue
        value = telling[0].get(name)
        if value is not None and all(one.get(name) == value for one in telling):
            constants[name] = value
    return constants
