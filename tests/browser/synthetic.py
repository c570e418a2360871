"""A small experiment with images that are drawn, not generated, and hostile texts: what the tests of the viewer look at."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.core.png import encode_png
from graftwork.core.records import to_json
from graftwork.planning.no_ops import NoOp, NoOps
from graftwork.reports.viewer.data import Findings, viewer_data
from graftwork.reports.viewer.folder import image_sources, write_viewer
from graftwork.reports.viewer.thumbnails import ThumbnailStore, make_thumbnails
from tests.unit.design.designs import expand

SCRIPT = "</script><script>window.attacked = 'script'</script><img src=x onerror=\"window.attacked='image'\">"
ATTRIBUTE = "\" onmouseover=\"window.attacked='attribute'\" ' autofocus onfocus='window.attacked=1' x=\""
LINK = "javascript:window.attacked='link' ${window.attacked=1} {{constructor.constructor('window.attacked=1')()}} &lt;b&gt;"
RIGHT_TO_LEFT = "قطة حمراء تحت المطر \u202e evil \u202c عربى, 猫 \U0001f408"
LONG = "supercalifragilistic" * 500
PROMPTS = [
    {"name": "apple", "text": "a red apple on a wooden table"},
    {"name": "<b>script</b>", "text": SCRIPT},
    {"name": "a\"ttribute'", "text": ATTRIBUTE},
    {"name": "link", "text": LINK},
    {"name": "rtl_نص", "text": RIGHT_TO_LEFT},
    {"name": "long", "text": LONG},
]
EXPERIMENT = {
    "title": "Synthetic <i>experiment</i>",
    "question": "Does anything break at </script><script>window.attacked='question'</script>?",
    "base": {
        "prompts": PROMPTS,
        "references": ["house", "tree"],
        "seeds": [1],
        "encoder": "vision",
        "generator": "images",
        "height": 64,
        "width": 64,
    },
    "axes": {"hidden_layer": [-2, -4], "alpha": [0.0, 0.5, 1.0]},
    "grids": [{"x": "alpha", "y": "prompt"}],
}
FAILURE = "out of memory <img src=x onerror=\"window.attacked='error'\"> at step 3"
SCORES = ("follows_prompt_shape", "follows_prompt_colour", "follows_prompt_size", "read_shape")


@dataclass(frozen=True)
class Page:
    """A written viewer.

    Attributes:
        folder: Its folder.
        design: Content of design.json.
        rows: Rows of the table of cells, by cell.
        data: What the page knows.
    """

    folder: Path
    design: dict[str, Any]
    rows: dict[str, dict[str, str]]
    data: dict[str, Any]

    @property
    def url(self) -> str:
        return (self.folder / "index.html").as_uri()


def make_rows(design: dict[str, Any], store: Path, side: int = 32) -> list[dict[str, str]]:
    """Draws an image for each cell and returns the table of cells: one cell has failed, one has not been made."""
    rows, key_of = [], {}
    last = design["cells"][-1]["cell"]
    failed, missing = design["cells"][-2]["cell"], last
    for cell in design["cells"]:
        shown = cell["shown"]
        is_text_alone = shown["alpha"] == 0
        look = [
            shown["prompt"],
            shown["seed"],
            *([] if is_text_alone else [shown["alpha"], shown["reference"], shown["hidden_layer"]]),
        ]
        key = hashlib.sha256(repr(look).encode()).hexdigest()[:32]
        status = {failed: "failed", missing: "missing"}.get(cell["cell"], "done")
        path = store / "images" / key[:2] / f"{key}.png"
        if status == "done" and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(draw(look, side)))
        alpha = shown["alpha"]
        score = "" if status != "done" else str(round(1 - alpha / 2, 3))
        parameters = {name: "" if value is None else str(value) for name, value in shown.items()}
        rows.append(
            {
                "cell": cell["cell"],
                "role": cell["role"],
                "image": path.as_posix() if status == "done" else "",
                "conditioning": key,
                "same_as": key_of.get(key, "") if status == "done" else "",
                "same_up_to_scale": "",
                "status": status,
                "error": FAILURE if status == "failed" else "",
                **parameters,
                "reference_sha256": " ".join(references_of(cell["parameters"]["reference"])),
                "tokens": "20",
                "visible_change": str(alpha * 1.3),
                "warnings": "the prompt was cut <b>here</b>"
                if alpha == 1 and shown["hidden_layer"] == -4
                else "",
                **dict.fromkeys(SCORES[:3], score),
                "read_shape": "circle" if score else "",
            }
        )
        key_of.setdefault(key, cell["cell"])
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def references_of(reference: str | list[str] | None) -> list[str]:
    return [reference] if isinstance(reference, str) else reference or []


def draw(look: list[Any], side: int) -> np.ndarray:
    """Returns an image that looks different for everything that it is made of, uint8 (side, side, 3)."""
    random = np.random.default_rng(int(hashlib.sha256(repr(look[:2]).encode()).hexdigest()[:8], 16))
    first, second = random.integers(40, 220, 3), random.integers(40, 220, 3)
    mix = np.linspace(0, 1, side)[:, None, None]
    image = first * (1 - mix) + second * mix + np.zeros((side, side, 1))
    if len(look) > 2:
        other = np.random.default_rng(int(hashlib.sha256(repr(look[2:]).encode()).hexdigest()[:8], 16))
        size = int(side * (0.2 + 0.5 * look[2]))
        image[:size, :size] = other.integers(0, 255, 3)
    return image.astype(np.uint8)


def no_ops_of(design: dict[str, Any]) -> NoOps:
    """Pretends that hidden_layer -4 at alpha 0.5 equals hidden_layer -2 at alpha 0.5, where the experiment has both."""
    if "hidden_layer" not in {axis["name"] for axis in design["axes"]}:
        return NoOps([], 1, 0, 0, {})
    at = {
        (
            cell["shown"].get("prompt"),
            cell["shown"]["reference"],
            cell["shown"].get("hidden_layer"),
            cell["shown"]["alpha"],
        ): cell["cell"]
        for cell in design["cells"]
    }
    pairs = [
        (name, at[prompt, reference, -2, 0.5])
        for (prompt, reference, layer, alpha), name in at.items()
        if (layer, alpha) == (-4, 0.5)
    ]
    values = {"hidden_layer": ["-2", "-4"], "alpha": ["0", "0.5", "1"]}
    found = NoOp(
        {"hidden_layer": "-4", "alpha": "0.5"}, {"hidden_layer": "-2", "alpha": "0.5"}, "bytes", pairs
    )
    return NoOps([found], 4, 2, 0, values)


def make_page(root: Path, raw: dict[str, Any] | None = None) -> Page:
    """Writes images, thumbnails and the folder of a viewer under `root`."""
    record = expand(root, raw or EXPERIMENT, "synthetic")
    design = to_json(record)
    rows = make_rows(design, root / "store")
    sources = image_sources(record, rows, root)
    store = ThumbnailStore(root / "store" / "thumbnails")
    assert make_thumbnails(sources, store, logging.getLogger("test")) == {}
    thumbnails = {key: store.read(key) for key in sources}
    data = viewer_data(
        record, rows, Findings(no_ops_of(design), thumbnails, dict.fromkeys(SCORES, "a score"))
    )
    folder = root / "viewer"
    write_viewer(folder, data, sources, store)
    return Page(folder, design, {row["cell"]: row for row in rows}, data)
