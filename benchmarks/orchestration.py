"""What does the workflow cost beside the work itself? 200 cells of the miniature, from nothing.

    python -m benchmarks.orchestration [--prompts 5]

Three ways to the same images, one after the other, each in processes of its own, with one thread:

* the workflow: `snakemake` up to the table of cells, in a copy of the project without results;
* the plain loop that it replaces: one process, models loaded once, nothing kept between cells, one image at a time;
* the ideal loop: the workflow's own shards in one process, without Snakemake, plans, tables and fingerprints of models.

After that, a run of the workflow that finds everything made is held against a workflow without experiments.

The measure is the processor's time of all processes. What they take to import libraries is counted apart: it is the same for 200
cells as for 200,000.
"""

import argparse
import json
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.miniature import PROJECT, copy_project, plain_loop

NAME = "orchestration"
EXPERIMENT = {
    "title": "Many cells",
    "base": {
        "references": ["scene_purple_cross", "scene_black_triangle"],
        "encoder": "miniature-qwen3-vl-instruct",
        "seeds": [1],
    },
    "axes": {"hidden_layer": [-2, -6], "alpha": {"range": [0.1, 1.0], "count": 10}},
}
TABLE = f"results/{NAME}/cells.csv"
CLOCK = PROJECT / "benchmarks/import_clock"
# What import_clock writes, in the folder of a run.
CLOCK_FILE = "imports.jsonl"
SNAKEMAKE = (str(Path(sys.executable).with_name("snakemake")), "--cores", "1")


def children_seconds() -> float:
    """Returns the processor's time of all processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Runs a command; returns its seconds of the processor, and those of them that imports took.

    Raises:
        SystemExit: where it fails, with what it printed.
    """
    clock = folder / CLOCK_FILE
    clock.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{CLOCK}{os.pathsep}{folder}",
        "IMPORT_CLOCK": str(clock),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    before = children_seconds()
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {run.returncode}\n{run.stderr[-2000:]}")
    imports = sum(json.loads(line)["imports"] for line in clock.read_text().splitlines())
    return children_seconds() - before, imports


def make_workspace(folder: Path, prompts: int) -> None:
    """Copies the project, with the experiment and one thread a job; without prompts there is no experiment."""
    folder.mkdir()
    copy_project(folder)
    shutil.copytree(PROJECT / "benchmarks", folder / "benchmarks")
    if prompts:
        base = EXPERIMENT["base"] | {"prompts": [f"a small yellow square number {n}" for n in range(prompts)]}
        experiment = yaml.safe_dump({**EXPERIMENT, "base": base})
        (folder / f"config/experiments/{NAME}.yaml").write_text(experiment)
    threads = {section: {"cpu_threads": 1} for section in ("extraction", "generation")}
    settings = {"experiments": [NAME] if prompts else [], "family": "miniature", "hardware": threads}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))


def ideal_loop(planned: Path) -> None:
    """Does the work of the shards that a finished workflow left, in one process and an empty store.

    Args:
        planned: The workspace of the workflow.

    Raises:
        SystemExit: where any of it fails.
    """
    from graftwork.jobs.conditioning import condition
    from graftwork.jobs.extraction import extract_hidden_states
    from graftwork.jobs.generation import generate_images
    from graftwork.planning.shards import ConditioningShard, ExtractionShard, ImageShard, read_shard
    from graftwork.store.layout import Store

    store, log = Store(Path("results/store")), logging.getLogger(NAME)
    shutil.copytree(planned / "results/store/shards", store.shards)

    def names(stage: str) -> list[str]:
        return sorted(path.stem for path in (planned / "results/plan").glob(f"*/{stage}/*.json"))

    records = [
        *(
            extract_hidden_states(read_shard(ExtractionShard, store.shards, n), store, log)
            for n in names("hidden_states")
        ),
        *(
            condition(read_shard(ConditioningShard, store.shards, n), store, log, {})
            for n in names("conditioning")
        ),
        *(generate_images(read_shard(ImageShard, store.shards, n), store, log) for n in names("images")),
    ]
    if failures := [failure for record in records for failure in record.failures.values()]:
        raise SystemExit(f"the ideal loop failed: {failures[0]}")


def pictures(folder: Path) -> dict[str, bytes]:
    """Returns name -> content of the images in the store of a workspace."""
    return {path.name: path.read_bytes() for path in (folder / "results/store/images").rglob("*.png")}


def main() -> None:
    """Runs all and prints the table; as `ideal` and `plain` it is one of the loops."""
    if sys.argv[1:2] == ["ideal"]:
        return ideal_loop(Path(sys.argv[2]))
    if sys.argv[1:2] == ["plain"]:
        return plain_loop(Path(sys.argv[2]), int(sys.argv[3]), Path("plain.json").resolve(), 1)
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--prompts", type=int, default=5, help="40 cells each (default 5)")
    prompts = parser.parse_args().prompts
    own = [sys.executable, "-m", "benchmarks.orchestration"]
    with tempfile.TemporaryDirectory() as name:
        workflow, ideal, plain, empty = (
            Path(name).resolve() / one for one in ("workflow", "ideal", "plain", "empty")
        )
        for folder in (workflow, ideal, plain):
            make_workspace(folder, prompts)
        make_workspace(empty, 0)
        start = time.perf_counter()
        costs = {"the workflow": measure([*SNAKEMAKE, TABLE], workflow)}
        seconds = time.perf_counter() - start
        design = workflow / "results" / NAME / "design.json"
        cells = len(json.loads(design.read_text())["cells"])
        costs["the plain loop"] = measure([*own, "plain", str(design), str(cells)], plain)
        costs["the ideal loop"] = measure([*own, "ideal", str(workflow)], ideal)
        nothing, _ = measure([*SNAKEMAKE, TABLE], workflow)
        measure([*SNAKEMAKE], empty)
        without, _ = measure([*SNAKEMAKE], empty)
        made, again = pictures(workflow), pictures(ideal)
        if made != again:
            same = sum(made[name] == again.get(name) for name in made)
            raise SystemExit(
                f"of {len(made)} images the ideal loop made {len(again)}, {same} of them the same"
            )
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{cells} cells, {len(made)} different images; the workflow took {seconds:.0f} s on one core\n")
    print("| | CPU seconds | of them imports | after imports | workflow to it |\n|---|---|---|---|---|")
    after = {way: whole - imports for way, (whole, imports) in costs.items()}
    for way, (whole, imports) in costs.items():
        ratio = after["the workflow"] / after[way]
        print(f"| {way} | {whole:.1f} | {imports:.1f} | {after[way]:.1f} | {ratio:.2f} |")
    print(
        f"\nA run that finds everything made: {nothing:.1f} s, {nothing / without:.2f} times a workflow without experiments."
    )
    return None


if __name__ == "__main__":
    main()
