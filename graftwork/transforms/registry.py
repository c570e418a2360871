"""The registry of transforms: everything that can be done to hidden states, by name.

One entry is one function, one parameter model and one test. The registry feeds validation of experiment files, the
keys of recipes, labels and documentation. Functions take and return torch tensors, but neither this module nor the
ones that register functions import torch when they are imported: the registry is read while the workflow is parsed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from graftwork.core.code_digest import code_digest, outside_digests
from graftwork.core.identity import NEUTRAL

STAGES = (
    "token_mode",
    "masking",
    "dimension_fix",
    "normalization",
    "length_matching",
    "combination",
    "blend",
)


class TransformParameters(BaseModel):
    """Parameters of a transform. Each field becomes a parameter of cells, under its own name."""

    model_config = ConfigDict(extra="forbid", strict=True)


@outside_digests("holds a function, whose digest is in the recipe")
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
        problem_with: Given the resolved parameters of a cell, and where they are known `width` of the hidden states,
            `most_tokens` of the generator, how many `references` and `layers` there are, and whether the blend
            `takes_whole_source`, says what is wrong with the combination, or None.
        inputs: What the function takes by keyword beside its parameters, out of what `build_conditioning` knows.
        whole_source: Whether a blend takes the source as it was before length matching.
        weights: Of a length matching that is not linear in the tokens: (source, tokens, parameters) to the weight of
            each source token in each row, float32 (tokens, m).
    """

    stage: str
    name: str
    function: Callable[..., Any]
    parameters: type[TransformParameters] | None
    formula: str
    source: str
    problem_with: Callable[[dict[str, Any]], str | None]
    inputs: tuple[str, ...] = ()
    whole_source: bool = False
    weights: Callable[..., Any] | None = None

    @property
    def label(self) -> str:
        """What grids and tables call it."""
        return f"{self.stage} = {self.name}"

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return str(self.function.__doc__).strip().split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Its parameters, as they are where nothing is said."""
        fields = self.parameters.model_fields if self.parameters else {}
        return {name: info.default for name, info in fields.items()}

    @property
    def neutral(self) -> dict[str, Any]:
        """The values of its parameters that a cell's name leaves out."""
        return {name: NEUTRAL[name] for name in self.defaults}

    @property
    def digest(self) -> str:
        """Digest of the function and of what it calls."""
        return code_digest(*filter(None, (self.function, self.weights)))

    def keyword_arguments(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns those of a cell's parameters that the function takes."""
        fields = self.parameters.model_fields if self.parameters else ()
        return {name: parameters[name] for name in fields}


_TRANSFORMS: dict[str, dict[str, Transform]] = {stage: {} for stage in STAGES}


@outside_digests("adds a function, whose digest is in the recipe")
def register(
    stage: str,
    name: str,
    *,
    formula: str,
    source: str,
    parameters: type[TransformParameters] | None = None,
    problem_with: Callable[[dict[str, Any]], str | None] = lambda parameters: None,
    inputs: tuple[str, ...] = (),
    whole_source: bool = False,
    weights: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the transform `name` of `stage`; see `Transform`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _TRANSFORMS[stage]:
            raise ValueError(f"{stage} {name!r} is registered twice")
        _TRANSFORMS[stage][name] = Transform(
            stage,
            name,
            function,
            parameters,
            formula,
            source,
            problem_with,
            inputs,
            whole_source,
            weights,
        )
        return function

    return decorate


@outside_digests("looks functions up, whose digests are in the recipe")
def transforms(stage: str) -> dict[str, Transform]:
    """Returns the transforms of a stage by name, in the order they were registered."""
    _load_all()
    return dict(_TRANSFORMS[stage])


@outside_digests("looks a function up, whose digest is in the recipe")
def transform(stage: str, name: str) -> Transform:
    """Returns one transform."""
    return transforms(stage)[name]


def parameter_fields() -> dict[str, tuple[Any, FieldInfo]]:
    """Returns the parameters of all transforms by name, as a cell may have them: type, and description with default.

    Several transforms may take one parameter. The last one registered describes it, and its type has to take every
    value that the others take; which of these the chosen one takes is checked against its own model. Where their
    defaults differ, the cell's is None, which `fill_in_defaults` replaces.
    """
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for stage in STAGES:
        for entry in transforms(stage).values():
            for name, info in (entry.parameters.model_fields if entry.parameters else {}).items():
                if name in fields and fields[name][1].default != info.default:
                    info = FieldInfo(default=None, description=info.description)
                fields[name] = (entry.parameters.model_fields[name].rebuild_annotation(), info)
    return fields


def fill_in_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a cell's parameters with those that were left to the transforms (None) as the chosen ones have them.

    Where no chosen transform takes such a parameter, it gets its neutral value, so that it names no cell.
    """
    chosen = [transform(stage, parameters[stage]) for stage in STAGES if stage in parameters]
    filled = dict(parameters)
    for name in _left_open():
        if filled.get(name, NEUTRAL[name]) is not None:
            continue
        defaults = [entry.defaults[name] for entry in chosen if name in entry.defaults]
        filled[name] = defaults[0] if defaults else NEUTRAL[name]
    return filled


@cache
def _left_open() -> tuple[str, ...]:
    """Returns the parameters whose None stands for the chosen transform's default.

    Elsewhere None is a value like any other, such as no clipping.
    """
    fields = parameter_fields().items()
    return tuple(name for name, (_, info) in fields if info.default is None and NEUTRAL[name] is not None)


def _load_all() -> None:
    # Importing a module registers what it defines.
    from graftwork.transforms import (  # noqa: F401
        blending,
        combination,
        composition,
        dimension_fixes,
        length_matching,
        masking,
        normalization,
        statistical_blending,
        token_modes,
    )
