"""Which studies there are, for somebody who does not know it yet."""

from collections import Counter

from graftwork.design.project import Project
from graftwork.planning.listing import counted
from graftwork.studies.registry import studies


def list_studies(project: Project) -> list[str]:
    """Returns a line for each study: the target that makes it, its size and title, and what it asks.

    Args:
        project: the project, whose experiments the studies read.
    """
    found = studies()
    width = max(len(name) for name in found) + len("study_")
    lines = []
    for name, study in found.items():
        roles = Counter(
            cell.role for experiment in study.experiments for cell in project.design(experiment).cells
        )
        parts = [
            *([counted(roles.items())] if roles else []),
            *(f"analysis {analysis}" for analysis in study.analyses),
        ]
        target = f"study_{name}"
        lines.append(f"{target:{width}}  {', '.join(parts) or 'no images'}: {study.title}")
        lines.append(f"{'':{width}}  {study.question}")
    return lines
