"""`kill -9` of the whole process tree: nothing finished is lost, and what comes of it equals an uninterrupted run.

One workspace is killed 20 times, at named points (see probe/sitecustomize.py) whose numbers and order come from a
seed, and each run resumes the one before. The same checks then have to report damage where the code is changed to
write files directly instead of moving them into place.
"""

import random
import shutil
from pathlib import Path

import pytest

from tests.workflow.harness import Run, Workspace
from tests.workflow.inspection import Findings, inspect, losses, outcome, unlock, wait_for_the_end

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


def killed_run(
    workspace: Workspace, point: str, before: Findings, *arguments: str
) -> tuple[Run, Findings, list[str]]:
    """Unlocks, runs until the point, and checks what is there then; `arguments` are further ones of Snakemake.

    Returns:
        The run, what is in the workspace after it, and what is wrong with that.
    """
    unlock(workspace)
    run = workspace.run(*arguments, kill=point)
    wait_for_the_end(workspace)
    after = inspect(workspace)
    return run, after, losses(before, after)


def was_killed(run: Run, point: str) -> bool:
    """Whether the run ended at the point, or one of several, and by nothing else."""
    events = [f"kill {one.partition(':')[0]}" for one in point.split(",")]
    return run.returncode == -9 and sum(run.events[event] for event in events) == 1


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
