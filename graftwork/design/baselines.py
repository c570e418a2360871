"""Baselines of an experiment: the images of the text alone that cells and controls are compared with."""

from collections.abc import Callable, Mapping
from typing import Any

from graftwork.core.cells import Cell
from graftwork.design.parameters import BASELINE_PARAMETERS
from graftwork.design.schema import CellParameters

# What a baseline of another generator has in common with that of the cell's own: the rest is said of one generator.
_OF_ANY_GENERATOR = (
    "prompt",
    "seed",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
)


class Baselines:
    """Makes baselines, each once.

    Attributes:
        cells: name -> baseline, in the order in which they were asked for.
    """

    def __init__(self, resolve: Callable[[Mapping[str, Any]], Cell]):
        """Takes what resolves the parameters of a baseline to a cell."""
        self._resolve = resolve
        self._known: dict[str, Cell] = {}
        self.cells: dict[str, Cell] = {}

    def of(self, values: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Cell:
        """Returns the text alone of a cell.

        Args:
            values: parameters of the cell, not resolved.
            changes: parameters that have other values than in the cell, such as another generator.
        """
        parameters = {key: values[key] for key in BASELINE_PARAMETERS}
        if changes and changes.get("generator", values["generator"]) != values["generator"]:
            others = [key for key in BASELINE_PARAMETERS if key not in _OF_ANY_GENERATOR]
            parameters |= {key: CellParameters.model_fields[key].default for key in others}
        parameters |= changes or {}
        choice = repr(parameters)  # Values may be structured, which a key may not.
        if choice not in self._known:
            cell = self._known[choice] = self._resolve({**parameters, "alpha": 0.0})
            self.cells.setdefault(cell.cell, cell)
        return self._known[choice]
