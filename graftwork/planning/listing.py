"""What can be asked for, for somebody who does not know it yet: every experiment with its question and its size."""

from collections import Counter
from collections.abc import Sequence

from graftwork.design.cells import Design
from graftwork.design.project import Project


def list_experiments(project: Project) -> list[str]:
    """Returns a line for each experiment of a project: name, size and title, and what it asks.

    Args:
        project: the project; all its experiments are expanded.
    """
    designs = [project.design(name) for name in project.experiment_names()]
    width = max((len(design.experiment) for design in designs), default=0)
    lines = []
    for design in designs:
        lines.append(f"{design.experiment:{width}}  {size_in_words(design)}: {design.title}")
        lines += [f"{'':{width}}  {text}" for text in (design.question,) if text]
    return lines


def size_in_words(design: Design) -> str:
    """Returns how many cells of each role a design has: `88 cells, 4 baselines`."""
    return counted(Counter(cell.role for cell in design.cells).items())


def counted(roles: Sequence[tuple[str, int]]) -> str:
    """Returns numbers with what they count, cells first."""
    order = ("cell", "baseline", "control")
    return ", ".join(
        f"{count} {role}{'s' if count != 1 else ''}"
        for role, count in sorted(roles, key=lambda item: order.index(item[0]))
    )
