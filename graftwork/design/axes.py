"""Values of axes: checked one by one, spread over a range, and labelled."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, expected, explain, suggest
from graftwork.core.inputs import Prompt, Reference, ReferenceSet
from graftwork.design.parameters import format_of
from graftwork.design.schema import CellParameters, Range
from graftwork.design.statistics_of_cells import without_nulls

# The axis that `settings` of an experiment make.
SETTING = "setting"


def validate_value(name: str, value: Any, where: str) -> Any:
    if name == "seed":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise DesignError(f"{where}: {value!r} is no seed; allowed: whole numbers from 0")
        return value
    candidates = [value, int(value)] if isinstance(value, float) and value.is_integer() else [value]
    for candidate in candidates:
        try:
            # Plain values: those with a form of their own, such as {text: ...}, come as a model.
            return CellParameters.model_validate({name: candidate}).model_dump(include={name})[name]
        except ValidationError as error:
            problem = error
    if name == "statistics" and isinstance(value, Mapping):  # Of several parts, of which one is wrong.
        file, _, key = where.rpartition(": ")
        raise explain(problem, file, CellParameters, key.removesuffix(f".{name}"))
    allowed = [str(item) for item in getattr(CellParameters.model_fields[name].annotation, "__args__", ())]
    hint = suggest(value, allowed) if isinstance(value, str) else ""
    raise DesignError(f"{where}: {value!r} is not allowed; allowed: {expected(problem.errors())}{hint}")


def every_value_of(axes: dict[str, list[Any]], constant: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns the axes, and as if they were axes, what settings give other parameters; for checks of single values."""
    varied = dict(axes)
    for setting in axes.get(SETTING, ()):
        for name, value in setting["parameters"].items():
            known = varied.get(name, [constant[name]])
            varied[name] = known if value in known else [*known, value]
    return varied


def spread_range(values: Range) -> list[float]:
    first, last = values.range
    # Rounded: a value must be the same number whether it was reached by steps or written by hand.
    return [round(first + (last - first) * i / (values.count - 1), 12) + 0.0 for i in range(values.count)]


def plain_values(values: list[Any]) -> list[Any]:
    return [
        asdict(value) if isinstance(value, Prompt | Reference | ReferenceSet) else without_nulls(value)
        for value in values
    ]


def axis_labels(name: str, values: list[Any]) -> list[str]:
    if name == SETTING:
        return [value["name"] for value in values]
    if name in ("prompt", "reference"):
        return ["none" if value is None else value.name for value in values]
    # A text without characters would be no label.
    return format_of(name)(['""' if value == "" else value for value in plain_values(values)])
