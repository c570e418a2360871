"""How long the viewer of 10,000 cells takes to show its first picture, and its longest frame while it is scrolled.

    python -m benchmarks.viewer [cells] [folder of another page]

With another page (graftwork/reports/viewer/page of another checkout) both are measured in turn, three times: what else the machine
does meets both.

Thumbnails are 384 px WebP files of 20 to 30 KB, each under a name of its own. A picture counts as shown with the second frame
after the first image of the grid was decoded. Frames are counted while the page scrolls itself by 60 px a frame over the
whole grid, down and to the right, and then jumps to random places. A frame may come before its pictures: "filled" is the time from a
jump until all pictures on the screen are shown. The browser is a headless Chromium without a GPU, which
paints on the processor. Times on the clock grow with whatever else the machine does; the time of the processor hardly does. That of the
page is of its main thread, that of the browser of all threads of all its processes: decoding, painting and reading files too.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from graftwork.core.records import from_json
from graftwork.design.cells import Design
from graftwork.planning.no_ops import NoOps
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.reports.viewer.folder import write_viewer
from graftwork.reports.viewer.thumbnails import ThumbnailStore, make_thumbnails

CELLS = 10000
PROMPTS, SEEDS = 50, 10
DISTINCT = 24
LOADS = 5
JUMPS = 12
# Of two pages, in turn.
ROUNDS = 3
# Tasks are traced on every thread; what they call is not.
CATEGORIES = ["toplevel", "__metadata"]
TASKS = frozenset({"ThreadControllerImpl::RunTask", "ThreadPool_RunTask"})
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

FILLED = """(jumps) => new Promise((resolve) => {
    const grid = document.querySelector('.grid');
    const times = [];
    const isSeen = (node) => {
        const [box, around] = [node.getBoundingClientRect(), grid.getBoundingClientRect()];
        return box.bottom > around.top && box.top < around.bottom && box.right > around.left && box.left < around.right;
    };
    const jump = () => {
        const start = performance.now();
        grid.scrollTop = Math.random() * grid.scrollHeight;
        grid.scrollLeft = Math.random() * grid.scrollWidth;
        const look = () => {
            const pictures = [...document.querySelectorAll('.cell')].filter(isSeen).map((cell) => cell.querySelector('img'));
            const isShown = (picture) => picture && picture.complete && picture.naturalWidth && !picture.classList.contains('waiting');
            if (!pictures.length || !pictures.every(isShown)) return requestAnimationFrame(look);
            Promise.all(pictures.map((picture) => picture.decode())).then(() => requestAnimationFrame(() => requestAnimationFrame(() => {
                times.push(performance.now() - start);
                if (times.length < jumps) setTimeout(jump, 300);
                else resolve(times);
            })));
        };
        requestAnimationFrame(() => requestAnimationFrame(look));
    };
    jump();
})"""

TO_THE_START = """() => {
    const grid = document.querySelector('.grid');
    grid.scrollTop = grid.scrollLeft = 0;
}"""


def main(cells: int, other: str | None = None) -> None:
    """Prints a table."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pages = {"": write_page(Path(folder), cells)}
        print(f"writing {cells} cells: {time.perf_counter() - start:.1f} s")
        if other is not None:
            pages = {"this page: ": pages[""], "other page: ": other_page(Path(folder), Path(other))}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("BROWSER_PATH") or shutil.which("chromium"), args=ARGUMENTS
            )
            for _ in range(1 if other is None else ROUNDS):
                for name, url in pages.items():
                    measure(browser, name, url)
            browser.close()


def other_page(folder: Path, page: Path) -> str:
    """Returns the address of another page with the same data and pictures."""
    shutil.copytree(page, folder / "other")
    for name in ("data.js", "images", "thumbnails"):
        (folder / "other" / name).symlink_to(folder / "viewer" / name)
    return (folder / "other" / "index.html").as_uri()


def measure(browser: Any, name: str, url: str) -> None:
    """Prints what was measured of a page, with its name before each line."""
    loads, spent = [], []
    for _ in range(LOADS):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        browser.start_tracing(page=page, categories=CATEGORIES)
        page.goto(url, wait_until="commit")
        loads.append(page.evaluate(FIRST_PICTURE))
        spent.append(processor_times(browser.stop_tracing()))
        last = page if len(loads) == LOADS else page.close()
    print(
        f"{name}first picture, median of {LOADS} (longest): {median(loads):.0f} ({max(loads):.0f}) ms on the clock; processor: "
        f"page {median(one.page for one in spent):.0f} ms, browser {median(one.browser for one in spent):.0f} ms"
    )
    print(f"{name}cells in the page: {last.locator('.cell').count()}")
    for way, jumps in (("scrolling", False), ("jumping", True)):
        # The clock first, from the first cell on: tracing costs time of its own.
        frames = last.evaluate(SCROLL, jumps)
        last.evaluate(TO_THE_START)
        browser.start_tracing(page=last, categories=CATEGORIES)
        last.evaluate(SCROLL, jumps)
        times = processor_times(browser.stop_tracing())
        last.evaluate(TO_THE_START)
        print(
            f"{name}{way}, {len(frames)} frames: median {median(frames):.0f} ms, longest {max(frames):.0f} ms on the clock, "
            f"{sum(frame > 100 for frame in frames)} over 100 ms; processor: longest task of the page {times.longest:.0f} ms, for each "
            f"frame page {times.page / len(frames):.0f} ms, browser {times.browser / len(frames):.0f} ms"
        )
    filled = last.evaluate(FILLED, JUMPS)
    print(
        f"{name}filled, median of {JUMPS} jumps (longest): {median(filled):.0f} ({max(filled):.0f}) ms on the clock"
    )
    print(f"{name}load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    last.close()


@dataclass(frozen=True)
class ProcessorTimes:
    """Times of the processor in ms.

    Attributes:
        longest: longest task on the main thread of the page.
        page: all tasks on the main thread of the page.
        browser: all tasks on all threads.
    """

    longest: float
    page: float
    browser: float


def processor_times(trace: bytes) -> ProcessorTimes:
    """Returns the times of the processor of what was traced."""
    events = json.loads(trace)["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if event["name"] in TASKS and "tdur" in event]
    own = [event["tdur"] for event in tasks if (event["pid"], event["tid"]) in main]
    total = sum(event["tdur"] for event in tasks)
    return ProcessorTimes(max(own, default=float("nan")) / 1000, sum(own) / 1000, total / 1000)


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


def make_experiment(count: int, images: Path) -> tuple[Design, list[dict[str, str]]]:
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
        "models": {},
        "references": {},
        "corpora": {},
        "statistics_files": {},
    }
    return from_json(Design, design), rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CELLS, *sys.argv[2:3])
