"""The registry of plots of an analysis.

A plot is a function in a module of `graftwork.reports.analysis.plots`, decorated with what it is drawn of: an encoder, a layer
of an encoder, or a pair that is compared. Modules are found by walking the package. Its file turns up beside the other
plots of the analysis, and in the summary under its caption.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from graftwork.core.charts import Chart
from graftwork.core.code_digest import code_digest, outside_digests
from graftwork.statistics.analysis import LayerReading
from graftwork.statistics.reference import ReferenceStatistics

PLOTS_PACKAGE = "graftwork.reports.analysis.plots"


@dataclass(frozen=True, eq=False)
class EncoderRead:
    """An encoder over a corpus.

    Attributes:
        name: name of the encoder in the analysis.
        readings: layer -> what was read there, from the embeddings upwards.
    """

    name: str
    readings: Mapping[int, LayerReading]


@dataclass(frozen=True, eq=False)
class LayerMeasured:
    """One layer of an encoder over a corpus.

    Attributes:
        name: name of the encoder in the analysis.
        layer: layer as in experiments, such as -2.
        reading: what was read at the layer.
        every: statistics over all tokens.
        rest: statistics over all tokens but the attention sink.
    """

    name: str
    layer: int
    reading: LayerReading
    every: ReferenceStatistics
    rest: ReferenceStatistics


@dataclass(frozen=True, eq=False)
class PairCompared:
    """Two sides that are compared, with the attention sink or without it.

    Attributes:
        name: name of the comparison in file names.
        title: both sides in words.
        sides: each side in words, with the tokens that were measured.
        a: statistics of the first side.
        b: statistics of the second side.
        is_without_sink: whether the sink was left out of a comparison that has it otherwise.
    """

    name: str
    title: str
    sides: tuple[str, str]
    a: ReferenceStatistics
    b: ReferenceStatistics
    is_without_sink: bool


@dataclass(frozen=True)
class AnalysisPlot:
    """A plot of an analysis.

    Attributes:
        name: name of the file, without its ending.
        caption: heading in the summary.
        chart: the plot.
    """

    name: str
    caption: str
    chart: Chart


Draw = Callable[[Any], AnalysisPlot | None]
_F = TypeVar("_F", bound=Draw)
_PLOTS: dict[str, tuple[type, Draw]] = {}


@outside_digests("registers a function, which has a digest of its own")
def analysis_plot(subject: type) -> Callable[[_F], _F]:
    """Registers a plot.

    Args:
        subject: `EncoderRead`, `LayerMeasured` or `PairCompared`, which the function is called with. It returns None where
            there is nothing to draw.

    Raises:
        ValueError: where the subject is another type, or the name of the function is taken.
    """
    allowed = (EncoderRead, LayerMeasured, PairCompared)
    if subject not in allowed:
        raise ValueError(
            f"{subject!r} is no subject of a plot; allowed: {', '.join(one.__name__ for one in allowed)}"
        )

    def decorate(function: _F) -> _F:
        if function.__name__ in _PLOTS:
            raise ValueError(f"there is a plot {function.__name__!r} already; rename one of them")
        _PLOTS[function.__name__] = (subject, function)
        return function

    return decorate


@outside_digests("looks functions up, which have digests of their own")
def plots_of(subject: EncoderRead | LayerMeasured | PairCompared) -> Iterator[AnalysisPlot]:
    """Yields the plots that are registered for a subject of this type."""
    _load_all()
    for wanted, draw in _PLOTS.values():
        if isinstance(subject, wanted):
            plot = draw(subject)
            if plot is not None:
                yield plot


def plots_code() -> str:
    """Returns the digest of the code of all plots."""
    _load_all()
    return code_digest(*(draw for _, draw in _PLOTS.values()))


@cache
def _load_all() -> None:
    # Importing a module registers what it defines.
    package = importlib.import_module(PLOTS_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{PLOTS_PACKAGE}.{module.name}")
