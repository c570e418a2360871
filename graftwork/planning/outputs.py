"""Outputs of an experiment's images: grid pages, tables of scores, plots and a summary."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError, suggest
from graftwork.core.identity import digest
from graftwork.core.labels import label
from graftwork.core.records import to_json
from graftwork.design.pages import Page, first_pages, page_names
from graftwork.design.project import EXPERIMENT_FOLDER, Project
from graftwork.planning.plan import ImagePlan
from graftwork.planning.scope import RESULTS
from graftwork.scores.outputs import PLOTS_FOLDER, SCORES_FILE, Plot, plots_of, summaries_of
from graftwork.scores.questions import Scoring
from graftwork.scores.registry import scores

# Pages that a message names.
_MOST_NAMED = 12


class Outputs:
    """Answers questions about the outputs of a project's experiments, each computed once."""

    def __init__(self, project: Project):
        self._project = project
        self.pages = cache(self._pages)

    def require(self, target: str, is_made: bool, rules: Iterable[str]) -> None:
        """Raises DesignError for a target that is neither a rule nor a file that anything makes, or that cannot be made.

        Args:
            target: rule or file, as it was asked for.
            is_made: whether a rule makes a file of this name, or it is there.
            rules: names of rules.
        """
        parts = Path(target).parts
        if len(parts) < 2 and not is_made and target not in rules:
            named = target in self._project.experiment_names()
            hint = (
                f"; the files of this experiment are in {RESULTS}/{target}/"
                if named
                else suggest(target, rules)
            )
            raise DesignError(
                f"{target}: there is no rule and no file of this name{hint}; ask for all, for export, or for a file such as "
                f"{RESULTS}/{target if named else 'demo'}/summary.md"
            )
        if len(parts) < 3 or parts[0] != RESULTS.name or parts[1] not in self._project.experiment_names():
            return
        experiment, folder, name = parts[1], parts[2], Path(parts[-1]).stem
        self._project.design(experiment)  # What is wrong in its file is said here, before jobs are chosen.
        if len(parts) == 4 and folder == "grids" and target.endswith(".png"):
            self.page(experiment, name)
        elif folder == PLOTS_FOLDER:
            self._require_plots(target, experiment, name if len(parts) == 4 else None)
        elif not is_made:
            known = self._files(experiment)
            raise DesignError(
                f"{target}: nothing makes this file; there are: {', '.join(known)}{suggest(target, known)}"
            )

    def _require_plots(self, target: str, experiment: str, plot: str | None) -> None:
        """Raises DesignError for plots that nothing draws, and for a single one: an experiment's are drawn together."""
        plots = self.plots(experiment)
        if not plots:
            self.scores_asked_for(experiment)
        if plot is None:
            return
        if plot not in plots:
            raise DesignError(
                f"experiment {experiment} has no plot {plot!r}; its plots: {', '.join(plots) or 'none'}{suggest(plot, plots)} (they follow from "
                f"scores in {EXPERIMENT_FOLDER}/{experiment}.yaml)"
            )
        raise DesignError(
            f"{target}: the plots of an experiment are drawn together; ask for {RESULTS}/{experiment}/{PLOTS_FOLDER}"
        )

    def _files(self, experiment: str) -> list[str]:
        """Returns the files that people ask for, but grids and plots."""
        tables = [f"{RESULTS}/{experiment}/{name}.csv" for name in ("cells", "cells_full", "constants")]
        scored = self.score_summaries(experiment)
        if scored:
            scored = [f"{RESULTS}/{experiment}/{SCORES_FILE}", *scored]
        return [*tables, *self.summaries([experiment]), *scored, f"{RESULTS}/{experiment}/export/index.csv"]

    def design_digest(self, experiment: str) -> str:
        """Returns what stands for an experiment's cells."""
        return self._project.design(experiment).digest

    def image_shards(self, plan: ImagePlan, experiment: str) -> list[str]:
        """Returns the planned shards with images of an experiment."""
        images = (plan.cells[cell].image for cell in self._cells(experiment) if cell in plan.cells)
        return sorted({plan.shard_of[image] for image in images if image in plan.shard_of})

    def cells_digest(self, plan: ImagePlan, experiment: str) -> str:
        """Returns what the plan says of an experiment's cells, so that its table follows it and no other's."""
        return digest([to_json(plan.cells.get(cell)) for cell in self._cells(experiment)])

    def _cells(self, experiment: str) -> list[str]:
        return [cell.cell for cell in self._project.design(experiment).cells]

    def _pages(self, experiment: str) -> dict[str, Page]:
        design = self._project.design(experiment)
        return page_names(design.lengths, design.grids)

    def _first_pages(self, experiment: str) -> list[str]:
        design = self._project.design(experiment)
        return first_pages(design.lengths, design.grids)

    def _drawn_pages(self, experiment: str) -> list[str]:
        """Returns the first pages of each grid, and those that were asked for before: they are kept up to date."""
        folder = self._project.root / RESULTS / experiment / "grids"
        asked_for = {file.stem for file in folder.glob("*.png")}
        first = self._first_pages(experiment)
        return [page for page in self.pages(experiment) if page in first or page in asked_for]

    def page(self, experiment: str, page: str) -> Page:
        """Returns what is on a page of a grid."""
        pages = self.pages(experiment)
        if page not in pages:
            named = ", ".join(list(pages)[:_MOST_NAMED]) + (", ..." if len(pages) > _MOST_NAMED else "")
            raise DesignError(
                f"experiment {experiment} has no grid page {page!r}; its {len(pages)} pages: {named or 'none'}"
                f"{suggest(page, pages)} (they follow from grids in {EXPERIMENT_FOLDER}/{experiment}.yaml)"
            )
        return pages[page]

    def scores(self, experiment: str) -> list[str]:
        """Returns the names of an experiment's scores."""
        return self._project.design(experiment).scores

    def scoring(self, experiment: str) -> Scoring:
        """Returns what an experiment asks scorers."""
        return self._project.design(experiment).scoring

    def scores_asked_for(self, experiment: str) -> list[str]:
        """Returns the names of an experiment's scores, which must be some."""
        if not self.scores(experiment):
            raise DesignError(
                f"{EXPERIMENT_FOLDER}/{experiment}.yaml: scores is missing or empty, so there is nothing to measure; "
                f"allowed: a list of {', '.join(scores())}"
            )
        return self.scores(experiment)

    def files_of_scores(self, experiment: str) -> list[str]:
        """Returns the files that an experiment's scores read besides its images."""
        files = [file for name in self.scores(experiment) for file in scores()[name].files(Path())]
        return sorted({file.as_posix() for file in files})

    def grids(self, experiments: Iterable[str]) -> list[str]:
        """Returns the files of the grid pages of experiments: the first of each grid, and those asked for before."""
        return [
            f"{RESULTS}/{experiment}/grids/{page}.png"
            for experiment in experiments
            for page in self._drawn_pages(experiment)
        ]

    def score_files(self, experiments: Iterable[str]) -> list[str]:
        """Returns the tables and plots of experiments' scores; of each, the table of scores itself comes first."""
        return [
            file
            for experiment in experiments
            for file in (
                *([f"{RESULTS}/{experiment}/{SCORES_FILE}"] if self.scores(experiment) else []),
                *self.score_summaries(experiment),
                *self.plot_folder(experiment),
            )
        ]

    def score_summaries(self, experiment: str) -> list[str]:
        """Returns the tables that sum an experiment's scores up, in the order of the scores."""
        return [
            f"{RESULTS}/{experiment}/{summary.table}.csv" for summary in summaries_of(self.scores(experiment))
        ]

    @staticmethod
    def summaries(experiments: Iterable[str]) -> list[str]:
        """Returns what sums experiments up."""
        files = ("summary.md", "no_ops.csv", "summary.html")
        return [f"{RESULTS}/{experiment}/{file}" for experiment in experiments for file in files]

    def plot_folder(self, experiment: str) -> list[str]:
        """Returns the folder of the plots of an experiment's scores, if it has any."""
        return [f"{RESULTS}/{experiment}/{PLOTS_FOLDER}"] if self.plots(experiment) else []

    def shown_pages(self, experiment: str) -> dict[str, Any]:
        """Returns name -> what is on the page, of the first pages of the grids, as plain values."""
        return {name: to_json(self.page(experiment, name)) for name in self._first_pages(experiment)}

    def pictures(self, experiment: str) -> dict[str, dict[str, str]]:
        """Returns heading -> path of a grid or plot, relative to the experiment's results -> what is constant on it."""
        first = self._first_pages(experiment)
        grids = {
            f"grids/{name}.png": text for name, text in self._page_texts(experiment).items() if name in first
        }
        return {
            "Grids": grids,
            "Plots": {f"{PLOTS_FOLDER}/{plot}.png": "" for plot in self.plots(experiment)},
        }

    def more_pages(self, experiment: str) -> dict[str, str]:
        """Returns file of a page of a grid that is drawn only when it is asked for -> what is constant on it."""
        first = self._first_pages(experiment)
        return {
            f"{RESULTS}/{experiment}/grids/{name}.png": text
            for name, text in self._page_texts(experiment).items()
            if name not in first
        }

    def _page_texts(self, experiment: str) -> dict[str, str]:
        """Returns name of a page -> what is constant on it, and which part of the axes it shows."""
        axes = {axis.name: axis for axis in self._project.design(experiment).axes}
        texts = {}
        for name, page in self.pages(experiment).items():
            parts = [
                label(axis, axes[axis].labels[index])
                for axis, index in page.fixed.items()
                if len(axes[axis].labels) > 1
            ]
            parts += [
                f"{axis} {first + 1} to {end} of {len(axes[axis].labels)}"
                for axis, (first, end) in ((page.y, page.rows), (page.x, page.columns))
                if axis and end - first < len(axes[axis].labels)
            ]
            texts[name] = ", ".join(parts)
        return texts

    def summaries_of_plots(self, experiment: str) -> list[str]:
        """Returns the tables that an experiment's plots are drawn from."""
        tables = dict.fromkeys(plot.table for plot in self.plots(experiment).values())
        return [f"{RESULTS}/{experiment}/{table}.csv" for table in tables]

    def plots(self, experiment: str) -> dict[str, Plot]:
        """Returns the plots of an experiment's scores by name."""
        return plots_of(self.scores(experiment), self._project.design(experiment).axes)
