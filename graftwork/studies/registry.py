"""The registry of studies: one module of this package each, which registers what it reads and what writes its report."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from graftwork.core.code_digest import code_digest, outside_digests
from graftwork.core.identity import digest
from graftwork.studies.material import Material
from graftwork.studies.report import StudyReport, report_text


@dataclass(frozen=True)
class Study:
    """One registered study.

    Attributes:
        name: name of its folder in results/studies.
        title: heading of its report.
        question: what it asks, in words that need no other document.
        write: given what it reads, returns its report.
        experiments: names of experiments whose tables it reads.
        designs: names of experiments of which only the cells count, and not their images.
        analyses: names of analyses whose tables and hidden states it reads.
        models: whether it reads the files of all models there are, beside those of its experiments.
    """

    name: str
    title: str
    question: str
    write: Callable[[Material], StudyReport]
    experiments: tuple[str, ...] = ()
    designs: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ()
    models: bool = False

    def __post_init__(self):
        for what in ("name", "title", "question"):
            if not getattr(self, what):
                raise ValueError(f"study {self.name!r}: {what} is empty")
        if not (self.experiments or self.analyses or self.models):
            raise ValueError(f"study {self.name!r} reads nothing: give experiments, analyses, or models=True")

    @property
    def digest(self) -> str:
        """Digest of the code and the texts that write its report."""
        return digest([code_digest(self.write), *report_text()])


_STUDIES: dict[str, Study] = {}


@outside_digests("registers a function, which has a digest of its own")
def register(study: Study) -> None:
    """Adds a study.

    Raises:
        ValueError: where its name is taken.
    """
    if study.name in _STUDIES:
        raise ValueError(f"study {study.name!r} is registered twice")
    _STUDIES[study.name] = study


@outside_digests("looks up what has a digest of its own")
def studies() -> dict[str, Study]:
    """Returns the studies by name, in the order of their modules."""
    _load_all()
    return dict(_STUDIES)


@cache
def _load_all() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{package}."):
        importlib.import_module(module.name)
