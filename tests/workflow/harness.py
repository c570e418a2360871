"""A copy of the repository with a small experiment, run through the command line and counted from outside."""

import atexit
import compileall
import contextlib
import csv
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import yaml

from tests.workflow.warm import Server, WarmProcess

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).parent / "probe"
CODE = ("Snakefile", "rules", "graftwork", "lab", "workflow_scripts", "profiles")

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


@functools.cache
def _started() -> Server:
    folder = Path(tempfile.mkdtemp(prefix="graftwork-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return Server(folder, {**environment, "HF_HUB_OFFLINE": "1"})


def _server(environment: Mapping[str, str]) -> Server | None:
    """The server that forks a run with these variables; None where each process must be started by itself."""
    if not sys.platform.startswith("linux"):
        return None
    server = _started()
    return server if server.fits(environment) else None


@dataclass
class Run:
    """What a run printed and did; `log` is Snakemake's own, which has the jobs one by one (a dry run has none)."""

    returncode: int
    output: str
    events: Counter
    log: str = ""

    @property
    def loads(self) -> Counter:
        """Model class -> how often `from_pretrained` was called."""
        return Counter({words[1]: n for words, n in self._of("load")})

    @property
    def forwards(self) -> Counter:
        """Model class -> how often `forward` was called."""
        return Counter({words[1]: n for words, n in self._of("forward")})

    def replaced(self, ending: str, under: str = "") -> int:
        """How many files with this ending were moved into place, under a folder of the working directory."""
        return sum(
            n for words, n in self._of("replace") if words[1].startswith(under) and words[1].endswith(ending)
        )

    @property
    def jobs(self) -> Counter:
        """Rule -> how many jobs of it ended, well or badly, `all` left out.

        A rule with a message is announced by that alone, so that only the ends of its jobs name it.
        """
        ended = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", self.log, re.MULTILINE)
        ended += re.findall(r"^Error in rule (\w+)[,:]", self.log, re.MULTILINE)
        return Counter(rule for rule in ended if rule != "all")

    @property
    def made(self) -> dict[str, int]:
        """What was made, counted from outside; what was not made at all is left out.

        `text`, `vision_language`, `vision` and `generator` are forward passes (a batch of images takes one per step),
        the rest are files moved into place.
        """
        counts = {
            "text": self.forwards["Qwen3Model"],
            "vision_language": self.forwards["Qwen3VLModel"],
            "vision": self.forwards["Qwen3VLVisionModel"],
            "generator": self.forwards["ZImageTransformer2DModel"],
            "hidden_states": self.replaced(".h5", "results/store/hidden_states/"),
            "conditioning": self.replaced(".safetensors", "results/store/conditioning/"),
            "images": self.replaced(".png", "results/store/images/"),
            "tables": self.replaced("/cells.csv", "results/"),
            "grids": sum(
                n for words, n in self._of("replace") if re.fullmatch(r"results/\w+/grids/\w+\.png", words[1])
            ),
        }
        return {what: count for what, count in counts.items() if count}

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
                # Copied with its bytecode (valid, for times are kept), so that no job compiles it again.
                compileall.compile_dir(source, quiet=1)
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        # The miniature's weights are linked: tens of megabytes that nothing here writes to.
        shutil.copytree(
            REPOSITORY / "resources", folder / "resources", ignore=shutil.ignore_patterns("family", "scorers")
        )
        for name in ("family", "scorers"):
            link = folder / "resources/miniature" / name
            link.symlink_to(REPOSITORY / "resources/miniature" / name)
        (folder / "config" / "experiments").mkdir(parents=True)
        shutil.copytree(models, folder / "results" / "models" / "small")
        shutil.copy2(Path(__file__).with_name("models.yaml"), folder / "config" / "models.yaml")
        self.config = {
            "experiments": ["small"],
            "defaults": {"generator": "small-z-image"},
            "hardware": {"generation": {"batch_shape": 2}},
        }
        self.experiment = yaml.safe_load(yaml.safe_dump(EXPERIMENT))
        self.save()

    @classmethod
    def at(cls, folder: Path) -> "Workspace":
        """A workspace that exists."""
        workspace = cls.__new__(cls)
        workspace.folder = folder
        workspace.config = yaml.safe_load((folder / "config/config.yaml").read_text())
        workspace.experiment = yaml.safe_load((folder / "config/experiments/small.yaml").read_text())
        return workspace

    def save(self, name: str = "small") -> None:
        """Writes `config` and `experiment` to their files."""
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(self.config))
        path = self.folder / "config" / "experiments" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self.experiment, sort_keys=False))

    def run(
        self,
        *arguments: str,
        kill: str = "",
        fail: str = "",
        timeout: float = 900,
        variables: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
        warm: bool = True,
    ) -> Run:
        """Runs Snakemake in a process group of its own; `kill` is a PROBE_KILL and `fail` a PROBE_FAIL value.

        `variables` are further ones of its environment, and `through` is a command that runs it. Where it can, a server
        forks its processes (`tests/workflow/warm.py`); without `warm` each imports its libraries.
        """
        earlier = set(self._logs())
        log = self.folder / "probe.log"
        log.unlink(missing_ok=True)
        probe = {"PROBE_LOG": str(log), "PROBE_KILL": kill, "PROBE_FAIL": fail}
        process = self.start(*arguments, through=through, warm=warm, **probe, **(variables or {}))
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        events = Counter(log.read_text().splitlines()) if log.exists() else Counter()
        said = "".join(path.read_text() for path in self._logs() if path not in earlier)
        return Run(process.returncode, output, events, said)

    def start(
        self,
        *arguments: str,
        cores: int | None = 2,
        through: Sequence[str] = (),
        warm: bool = False,
        **variables: str,
    ) -> subprocess.Popen[str] | WarmProcess:
        """Starts Snakemake in a process group of its own; its output is a pipe. Without `cores` a profile decides.

        The other arguments are as in `run`.
        """
        environment = self._environment(**variables)
        given = [*(["--cores", str(cores)] if cores else []), *arguments]
        server = _server(environment) if warm and not through else None
        if server is not None:
            return server.start(given, environment, self.folder)
        return subprocess.Popen(
            [*through, str(Path(sys.executable).with_name("snakemake")), *given],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _environment(self, **variables: str) -> dict[str, str]:
        # Snakemake's Slurm plugin asks for the cluster whenever it is imported: 10 s where the controller is down.
        scontrol = self.folder / "bin" / "scontrol"
        if not scontrol.exists():
            scontrol.parent.mkdir()
            scontrol.write_text("#!/bin/sh\nexit 1\n")
            scontrol.chmod(0o755)
        return {
            **os.environ,
            "PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROBE),
            "HF_HUB_OFFLINE": "1",
            **variables,
        }

    def _logs(self) -> list[Path]:
        return sorted((self.folder / ".snakemake" / "log").glob("*.snakemake.log"))

    def rows(self, experiment: str = "small") -> list[dict[str, str]]:
        """Rows of cells_full.csv, which has every parameter."""
        return self.table("cells_full", experiment)

    def table(self, name: str, experiment: str = "small") -> list[dict[str, str]]:
        """Rows of a table in the results of an experiment."""
        with open(self.folder / "results" / experiment / f"{name}.csv", newline="") as file:
            return list(csv.DictReader(file))

    def stored(self, kind: str) -> dict[str, bytes]:
        """File name -> content, of one kind (`images/**/*.png`, ...) in the store."""
        return {path.name: path.read_bytes() for path in sorted((self.folder / "results/store").glob(kind))}

    def image(self, **parameters: str) -> Path:
        """Path of the one image of role `cell` whose row in cells_full.csv has these values."""
        paths = {
            row["image"]
            for row in self.rows()
            if row["role"] == "cell" and all(row[name] == value for name, value in parameters.items())
        }
        assert len(paths) == 1, (parameters, paths)
        return self.folder / paths.pop()

    def snapshot(self, folder: str = "results") -> dict[str, tuple[int, bytes]]:
        """Path -> (modification time, content) of every file under a folder."""
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file()
        }

    def hidden_states(self) -> dict[tuple[str, str], bytes]:
        """(Key, name of dataset) -> bytes, of every dataset in the store that can be read."""
        found = {}
        for path in sorted((self.folder / "results/store/hidden_states").glob("*/*.h5")):
            with h5py.File(path, "r") as file:
                for name in [
                    "token_ids",
                    "roles",
                    "positions",
                    "in_prompt",
                    *(f"hidden_states/{n}" for n in file["hidden_states"]),
                ]:
                    with contextlib.suppress(OSError):
                        found[path.stem, name] = file[name][()].tobytes()
        return found

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces text in a file of the copied code; the text must be there once."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
        path.write_text(text.replace(old, new))


def results_of_report(page: str) -> dict[str, dict]:
    """Returns path of each result in a report of Snakemake -> what the report says of it."""
    return json.loads(re.search(r"^\s*var results = (\{.*\});?$", page, re.MULTILINE)[1])
