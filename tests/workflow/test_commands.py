"""The commands of the pages are known: one dry run of the shipped configuration has all their targets.

So a target that is misspelt, refused, or no longer made fails here.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.workflow.harness import CODE, REPOSITORY, Workspace

pytestmark = pytest.mark.slow

PAGES = ("README.md", "docs", "resources/miniature/README.md", "config/README.md")
# It needs a cluster (tests/slurm), or trains for hours, or is about locks alone (test_kill.py).
ELSEWHERE = ("--workflow-profile", "--unlock", "train_miniature", "--configfile")
# Files that the page tells the reader to write first.
WRITTEN_BY_READERS = ("results/vision/",)


def commands() -> dict[str, list[str]]:
    """Returns command -> arguments, of all Snakemake commands of the pages."""
    files = [
        path
        for name in PAGES
        for path in ([REPOSITORY / name] if name.endswith(".md") else (REPOSITORY / name).glob("*.md"))
    ]
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        lines = re.findall(r"^ *\$ (snakemake\b.*)$", text, re.MULTILINE)
        for line in [*lines, *re.findall(r"`(snakemake\b[^`\n]*)`", text)]:
            command = line.partition(" #")[0].strip()
            found[command] = shlex.split(command)[1:]
    return found


def checkout(folder: Path) -> Workspace:
    """Returns a copy of the repository, with a link to the weights."""
    folder.mkdir()
    for name in (*CODE, "config"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name)
    (folder / "resources").symlink_to(REPOSITORY / "resources")
    workspace = Workspace.__new__(Workspace)
    workspace.folder = folder
    return workspace


def test_a_dry_run_knows_their_targets(tmp_path: Path) -> None:
    workspace = checkout(tmp_path / "shipped")
    targets: dict[str, None] = {}
    for arguments in commands().values():
        if any(word.startswith((*ELSEWHERE, *WRITTEN_BY_READERS)) for word in arguments):
            continue
        words = [word for word in arguments if not word.startswith("-") and "=" not in word]
        targets |= dict.fromkeys(
            word for word in words if not re.fullmatch(r"report\.\w+", word) and "{" not in word
        )
    assert len(targets) > 10
    run = workspace.run("-n", *targets)
    assert run.returncode == 0, run.output
    assert "graftwork: " in run.output


def test_a_page_comes_with_everything_that_its_summary_links_to(tmp_path: Path) -> None:
    workspace = checkout(tmp_path / "shipped")
    run = workspace.run("-n", "-p", "results/open_background/summary.html", "results/transforms/summary.html")
    assert run.returncode == 0, run.output
    for job in (
        "Summing up open_background",
        "Drawing grid alpha_by_prompt of open_background",
        "Drawing grid prompt_by_setting_003 of transforms",
        "Plotting scores of transforms",
    ):
        assert f": {job}\n" in run.output, run.output
