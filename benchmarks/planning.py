"""What does a dry run cost, and how does that grow with the number of cells?

    python -m benchmarks.planning [--cells 10800 100080]

Each line is one `snakemake -n` in a process of its own, on the miniature, with an empty store: CPU seconds of the process and its
children, the most memory of one of them, and the ratio to a workflow without experiments in the same run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
# Linked to, so that what runs is what is here.
_CODE = ("Snakefile", "rules", "graftwork", "lab", "workflow_scripts", "profiles", "resources")
_CONFIG = ("models.yaml", "prompts", "corpora", "hardware")
# 2 references, 3 seeds, 3 layers, 2 token modes and 10 alphas for each prompt.
CELLS_OF_A_PROMPT = 2 * 3 * 3 * 2 * 10
_MEGABYTE = 1024


@dataclass(frozen=True)
class Cost:
    """What a dry run took.

    Attributes:
        seconds: of CPU, of the process and its children.
        megabytes: most memory of one process.
    """

    seconds: float
    megabytes: float


def experiment(prompts: int) -> dict:
    """Returns an experiment with so many prompts."""
    return {
        "title": "Many cells",
        "max_images": 1_000_000,
        "base": {
            "prompts": [f"a small yellow square number {number}" for number in range(prompts)],
            "references": ["scene_purple_cross", "scene_black_triangle"],
            "encoder": "vl",
            "seeds": [1, 2, 3],
        },
        "axes": {
            "hidden_layer": [-2, -4, -6],
            "token_mode": ["text_only", "full"],
            "alpha": {"range": [0.1, 1.0], "count": 10},
        },
        "grids": [{"x": "alpha", "y": "hidden_layer"}],
    }


def make_workspace(folder: Path, prompts: int) -> None:
    """Writes a working directory whose only experiment has so many prompts; with none there is no experiment."""
    (folder / "config/experiments").mkdir(parents=True)
    for name in _CODE:
        (folder / name).symlink_to(REPOSITORY / name)
    for name in _CONFIG:
        (folder / "config" / name).symlink_to(REPOSITORY / "config" / name)
    settings = {"experiments": ["many"] if prompts else [], "family": "miniature"}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    if prompts:
        (folder / "config/experiments/many.yaml").write_text(yaml.safe_dump(experiment(prompts)))


def dry_run(folder: Path) -> Cost:
    """Returns what `snakemake -n` costs in a folder.

    Raises:
        RuntimeError: if it fails, with what it said.
    """
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--cores", "1"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        # The process is waited for; subprocess must not do so again.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(output.read().decode()[-2000:])
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _MEGABYTE)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[10_800, 100_080])
    options = parser.parse_args(arguments)
    print("| cells | CPU seconds | to an empty workflow | peak MB |\n|---|---|---|---|")
    empty = None
    for cells in (0, *options.cells):
        prompts = -(-cells // CELLS_OF_A_PROMPT)
        with tempfile.TemporaryDirectory() as folder:
            make_workspace(Path(folder), prompts)
            cost = dry_run(Path(folder))
        empty = empty or cost
        print(
            f"| {prompts * CELLS_OF_A_PROMPT} | {cost.seconds:.1f} | {cost.seconds / empty.seconds:.2f} | {cost.megabytes:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
