"""The folder of the viewer: the page, its data, and its images under names of their own.

Images are hard links to the store where the file system allows it and copies where it does not, so that the folder can be
moved, zipped or sent as it is. For each thumbnail there is also a script with its bytes: a page that is opened from a disk
may show an image file but not read it, so a picture of the page can only be made from images that came as data.
"""

import base64
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from graftwork.core.atomic import naming_file, write_atomic
from graftwork.design.cells import Design
from graftwork.reports.viewer.data import ViewerData, reference_key
from graftwork.reports.viewer.thumbnails import ThumbnailStore

PAGE = Path(__file__).parent / "page"


def page_files() -> list[Path]:
    """Returns the files that the page consists of, without its data."""
    return sorted(path for path in PAGE.rglob("*") if path.is_file())


def image_sources(design: Design, rows: Iterable[Mapping[str, str]], root: Path) -> dict[str, Path]:
    """Returns key -> file of all images that the page shows: those of cells and the references.

    Args:
        design: design of the experiment.
        rows: Rows of the table of cells.
        root: folder that paths are relative to.
    """
    images, references = {}, {}
    for row in rows:
        if row["status"] == "done":
            images[Path(row["image"]).stem] = root / row["image"]
        for part in (row.get("reference_sha256") or "").split():
            references[reference_key(part)] = root / design.references[part]
    return {**images, **references}


def write_viewer(
    folder: Path, data: ViewerData, sources: Mapping[str, Path], thumbnails: ThumbnailStore
) -> None:
    """Writes the folder of the viewer. What is left of an older one is removed.

    Args:
        folder: results/{experiment}/viewer.
        data: What `viewer_data` returns.
        sources: Key -> image file, from `image_sources`.
        thumbnails: Where the thumbnails are.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for path in page_files():
        target = folder / path.relative_to(PAGE)
        with naming_file(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for name in ("images", "thumbnails"):
        with naming_file(folder / name):
            (folder / name).mkdir(parents=True, exist_ok=True)
    files = data["images"]["files"]
    for key, source in sources.items():
        link_or_copy(source, folder / "images" / files.get(key, f"{key}.png"))
        small = thumbnails.image(key)
        if small.is_file():
            link_or_copy(small, folder / "thumbnails" / f"{key}.webp")
            write_script(folder / "thumbnails" / f"{key}.js", key, small.read_bytes())
    write_atomic(folder / "data.js", f"window.VIEWER_DATA = {_script_json(data)};\n")


def write_script(target: Path, key: str, webp: bytes) -> None:
    """Writes a script that hands a thumbnail to the page."""
    url = "data:image/webp;base64," + base64.b64encode(webp).decode()
    with naming_file(target):
        target.write_text(f'window.VIEWER_THUMBNAIL("{key}", "{url}");\n', encoding="ascii")


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a hard link to `source`, or a copy where the file system has none."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        with naming_file(target):
            shutil.copyfile(source, target)


def _script_json(value: Any) -> str:
    """Returns JSON that is safe inside any script, be it a file or an element of a page.

    Only ASCII is left, and no "<", so that "</script>" in a prompt ends nothing.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
