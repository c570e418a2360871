"""The demo's sweep against a plain loop over its cells, in one run: python benchmarks/miniature.py

The plain loop is what the workflow replaces: one process, models loaded once, and for each cell both encoders, the
transforms and the pipeline, one image at a time. It runs over a sample of the cells, evenly spaced. The workflow runs
as users run it, `snakemake` in a copy of the project without results, planning, tables, grids and plots included.
Prints images per second and the largest memory of any process for both, and the ratio.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "rules", "graftwork", "lab", "workflow_scripts", "profiles", "config", "resources")


def copy_project(folder: Path) -> None:
    """Copies what a run needs; weights are linked."""
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "family"))
        else:
            shutil.copy2(source, folder / name)
    (folder / "resources/miniature/family").symlink_to(PROJECT / "resources/miniature/family")


def run_child(arguments: list[str], folder: Path) -> dict[str, float]:
    """Runs a command and returns its seconds and the largest resident memory of any of its processes, in MB."""
    program = (
        "import json, resource, subprocess, sys, time\n"
        "begin = time.perf_counter()\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000\n"
        "print(json.dumps({'code': code, 'seconds': time.perf_counter() - begin, 'memory': memory}))\n"
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(run.stdout)
    if result["code"]:
        raise SystemExit(f"{' '.join(arguments)} failed with {result['code']}; see what it printed above")
    return result


def plain_loop(design: Path, sample: int, target: Path, threads: int = 2) -> None:
    """Makes images of a design the plain way and writes how long it took."""
    import torch
    from diffusers import ZImagePipeline

    from graftwork.models.hardware import configure_torch
    from graftwork.models.images import open_reference
    from graftwork.models.loading import load_encoder
    from graftwork.transforms.registry import transform

    configure_torch({"device": "cpu", "dtype": "float32", "cpu_threads": threads})
    plan = json.loads(design.read_text(encoding="utf-8"))
    cells = plan["cells"]
    cells = cells[:: max(1, len(cells) // sample)]
    entries = {model["name"]: model["entry"] for model in plan["models"].values()}
    hardware = {"device": "cpu", "dtype": "float32"}
    shown = cells[-1]["shown"]
    generator = entries[shown["generator"]]
    begin = time.perf_counter()
    text_encoder = load_encoder("text", entries[generator["text_encoder"]], None, hardware)
    source_encoder = load_encoder("source", entries[shown["encoder"]], None, hardware)
    pipeline = ZImagePipeline.from_pretrained(
        PROJECT / generator["path"], text_encoder=None, tokenizer=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    layers = len(text_encoder.model.layers) + 1
    for number, cell in enumerate(cells):
        values = cell["parameters"]
        layer = values["text_hidden_layer"] % layers
        text = text_encoder.encode(values["prompt"], None, None, [layer]).hidden_states[layer]
        if cell["role"] == "cell":
            image = open_reference(plan["references"][values["reference"]])
            layer = values["hidden_layer"] % layers
            source = source_encoder.encode(values["prompt"], image, None, [layer])
            mode = transform("token_mode", values["token_mode"])
            mask = mode.function(source.roles, mode.parameters())
            states = source.hidden_states[layer][torch.from_numpy(mask)]
            matching = transform("length_matching", values["length_matching"])
            matched = matching.function(states, len(text), matching.parameters())
            text = values["alpha"] * matched + (1 - values["alpha"]) * text
        made = pipeline(
            prompt_embeds=[text],
            height=values["height"],
            width=values["width"],
            num_inference_steps=values["num_inference_steps"],
            guidance_scale=0.0,
            generator=torch.Generator("cpu").manual_seed(values["seed"]),
        )
        made.images[0].save(target.with_name(f"plain-{number}.png"))
    ended = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    target.write_text(
        json.dumps({"images": len(cells), "load": loaded - begin, "loop": ended - loaded, "memory": memory})
    )


def main() -> None:
    """Runs both and prints the comparison."""
    parser = argparse.ArgumentParser(
        description="Compare the workflow with a plain loop on the demo's sweep."
    )
    parser.add_argument("--experiment", default="demo")
    parser.add_argument("--sample", type=int, default=100, help="cells for the plain loop (default 100)")
    parser.add_argument("--plain", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain_loop(options.plain[0], options.sample, options.plain[1])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        workflow = run_child([snakemake, "--cores", "2", "--quiet", "all"], folder)
        results = folder / "results" / options.experiment
        cells = len(json.loads((results / "design.json").read_text())["cells"])
        images = len(list((folder / "results/store/images").rglob("*.png")))
        rates = [json.loads(p.read_text()) for p in (folder / "results/store").rglob("rates/*.json")]
        sampling = sum(rate["seconds"] for rate in rates)
        run_child(
            [
                *(sys.executable, str(Path(__file__).resolve()), "--sample", str(options.sample)),
                *("--plain", str(results / "design.json"), str(folder / "plain.json")),
            ],
            folder,
        )
        plain = json.loads((folder / "plain.json").read_text())
    rate = plain["images"] / plain["loop"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':34}{'seconds':>9}{'images':>8}{'images/s':>10}{'peak MB':>9}")
    print(
        f"{'plain loop, a sample of the cells':34}{plain['loop']:9.1f}{plain['images']:8}{rate:10.2f}{plain['memory']:9.0f}"
    )
    print(
        f"{'workflow, everything':34}{workflow['seconds']:9.1f}{cells:8}{cells / workflow['seconds']:10.2f}"
        f"{workflow['memory']:9.0f}"
    )
    print(f"{'workflow, sampling alone':34}{sampling:9.1f}{images:8}{images / sampling:10.2f}")
    whole = plain["load"] + cells / rate
    print(f"{cells} cells have {images} different images.")
    print(
        f"The plain loop would take {whole:.1f} s for all cells: {whole / workflow['seconds']:.2f} times as long."
    )


if __name__ == "__main__":
    main()
