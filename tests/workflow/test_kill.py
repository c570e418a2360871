"""`kill -9` of the whole process tree: nothing finished is lost, and what comes of it equals an uninterrupted run.

One workspace is killed 20 times, at named points (see probe/sitecustomize.py) whose numbers and order come from a
seed, and each run resumes the one before. The same checks then have to report damage where the code is changed to
write files directly instead of moving them into place.
"""

import csv
import hashlib
import io
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.workflow.harness import Run, Workspace

pytestmark = pytest.mark.slow

SEED = 20
KILLS = 20
ATOMIC = "graftwork/core/atomic.py"


def kill_sequence(seed: int) -> tuple[list[str], list[str]]:
    """Returns points before and after the experiment gets one more layer.

    Points of one stage come in an order drawn from the seed. Each takes at most a few items of its stage (numbers are
    counted in a process, and a resumed process starts with what is missing), so that all points are reached.
    """
    draw = random.Random(seed)

    def shuffled(*points: str) -> list[str]:
        return draw.sample(points, len(points))

    small = [
        "before-replace-design:1",
        # The first file has four datasets (three of them the sequence), so this is inside the second file or third.
        f"hdf5-dataset:{draw.randint(5, 12)}",
        "before-replace-recipes:1",
    ]
    # Every file of hidden states exists now, and those of the vision-language encoder get a second layer.
    grown = [
        *shuffled("plan-shard:1", "after-replace-conditioning-plan:1"),
        *shuffled(
            f"hdf5-dataset:{draw.randint(1, 5)}",
            f"before-replace-hidden_states:{draw.randint(1, 2)}",
            "after-replace-hidden_states:1",
            f"forward-Qwen3VLModel:{draw.randint(1, 2)}",
        ),
        *shuffled("before-replace-conditioning:1", "after-replace-conditioning:1"),
        "mid-write-recipes:1",
        "before-replace-images-plan:1",
        *shuffled(
            f"before-replace-images:{draw.randint(2, 4)}",
            f"after-replace-images:{draw.randint(1, 3)}",
            f"mid-write-images:{draw.randint(1, 3)}",
            # Two steps a batch: an even number is in the middle of one.
            f"forward-ZImageTransformer2DModel:{draw.randint(1, 3) * 2}",
        ),
        "after-replace-images-manifest:1",
        "before-replace-table:1",
        "before-replace-grid:1",
    ]
    return small, grown


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
        ".jsonl": _read_recipes,
        ".safetensors": _read_conditioning,
        ".csv": _read_table,
        ".txt": _read_text,
        ".md": _read_summary,
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
            elif path.suffix != ".lock" and path.name != ".lock":
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


def _read_recipes(path: Path) -> dict[str, bytes]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
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


def _read_text(path: Path) -> dict[str, bytes]:
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError("cut off")
    return {}


def killed_run(workspace: Workspace, point: str, before: Findings) -> tuple[Run, Findings, list[str]]:
    """Unlocks, runs until the point, and checks what is there then.

    Returns:
        The run, what is in the workspace after it, and what is wrong with that.
    """
    unlock(workspace)
    run = workspace.run(kill=point)
    wait_for_the_end(workspace)
    after = inspect(workspace)
    problems = [*after.damage]
    for name, content in before.finished.items():
        if name not in after.finished:
            problems.append(f"lost: {name}")
        elif after.finished[name] != content:
            problems.append(f"changed: {name}")
    return run, after, problems


def was_killed(run: Run, point: str) -> bool:
    """Whether the run ended at the point, and by nothing else."""
    event = point.partition(":")[0]
    return run.returncode == -9 and run.events[f"kill {event}"] == 1


def unlock(workspace: Workspace) -> None:
    """Removes the lock that a killed Snakemake leaves: what `--unlock` does, without its two seconds."""
    shutil.rmtree(workspace.folder / ".snakemake" / "locks", ignore_errors=True)


def wait_for_the_end(workspace: Workspace) -> None:
    """Waits until no process works in the workspace: one that outlived the kill would write into the next run."""
    for _ in range(100):
        alive = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == workspace.folder:
                    alive.append(process.name)
            except OSError:  # gone, a zombie, or not ours
                continue
        if not alive:
            return
        time.sleep(0.05)
    raise AssertionError(f"processes {alive} outlived the kill")


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
    summary = content["small/summary.md"].split(b"\n")
    content["small/summary.md"] = b"\n".join(
        line for line in summary if not line.startswith(b"* Generation: ")
    )
    lines = [line for path in results.glob("store/recipes/*.jsonl") for line in path.read_text().split("\n")]
    rows = [_without_time(line) for line in lines if line]
    return content | {"recipes": "\n".join(sorted(set(rows))).encode()}


def grow(workspace: Workspace) -> None:
    """Gives the experiment one more layer."""
    workspace.experiment["axes"]["hidden_layer"] = [-2, -3]
    workspace.save()


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory, small_models: Path) -> tuple[Workspace, Workspace]:
    """Two workspaces with the same code: one that was built without interruption, and an empty one."""
    folder = tmp_path_factory.mktemp("kill").resolve()
    made = Workspace(folder / "uninterrupted", small_models), Workspace(folder / "killed", small_models)
    for workspace in made:
        workspace.experiment["base"]["prompts"] += ["a cat on a table", "two green chairs"]
        workspace.experiment["base"]["seeds"] = [1, 2]
        workspace.experiment["axes"] = {"alpha": [0.0, 0.5], "hidden_layer": [-2]}
        workspace.save()
    grow(made[0])
    run = made[0].run()
    assert run.returncode == 0, run.output
    return made


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_change_nothing(workspaces: tuple[Workspace, Workspace]) -> None:
    uninterrupted, workspace = workspaces
    full = inspect(uninterrupted).count()
    state, log, adds = Findings(), [], 0
    small, grown = kill_sequence(SEED)
    for number, point in enumerate([*small, *grown]):
        if number == len(small):
            grow(workspace)
        run, state, problems = killed_run(workspace, point, state)
        assert was_killed(run, point), (point, run.returncode, log, run.output[-4000:])
        assert not problems, (point, problems, log)
        log.append((point, state.count()))
        # A temporary file beside a file of hidden states: the kill fell into an add to what existed.
        adds += any(path.with_name(path.name.partition(".tmp-")[0]).exists() for path in state.temporary)
    print(f"{len(log)} kills; point and what the store held (full: {full}):", *log, sep="\n  ")
    assert len(log) == KILLS
    assert sum(0 < count < full for _, count in log) >= 15, log
    assert log[0][1] == 0
    assert log[-1][1] == full
    assert adds > 0

    locked = workspace.run()
    assert locked.returncode != 0, locked.output
    assert "--unlock" in locked.output
    assert workspace.run("--unlock").returncode == 0
    run = workspace.run()
    assert run.returncode == 0, run.output
    last = inspect(workspace)
    assert last.temporary == []
    assert last.damage == []
    assert last.finished == inspect(uninterrupted).finished
    expected, got = outcome(uninterrupted), outcome(workspace)
    assert sorted(got) == sorted(expected)
    assert [name for name in expected if got[name] != expected[name]] == []
    again = workspace.run()
    assert again.returncode == 0, again.output
    assert "Nothing to be done" in again.output


# The code that `os.replace` makes safe, made unsafe: (text, what it becomes), and points that show it.
DIRECT_WRITE = (
    [
        ("temporary = target.with_name(target.name + _temporary_suffix())", "temporary = target"),
        ("os.replace(temporary, target)", "pass"),
    ],
    ["hdf5-dataset:2", "mid-write-recipes:1", "mid-write-images:1"],
)
COPY_INTO_PLACE = (
    [("os.replace(temporary, target)", "target.write_bytes(temporary.read_bytes()); temporary.unlink()")],
    # Of a recipe file the first write is to the temporary name, the second to the final one.
    ["mid-write-hidden_states:1", "mid-write-recipes:2"],
)


@pytest.mark.slow
@pytest.mark.parametrize(("edits", "points"), [DIRECT_WRITE, COPY_INTO_PLACE], ids=["direct", "copy"])
def test_checks_report_damage_without_replace(
    workspaces: tuple[Workspace, Workspace], tmp_path: Path, edits: list[tuple[str, str]], points: list[str]
) -> None:
    shutil.copytree(workspaces[0].folder, tmp_path / "w", symlinks=True)
    workspace = Workspace.at((tmp_path / "w").resolve())
    for old, new in edits:
        workspace.edit(ATOMIC, old, new)
    # One more layer again: files of hidden states that are there are written anew, then there are new images.
    workspace.experiment["axes"]["hidden_layer"] = [-2, -3, -4]
    workspace.save()
    state = inspect(workspace)
    assert not state.damage
    reported = {}
    for point in points:
        run, after, problems = killed_run(workspace, point, state)
        assert was_killed(run, point), (point, run.returncode, run.output[-4000:])
        reported[point] = [problem for problem in problems if problem not in state.damage]
        state = after
    print(reported)
    hidden_states, *others = points
    assert any(problem.startswith("lost: layer") for problem in reported[hidden_states]), reported
    for point in others:
        kind = point.removeprefix("mid-write-").partition(":")[0]
        assert any(problem.startswith(f"store/{kind}/") for problem in reported[point]), reported
