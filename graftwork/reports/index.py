"""results/index.html: everything that was made or asked for, with what came out, how far it is, and where it is.

A kind of results is one entry in `KINDS`. A job that makes results of a kind leaves a card of them, `.card.json`, in their folder.
What became of the last run stands in results/.states.json: the hooks of the Snakefile write it, and the index after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.core.atomic import write_atomic
from graftwork.core.records import read_record_or_none, write_record
from graftwork.reports.templates import render, template_digest

if TYPE_CHECKING:
    # A job that writes the index starts in a third of the time without it.
    from graftwork.planning.verdict import Outcome

RESULTS = Path("results")
INDEX = RESULTS / "index.html"
STATES = RESULTS / ".states.json"
CARD = ".card.json"
TEMPLATES = ("index.html.j2", "style.css.j2")


@dataclass(frozen=True)
class Kind:
    """A kind of results.

    Attributes:
        name: what it is called where it is asked for, such as "experiment".
        heading: heading of its part of the index.
        item: one of those that are counted, such as "cell".
        folder: folder of results, with `{name}`.
        asked_for: given the settings of config/config.yaml, returns the names that the default target makes.
        links: what a link says -> file in the folder; those that are there are shown.
        target: file in the folder whose making makes the rest.
    """

    name: str
    heading: str
    item: str
    folder: str
    asked_for: Callable[[Any], Sequence[str]]
    links: Mapping[str, str]
    target: str = "summary.html"

    def folder_of(self, name: str) -> Path:
        """Returns the folder of results."""
        return Path(self.folder.format(name=name))


KINDS = (
    Kind(
        "experiment",
        "Experiments",
        "cell",
        "results/{name}",
        lambda settings: settings.experiments,
        {
            "Viewer": "viewer/index.html",
            "Summary": "summary.html",
            "Summary as text": "summary.md",
            "Table of cells": "cells.csv",
            "Exported images": "export/index.csv",
        },
    ),
    Kind(
        "analysis",
        "Analyses of hidden states",
        "part",
        "results/statistics/{name}",
        lambda settings: settings.statistics,
        {"Summary": "summary.html", "Summary as text": "summary.md"},
    ),
    Kind(
        "study",
        "Studies",
        "part",
        "results/studies/{name}",
        # Studies and maps have targets of their own: the default target makes none.
        lambda settings: (),
        {"Report": "report.html", "Report as text": "report.md"},
        "report.md",
    ),
    Kind(
        "maps",
        "Maps between encoders",
        "part",
        "results/maps/{name}",
        lambda settings: (),
        {"Report": "report.html", "Report as text": "report.md"},
        "report.md",
    ),
)


@dataclass(frozen=True)
class Card:
    """What the index says of one experiment, or of other results.

    Attributes:
        name: name of its file in config/.
        title: what it is called.
        question: what it asks, or "".
        headlines: what came out.
        total: how many items it has; None where they are not counted.
        failed: how many of them failed.
        missing: how many of them are not made.
    """

    name: str
    title: str
    question: str = ""
    headlines: tuple[str, ...] = ()
    total: int | None = None
    failed: int = 0
    missing: int = 0


@dataclass(frozen=True)
class State:
    """What became of results in the last run that was about them.

    Attributes:
        is_running: whether that run is under way.
        total: as in `Card`.
        failed: as in `Card`.
        missing: as in `Card`.
    """

    is_running: bool = False
    total: int | None = None
    failed: int = 0
    missing: int = 0


@dataclass(frozen=True)
class States:
    """The states of all results, by their folder."""

    of: Mapping[str, State] = field(default_factory=dict)


def index_text() -> list[str]:
    """Returns the digests of the templates of the index."""
    return [template_digest(name) for name in TEMPLATES]


def asked_for(settings: Any) -> dict[str, list[str]]:
    """Returns name of a kind -> results that the default target makes."""
    return {kind.name: list(kind.asked_for(settings)) for kind in KINDS}


def card_files(wanted: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the cards of what was asked for.

    Args:
        wanted: from `asked_for`.
    """
    return [(kind.folder_of(name) / CARD).as_posix() for kind in KINDS for name in wanted.get(kind.name, ())]


def note_start(wanted: Mapping[str, Sequence[str]], folders: Iterable[Path]) -> None:
    """Says in the index that a run is under way.

    Args:
        wanted: from `asked_for`.
        folders: folders of the results that the run is about.
    """
    # There is one run at a time: what else is marked as running was killed.
    known = {folder: state for folder, state in _states().items() if not state.is_running}
    # Snakemake warns of outputs that appear after it has looked at them.
    running = {folder.as_posix(): State(is_running=True) for folder in folders}
    write_states(wanted, known | running, INDEX.exists())


def note_end(wanted: Mapping[str, Sequence[str]], outcomes: Iterable[Outcome], has_index: bool) -> None:
    """Says in the index what has become of a run.

    Args:
        wanted: from `asked_for`.
        outcomes: what has become of it.
        has_index: whether the index was to be made. It is kept up to date in any case, but made only where it was asked for:
            Snakemake does not know when and from what it was made otherwise.
    """
    known = {folder: state for folder, state in _states().items() if not state.is_running}
    ended = {one.folder.as_posix(): _state_of(one) for one in outcomes}
    write_states(wanted, known | ended, has_index or INDEX.exists())


def _state_of(outcome: Outcome) -> State:
    return State(total=outcome.total, failed=len(outcome.failures), missing=outcome.left)


def write_states(wanted: Mapping[str, Sequence[str]], states: Mapping[str, State], has_index: bool) -> None:
    """Writes the states, and the index after them."""
    write_record(STATES, States(dict(sorted(states.items()))))
    if has_index:
        write_index(wanted)


def _states() -> dict[str, State]:
    found = read_record_or_none(States, STATES)
    return dict(found.of) if found else {}


def write_index(wanted: Mapping[str, Sequence[str]]) -> None:
    """Writes results/index.html.

    Args:
        wanted: from `asked_for`.
    """
    states = _states()
    parts = []
    for kind in KINDS:
        own = list(wanted.get(kind.name, ()))
        cards = {name: card for name in _names(kind, own) if (card := _card(kind, name)) or name in own}
        entries = [_entry(kind, name, card, states) for name, card in cards.items()]
        if entries:
            parts.append({"heading": kind.heading, "entries": entries})
    write_atomic(INDEX, render("index.html.j2", parts=parts))


def _names(kind: Kind, wanted: Sequence[str]) -> list[str]:
    """Returns what was asked for, then what else was made and is still there."""
    made = [path.parent.name for path in sorted(Path().glob(f"{kind.folder_of('*')}/{CARD}"))]
    return list(dict.fromkeys([*wanted, *made]))


def _card(kind: Kind, name: str) -> Card | None:
    return read_record_or_none(Card, kind.folder_of(name) / CARD)


def _entry(kind: Kind, name: str, card: Card | None, states: Mapping[str, State]) -> dict[str, Any]:
    folder = kind.folder_of(name)
    state, text = describe_state(kind.item, states.get(folder.as_posix()), card)
    return {
        "name": name,
        "card": card or Card(name, name),
        "state": state,
        "text": text,
        "links": {
            said: (folder / file).relative_to(RESULTS).as_posix()
            for said, file in kind.links.items()
            if (folder / file).is_file()
        },
        "target": (folder / kind.target).as_posix(),
    }


def describe_state(item: str, state: State | None, card: Card | None) -> tuple[str, str]:
    """Returns how far results are: "done", "partly", "failed", "running" or "none", and the same in words."""
    counts = state or card
    if counts is None:
        return "none", "not made yet"
    if isinstance(counts, State) and counts.is_running:
        return "running", "running"
    total, failed, missing = counts.total, counts.failed, counts.missing
    items = f"{item}s" if total is None or total != 1 else item
    done = "" if total is None else f"{total - failed - missing} of {total} {items} done"
    if failed:
        return "failed", ", ".join(
            filter(None, [f"{failed} failed", f"{missing} not made" * bool(missing), done])
        )
    if missing:
        return "partly", f"partly: {done}"
    return "done", "done" if total is None else f"done: {total} {items}"
