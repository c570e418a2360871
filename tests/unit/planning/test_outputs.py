"""Which pages of grids are drawn without being asked for, and what is said of the others."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.cells import Design
from graftwork.planning.outputs import Outputs
from tests.unit.design.designs import expand, experiment


@dataclass
class OneExperiment:
    """Stands for a project with the experiment `test`."""

    root: Path
    found: Design

    def design(self, name: str) -> Design:
        return self.found

    def experiment_names(self) -> list[str]:
        return ["test"]


@pytest.fixture
def make(tmp_path):
    def make(scores=(), **grid):
        axes = {"alpha": {"range": [0.0, 1.0], "count": 30}, "hidden_layer": [-2, -4], "seed": [1, 2]}
        base = {"prompts": ["a red apple"]}
        grids = [{"x": "alpha", "y": "hidden_layer", **grid}]
        design = expand(tmp_path, experiment(axes, base, grids=grids, scores=list(scores)))
        return Outputs(OneExperiment(tmp_path, design))

    return make


def pages(*numbers):
    return [f"results/test/grids/alpha_by_hidden_layer_00{number}.png" for number in numbers]


def test_the_first_page_is_drawn_and_more_by_choice(make):
    assert make().grids(["test"]) == pages(1)
    assert make(pages=3).grids(["test"]) == pages(1, 2, 3)
    assert make(pages="all").grids(["test"]) == pages(1, 2, 3, 4)
    assert make(pages=0).grids(["test"]) == []


def test_a_page_that_was_asked_for_is_kept_up_to_date(make, tmp_path):
    outputs, folder = make(), tmp_path / "results" / "test" / "grids"
    assert outputs.page("test", "alpha_by_hidden_layer_004").columns == (15, 30)
    folder.mkdir(parents=True)
    for name in ("alpha_by_hidden_layer_004.png", "alpha_by_hidden_layer.png"):
        (folder / name).write_bytes(b"")
    assert outputs.grids(["test"]) == pages(1, 4), "and no page that the design does not have"


def test_the_summary_names_the_pages_that_are_not_drawn(make):
    outputs = make(pages=2)
    grids = outputs.pictures("test")["Grids"]
    assert [path.rpartition("_")[2] for path in grids] == ["001.png", "002.png"]
    assert list(grids.values()) == ["seed = 1, alpha 1 to 15 of 30", "seed = 1, alpha 16 to 30 of 30"]
    assert list(outputs.more_pages("test")) == pages(3, 4)


def test_a_page_that_is_not_there_is_refused(make):
    with pytest.raises(
        DesignError, match="has no grid page 'alpha_by_hidden_layer'; its 4 pages: alpha_by_hidden_layer_001"
    ):
        make().page("test", "alpha_by_hidden_layer")


@pytest.mark.parametrize("number", [-1, "some", 1.5])
def test_a_number_of_pages_that_cannot_be_is_refused(make, number):
    with pytest.raises(DesignError, match=r"grids\.0\.pages"):
        make(pages=number)


def test_plots_are_one_folder_and_none_without_scores(make):
    assert make().plot_folder("test") == make().score_files(["test"]) == []
    outputs = make(scores=["artifacts"])
    assert outputs.score_files(["test"])[-1:] == outputs.plot_folder("test") == ["results/test/plots"]
    assert outputs.summaries_of_plots("test") == ["results/test/score_means.csv"]


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (["artifacts"], "plots/comb.png", "drawn together; ask for results/test/plots$"),
        (
            ["artifacts"],
            "plots/com.png",
            r"experiment test has no plot 'com'; its plots: .*did you mean 'comb'",
        ),
        ([], "plots", r"config/experiments/test\.yaml: scores is missing or empty"),
    ],
)
def test_what_is_said_of_plots_that_cannot_be_asked_for(make, scores, target, message):
    with pytest.raises(DesignError, match=message):
        make(scores).require(f"results/test/{target}", is_made=True, rules=())
    make(["artifacts"]).require("results/test/plots", is_made=True, rules=())
