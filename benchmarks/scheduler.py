"""What does Snakemake's own process take while many jobs wait? 900 trivial jobs, with and without a sample.

    python -m benchmarks.scheduler [--jobs 900] [--samples 0 20 50 100 200]

Prints seconds of the processor of Snakemake's process alone. `scheduler-subsample` is set in profiles/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SNAKEFILE = """
rule all:
    input: expand("out/{{i}}.txt", i=range({jobs}))
rule one:
    input: "in/{{i}}.txt", "in/all.txt"
    output: "out/{{i}}.txt"
    log: "logs/{{i}}.log"
    resources: mem_mb=100, runtime=5
    shell: "touch {{output}}"
"""
# Prints the process's own seconds when Snakemake ends.
PROGRAM = (
    "import atexit, resource, sys\n"
    "from snakemake.cli import main\n"
    "def end():\n"
    "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
    "    print(used.ru_utime + used.ru_stime)\n"
    "atexit.register(end)\n"
    "main(sys.argv[1:])\n"
)


def seconds_of(jobs: int, sample: int) -> float:
    """Returns what Snakemake's process takes for so many jobs; a sample of 0 is none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for file in (*map(str, range(jobs)), "all"):
            (folder / f"in/{file}.txt").write_text(file)
        (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
        options = ["--cores", "2", "--quiet", "all", "--scheduler", "greedy"]
        options += ["--scheduler-subsample", str(sample)] if sample else []
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *options], cwd=folder, capture_output=True, text=True, check=True
        )
    return float(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    """Runs all and prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--jobs", type=int, default=900)
    parser.add_argument("--samples", type=int, nargs="+", default=[0, 20, 50, 100, 200], help="0 is none")
    options = parser.parse_args()
    print("| sample | CPU seconds |\n|---|---|")
    for sample in options.samples:
        print(f"| {sample or 'none'} | {seconds_of(options.jobs, sample):.1f} |")


if __name__ == "__main__":
    main()
