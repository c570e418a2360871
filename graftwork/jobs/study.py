"""A study: its report, tables and plots, from what experiments and analyses have made."""

import json
import logging
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graftwork.core.atomic import write_atomic
from graftwork.core.errors import DesignError
from graftwork.core.records import write_record
from graftwork.core.tables import write_table
from graftwork.design.project import Project
from graftwork.jobs.record import PACKAGES
from graftwork.models.description import locate_model
from graftwork.planning.scopes import STORE
from graftwork.reports.charts import chart_png
from graftwork.reports.document import Budget, write_document
from graftwork.reports.index import CARD, Card
from graftwork.store.layout import Store
from graftwork.studies.material import Material, ModelFiles
from graftwork.studies.registry import Study
from graftwork.studies.report import Made, render_report

REPORT = "report.md"
# Answers that the index of all results shows: the first ones are what a reader came for.
_ON_CARD = 2


def write_study(study: Study, project: Project, folder: Path, log: logging.Logger) -> None:
    """Writes report.md, report.html, report.json, tables and plots of a study, and its card for the index of all results.

    Args:
        study: what to write.
        project: the project, for its models.
        folder: where files are written; what is there of an earlier report and is not written again is removed.
        log: log of the job.
    """
    material = Material(
        STORE.parent,
        project.settings.family,
        Store(STORE),
        tuple(_models(project)),
        study.experiments,
        study.designs,
        study.analyses,
        project.roles,
    )
    report = study.write(material)
    files: dict[str, str | bytes] = {
        f"{name}.csv": write_table(rows) for name, rows in report.tables.items() if rows
    }
    files |= {f"plots/{name}.png": chart_png(chart) for name, chart in report.plots.items()}
    made = Made(
        [f"study_{study.name}"],
        [(f"{model.kind} {model.name}", model.identity) for model in _used(material, study)],
        {name: version(name) for name in PACKAGES},
        _sources(material),
    )
    markdown = render_report(study.title, study.question, report, made)
    data = {"study": study.name, "answers": list(report.answers), **report.data}
    files["report.json"] = json.dumps(_finite(data), indent=1, ensure_ascii=False)
    for old in [*folder.glob("*.csv"), *folder.glob("plots/*.png")]:
        if old.relative_to(folder).as_posix() not in files:
            old.unlink()
    for name, content in files.items():
        write_atomic(folder / name, content)
    note = f"Made by graftwork. This page needs no other file. Tables are in {folder.as_posix()}/."
    write_atomic(folder / "report.html", write_document(markdown, folder, Budget(), note=note))
    write_record(
        folder / CARD, Card(study.name, study.title, study.question, tuple(report.answers[:_ON_CARD]))
    )
    # Last: it is what the workflow waits for.
    write_atomic(folder / REPORT, markdown)
    log.info("%s files", len(files))


def _models(project: Project) -> list[ModelFiles]:
    found = []
    for kind in ("encoder", "generator"):
        for name in project.models.names(kind):
            try:
                model = project.models.get(kind, name, project.settings.models)
            except DesignError as error:
                found.append(ModelFiles(kind, name, "", None, {}, str(error)))
                continue
            folder = locate_model(name, model.entry)
            found.append(ModelFiles(kind, name, model.identity, folder, model.entry))
    return found


def _used(material: Material, study: Study) -> list[ModelFiles]:
    """Returns the models that took part: those of the study's experiments and analyses, or all that are here."""
    identities = {identity for design in material.designs.values() for identity in design.models}
    names = {
        entry.model.name
        for analysis in study.analyses
        for entry in material.task(analysis).entries
        if entry.model is not None
    }
    here = [model for model in material.models if model.folder is not None]
    if not (identities or names):
        return here
    return [model for model in here if model.identity in identities or model.name in names]


def _sources(material: Material) -> dict[str, str]:
    sources = {"family of models": material.family or "none is chosen"}
    for name in material.experiments:
        cells = material.cells(name)
        done = sum(row["status"] == "done" for row in cells)
        sources[f"experiment {name}"] = f"{done} of {len(cells)} cells have an image"
    for name in material.only_designs:
        cells = material.designs[name].cells
        sources[f"experiment {name}"] = f"{len(cells)} cells, of which no image is read"
    for name in material.analyses:
        corpus = material.task(name).corpus
        sources[f"analysis {name}"] = f"corpus {corpus.name}, {corpus.prompts} prompts"
    return sources


def _finite(value: Any) -> Any:
    """Returns plain values, with null in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
