"""Statistics of a corpus: taken as reference, fitted on, and analyzed; made once, and made again when they are gone."""

from copy import deepcopy

import pytest
import yaml

from graftwork.core.png import is_complete_png
from tests.workflow.harness import Workspace

pytestmark = pytest.mark.slow

CORPUS = {"prompts": ["a green tree", "a small dog", "a blue boat at sea"], "references": ["cartoon_house"]}
ANALYSIS = {
    "corpus": "few",
    "encoders": [
        {"encoder": "small-qwen3", "hidden_layers": [-2]},
        {"encoder": "small-qwen3-vl-instruct", "hidden_layers": [-2]},
    ],
    "comparisons": [
        {
            "a": {"encoder": "small-qwen3-vl-instruct", "hidden_layer": -2},
            "b": {"encoder": "small-qwen3", "hidden_layer": -2},
        }
    ],
}


def write(workspace: Workspace, name: str, content: dict) -> None:
    path = workspace.folder / "config" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def test_statistics_are_made_once_and_serve_cells_and_analyses(fresh: Workspace) -> None:
    write(fresh, "corpora/few", CORPUS)
    write(fresh, "statistics/small", ANALYSIS)
    fresh.experiment["base"] |= {"statistics": {"corpus": "few"}, "fix_corpus": "few", "alpha": 0.5}
    fresh.experiment["axes"] = {"normalization": ["none", "whiten"], "dimension_fix": ["none", "full"]}
    fresh.experiment["grids"] = [{"x": "normalization", "y": "dimension_fix"}]
    fresh.config["statistics"] = ["small"]
    fresh.save()
    # Side by side, both scopes would extract what they share.
    run = fresh.run("results/plan/all/verdict.txt")
    assert run.returncode == 0, run.output
    # Text: two prompts and three, of which one is the same; vision: those two and three, one the same.
    assert run.made["hidden_states"] == 4 + 4
    assert run.jobs["measure_statistics"] == 1
    assert run.replaced(".npz", "results/store/statistics/") == 3
    rows = [row for row in fresh.rows() if row["role"] == "cell"]
    assert {row["status"] for row in rows} == {"done"}
    for prompt in {row["prompt"] for row in rows}:
        assert len({row["conditioning"] for row in rows if row["prompt"] == prompt}) == 4
    assert {bool(row["fixed_dimensions"]) for row in rows if row["dimension_fix"] == "full"} == {True}
    log = (fresh.folder / "logs/expand_experiment/small.log").read_text()
    assert "the fix is fitted and judged on the same texts" in log

    run = fresh.run()
    assert run.returncode == 0, run.output
    assert "WorkflowError" not in run.output  # No file that two rules could make.
    assert not run.loads
    viewer = {"build_viewer": 1}
    pages = {"write_analysis_page": 1, "write_index": 1}
    assert run.jobs == {
        "plan_statistics": 1,
        "analyze_statistics": 1,
        "judge_statistics": 1,
        **viewer,
        **pages,
    }
    results = fresh.folder / "results/statistics/small"
    summary = (results / "summary.md").read_text()
    assert summary.startswith(
        "# small\n\n* **small-qwen3-vl-instruct, layer -2, all tokens** against **small-qwen3"
    )
    assert all(is_complete_png(path) for path in results.glob("plots/*.png"))

    before = fresh.snapshot("results/store") | fresh.snapshot("results/statistics")
    run = fresh.run()
    assert (run.returncode, run.jobs) == (0, {}), run.output
    assert fresh.snapshot("results/store") | fresh.snapshot("results/statistics") == before

    # One more layer of one encoder, and a file of statistics that is gone: these and no others.
    more = deepcopy(ANALYSIS)
    more["encoders"][0]["hidden_layers"] = [-2, -3]
    write(fresh, "statistics/small", more)
    gone = sorted((fresh.folder / "results/store/statistics").glob("*/*.npz"))[0]
    content = gone.read_bytes()
    gone.unlink()
    run = fresh.run()
    assert run.returncode == 0, run.output
    assert "1 files of statistics are missing or changed" in run.output
    assert run.forwards == {"Qwen3Model": 3}
    # As after any damage, tables and grids are written again.
    assert not {"images", "conditioning"} & set(run.made)
    assert gone.read_bytes() == content
    assert (results / "statistics/small-qwen3_layer-3_all.csv").exists()
    assert (results / "statistics/small-qwen3_layer-2_all.csv").exists()
