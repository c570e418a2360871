"""How long the viewer of 10,000 cells takes to show its first picture, and its longest frame while it is scrolled.

    python -m benchmarks.viewer [cells]

Thumbnails are 384 px WebP files of 20 to 30 KB, each under a name of its own. A picture counts as shown with the second frame
after the first image of the grid was decoded. Frames are counted while the page scrolls itself by 60 px a frame over the
whole grid, down and to the right, and then jumps to random places. The browser is a headless Chromium without a GPU, which
paints on the processor. The time between frames grows with whatever else the machine does; the time of the processor that the
page's own longest task took hardly does.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from graftwork.planning.no_ops import NoOps
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.reports.viewer.folder import write_viewer
from graftwork.reports.viewer.thumbnails import ThumbnailStore, make_thumbnails

CELLS = 10000
PROMPTS, SEEDS = 50, 10
DISTINCT = 24
LOADS = 5
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FIRST_PICTURE = """() => new Promise((resolve) => {
    const look = () => {
        const image = document.querySelector('.cell img');
        if (!image || !image.complete || !image.naturalWidth) return requestAnimationFrame(look);
        image.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now()))));
    };
    look();
})"""
SCROLL = """(jumps) => new Promise((resolve) => {
    const grid = document.querySelector('.grid');
    const frames = [];
    let last = performance.now();
    let left = 0;
    const step = (now) => {
        frames.push(now - last);
        last = now;
        left += 1;
        if (jumps) {
            grid.scrollTop = Math.random() * grid.scrollHeight;
            grid.scrollLeft = Math.random() * grid.scrollWidth;
        } else {
            grid.scrollTop += 60;
            grid.scrollLeft += 20;
        }
        if (left < (jumps ? 60 : 300)) requestAnimationFrame(step);
        else resolve(frames.slice(2));
    };
    requestAnimationFrame(step);
})"""


def main(cells: int) -> None:
    """Prints a table."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        url = write_page(Path(folder), cells)
        print(f"writing {cells} cells: {time.perf_counter() - start:.1f} s")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("BROWSER_PATH") or shutil.which("chromium"), args=ARGUMENTS
            )
            loads = []
            for _ in range(LOADS):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(url, wait_until="commit")
                loads.append(page.evaluate(FIRST_PICTURE))
                last = page if len(loads) == LOADS else page.close()
            print(f"first picture, median of {LOADS} (longest): {median(loads):.0f} ({max(loads):.0f}) ms")
            print(f"cells in the page: {last.locator('.cell').count()}")
            for name, jumps in (("scrolling", False), ("jumping", True)):
                browser.start_tracing(page=last, categories=["toplevel", "__metadata"])
                frames = last.evaluate(SCROLL, jumps)
                task = longest_task(browser.stop_tracing())
                print(
                    f"{name}, {len(frames)} frames: median {median(frames):.0f} ms, longest {max(frames):.0f} ms; "
                    f"longest task of the page {task:.0f} ms of processor time"
                )
            browser.close()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def longest_task(trace: bytes) -> float:
    """Returns the most time of the processor, in ms, that one task took on the main thread of the page.

    Unlike the time between frames this does not grow with what else the machine does.
    """
    events = json.loads(trace)["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event["tdur"] for event in events if (event["pid"], event["tid"]) in main and "tdur" in event]
    return max(tasks, default=float("nan")) / 1000


def write_page(folder: Path, count: int) -> str:
    """Writes a viewer of `count` cells and returns its address."""
    design, rows = make_experiment(count, folder / "images")
    store = ThumbnailStore(folder / "thumbnails")
    keys = [Path(row["image"]).stem for row in rows]
    originals = make_originals(folder / "originals")
    make_thumbnails(originals, store, logging.getLogger("benchmark"))
    for place, key in enumerate(keys):
        original = list(originals)[place % DISTINCT]
        store.image(key).parent.mkdir(parents=True, exist_ok=True)
        os.link(store.image(original), store.image(key))
        os.link(store.record(original), store.record(key))
    sources = {key: originals[list(originals)[place % DISTINCT]] for place, key in enumerate(keys)}
    records = {key: store.read(key) for key in keys}
    findings = Findings(NoOps([], 0, 0, 0, {}), records, dict.fromkeys(["score_a", "score_b", "score_c"], ""))
    data = viewer_data(design, rows, findings)
    write_viewer(folder / "viewer", data, sources, store)
    print(
        f"data.js: {(folder / 'viewer' / 'data.js').stat().st_size / 1e6:.1f} MB, {len(json.dumps(data['cells'])) / 1e6:.1f} MB of it cells"
    )
    return (folder / "viewer" / "index.html").as_uri()


def make_originals(folder: Path) -> dict[str, Path]:
    """Draws images that are as hard to compress as pictures: smooth shapes and some noise."""
    folder.mkdir()
    paths = {}
    for number in range(DISTINCT):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((512, 512), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        paths[f"{number:032x}"] = folder / f"{number}.png"
        Image.fromarray(pixels).save(paths[f"{number:032x}"])
    return paths


def make_experiment(count: int, images: Path) -> tuple[dict, list[dict[str, str]]]:
    """Returns a design and a table of `count` cells over prompts, seeds and alpha."""
    alphas = count // (PROMPTS * SEEDS)
    prompts = [
        f"prompt number {number} of something that takes a few words to say" for number in range(PROMPTS)
    ]
    axes = [
        {
            "name": "prompt",
            "values": [{"name": f"p{at}", "text": text} for at, text in enumerate(prompts)],
            "labels": [f"p{at}" for at in range(PROMPTS)],
        },
        {"name": "seed", "values": list(range(SEEDS)), "labels": [str(seed) for seed in range(SEEDS)]},
        {
            "name": "alpha",
            "values": [at / alphas for at in range(alphas)],
            "labels": [f"{at / alphas:g}" for at in range(alphas)],
        },
    ]
    cells, rows, positions = [], [], []
    for number in range(PROMPTS * SEEDS * alphas):
        prompt, seed, alpha = number // (SEEDS * alphas), number // alphas % SEEDS, number % alphas
        name = f"{number:016x}"
        shown = {
            "prompt": prompts[prompt],
            "prompt_name": f"p{prompt}",
            "seed": seed,
            "alpha": alpha / alphas,
            "reference": None,
            "blend": "linear",
            "height": 512,
            "width": 512,
        }
        cells.append({"cell": name, "role": "cell", "parameters": shown, "shown": shown})
        positions.append([[prompt, seed, alpha], name])
        state = {
            "cell": name,
            "role": "cell",
            "image": (images / f"{0xABC0000 + number:032x}.png").as_posix(),
            "same_as": "",
            "same_up_to_scale": "",
            "status": "done",
            "error": "",
        }
        scores = {
            f"score_{which}": f"{(number * step % 997) / 997:.4f}"
            for which, step in zip("abc", (3, 5, 7), strict=True)
        }
        parameters = {key: "" if value is None else str(value) for key, value in shown.items()}
        rows.append(
            {**state, **parameters, "visible_change": f"{alpha / alphas:.4f}", "tokens": "20", **scores}
        )
    design = {
        "experiment": "benchmark",
        "title": f"{count} cells",
        "question": "Is it fluent?",
        "notes": [],
        "axes": axes,
        "grids": [{"x": "alpha", "y": "prompt"}],
        "cells": cells,
        "positions": positions,
        "baselines": {},
        "references": {},
    }
    return design, rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CELLS)
