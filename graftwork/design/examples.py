"""The experiment that shows every transform: its settings are made from the examples of the registrations.

`config/experiments/transforms.yaml` is written by hand but for the settings between `# generated` and `# end`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graftwork.transforms.registry import DEFAULT, STAGES, Transform, transforms

EXPERIMENT = "config/experiments/transforms.yaml"
_PART = re.compile(r"(  # generated[^\n]*\n).*?(  # end\n)", re.DOTALL)


def experiment_text(root: Path) -> str:
    """Returns the experiment with its generated settings made anew.

    Args:
        root: Folder of the repository.

    Raises:
        ValueError: where the file does not have the generated part once.
    """
    text = (root / EXPERIMENT).read_text(encoding="utf-8")
    if len(_PART.findall(text)) != 1:
        raise ValueError(
            f"{EXPERIMENT} has {len(_PART.findall(text))} parts between `  # generated` and `  # end`; it should have one"
        )
    return _PART.sub(lambda match: match[1] + settings_text() + match[2], text)


def settings_text() -> str:
    """Returns the examples of all transforms as settings of an experiment, in YAML."""
    lines = []
    for stage in STAGES:
        lines.append(f"  # {stage.replace('_', ' ').capitalize()}\n")
        for entry in transforms(stage).values():
            for name, setting in entry.examples.items():
                shown = yaml.safe_dump(
                    whole_setting(entry, setting), default_flow_style=True, width=1000, sort_keys=False
                )
                lines.append(f"  {name}: {shown}")
    return "".join(lines)


def whole_setting(entry: Transform, example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example of a transform with the transform itself, and with defaults of other stages by their names."""
    given = {name: STAGES[name].default if value is DEFAULT else value for name, value in example.items()}
    return {entry.stage: entry.name, **given}
