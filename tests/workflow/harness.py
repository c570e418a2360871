"""A copy of the repository with a small experiment, run through the command line and counted from outside."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).parent / "probe"
CODE = ("Snakefile", "rules", "workflow_scripts", "profiles")

EXPERIMENT = {
    "title": "A small sweep",
    "base": {
        "prompts": ["a red apple", "a blue boat at sea"],
        "references": ["cartoon_house"],
        "encoder": "small-qwen3-vl-instruct",
        "seeds": [1],
        "num_inference_steps": 2,
        "height": 32,
        "width": 32,
    },
    "axes": {"alpha": [0.0, 0.5]},
    "grids": [{"x": "alpha", "y": "prompt"}],
}


@dataclass
class Run:
    """What a run printed and did."""

    returncode: int
    output: str
    events: Counter

    @property
    def loads(self) -> Counter:
        """Model class -> how often `from_pretrained` was called."""
        return Counter({words[1]: n for words, n in self._of("load")})

    @property
    def forwards(self) -> Counter:
        """Model class -> how often `forward` was called."""
        return Counter({words[1]: n for words, n in self._of("forward")})

    def replaced(self, ending: str) -> int:
        """How many files with this ending were moved into place."""
        return sum(n for words, n in self._of("replace") if words[1].endswith(ending))

    def _of(self, event: str):
        merged: Counter = Counter()
        for line, count in self.events.items():
            words = line.split(" ")
            if words[0] == event:
                merged[tuple(words[:2])] += count
        return merged.items()


class Workspace:
    """A working directory with its own code, configuration and results."""

    def __init__(self, folder: Path, models: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in CODE:
            source, target = REPOSITORY / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        shutil.copytree(REPOSITORY / "resources", folder / "resources")
        (folder / "config" / "experiments").mkdir(parents=True)
        shutil.copytree(models, folder / "results" / "models" / "small")
        shutil.copy2(REPOSITORY / "config" / "models.yaml", folder / "config" / "models.yaml")
        self.config = {
            "experiments": ["small"],
            "defaults": {"generator": "small-z-image"},
            "hardware": {"generation": {"batch_shape": 2}},
        }
        self.experiment = yaml.safe_load(yaml.safe_dump(EXPERIMENT))
        self.save()

    def save(self, name: str = "small") -> None:
        """Writes `config` and `experiment` to their files."""
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(self.config))
        path = self.folder / "config" / "experiments" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self.experiment, sort_keys=False))

    def run(self, *arguments: str, kill: str = "", timeout: float = 300) -> Run:
        """Runs Snakemake in a process group of its own; `kill` is a PROBE_KILL value."""
        log = self.folder / "probe.log"
        log.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(PROBE),
            "PROBE_LOG": str(log),
            "PROBE_KILL": kill,
            "HF_HUB_OFFLINE": "1",
        }
        command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        events = Counter(log.read_text().splitlines()) if log.exists() else Counter()
        return Run(process.returncode, output, events)

    def rows(self, experiment: str = "small") -> list[dict[str, str]]:
        """Rows of cells.csv."""
        with open(self.folder / "results" / experiment / "cells.csv", newline="") as file:
            return list(csv.DictReader(file))

    def stored(self, kind: str) -> dict[str, bytes]:
        """File name -> content, of one kind (`images/**/*.png`, ...) in the store."""
        return {path.name: path.read_bytes() for path in sorted((self.folder / "results/store").glob(kind))}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces text in a file of the copied code; the text must be there once."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
        path.write_text(text.replace(old, new))
