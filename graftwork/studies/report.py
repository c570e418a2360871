"""The report of a study as data and as Markdown. What is said first is what a reader came for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graftwork.core.charts import Chart
from graftwork.core.tables import Row
from graftwork.reports.document import document_text
from graftwork.reports.templates import render, template_digest

TEMPLATE = "study.md.j2"


@dataclass(frozen=True)
class Table:
    """A table in a report.

    Attributes:
        columns: headings.
        rows: one value per column; None is an empty field.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Part:
    """A section of a report.

    Attributes:
        heading: what it is about.
        text: paragraphs, plain text.
        table: a table below them.
        plots: names of plots below it.
        strip: (heading, path relative to the report) of images side by side, between text and table.
        pictures: (path relative to the report, caption) of images that other rules have made.
        code: text that is shown as it is, such as a rendered template.
    """

    heading: str
    text: Sequence[str] = ()
    table: Table | None = None
    plots: Sequence[str] = ()
    strip: Sequence[tuple[str, str]] = ()
    pictures: Sequence[tuple[str, str]] = ()
    code: Sequence[str] = ()


@dataclass(frozen=True)
class StudyReport:
    """What a study has found.

    Attributes:
        answers: sentences at the top, each an answer with its numbers.
        caveats: what cannot be said with the models at hand, and why.
        parts: sections.
        tables: name -> rows, written as CSV.
        plots: name -> plot, written as PNG.
        data: written as report.json.
        about: what was made and how it is measured, for somebody who knows nothing of it; "" for nothing.
    """

    answers: Sequence[str]
    caveats: Sequence[str] = ()
    parts: Sequence[Part] = ()
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    plots: Mapping[str, Chart] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class Made:
    """How a report was made.

    Attributes:
        targets: targets that make it again.
        models: (name, identity) of the models.
        packages: name -> version.
        sources: what was read: name -> how much of it there is.
    """

    targets: Sequence[str]
    models: Sequence[tuple[str, str]]
    packages: Mapping[str, str]
    sources: Mapping[str, str]


def render_report(title: str, question: str, report: StudyReport, made: Made) -> str:
    """Returns report.md.

    Args:
        title: heading.
        question: what is asked.
        report: what was found.
        made: how.
    """
    return render(TEMPLATE, title=title, question=question, report=report, made=made)


def report_text() -> list[str]:
    """Returns the digests of the templates that a report and its page are made from."""
    return [template_digest(TEMPLATE), *document_text()]
