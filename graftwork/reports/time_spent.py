"""Where the time of a run went, from the benchmark files that the rules leave."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from graftwork.core.progress import format_bytes, format_seconds
from graftwork.core.tables import markdown_table

_BYTES_PER_MB = 2**20
_INTRODUCTION = """\
# Where the time went

Each job counts with the last time that it ran; jobs that run side by side add up. *CPU* is the time of all its threads and processes.
*CPU per second* says how many of them worked on average: far below 1 is waiting, for a disk, a GPU or other jobs.
"""


@dataclass
class RuleTime:
    """Jobs of one rule.

    Attributes:
        rule: Its name.
        seconds: Wall time of each job.
        cpu_seconds: CPU time of all jobs together.
        memory: Most memory of a job, in bytes.
        longest: File of the job that took longest, relative to the folder of benchmarks.
    """

    rule: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    memory: float = 0.0
    longest: str = ""


def read_times(folder: Path) -> list[RuleTime]:
    """Returns the times of all rules, the longest first.

    Args:
        folder: With one folder or file for each rule, in the format of the workflow manager: a table with the columns `s`,
            `max_rss` (in MiB) and `cpu_time`. A file without a row is of a job that has not ended, and is left out.
    """
    rules: dict[str, RuleTime] = {}
    for path in sorted(folder.rglob("*.tsv")):
        place = path.relative_to(folder)
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        for row in rows:
            seconds = _number(row.get("s"))
            rule = rules.setdefault(
                place.parts[0].removesuffix(".tsv"), RuleTime(place.parts[0].removesuffix(".tsv"))
            )
            if not rule.seconds or seconds > max(rule.seconds):
                rule.longest = place.with_suffix("").as_posix()
            rule.seconds.append(seconds)
            rule.cpu_seconds += _number(row.get("cpu_time"))
            rule.memory = max(rule.memory, _number(row.get("max_rss")) * _BYTES_PER_MB)
    return sorted(rules.values(), key=lambda rule: -sum(rule.seconds))


def _number(text: str | None) -> float:
    """Returns a number of a table; 0 where the job was too short to be measured."""
    return 0.0 if text in (None, "", "-", "NA") else float(text)


def time_page(times: Iterable[RuleTime]) -> str:
    """Returns the page, in Markdown."""
    times = list(times)
    total = sum(sum(rule.seconds) for rule in times)
    columns = ("rule", "jobs", "time", "share", "longest job", "CPU", "CPU per second", "most memory")
    rows = [
        (
            rule.rule,
            len(rule.seconds),
            format_seconds(sum(rule.seconds)),
            f"{sum(rule.seconds) / total:.0%}" if total else "",
            f"{format_seconds(max(rule.seconds))}: {rule.longest}",
            format_seconds(rule.cpu_seconds),
            f"{rule.cpu_seconds / sum(rule.seconds):.1f}" if sum(rule.seconds) else "",
            format_bytes(rule.memory),
        )
        for rule in times
    ]
    jobs = sum(len(rule.seconds) for rule in times)
    return f"{_INTRODUCTION}\n{jobs} jobs, {format_seconds(total)} together.\n\n{markdown_table(columns, rows)}\n"
