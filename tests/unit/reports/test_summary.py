"""summary.md and no_ops.csv of a small experiment of which it is said what each cell looks like."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graftwork.core.png import encode_png
from graftwork.core.tables import write_table
from graftwork.planning.no_ops import NoOp, NoOps, find_no_ops
from graftwork.planning.plan import PlanEntry
from graftwork.planning.shards import Work
from graftwork.reports.summary import (
    MOST_SETTINGS,
    NO_OP_COLUMNS,
    Difference,
    Report,
    compare_settings,
    identical_images,
    image_differences,
    no_op_rows,
    summarize,
)
from graftwork.scores.registry import Section
from tests.unit.design.designs import expand, experiment
from tests.unit.planning.test_no_ops import own, resolve

MADE = Work(0, 0.0, {"torch": "2.0", "numpy": "2.1"})
CHANGES = {0.0: "0.0", 0.5: "0.123456", 1.0: ""}

GOLDEN = """\
# Stars \\* and \\<tags\\>

Is target_std \\| seen?

> It is not \\<seen\\>.

14 cells, 2 of role baseline, 12 of role cell (2 prompt x 2 target_std x 3 alpha): 13 done, 1 failed, 0 missing; 7 \
different images. One row for each: [cells.csv](cells.csv); with every parameter: [cells_full.csv](cells_full.csv); what \
all have in common: [constants.csv](constants.csv).

## Cells that are not done

* 1 x out of memory at line 3

## Grids

* [alpha](grids/alpha.png): seed = 1

The target `results/test/summary.html` makes all of these.

## Settings that do nothing

test: 3 of 4 settings with alpha above 0 are no-ops (2 settings at alpha 0 are the text alone by definition and not \
counted): alpha 1 = the text alone (the same but for a scale that the generator cannot see); target_std 70 = target_std \
50, at alpha 0.5

* alpha 1 = the text alone: the same but for a scale that the generator cannot see
* target_std 70 = target_std 50, at alpha 0.5: the same bytes

Images of settings that differ by a scale alone: differ by at most 2 of 255 levels, in 0.5 % of the values (4 pairs).

Setting by setting: [no_ops.csv](no_ops.csv).

## Settings

Visible change: |y - t| / |t|, y the conditioning and t the text alone, both after the generator's caption norm; the \
median over prompts, references and seeds. 0 is the text alone, and two that have nothing in common are about 1.41 \
apart. Empty where y has another number of tokens than t.

| target_std | alpha | cells | done | visible change | does nothing: equals |
| ---: | ---: | ---: | ---: | ---: | --- |
| 50 | 0 | 2 | 2 | 0 | (alpha 0) |
| 50 | 0.5 | 2 | 2 | 0.123 |  |
| 50 | 1 | 2 | 2 |  | the text alone |
| 70 | 0 | 2 | 2 | 0 | (alpha 0) |
| 70 | 0.5 | 2 | 2 | 0.123 | target_std 50, alpha 0.5 |
| 70 | 1 | 2 | 1 |  | the text alone |

## Scores

a line of a score

| alpha | share |
| ---: | ---: |
| 0.5 | 80 % |

another score

## More pages of the grids

These are drawn when they are asked for by name.

* `results/test/grids/alpha_002.png`: seed = 2

## Warnings

* 2 x a warning
* 1 x another

## How it was made

* Generation: 8 images in 2 min of the last run's jobs, loading and images for other experiments included
* generator images: `content:images`
* encoder text: `content:text`
* encoder vision: `content:vision`
* Installed when this was written: torch 2.0, numpy 2.1
"""


@pytest.fixture
def design(tmp_path):
    raw = experiment(
        {"target_std": [50.0, 70.0], "alpha": [0.0, 0.5, 1.0]},
        {"normalization": "global"},
        title="Stars * and <tags>",
        question="Is target_std | seen?",
    )
    return expand(tmp_path, raw)


def look(p):
    """At alpha 0.5 both standard deviations give equal bytes, at alpha 1 the text but for a scale."""
    if p["alpha"] == 0.5:
        return (own(p),) * 2
    return f"{own(p)} {p['target_std']}", f"text of {p['prompt']}"


def table(design, resolved):
    return [
        {
            "cell": cell.cell,
            "role": cell.role,
            "image": resolved[cell.cell].image or "",
            "status": "done",
            "error": "",
            "visible_change": CHANGES[cell.parameters["alpha"]],
        }
        for cell in design.cells
    ]


def test_golden(design):
    resolved = resolve(design, look)
    rows = table(design, resolved)
    rows[-1] |= {"status": "failed", "error": "out of memory\nat line 3", "image": ""}
    found = find_no_ops(design, resolved)
    differences = [
        Difference(2, 2, 0.005) if item.kind == "scale" else Difference(2, 0, 0.0) for item in found.found
    ]
    for cell, warning in zip(resolved, ["a warning", "another", "a warning"], strict=False):
        entry = resolved[cell]
        resolved[cell] = replace(entry, report=replace(entry.report, warnings=(warning,)))
    resolved[rows[-1]["cell"]] = PlanEntry("recipe")
    text = summarize(
        Report(
            design,
            resolved,
            rows,
            found,
            differences,
            {"Grids": {"grids/alpha.png": "seed = 1"}, "Plots": {}},
            [
                Section("a line of a score", ("alpha", "share"), [("0.5", "80 %")]),
                Section("another score", finding="It is not <seen>."),
            ],
            replace(MADE, images=8, seconds=123.4),
            {"results/test/grids/alpha_002.png": "seed = 2"},
        )
    )
    assert text.split("\n") == GOLDEN.split("\n")


def test_what_there_is_not_is_not_said(design):
    resolved = resolve(design, lambda p: (f"{own(p)} {p['target_std']}",) * 2)
    found = find_no_ops(design, resolved)
    text = summarize(Report(design, resolved, table(design, resolved), found, [], {}, [], MADE))
    assert "\n\ntest: 0 of 4 settings with alpha above 0 are no-ops (2 settings at alpha 0" in text
    assert "None was found." in text
    for absent in (
        "not done",
        "## Warnings",
        "## Grids",
        "\n> ",
        "More pages",
        "## Scores",
        "* Generation",
        "no_ops.csv",
        "summary.html",
    ):
        assert absent not in text


def test_long_tables_of_settings_are_cut(tmp_path):
    raw = experiment({"alpha": {"range": [0.0, 1.0], "count": MOST_SETTINGS + 3}})
    design = expand(tmp_path, raw)
    resolved = resolve(design, lambda p: (own(p),) * 2)
    rows = [{**row, "visible_change": "0.5"} for row in _rows(design, resolved)]
    text = summarize(Report(design, resolved, rows, find_no_ops(design, resolved), [], {}, [], MADE))
    assert sum(line.startswith("| 0") for line in text.split("\n")) == MOST_SETTINGS
    assert "and 3 settings more, in [cells.csv](cells.csv)." in text


def _rows(design, resolved):
    for cell in design.cells:
        image = resolved[cell.cell].image
        yield {"cell": cell.cell, "role": cell.role, "image": image, "status": "done", "error": ""}


def test_no_ops_csv(design):
    found = find_no_ops(design, resolve(design, look))
    rows = no_op_rows(found, [Difference(2, 0, 0.0), Difference(2, 3, 0.01), Difference(0, 0, 0.0)])
    assert write_table(rows, NO_OP_COLUMNS).split("\n") == [
        "setting,equals,kind,cells,images",
        '"target_std 50, alpha 1",the text alone,the same but for a scale that the generator cannot see,2,identical in 2 '
        "pairs",
        '"target_std 70, alpha 0.5","target_std 50, alpha 0.5",the same bytes,2,"differ by at most 3 of 255 levels, in 1 % '
        'of the values (2 pairs)"',
        '"target_std 70, alpha 1",the text alone,the same but for a scale that the generator cannot see,2,not compared',
        "",
    ]
    assert write_table([], NO_OP_COLUMNS) == "setting,equals,kind,cells,images\n"


def paint(folder: Path, **values: int) -> dict[str, Path]:
    paths = {}
    for name, value in values.items():
        pixels = np.full((4, 5, 3), 100, dtype=np.uint8)
        pixels[1, 2, 0] = value
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(encode_png(pixels))
    return paths


def test_differences_of_pixels(tmp_path):
    paths = paint(tmp_path, a=100, b=97, c=100)
    pairs = [[("a", "b"), ("a", "c")], [("a", "c")], [("a", "missing")], [("a", "a")]]
    found = NoOps([NoOp({}, None, "scale", pair) for pair in pairs], 4, 0, 0, {})
    differences = image_differences(found, paths.get)
    assert differences == [
        Difference(2, 3, 1 / 120),
        Difference(1, 0, 0.0),
        Difference(0, 0, 0.0),
        Difference(1, 0, 0.0),
    ]
    assert [difference.text for difference in differences] == [
        "differ by at most 3 of 255 levels, in 0.83 % of the values (2 pairs)",
        "identical in 1 pair",
        "not compared",
        "identical in 1 pair",
    ]


def test_identical_images_share_what_others_do_not(tmp_path):
    pixels = identical_images(paint(tmp_path, a=100, b=97, c=100, d=98))
    assert pixels["a"] == pixels["c"]
    assert len(set(pixels.values())) == 3


def test_settings_are_compared_by_conditioning_and_by_the_images_there_are(design, tmp_path):
    """At alpha 1, 50 and 70 look different to the generator, and yet their images are the same."""
    resolved = resolve(design, lambda p: (f"{own(p)} {p['target_std']}",) * 2)
    rows = table(design, resolved)
    painted = paint(tmp_path, same=7, one=8, two=9)
    parameters = {cell.cell: cell.parameters for cell in design.cells}
    for row in rows:
        p = parameters[row["cell"]]
        name = "same" if p["alpha"] == 1.0 else "one" if p.get("target_std") == 70.0 and p["alpha"] else "two"
        row["image"] = str(painted[name])
    found, differences = compare_settings(design, resolved, rows)
    assert [(item.values, item.kind) for item in found.found] == [
        ({"target_std": "50", "alpha": "0.5"}, "images"),
        ({"target_std": "70", "alpha": "1"}, "images"),
    ], "and at alpha 0.5, 50 has the picture of the text alone"
    assert [difference.text for difference in differences] == ["identical in 2 pairs"] * 2
