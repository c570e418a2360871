"""The registry of transforms: everything that can be done to hidden states, by name.

One transform is one decorated function with its parameter model, in one module of this package, and its test. Everything
else is derived from the registration: the parameters that cells have, their names, columns and documentation, checks of
experiments, keys of recipes, and the experiment that shows every transform. What a registration lacks is an error when the
package is imported.

Functions take and return torch tensors, but neither this module nor the ones that register functions import torch when
they are imported: the registry is read while the workflow is parsed.
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

from pydantic.fields import FieldInfo

from graftwork.core.code_digest import code_digest, outside_digests
from graftwork.core.labels import format_value, format_values
from graftwork.core.parameters import ALWAYS, Declaration, Strict, declarations
from graftwork.transforms.context import FIT_STATISTICS, NEEDS, STATISTICS, STATISTICS_WITH, VECTOR

# In an example, for a stage: its default, whatever the experiment around the example has.
DEFAULT = object()


@outside_digests("says how functions are called; what they do has a digest of its own")
@dataclass(frozen=True)
class Stage:
    """A step from hidden states to conditioning, for which a cell chooses one transform.

    Attributes:
        name: Parameter of cells that chooses the transform.
        arguments: Names of the arguments of its functions.
        meaning: its effect, in one sentence.
        in_every_name: Whether the name of every cell contains the choice. Else one transform of the stage is registered
            as neutral, which names leave out.
    """

    name: str
    arguments: tuple[str, ...]
    meaning: str
    in_every_name: bool = False

    @staticmethod
    def format(values: Sequence[Any]) -> list[str]:
        """Writes choices for people, different ones differently: a name, or what a mapping says beside its defaults."""
        plain = [
            {name: item for name, item in value.items() if item not in (None, False)}
            if isinstance(value, Mapping)
            else value
            for value in values
        ]
        short = [
            ", ".join(map(format_value, value.values())) if isinstance(value, Mapping) else str(value)
            for value in plain
        ]
        return short if len(set(short)) == len(set(map(repr, values))) else format_values(values)

    @cached_property
    def default(self) -> str:
        """Name of the transform that a cell has where an experiment does not choose one."""
        return next(entry.name for entry in transforms(self.name).values() if entry.is_default)

    @cached_property
    def neutral(self) -> Any:
        """Name of the transform that a cell's name leaves out, or `ALWAYS`."""
        found = [entry.name for entry in transforms(self.name).values() if entry.is_neutral]
        return found[0] if found else ALWAYS

    @property
    def description(self) -> str:
        """Description of the parameter in the documentation."""
        return f"{self.meaning} See the table of transforms."


# In the order in which they are applied.
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "token_mode", ("roles", "parameters"), "Which tokens of the encoder are used.", in_every_name=True
        ),
        Stage(
            "masking",
            ("source", "parameters", "context"),
            "Changes dimensions whose spread differs much from that of the reference `statistics`.",
        ),
        Stage(
            "dimension_fix",
            ("source", "parameters", "context"),
            "Corrects dimensions with factors that were fitted on a corpus.",
        ),
        Stage(
            "mapping",
            ("layers", "parameters", "context"),
            "Maps the hidden states to those of the generator's own text encoder, with a map that was fitted on a corpus.",
        ),
        Stage(
            "normalization",
            ("source", "parameters", "context"),
            "Matches the distribution of the hidden states to that of the reference `statistics`.",
        ),
        Stage(
            "length_matching",
            ("source", "tokens", "parameters"),
            "Brings the source to the number of tokens of the text.",
            in_every_name=True,
        ),
        Stage("combination", ("sources", "parameters"), "Makes one source of several references or layers."),
        Stage(
            "blend",
            ("text", "source", "alpha", "parameters", "context"),
            "Mixes the source with the hidden states of the text.",
            in_every_name=True,
        ),
    )
}


@outside_digests("holds values, which are in the recipe")
class TransformParameters(Strict):
    """Parameters of a transform. Each field is made by `parameter` and becomes a parameter of cells, under its name."""


@outside_digests("holds a function, whose digest is in the recipe")
@dataclass(frozen=True)
class Transform:
    """One registered transform.

    Attributes:
        stage: One of `STAGES`.
        name: Value of the parameter that is named like the stage.
        function: the transform itself. It takes the arguments that its stage lists; `parameters` is an instance of the model.
        formula: For the documentation.
        source: Paper, class in a library, or design that the formula comes from.
        parameters: Model of its parameters.
        needs: inputs beside source and parameters, out of `NEEDS`.
        problem_with: Given the parameters of a cell, says what is wrong with the combination, or None. Where they are
            known, the facts of `graftwork.design.fit.facts_of` are among the parameters.
        is_default: Whether cells have it where an experiment chooses none.
        is_neutral: Whether it reproduces what happened before its stage existed; a cell's name leaves it out.
        examples: Settings that show what it does, for the experiment that shows every transform: name -> parameters of a
            cell. The transform itself is added; `DEFAULT` stands for the default of another stage.
        is_mapping: Whether it is chosen by a mapping with its name as a key, `{name: ..., parameter: ...}`, whose keys are its
            parameters; those are then no parameters of cells.
        selects_all: For token modes: whether it selects every token.
        combines: For combinations: the parameter of cells whose several values it combines, if any.
        keeps_length: For length matchings: whether the source keeps its own length.
        weights: For length matchings that are not linear in the tokens: (source, tokens, parameters) to the weight of each
            token of the source in each row, float32 (tokens, m).
        takes_own_length: For blends, when the source may have another length than the text: `never`, `at alpha 1`, where
            the source is the result and the function is not called, or `always`.
        has_alpha: For blends: whether alpha may be between 0 and 1.
        tokens_wanted: For blends: (parameters, tokens of the text) to how many tokens the source is matched to; None for
            as many as the text has.
    """

    stage: str
    name: str
    function: Callable[..., Any]
    formula: str
    source: str
    parameters: type[TransformParameters] = TransformParameters
    needs: tuple[str, ...] = ()
    problem_with: Callable[[Mapping[str, Any]], str | None] = lambda parameters: None
    is_default: bool = False
    is_neutral: bool = False
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_mapping: bool = False
    selects_all: bool = False
    combines: str | None = None
    keeps_length: bool = False
    weights: Callable[..., Any] | None = None
    takes_own_length: Literal["never", "at alpha 1", "always"] = "never"
    has_alpha: bool = True
    tokens_wanted: Callable[[Any, int], int] | None = None

    @property
    def label(self) -> str:
        """Name in grids and tables."""
        return f"{self.stage} = {self.name}"

    @property
    def summary(self) -> str:
        """Effect, in one line."""
        return str(self.function.__doc__).strip().split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Its parameters, as they are where nothing is said."""
        return {name: info.default for name, info in self.parameters.model_fields.items()}

    @cached_property
    def declarations(self) -> dict[str, Declaration]:
        """Declarations of its parameters, by name; none where they are no parameters of cells."""
        if self.is_mapping:
            return {}
        return declarations(self.parameters.model_fields, f"{self.stage} {self.name!r}")

    @property
    def neutral(self) -> dict[str, Any]:
        """The values of its parameters that a cell's name leaves out."""
        return {name: declared.neutral for name, declared in self.declarations.items()}

    @property
    def needs_statistics(self) -> bool:
        """Whether it takes reference statistics, of whatever content."""
        return any(need == STATISTICS or need in STATISTICS_WITH for need in self.needs)

    @property
    def digest(self) -> str:
        """Digest of the function and of what it calls."""
        return code_digest(*filter(None, (self.function, self.weights, self.tokens_wanted)))

    def values_of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those of a cell's parameters that the function takes, by name."""
        if self.is_mapping:
            return dict(parameters[self.stage])
        return {name: parameters[name] for name in self.parameters.model_fields}

    def parameters_of(self, values: Mapping[str, Any]) -> TransformParameters:
        """Returns the parameters as the function takes them, of values that have been validated.

        Args:
            values: Name -> value; those that are missing have their defaults.
        """
        return self.parameters.model_construct(**values)


_TRANSFORMS: dict[str, dict[str, Transform]] = {stage: {} for stage in STAGES}


@outside_digests("adds a function, whose digest is in the recipe")
def register(stage: str, name: str, **about: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the transform `name` of `stage`.

    Args:
        stage: One of `STAGES`.
        name: Name in experiments.
        about: The other attributes of `Transform`; `formula` and `source` are needed.

    Raises:
        TypeError: for what a registration lacks or has too much, naming transform and parameter.
        ValueError: for a name that is taken, and for a parameter that another transform declares otherwise.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        entry = Transform(stage, name, function, **about)
        _check(entry)
        _TRANSFORMS[stage][name] = entry
        return function

    return decorate


@outside_digests("looks functions up, whose digests are in the recipe")
def transforms(stage: str) -> dict[str, Transform]:
    """Returns the transforms of a stage by name, in the order they were registered."""
    _load_all()
    return dict(_TRANSFORMS[stage])


@outside_digests("looks a function up, whose digest is in the recipe")
def transform(stage: str, chosen: str | Mapping[str, Any]) -> Transform:
    """Returns one transform.

    Args:
        stage: One of `STAGES`.
        chosen: Its name, or the mapping that chooses it.
    """
    _load_all()
    if isinstance(chosen, str):
        return _TRANSFORMS[stage][chosen]
    return next(entry for entry in _TRANSFORMS[stage].values() if entry.is_mapping and entry.name in chosen)


def names_of(stage: str, wanted: Callable[[Transform], bool]) -> list[str]:
    """Returns the names of those transforms of a stage that are wanted, for messages."""
    return [name for name, entry in transforms(stage).items() if wanted(entry)]


def choice_of(stage: str, parameters: Mapping[str, Any]) -> Transform:
    """Returns the transform that the parameters of a cell choose for a stage; its default where they do not choose."""
    return transform(stage, parameters.get(stage, STAGES[stage].default))


def parameter_fields() -> dict[str, tuple[Any, FieldInfo]]:
    """Returns the parameters of all transforms by name, as a cell may have them: type, and description with default.

    Several transforms may share a parameter. The last one registered describes it, and its type has to take every
    value that the others take; which of these the chosen one takes is checked against its own model. Where their
    defaults differ, the cell's is None, which `fill_in_defaults` replaces.
    """
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for stage in STAGES:
        for entry in transforms(stage).values():
            for name, info in entry.parameters.model_fields.items() if not entry.is_mapping else ():
                described = info
                if name in fields and fields[name][1].default != info.default:
                    described = FieldInfo(default=None, description=info.description)
                fields[name] = (info.rebuild_annotation(), described)
    return fields


@cache
def owners_of(parameter: str) -> tuple[Transform, ...]:
    """Returns the transforms that take a parameter of cells."""
    entries = (entry for stage in STAGES for entry in transforms(stage).values())
    return tuple(
        entry for entry in entries if parameter in entry.parameters.model_fields and not entry.is_mapping
    )


def fill_in_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a cell's parameters with what was left at a default that is not neutral as the chosen transforms have it.

    Where no chosen transform takes such a parameter, it gets its neutral value, so that it names no cell.
    """
    chosen = [transform(stage, parameters[stage]) for stage in STAGES if stage in parameters]
    filled = dict(parameters)
    for name, (default, neutral) in _not_neutral_by_default().items():
        if name in filled and filled[name] == default:
            own = [entry.defaults[name] for entry in chosen if name in entry.defaults]
            filled[name] = own[0] if own else neutral
    return filled


@cache
def _not_neutral_by_default() -> dict[str, tuple[Any, Any]]:
    """Returns name -> default and neutral value of the parameters where the two differ."""
    found = {
        name: (info.default, owners_of(name)[0].neutral[name])
        for name, (_, info) in parameter_fields().items()
    }
    return {name: values for name, values in found.items() if values[0] != values[1]}


@cache
def _load_all() -> None:
    """Imports every module of the package, which registers what it defines, and checks the stages."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    for stage in STAGES.values():
        entries = _TRANSFORMS[stage.name].values()
        for what, wanted in (("is_default", 1), ("is_neutral", 0 if stage.in_every_name else 1)):
            found = [entry.name for entry in entries if getattr(entry, what)]
            if len(found) != wanted:
                raise TypeError(
                    f"{stage.name}: {', '.join(found) or 'no transform'} registered with {what}=True; {wanted} must be"
                )


def _check(entry: Transform) -> None:
    owner = f"{entry.stage} {entry.name!r}"
    if entry.stage not in STAGES:
        raise TypeError(f"{owner}: there is no stage {entry.stage!r}; allowed: {', '.join(STAGES)}")
    if entry.name in _TRANSFORMS[entry.stage]:
        raise ValueError(f"{owner} is registered twice")
    arguments = tuple(inspect.signature(entry.function).parameters)
    if arguments != STAGES[entry.stage].arguments:
        raise TypeError(
            f"{owner}: the function takes ({', '.join(arguments)}); functions of its stage take "
            f"({', '.join(STAGES[entry.stage].arguments)})"
        )
    _check_needs(entry, owner)
    _check_examples(entry, owner)
    for name, value in entry.neutral.items():
        if value is ALWAYS:
            raise TypeError(
                f"{owner}: parameter {name} has the neutral value ALWAYS, which would rename every cell that exists; give the "
                "value at which the transform does nothing new"
            )
    _check_shared(entry, owner)


def _check_needs(entry: Transform, owner: str) -> None:
    unknown = [need for need in entry.needs if need not in NEEDS]
    if unknown:
        raise TypeError(f"{owner}: it needs {unknown[0]!r}, which nothing gives; allowed: {', '.join(NEEDS)}")
    needed = {
        STATISTICS: entry.needs_statistics,
        "fix_corpus": FIT_STATISTICS in entry.needs,
        VECTOR: VECTOR in entry.needs,
    }
    for parameter, is_needed in needed.items():
        if is_needed != (parameter in entry.parameters.model_fields):
            raise TypeError(
                f"{owner}: it has {'no ' if is_needed else ''}parameter {parameter}, but needs {list(entry.needs)}; the two "
                "go together"
            )


def _check_examples(entry: Transform, owner: str) -> None:
    if not entry.examples and not entry.is_default:
        raise TypeError(
            f"{owner}: no setting shows what it does; give examples={{name: parameters of a cell}}"
        )
    taken = {name for others in _TRANSFORMS.values() for other in others.values() for name in other.examples}
    if taken & set(entry.examples):
        raise ValueError(
            f"{owner}: another transform has an example {min(taken & set(entry.examples))!r} too"
        )


def _check_shared(entry: Transform, owner: str) -> None:
    """Refuses a parameter whose neutral value is another one in another transform."""
    for others in _TRANSFORMS.values():
        for other in others.values():
            for name in set(entry.neutral) & set(other.neutral):
                values = entry.neutral[name], other.neutral[name]
                if json.dumps(values[0]) != json.dumps(values[1]):
                    raise ValueError(
                        f"{owner}: parameter {name} has the neutral value {values[0]!r}, but {values[1]!r} in "
                        f"{other.stage} {other.name!r}; a shared parameter has one"
                    )
