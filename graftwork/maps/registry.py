"""The registry of methods that fit a map.

A method is one module of this package: a decorated function with its parameters. The configuration's keys, the schema and
the reference follow from the registration. Functions get a `PairedCorpus` and return the tensors of `fitted.FittedMap`. The
modules are read while the workflow is parsed, and import no torch at the top.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from graftwork.core.code_digest import outside_digests
from graftwork.core.parameters import Strict
from graftwork.maps.corpus import PairedCorpus


@outside_digests("holds values, which are in a map's name")
class MethodParameters(Strict):
    """Parameters of a method."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Result of a method.

    Attributes:
        tensors: float64 or float32, by the names in `fitted`.
        facts: what people may want to know of the fit.
    """

    tensors: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


@outside_digests("holds a function, whose digest is in a map's name")
@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: value of `method`.
        function: (corpus, parameters) -> fit.
        formula: for the documentation.
        source: paper, or class in a library.
        parameters: model of its parameters.
        is_control: whether it is there to be compared with, and not meant to be used.
        takes_layers: whether it makes one state of several layers; the others take one layer.
        draws_ranks: whether it has a `rank` and is fitted at several for the rank curve of a study; one method is.
        takes_metric: (parameters) -> whether it needs the generator's metric.
        pairs_needed: (parameters) -> fewest pairs of tokens that it can be fitted on.
        problem_with: (parameters, width of the states) -> what is wrong with them, or None.
    """

    name: str
    function: Callable[[PairedCorpus, Any], Fit]
    formula: str
    source: str
    parameters: type[MethodParameters] = MethodParameters
    is_control: bool = False
    takes_layers: bool = False
    draws_ranks: bool = False
    takes_metric: Callable[[Any], bool] = lambda parameters: False
    pairs_needed: Callable[[Any], int] = lambda parameters: 2
    problem_with: Callable[[Any, int], str | None] = lambda parameters, width: None

    @property
    def summary(self) -> str:
        """Its description, in one line."""
        return str(self.function.__doc__).strip().split("\n")[0]


_METHODS: dict[str, Method] = {}


@outside_digests("registers a function, which has a digest of its own")
def register_method(name: str, **about: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as a method.

    Args:
        name: name in config/maps/*.yaml.
        about: the other attributes of `Method`.

    Raises:
        ValueError: where the name is taken.
        TypeError: where a parameter has no description.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _METHODS:
            raise ValueError(f"there is a method {name!r} already; rename one of them")
        method = Method(name, function, **about)
        for field_name, info in method.parameters.model_fields.items():
            if not info.description:
                raise TypeError(f"method {name!r}: parameter {field_name} has no description")
        _METHODS[name] = method
        return function

    return decorate


@outside_digests("looks functions up, which have digests of their own")
def methods() -> dict[str, Method]:
    """Returns every method by name."""
    _load_all()
    return dict(sorted(_METHODS.items()))


@outside_digests("looks a function up, which has a digest of its own")
def method(name: str) -> Method:
    """Returns one method."""
    _load_all()
    return _METHODS[name]


@cache
def _load_all() -> None:
    package = importlib.import_module("graftwork.maps.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"graftwork.maps.methods.{module.name}")
