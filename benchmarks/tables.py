"""How do plans, tables and summaries of finished experiments grow with the number of cells?

    python -m benchmarks.tables [--cells 10800 100080]

For each size a store is filled as if every image had been made (no model runs, every image has the same few pixels). Each line
is the processor's time of the functions that the jobs call, in this process; the last column is how many times longer the largest
takes than the smallest, beside how many times more cells it has.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planning import CELLS_OF_A_PROMPT, make_workspace
from graftwork.core.identity import digest
from graftwork.core.png import encode_png
from graftwork.core.tables import read_table, write_table
from graftwork.design.cells import Design
from graftwork.design.project import Project
from graftwork.planning.plan import ImagePlan, MergedDesigns, plan_images
from graftwork.planning.shards import Work
from graftwork.reports.summary import Report, compare_settings, summarize
from graftwork.reports.table import cell_rows, people_rows
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.store.layout import Store
from graftwork.store.recipes import add_recipes
from graftwork.store.records import ConditioningReport

PNG = encode_png(np.zeros((2, 2, 3), dtype=np.uint8))


def fill(store: Store, design: Design, project: Project) -> None:
    """Writes to the store that every conditioning was built, each with bytes of its own, and every image made."""
    merged = MergedDesigns.of([design])
    keys = merged.keys(project.settings.hardware)
    rows, images = {}, set()
    for cell in merged.cells.values():
        recipe = keys.recipe(cell).key
        made = digest(["bytes of", recipe])
        rows[recipe] = ConditioningReport(made, tokens=20, source_tokens=20)
        images.add(keys.image(cell, made).key)
    add_recipes(store.recipes, rows)
    for image in images:
        path = store.image(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def measure(prompts: int) -> tuple[int, dict[str, float]]:
    """Returns the number of cells, and stage -> seconds of the processor."""
    seconds: dict[str, float] = {}

    def timed(stage: str, function: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = function()
        seconds[stage] = time.process_time() - start
        return result

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_workspace(folder, prompts)
        os.chdir(folder)
        try:
            project = Project({"experiments": ["many"], "family": "miniature"}, folder)
            design = timed("expansion of the experiment", lambda: project.design("many"))
            store = Store(Path("results/store"))
            fill(store, design, project)
            settings = project.settings

            def plan() -> ImagePlan:
                return plan_images([design], settings.hardware, settings.sharding, store, {}, False)

            resolved = timed("plan of images, all there", plan).cells
            rows = timed("rows of all columns", lambda: cell_rows(design, resolved, {}, store))
            table = Path("cells_full.csv")
            timed("table of all columns, written and read", lambda: table.write_text(write_table(rows)))
            start = time.process_time()
            read = read_table(table)
            seconds["table of all columns, written and read"] += time.process_time() - start
            timed("table for people", lambda: write_table(people_rows(design, rows, [])))
            found, differences = timed("no-ops, by pixels", lambda: compare_settings(design, resolved, read))
            report = Report(design, resolved, read, found, differences, {}, [], Work(0, 0.0, {}))
            timed("summary", lambda: summarize(report))
            timed("data of the viewer", lambda: viewer_data(design, read, Findings(found, {}, {}, {})))
        finally:
            os.chdir(before)
    return prompts * CELLS_OF_A_PROMPT, seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[10_800, 100_080])
    sizes = [measure(-(-cells // CELLS_OF_A_PROMPT)) for cells in parser.parse_args().cells]
    (fewest, small), (most, large) = sizes[0], sizes[-1]
    print(f"| | {' | '.join(f'{cells} cells' for cells, _ in sizes)} | {most / fewest:.1f} times the cells |")
    print("|" + "---|" * (len(sizes) + 2))
    for stage in small:
        values = " | ".join(f"{seconds[stage]:.2f} s" for _, seconds in sizes)
        print(f"| {stage} | {values} | {large[stage] / small[stage]:.1f} |")


if __name__ == "__main__":
    main()
