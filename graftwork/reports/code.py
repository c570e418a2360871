"""Digests of the code that makes tables, grids, plots and summaries, so that they are made again when it changes."""

from collections.abc import Sequence

from graftwork.core.code_digest import code_digest
from graftwork.core.identity import digest
from graftwork.models.families import generator_families
from graftwork.reports.analysis.registry import plots_code
from graftwork.reports.document import document_text
from graftwork.reports.index import index_text
from graftwork.reports.templates import template_digest
from graftwork.scores.outputs import chart_code, describe_code, measure_code, summary_code

OUTSIDE_DIGESTS = "names code"


def table_code() -> str:
    """Returns the digest of the code that writes the tables of cells."""
    return _script("tabulate")


def grid_code() -> str:
    """Returns the digest of the code that draws grids."""
    return _script("draw_grid")


def export_code() -> str:
    """Returns the digest of the code that exports images."""
    return _script("export_images")


def states_code() -> str:
    """Returns the digest of the code that exports hidden states."""
    return _script("write_states")


def experiment_code(scores: Sequence[str]) -> str:
    """Returns the digest of the code and the text that sum up an experiment with these scores."""
    text = template_digest("experiment.md.j2")
    return digest([_script("summarize_experiment"), text, describe_code(scores)])


def score_code(scores: Sequence[str]) -> str:
    """Returns the digest of the code that measures images with these scores."""
    return digest([_script("score_images"), measure_code(scores)])


def score_summary_code(table: str, scores: Sequence[str]) -> str:
    """Returns the digest of the code that writes a summary of these scores."""
    return digest([_script("summarize_scores"), summary_code(table, scores)])


def score_plot_code(scores: Sequence[str]) -> str:
    """Returns the digest of the code that draws the plots of these scores."""
    return digest([_script("plot_scores"), chart_code(scores)])


def analysis_code() -> str:
    """Returns the digest of the code and the text that compare, draw and sum up an analysis."""
    return digest([_script("analyze_statistics"), plots_code(), template_digest("analysis.md.j2")])


def summary_page_code() -> str:
    """Returns the digest of the code and the templates that write the page of an experiment."""
    return digest([_script("write_summary_page"), *document_text()])


def analysis_page_code() -> str:
    """Returns the digest of the code and the templates that write the page of an analysis."""
    return digest([_script("write_analysis_page"), *document_text()])


def index_code() -> str:
    """Returns the digest of the code and the templates that write the index of all results."""
    return digest([_script("write_index"), *index_text()])


def map_measure_code() -> str:
    """Returns the digest of the code that measures maps."""
    velocities = [family.velocity for family in generator_families().values() if family.velocity]
    return digest([_script("measure_maps"), code_digest(*velocities)])


def map_report_code() -> str:
    """Returns the digest of the code and the texts that report on maps."""
    return digest([_script("report_maps"), template_digest("maps.md.j2"), *document_text()])


def _script(name: str) -> str:
    return code_digest(f"workflow_scripts.{name}:main")
