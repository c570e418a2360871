"""Contents of a workspace, read from outside: what is whole, what is damaged, and what two workspaces have in common."""

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
from PIL import Image
from safetensors.numpy import load_file

from tests.workflow.harness import Workspace


@dataclass
class Findings:
    """What is in a workspace.

    Attributes:
        finished: Everything that must not be lost once it is there: name -> digest of its bytes.
        damage: Files under a final name that are not whole, and why.
        temporary: Files under a temporary name.
    """

    finished: dict[str, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    temporary: list[Path] = field(default_factory=list)

    def count(self) -> int:
        """How much the store holds: layers, recipes and images."""
        return len(self.finished)


# Snakemake leaves it in a folder that is an output.
SNAKEMAKE_MARK = ".snakemake_timestamp"


def _is_skipped(folder: Path, results: Path) -> bool:
    """Models are no results; the viewer is a folder that is one output, which Snakemake makes anew when it is incomplete."""
    return folder == results / "models" or (folder.name == "viewer" and folder.parent.parent == results)


def inspect(workspace: Workspace) -> Findings:
    """Reads every file in results/ in full, whatever the code under test thinks of it."""
    found = Findings()
    results = workspace.folder / "results"
    readers: dict[str, Callable[[Path], dict[str, bytes]]] = {
        ".png": _read_image,
        ".webp": _read_thumbnail,
        ".h5": _read_hidden_states,
        ".json": _read_json,
        ".jsonl": _read_rows,
        ".safetensors": _read_conditioning,
        ".csv": _read_table,
        ".txt": _read_text,
        ".md": _read_summary,
        ".html": _read_page,
        ".sha256": _read_text,
    }
    for folder, folders, names in os.walk(results):
        folders[:] = [name for name in folders if not _is_skipped(Path(folder, name), results)]
        for path in (Path(folder, name) for name in names):
            if ".tmp-" in path.name:
                found.temporary.append(path)
            elif path.suffix in readers:
                try:
                    content = readers[path.suffix](path)
                except Exception as error:  # whatever a reader says of a file that is not whole
                    found.damage.append(f"{path.relative_to(results)}: {type(error).__name__}: {error}")
                else:
                    if path.is_relative_to(results / "store"):
                        found.finished |= {k: hashlib.sha256(v).hexdigest() for k, v in content.items()}
            elif path.suffix != ".lock" and path.name not in (".lock", SNAKEMAKE_MARK):
                found.damage.append(f"{path.relative_to(results)}: a file of no known kind")
    return found


def _read_image(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    if not data.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("the end is missing")
    return {f"image {path.stem}": data}


def _read_thumbnail(path: Path) -> dict[str, bytes]:
    with Image.open(path) as image:
        image.load()
    return {}


def _read_hidden_states(path: Path) -> dict[str, bytes]:
    with h5py.File(path, "r") as file:
        sequence = b"".join(
            file[name][()].tobytes() for name in ("token_ids", "roles", "positions", "in_prompt")
        )
        layers = {
            f"layer {path.stem}/{index}": sequence
            + bytes(str(data.attrs["dtype"]), "utf-8")
            + data[()].tobytes()
            for index, data in file["hidden_states"].items()
        }
    if not layers:
        raise ValueError("no layers")
    return layers


def _read_json(path: Path) -> dict[str, bytes]:
    json.loads(path.read_text(encoding="utf-8"))
    return {}


def _read_rows(path: Path) -> dict[str, bytes]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if path.parent.name == "values":
        return {f"values {row['key']}": json.dumps(row["values"]).encode() for row in map(json.loads, lines)}
    if hashlib.sha256(path.read_bytes()).hexdigest()[:16] != path.stem.partition("-")[2]:
        raise ValueError("the content does not match the name")
    return {f"recipe {json.loads(line)['recipe']}": _without_time(line).encode() for line in lines}


def _without_time(line: str) -> str:
    """Returns a row of a recipe without when it was written."""
    row = json.loads(line)
    del row["written"]
    return json.dumps(row, sort_keys=True)


def _read_conditioning(path: Path) -> dict[str, bytes]:
    # Not among what must not be lost: it goes when its images exist.
    load_file(path)
    return {}


def _read_table(path: Path) -> dict[str, bytes]:
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    # Where every setting does something, the table of those that do not has its heading alone.
    fewest = 1 if path.name == "no_ops.csv" else 2
    if len(rows) < fewest or len({len(row) for row in rows}) != 1 or not path.read_bytes().endswith(b"\n"):
        raise ValueError("cut off")
    return {}


def _read_summary(path: Path) -> dict[str, bytes]:
    # Its last line: what is cut off lacks it.
    if "* Installed when this was written: " not in path.read_text(encoding="utf-8").split("\n")[-2]:
        raise ValueError("cut off")
    return {}


def _read_page(path: Path) -> dict[str, bytes]:
    if not path.read_text(encoding="utf-8").endswith("</html>\n"):
        raise ValueError("cut off")
    return {}


def _read_text(path: Path) -> dict[str, bytes]:
    if path.parent.name == "images":
        # Digests are appended: what was being written last may be cut off, or not have been begun.
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            key, digest = line.split(" ")
            bytes.fromhex(key + digest)
    elif not path.read_bytes().endswith(b"\n"):
        raise ValueError("cut off")
    return {}


def losses(before: Findings, after: Findings) -> list[str]:
    """Returns damaged files, and what was finished and is missing or another one now."""
    problems = [*after.damage]
    for name, content in before.finished.items():
        if name not in after.finished:
            problems.append(f"lost: {name}")
        elif after.finished[name] != content:
            problems.append(f"changed: {name}")
    return problems


def unlock(workspace: Workspace) -> None:
    """Removes the lock that a killed Snakemake leaves: what `--unlock` does, without its two seconds."""
    shutil.rmtree(workspace.folder / ".snakemake" / "locks", ignore_errors=True)


def wait_for_the_end(workspace: Workspace, seconds: float = 5.0) -> None:
    """Waits until no process works in the workspace: one that outlived the kill would write into the next run."""
    until = time.monotonic() + seconds
    while True:
        alive = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == workspace.folder:
                    alive.append(process.name)
            except OSError:  # gone, a zombie, or not ours
                continue
        if not alive:
            return
        if time.monotonic() > until:
            raise AssertionError(f"processes {alive} outlived the kill")
        time.sleep(0.05)


def outcome(workspace: Workspace) -> dict[str, bytes]:
    """What two workspaces must have in common to the byte: file -> content.

    Left out are records of what ran when: plans, manifests with their seconds, frozen shards, facts with their times, and
    the line of the summary that says how long the last run took.
    Recipes are compared as a table, for its rows are in other files when other jobs wrote them.
    """
    results = workspace.folder / "results"
    files = [
        *results.glob("store/images/**/*"),
        *results.glob("store/hidden_states/**/*.h5"),
        *results.glob("store/conditioning/**/*"),
        *results.glob("small/**/*"),
        *results.glob("plan/all/verdict.txt"),
    ]
    content = {str(path.relative_to(results)): path.read_bytes() for path in files if path.is_file()}
    for name, begins in (
        ("small/summary.md", b"* Generation: "),
        ("small/summary.html", b"<li>Generation: "),
    ):
        if name in content:
            lines = [line for line in content[name].split(b"\n") if not line.startswith(begins)]
            content[name] = b"\n".join(lines)
    lines = [line for path in results.glob("store/recipes/*.jsonl") for line in path.read_text().split("\n")]
    rows = [_without_time(line) for line in lines if line]
    return content | {"recipes": "\n".join(sorted(set(rows))).encode()}
