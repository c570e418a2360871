"""Adding a score touches one module and its test: tables, plot, summary, schema and documentation follow from it.

The module is put into a copy of the library, where nothing else is changed.
"""

import json
import shutil
import subprocess
import sys

import pytest

from graftwork.core.code_digest import REPOSITORY

BRIGHTNESS = '''\
"""The score `brightness`: how bright an image is."""

import numpy as np

from graftwork.scores.registry import Column, Score, register


def measure_brightness(pixels: np.ndarray) -> dict[str, float]:
    """Returns the mean of all values."""
    return {"brightness": round(float(pixels.mean()), 4)}


register(
    Score(
        name="brightness",
        meaning="Mean of all pixel values.",
        columns=(Column("brightness", "mean brightness", unit="grey levels", bounds=(0, 255)),),
        measure_image=measure_brightness,
    )
)
'''
PROGRAM = """
import csv, io, json, tempfile
from pathlib import Path
import numpy as np
from graftwork.core.png import encode_png
from graftwork.core.tables import read_table, write_table
from graftwork.design.describe import SCHEMAS, generated_tables, schema_text
from graftwork.planning.no_ops import find_no_ops
from graftwork.reports.charts import chart_png
from graftwork.reports.summary import Report, summarize
from graftwork.reports.table import cell_rows, people_rows
from graftwork.scores.outputs import all_summaries, describe_scores, plots_of, summaries_of
from graftwork.scores.registry import scores
from graftwork.scores.table import add_scores, score_rows, shown_columns
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation

said = {"scores": list(scores())}
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    raw = experiment({"alpha": [0.0, 0.5, 1.0]}, scores=["brightness"])
    situation = Situation(root, raw)
    situation.condition()
    paths = sorted({situation.store.image(situation.image(cell)) for cell in situation.cells.values()})
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((4, 5, 3), 10 * number, dtype=np.uint8)))
    broken = paths[-1]
    broken.write_bytes(broken.read_bytes()[:-20] + broken.read_bytes()[-12:])
    design, plan = situation.designs[0], situation.plan_images()
    full = cell_rows(design, plan.cells, {}, situation.store)
    images = {row["cell"]: row["image"] for row in full}
    scored = score_rows(design.cells, images, design.references, ["brightness"], Path())
    said["scored"] = [(row["unscored"], row["brightness"]) for row in scored]
    said["expected"] = [10.0 * paths.index(Path(row["image"])) for row in scored]
    said["broken"] = 10.0 * (len(paths) - 1)
    def through_a_file(rows):
        (root / "table.csv").write_text(write_table(rows))
        return read_table(root / "table.csv")
    text = through_a_file(scored)
    people = people_rows(design, add_scores(full, text), shown_columns(text))
    said["people"] = [row["brightness"] for row in people]
    tables = {s.table: through_a_file(s.summarize(design, text)) for s in summaries_of(["brightness"])}
    plots = plots_of(["brightness"], design.axes)
    said["plots"] = {name: plot.table for name, plot in plots.items()}
    chart = all_summaries()["score_means"].chart("brightness", "A title", tables["score_means"])
    said["units"] = [panel.y.label for panel in chart.panels]
    said["png"] = chart_png(chart)[:4].hex()
    sections = describe_scores(["brightness"], tables)
    found = find_no_ops(design, plan.cells)
    made = {"images": 0, "seconds": 0.0, "packages": {}}
    pictures = {"Plots": {f"plots/{name}.png": "" for name in plots}}
    rows = through_a_file(people)
    differences = []
    found.found.clear()
    said["summary"] = summarize(Report(design, plan.cells, rows, found, differences, pictures, sections, made))
said["table"] = generated_tables()["scores"]
said["schema"] = schema_text(SCHEMAS["experiment"])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a copy of the library with the module says."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("graftwork", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in ("workflow_scripts", "resources"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "graftwork" / "scores" / "brightness.py").write_text(BRIGHTNESS)
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_it_is_short_and_it_is_found(said):
    assert len(BRIGHTNESS.splitlines()) <= 30
    assert "brightness" in said["scores"]


def test_it_is_in_the_tables(said):
    expected = [None if value == said["broken"] else value for value in said["expected"]]
    assert len(set(expected)) > 3
    assert [value for _, value in said["scored"]] == expected
    assert said["people"] == ["" if value is None else str(value) for value in expected]


def test_an_image_that_cannot_be_read_is_unscored_with_the_reason(said):
    reasons = {reason for reason, value in said["scored"] if value is None}
    assert len(reasons) == 1
    assert "cannot be read" in reasons.pop()


def test_it_is_in_a_plot_with_its_unit(said):
    assert said["plots"] == {"brightness": "score_means"}
    assert set(said["units"]) == {"mean brightness (grey levels)"}
    assert said["png"] == b"\x89PNG".hex()


def test_it_is_in_the_summary(said):
    assert "* [brightness](plots/brightness.png)" in said["summary"]
    assert "| mean brightness | grey levels |  | all |" in said["summary"]


def test_it_is_in_the_schema_and_the_documentation(said):
    assert '"brightness"' in said["schema"]
    assert "Mean of all pixel values." in said["table"]
