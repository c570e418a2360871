"""The registry of transforms: everything that can be done to hidden states, by name.

One entry is one function, one parameter model and one test. The registry feeds validation of experiment files, the
keys of recipes, labels and documentation. Functions take and return torch tensors, but neither this module nor the
ones that register functions import torch when they are imported: the registry is read while the workflow is parsed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from workflow_scripts.lib.design.code_digest import code_digest

STAGES = ("token_mode", "normalization", "length_matching", "blend")


class TransformParameters(BaseModel):
    """Parameters of a transform. Each field becomes a parameter of cells, under its own name."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Transform:
    """One registered transform.

    Attributes:
        stage: One of `STAGES`.
        name: The value of the parameter named like the stage.
        function: What it does; the signature is the same for all of a stage.
        parameters: Model of the further parameters that the function takes by keyword, or None.
        formula: For the documentation.
        source: Paper, or class in a library, or the design that the formula comes from.
        relies_on: Code that the function calls, as `module:name`; part of its digest.
        problem_with: Given the resolved parameters of a cell, says what is wrong with the combination, or None.
    """

    stage: str
    name: str
    function: Callable[..., Any]
    parameters: type[TransformParameters] | None
    formula: str
    source: str
    relies_on: tuple[str, ...]
    problem_with: Callable[[dict[str, Any]], str | None]

    @property
    def digest(self) -> str:
        """Digest of the function and of what it relies on."""
        return code_digest([f"{self.function.__module__}:{self.function.__name__}", *self.relies_on])

    def keyword_arguments(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns those of a cell's parameters that the function takes."""
        fields = self.parameters.model_fields if self.parameters else ()
        return {name: parameters[name] for name in fields}


_TRANSFORMS: dict[str, dict[str, Transform]] = {stage: {} for stage in STAGES}


def register(
    stage: str,
    name: str,
    *,
    formula: str,
    source: str,
    parameters: type[TransformParameters] | None = None,
    relies_on: Iterable[Callable[..., Any]] = (),
    problem_with: Callable[[dict[str, Any]], str | None] = lambda parameters: None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the transform `name` of `stage`; see `Transform`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _TRANSFORMS[stage]:
            raise ValueError(f"{stage} {name!r} is registered twice")
        parts = tuple(f"{part.__module__}:{part.__name__}" for part in relies_on)
        _TRANSFORMS[stage][name] = Transform(
            stage, name, function, parameters, formula, source, parts, problem_with
        )
        return function

    return decorate


def transforms(stage: str) -> dict[str, Transform]:
    """Returns the transforms of a stage by name, in the order they were registered."""
    _load_all()
    return dict(_TRANSFORMS[stage])


def transform(stage: str, name: str) -> Transform:
    """Returns one transform."""
    return transforms(stage)[name]


def _load_all() -> None:
    # Importing a module registers what it defines.
    from workflow_scripts.lib.conditioning import (  # noqa: F401
        blending,
        length_matching,
        normalization,
        token_modes,
    )
