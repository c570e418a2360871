"""results/index.html: what is asked for and what is there, with its state; a further kind of results is one entry."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from graftwork.core.records import write_record
from graftwork.planning.verdict import Outcome
from graftwork.reports import index
from graftwork.reports.index import CARD, INDEX, KINDS, Card, State, describe_state

SETTINGS = SimpleNamespace(experiments=["demo", "later"], statistics=[])


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make("results/demo", Card("demo", "The <i>demo</i>", "Why?", ("8 of 8 images",), 12))
    make("results/other", Card("other", "Not in config.yaml", total=4, failed=1))
    Path("results/demo/viewer").mkdir()
    for name in ("summary.html", "viewer/index.html"):
        Path("results/demo", name).write_text("x")
    return tmp_path


def make(folder: str, card: Card) -> None:
    Path(folder).mkdir(parents=True)
    write_record(Path(folder, CARD), card)


def written() -> str:
    index.write_index(index.asked_for(SETTINGS))
    return INDEX.read_text()


def states(page: str) -> dict[str, str]:
    """Name -> state, as the page says them."""
    found = re.findall(
        r'<span class="state (\w+)">([^<]*)</span> <span class="dim"><code>([^<]*)</code>', page
    )
    return {name: f"{kind}: {text}" for kind, text, name in found}


def test_everything_is_in_the_index_with_state_headline_and_links() -> None:
    page = written()
    assert states(page) == {
        "demo": "done: done: 12 cells",
        "later": "none: not made yet",
        "other": "failed: 1 failed, 3 of 4 cells done",
    }
    assert "The &lt;i&gt;demo&lt;/i&gt;" in page
    assert "8 of 8 images" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["data:,", "demo/viewer/index.html", "demo/summary.html"]
    assert "<code>results/later/summary.html</code>" in page


def test_a_run_is_seen_under_way_and_at_its_end() -> None:
    written()
    wanted = index.asked_for(SETTINGS)
    index.note_start(wanted, [Path("results/demo")])
    assert states(INDEX.read_text())["demo"] == "running: running"
    # Killed. The next run is about something else, and there is one run at a time.
    index.note_start(wanted, [Path("results/later")])
    assert states(INDEX.read_text()) == {
        "demo": "done: done: 12 cells",
        "later": "running: running",
        "other": "failed: 1 failed, 3 of 4 cells done",
    }
    outcome = Outcome("later", "cell", Path("results/later"), 10, {"a": "OSError"}, left=2)
    index.note_end(wanted, [outcome], has_index=False)
    assert states(INDEX.read_text())["later"] == "failed: 1 failed, 2 not made, 7 of 10 cells done"
    before = INDEX.read_bytes()
    written()
    assert INDEX.read_bytes() == before


def test_a_run_does_not_make_the_index_before_its_job_does() -> None:
    """Snakemake warns of outputs that appear after it has looked at them."""
    wanted = index.asked_for(SETTINGS)
    index.note_start(wanted, [Path("results/demo")])
    index.note_end(
        wanted, [Outcome("demo", "cell", Path("results/demo"), 12, {"a": "OSError"})], has_index=False
    )
    assert not INDEX.exists()
    # What became of the run is known all the same.
    assert states(written())["demo"] == "failed: 1 failed, 11 of 12 cells done"


def test_results_that_are_removed_go_from_the_index_too(results: Path) -> None:
    (results / "results/other" / CARD).unlink()
    assert set(states(written())) == {"demo", "later"}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(total=1), ("done", "done: 1 item")),
        (State(), ("done", "done")),
        (State(total=9, missing=4), ("partly", "partly: 5 of 9 items done")),
        (State(failed=2), ("failed", "2 failed")),
        (None, ("none", "not made yet")),
    ],
)
def test_states_in_words(state: State | None, said: tuple[str, str]) -> None:
    assert describe_state("item", state, None) == said


def test_studies_and_maps_are_listed_once_they_are_made() -> None:
    assert "Studies" not in written()
    for folder, name in (("results/studies/models", "models"), ("results/maps/embedding", "embedding")):
        make(folder, Card(name, f"About {name}", "Why?", ("It is so.",)))
        Path(folder, "report.html").write_text("x")
    page = written()
    assert states(page)["models"] == states(page)["embedding"] == "done: done"
    links = re.findall(r'href="([^"]+)"', page)
    assert links[-2:] == ["studies/models/report.html", "maps/embedding/report.html"]
    # Nothing is made for the index that the default target does not make.
    assert not [
        card for card in index.card_files(index.asked_for(SETTINGS)) if "studies" in card or "maps" in card
    ]


def test_a_further_kind_of_results_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    review = replace(
        KINDS[0],
        name="review",
        heading="Reviews",
        folder="results/reviews/{name}",
        asked_for=lambda settings: ["twice"],
        links={"Report": "report.html"},
    )
    monkeypatch.setattr(index, "KINDS", (*KINDS, review))
    make("results/reviews/twice", Card("twice", "Is it the same twice?", headlines=("It is.",), total=2))
    Path("results/reviews/twice/report.html").write_text("x")
    page = written()
    assert "<h2>Reviews</h2>" in page
    assert "It is." in page
    assert 'href="reviews/twice/report.html"' in page
    assert index.card_files(index.asked_for(SETTINGS)) == [
        "results/demo/.card.json",
        "results/later/.card.json",
        "results/reviews/twice/.card.json",
    ]
