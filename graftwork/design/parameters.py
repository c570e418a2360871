"""Facts that follow from the declarations of a cell's parameters: names of cells, order, labels, and what takes part.

A cell is named by what makes its image, so that the same cell has the same name in every experiment, on every machine and
after every refactoring.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftwork.core.identity import canonical_json, digest, digest_of_text
from graftwork.core.labels import format_values
from graftwork.core.parameters import ALWAYS
from graftwork.design.schema import DECLARATIONS
from graftwork.transforms.registry import STAGES, owners_of, transform

CELL_ID_LENGTH = 16

# Parameter -> the value at which a cell's name leaves it out.
NEUTRAL: dict[str, Any] = {
    name: declared.neutral for name, declared in DECLARATIONS.items() if declared.neutral is not ALWAYS
}
# What a baseline, the image of the text alone, depends on; all else about a cell concerns the source.
BASELINE_PARAMETERS = (
    "prompt",
    "seed",
    *(name for name, declared in DECLARATIONS.items() if declared.in_baseline),
)


def cell_id(parameters: Mapping[str, Any]) -> str:
    """Returns the name of the cell with these resolved parameters.

    Args:
        parameters: Resolved: prompts as text, references as content hashes, models as identities. A parameter at
            its neutral value is left out, so that parameters added later rename nothing.
    """
    return digest(_explicit(parameters))[:CELL_ID_LENGTH]


def _explicit(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that are not at their neutral value."""
    return {
        name: value
        for name, value in parameters.items()
        if not (name in NEUTRAL and canonical_json(NEUTRAL[name]) == canonical_json(value))
    }


def cell_ids_beside(parameters: Mapping[str, Any]) -> Callable[[str, int], str]:
    """Returns what names cells that differ from one in prompt and seed alone: (prompt, seed) -> `cell_id`.

    Args:
        parameters: Resolved parameters of the one cell.
    """
    texts = {name: canonical_json(value) for name, value in sorted(_explicit(parameters).items())}
    names = list(texts)
    first, second = sorted(names.index(name) for name in ("prompt", "seed"))
    members = [f"{canonical_json(name)}:{text}" for name, text in texts.items()]
    before = "{" + "".join(f"{member}," for member in members[:first]) + '"prompt":'
    between = "".join(f",{member}" for member in members[first + 1 : second]) + ',"seed":'
    after = "".join(f",{member}" for member in members[second + 1 :]) + "}"

    def name_of(prompt: str, seed: int) -> str:
        text = f"{before}{canonical_json(prompt)}{between}{canonical_json(seed)}{after}"
        return digest_of_text(text)[:CELL_ID_LENGTH]

    return name_of


def acting_with(name: str) -> list[str]:
    """Returns the parameters that do nothing where the parameter `name` is 0 or null."""
    return [other for other, declared in DECLARATIONS.items() if declared.acts_with == name]


def takes_part(name: str, parameters: Mapping[str, Any]) -> bool:
    """Returns whether a parameter says something about a cell.

    It does where what it belongs to is chosen; a parameter that belongs to nothing does where it is not neutral.

    Args:
        name: Name of the parameter.
        parameters: Parameters of the cell, by name.
    """
    declared = DECLARATIONS.get(name)
    if declared is not None and declared.acts_with is not None:
        return bool(parameters.get(declared.acts_with))
    if declared is not None and declared.needed_as is not None:
        chosen = (
            transform(stage, parameters[stage]) for stage in STAGES if parameters.get(stage) is not None
        )
        return any(declared.needed_as in entry.needs for entry in chosen)
    owners = owners_of(name)
    if owners:
        return any(parameters.get(owner.stage) == owner.name for owner in owners)
    return name in STAGES or name not in NEUTRAL or NEUTRAL[name] != parameters.get(name)


def belongs_to_a_choice(name: str) -> bool:
    """Returns whether a parameter says something only of cells where what it belongs to is chosen."""
    declared = DECLARATIONS.get(name)
    is_bound = declared is not None and (declared.acts_with or declared.needed_as)
    return bool(is_bound or owners_of(name))


def label_of(name: str) -> str:
    """Returns what grids, plots and tables for people call a parameter or an axis, with its unit."""
    declared = DECLARATIONS.get(name)
    if declared is None:
        return name
    return f"{declared.label or name} ({declared.unit})" if declared.unit else declared.label or name


def format_of(name: str) -> Callable[[Sequence[Any]], list[str]]:
    """Returns what writes values of a parameter or an axis for people."""
    return DECLARATIONS[name].format if name in DECLARATIONS else format_values
