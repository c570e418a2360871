"""Which parameters of a cell say something about it: the others are at their neutral value, or nothing asks for them."""

from collections.abc import Mapping
from typing import Any

from graftwork.core.identity import NEUTRAL
from graftwork.transforms.registry import STAGES, transforms

# Parameters that say something only where another one is set.
ACTS_WITH = {
    "cfg_normalization": "guidance_scale",
    "cfg_truncation": "guidance_scale",
    "strength": "init_image",
}


def takes_part(name: str, parameters: Mapping[str, Any]) -> bool:
    """Returns whether a parameter takes part: where what it belongs to is chosen, else where it is not neutral.

    Args:
        name: Name of the parameter.
        parameters: Parameters of the cell, by name.
    """
    if name in ACTS_WITH:
        return bool(parameters.get(ACTS_WITH[name]))
    if name == "neutral_reference":
        return parameters.get("blend") == "style_delta"
    owners = [
        (stage, entry.name)
        for stage in STAGES
        for entry in transforms(stage).values()
        if entry.parameters and name in entry.parameters.model_fields
    ]
    if owners:
        return any(parameters.get(stage) == owner for stage, owner in owners)
    return name in STAGES or name not in NEUTRAL or NEUTRAL[name] != parameters.get(name)
