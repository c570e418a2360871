"""What does each process of the demo import, and how long does it take?

    python -m benchmarks.imports

Runs the demo from nothing, in a copy of the project, and prints a table: seconds of the processor of each kind of process.
"""

import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks.miniature import copy_project
from benchmarks.orchestration import CLOCK_FILE, SNAKEMAKE, measure

# Libraries that are named for each process, those that take longest.
_NAMED = 4


def kind_of(process: str) -> str:
    """Returns the rule of a job: Snakemake runs a script under a name such as `tmpab12.condition.py`."""
    return process.split(".")[-2] if process.endswith(".py") else process


def main() -> None:
    """Runs the demo and prints the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        copy_project(folder)
        measure([*SNAKEMAKE], folder)
        processes = [json.loads(line) for line in (folder / CLOCK_FILE).read_text().splitlines()]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for process in processes:
        kinds[kind_of(process["process"])].append(process)
    print("| process | how many | CPU seconds | of them imports | most of it |\n|---|---|---|---|---|")
    for kind, same in sorted(kinds.items(), key=lambda item: -sum(one["imports"] for one in item[1])):
        libraries: Counter[str] = Counter()
        for one in same:
            libraries.update(one["libraries"])
        named = ", ".join(f"{library} {seconds:.2f}" for library, seconds in libraries.most_common(_NAMED))
        whole, imports = (sum(one[part] for one in same) for part in ("seconds", "imports"))
        print(f"| {kind} | {len(same)} | {whole:.1f} | {imports:.2f} | {named} |")
    whole, imports = (sum(one[part] for one in processes) for part in ("seconds", "imports"))
    print(f"| all | {len(processes)} | {whole:.1f} | {imports:.1f} | |")


if __name__ == "__main__":
    main()
