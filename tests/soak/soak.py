"""Random kills: nothing finished is lost or changed, and what comes of it equals an undisturbed run byte for byte.

    python -m tests.soak.soak --kills 200 --seed 0

A small experiment is built again and again from an empty store. Each run is killed at a moment drawn evenly over the time
that an undisturbed run takes, in one of these ways:

    group    SIGKILL to Snakemake and all its processes, as when a machine goes down
    worker   SIGKILL to one process of a job, as when memory runs out; Snakemake goes on, and its run ends
    parent   SIGKILL to Snakemake alone; its jobs go on, and end before the next run
    stop     SIGTERM to Snakemake and all its processes, as when a time limit is over

After each, every file of the results is read. When a run ends before its moment, the round is over: its results are
compared with those of the undisturbed run, and the next round begins.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.small_family import build_small_family
from tests.workflow.harness import Workspace
from tests.workflow.inspection import Findings, inspect, losses, outcome, unlock, wait_for_the_end

WAYS = {"group": 5, "worker": 2, "parent": 1, "stop": 2}
# The table and a grid need every stage that stores something. The viewer would take longer than all of them.
TARGETS = ("results/small/cells.csv", "results/small/grids/alpha_by_prompt.png")
# Seconds that a run, and what is left of one, may take.
TIMEOUT = 900.0


@dataclass
class Tally:
    """Kills so far.

    Attributes:
        ways: way of the kill -> number.
        rounds: complete results that were compared.
        partial: kills after which the store held a part of the results.
        problems: losses, damage and differences.
    """

    ways: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    partial: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Number of kills."""
        return self.ways.total()

    def line(self) -> str:
        """Returns the tally in one line."""
        ways = ", ".join(f"{count} {way}" for way, count in sorted(self.ways.items()))
        return (
            f"{self.kills} kills ({ways}), {self.partial} of them with a part of the store made, "
            f"{self.rounds} rounds compared, {len(self.problems)} problems"
        )


class Soak:
    """A workspace that is killed, and one that is not."""

    def __init__(self, folder: Path, seed: int):
        self._random = random.Random(seed)
        models = folder / "models"
        build_small_family(models)
        self._undisturbed = Workspace(folder / "undisturbed", models)
        self._killed = Workspace(folder / "killed", models)
        self.tally = Tally()
        started = time.monotonic()
        run = self._undisturbed.run(*TARGETS, timeout=TIMEOUT)
        self._seconds = time.monotonic() - started
        if run.returncode != 0:
            raise RuntimeError(f"the undisturbed run failed:\n{run.output}")
        self._expected = outcome(self._undisturbed)
        self._full = inspect(self._undisturbed)

    def round(self, kills: int) -> None:
        """Builds everything from an empty store, with at most so many kills."""
        results = self._killed.folder / "results"
        for path in results.iterdir():
            if path.name != "models":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self._killed.folder / ".snakemake", ignore_errors=True)
        state = Findings()
        for _ in range(kills):
            way = self._kill(whole=not state.count())
            state = self._check(state, f"kill {self.tally.kills} ({way})")
            if way == "over":
                break
            self.tally.ways[way] += 1
            self.tally.partial += 0 < state.count() < self._full.count()
            print(self.tally.line(), flush=True)
        else:
            unlock(self._killed)
            run = self._killed.run(*TARGETS, timeout=TIMEOUT)
            if run.returncode != 0:
                self.tally.problems.append(f"the run after kill {self.tally.kills} failed:\n{run.output}")
        self._compare()

    def _kill(self, whole: bool) -> str:
        """Starts a run and kills it; returns the way, or "over" where it ended well before.

        Args:
            whole: whether it begins with an empty store.
        """
        unlock(self._killed)
        started = time.monotonic()
        process = self._killed.start(*TARGETS, warm=True)
        way = self._random.choices(list(WAYS), list(WAYS.values()))[0]
        try:
            output, _ = process.communicate(timeout=self._random.uniform(0.0, 1.1) * self._seconds)
        except subprocess.TimeoutExpired:
            pass
        else:
            return self._ended(process.returncode, output, time.monotonic() - started, whole)
        victims = _descendants(process.pid)
        if way == "worker" and victims:
            os.kill(self._random.choice(victims), signal.SIGKILL)
        elif way == "parent":
            os.kill(process.pid, signal.SIGKILL)
        else:
            way = "group" if way == "worker" else way
            os.killpg(process.pid, signal.SIGTERM if way == "stop" else signal.SIGKILL)
        process.communicate(timeout=TIMEOUT)
        wait_for_the_end(self._killed, TIMEOUT)
        return way

    def _ended(self, returncode: int, output: str, seconds: float, whole: bool) -> str:
        if returncode != 0:
            self.tally.problems.append(f"a run without a kill failed:\n{output}")
        elif whole:
            # The load of the machine changes; a run that resumes is shorter than a whole one.
            self._seconds = seconds
        return "over"

    def _check(self, before: Findings, when: str) -> Findings:
        after = inspect(self._killed)
        self.tally.problems += [f"{when}: {problem}" for problem in losses(before, after)]
        return after

    def _compare(self) -> None:
        self.tally.rounds += 1
        last = f"round {self.tally.rounds}"
        found = inspect(self._killed)
        self.tally.problems += [f"{last}: left over: {path}" for path in found.temporary]
        self.tally.problems += [f"{last}: {problem}" for problem in losses(self._full, found)]
        got = outcome(self._killed)
        different = [
            name for name in sorted({*got, *self._expected}) if got.get(name) != self._expected.get(name)
        ]
        self.tally.problems += [f"{last}: differs from the undisturbed run: {name}" for name in different]


def _descendants(process: int) -> list[int]:
    """Returns the processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [process]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def soak(folder: Path, kills: int, seed: int) -> Tally:
    """Kills so many runs and returns what came of it; stops at the first round with a problem.

    Args:
        folder: an empty folder.
        kills: number of kills.
        seed: decides moments and ways.
    """
    running = Soak(folder.resolve(), seed)
    tally = running.tally
    while tally.kills < kills and not tally.problems:
        running.round(min(kills - tally.kills, 40))
    return tally


def main() -> None:
    """Reads the command line, and ends with 1 where anything was lost, damaged or different."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="graftwork-soak-") as folder:
        tally = soak(Path(folder), options.kills, options.seed)
    print(f"{tally.line()}; {time.monotonic() - started:.0f} s")
    if tally.problems:
        sys.exit("\n".join(tally.problems))


if __name__ == "__main__":
    main()
