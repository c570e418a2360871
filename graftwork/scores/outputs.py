"""The tables and plots that an experiment has because of its scores, and the digests of the code that makes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graftwork.core.cells import Axis
from graftwork.core.code_digest import code_digest
from graftwork.core.identity import digest
from graftwork.scores.means import MEANS
from graftwork.scores.registry import Section, Summary, scores

SCORES_FILE = "scores.csv"
PLOTS_FOLDER = "plots"


@dataclass(frozen=True)
class Plot:
    """A plot of an experiment's scores.

    Attributes:
        table: name of the summary that it is drawn from.
        shows: what is on it, for `Summary.chart`.
    """

    table: str
    shows: str


def all_summaries() -> dict[str, Summary]:
    """Returns the summaries of all scores by the name of their table, the means first."""
    own = [summary for score in scores().values() for summary in score.summaries]
    return {summary.table: summary for summary in [MEANS, *own]}


def summaries_of(names: Sequence[str]) -> list[Summary]:
    """Returns the summaries of an experiment with these scores: first those of single scores, then the means."""
    own = [summary for name in names for summary in scores()[name].summaries]
    return [*own, *([MEANS] if names else [])]


def plots_of(names: Sequence[str], axes: Sequence[Axis]) -> dict[str, Plot]:
    """Returns the plots of an experiment by name.

    Args:
        names: names of its scores.
        axes: axes of the experiment.

    Raises:
        ValueError: where two summaries have a plot of one name.
    """
    plots: dict[str, Plot] = {}
    for summary in summaries_of(names):
        for name, shows in summary.plots(axes, names).items():
            if name in plots:
                raise ValueError(
                    f"plot {name!r} of {summary.table} is a plot of {plots[name].table} too; rename it"
                )
            plots[name] = Plot(summary.table, shows)
    return plots


def describe_scores(names: Sequence[str], tables: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Section]:
    """Returns what summary.md says of an experiment's scores.

    Args:
        names: names of its scores.
        tables: name of a summary -> its rows.
    """
    return [summary.describe(tables[summary.table]) for summary in summaries_of(names)]


def measure_code(names: Sequence[str]) -> str:
    """Returns the digest of the code that measures these scores."""
    return _digest(names, *(function for name in names for function in scores()[name].measures))


def summary_code(table: str, names: Sequence[str]) -> str:
    """Returns the digest of the code that makes a summary of these scores."""
    return _digest(names, all_summaries()[table].summarize)


def chart_code(names: Sequence[str]) -> str:
    """Returns the digest of the code that describes the plots of these scores."""
    return _digest(names, *(summary.chart for summary in summaries_of(names)))


def describe_code(names: Sequence[str]) -> str:
    """Returns the digest of the code that says what summary.md has of these scores."""
    return _digest(names, *(summary.describe for summary in summaries_of(names)))


def _digest(names: Sequence[str], *functions: Callable[..., Any]) -> str:
    # Labels, units and bounds are data, which a digest of code does not see.
    columns = [asdict(column) for name in names for column in scores()[name].columns]
    return digest([code_digest(*functions), columns])


def stale_score_files(results: Path) -> list[Path]:
    """Returns the tables and the folder of plots in a folder whose experiment has no scores any more."""
    tables = [results / SCORES_FILE, *(results / f"{table}.csv" for table in all_summaries())]
    return [path for path in (*tables, results / PLOTS_FOLDER) if path.exists()]
