"""Declaration of a cell's parameter beside its type, default and bounds.

Parameters of cells stand in Pydantic models: those of transforms in the module of the transform, all others in
`graftwork.design.schema`. Names of cells, tables, grids, documentation and checks are derived from what stands there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from graftwork.core.labels import format_values

# Forms that values have in every configuration file.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(pattern=r"\S")]
Share = Annotated[float, Field(ge=0, le=1)]


def _with_numbers(value: Any) -> Any:
    """Returns a mapping with numbers for keys, which files have as text."""
    if not isinstance(value, dict):
        return value
    return {int(key) if re.fullmatch(r"-?\d+", str(key)) else key: item for key, item in value.items()}


# For a mapping whose keys are layers of a generator.
NumberedKeys = BeforeValidator(_with_numbers)


class Strict(BaseModel):
    """Unknown keys and wrong types are errors."""

    # Built when first used: most jobs import these classes and check nothing with them.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class GivenText(Strict):
    """A text of the user's own, where the other values are words with a meaning."""

    text: Text


class Instruct(Strict):
    """A task that stands before a prompt."""

    instruct: Text


class _Always:
    """Type of `ALWAYS`."""

    def __repr__(self) -> str:
        return "ALWAYS"


# In place of a neutral value: the parameter is part of the name of every cell that has it.
ALWAYS = _Always()
_MISSING = object()


@dataclass(frozen=True)
class Declaration:
    """Declaration of a parameter.

    Attributes:
        neutral: The value at which the parameter reproduces what happened before it existed. A cell's name leaves the
            parameter out there. `ALWAYS` for a parameter that every name contains. It must never change: that would
            rename cells that exist. It is not the default: a changed default must make new cells.
        label: name in grids, plots and tables for people; None for the name itself, which experiments use.
        unit: Unit of its values, for labels and documentation; empty for none.
        format: Writes values of the parameter for people, different values differently.
        in_baseline: Whether the image of the text alone depends on it.
        acts_with: Name of the parameter without which (at 0 or null) this one does nothing, if there is one.
        needed_as: The need of a transform (see `graftwork.transforms.registry.NEEDS`) that the parameter is for, if it is
            for those transforms alone.
    """

    neutral: Any
    label: str | None = None
    unit: str = ""
    format: Callable[[Sequence[Any]], list[str]] = format_values
    in_baseline: bool = False
    acts_with: str | None = None
    needed_as: str | None = None


def parameter(default: Any, *, neutral: Any = _MISSING, description: str = "", **further: Any) -> Any:
    """Returns a field of a model of parameters.

    Args:
        default: Value where an experiment does not set the parameter.
        neutral: See `Declaration`.
        description: One or two sentences for the documentation.
        further: Other attributes of `Declaration`.
    """
    info = Field(default, description=description)
    info.metadata.append(Declaration(neutral, **further))
    return info


def declaration_of(name: str, info: FieldInfo, owner: str) -> Declaration:
    """Returns what a parameter declares.

    Args:
        name: Name of the parameter.
        info: Its field.
        owner: owner of the parameter, for the message, such as "blend 'linear'".

    Raises:
        TypeError: where neutral value or description is missing.
    """
    declared = next((item for item in info.metadata if isinstance(item, Declaration)), None)
    if declared is None or declared.neutral is _MISSING:
        raise TypeError(
            f"{owner}: parameter {name} has no neutral value, the one that a cell's name leaves out; write {name}: ... = "
            "parameter(default, neutral=..., description=...), with neutral=ALWAYS if every name is to contain it"
        )
    if not info.description:
        raise TypeError(
            f"{owner}: parameter {name} has no description; write parameter(..., description=...)"
        )
    return declared


def declarations(fields: Mapping[str, FieldInfo], owner: str) -> dict[str, Declaration]:
    """Returns name -> declaration of the fields of a model; raises as `declaration_of`."""
    return {name: declaration_of(name, info, owner) for name, info in fields.items()}
