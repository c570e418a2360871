"""This workflow as a module of another one, which has its own configuration and results."""

import shutil

import pytest
import yaml

from tests.workflow.harness import EXPERIMENT, REPOSITORY, Workspace

pytestmark = pytest.mark.slow

OUTER = """
configfile: "config/outer.yaml"


rule count_images:
    input:
        table="results/small/cells.csv",
        verdict="results/plan/all/verdict.txt",
    output:
        "counted.txt",
    localrule: True
    shell:
        "tail -n +2 {{input.table}} | wc -l > {{output}}"


module graftwork:
    snakefile:
        "{snakefile}"
    config:
        config["graftwork"]


use rule * from graftwork as graftwork_*
"""


@pytest.fixture
def outer(tmp_path, small_models):
    """A working directory with a Snakefile of its own that uses the one of the repository; no copy of its code."""
    folder = tmp_path / "outer"
    (folder / "config/experiments").mkdir(parents=True)
    (folder / "Snakefile").write_text(OUTER.format(snakefile=REPOSITORY / "Snakefile"))
    shutil.copytree(small_models, folder / "results/models/small")
    shutil.copy2(REPOSITORY / "tests/workflow/models.yaml", folder / "config/own_models.yaml")
    experiment = yaml.safe_load(yaml.safe_dump(EXPERIMENT))
    experiment["base"]["prompts"] = ["a red apple"]
    (folder / "config/experiments/small.yaml").write_text(yaml.safe_dump(experiment))
    own = {
        "experiments": ["small"],
        "models": "config/own_models.yaml",
        "defaults": {"generator": "small-z-image"},
        "hardware": {"preset": "cpu", "generation": {"batch_shape": 2}},
    }
    (folder / "config/outer.yaml").write_text(yaml.safe_dump({"graftwork": own, "other": 1}))
    workspace = Workspace.__new__(Workspace)
    workspace.folder = folder
    return workspace


def test_another_workflow_uses_this_one_with_its_own_configuration_and_results(outer):
    before = sorted(path.name for path in REPOSITORY.iterdir())
    run = outer.run("count_images")
    assert run.returncode == 0, run.output
    # A baseline and two cells.
    assert (outer.folder / "counted.txt").read_text().strip() == "3"
    assert {row["status"] for row in outer.rows()} == {"done"}
    # The reference is the one that ships with the library: the other workflow has no resources/.
    assert run.jobs["graftwork_generate_images"] == 1
    assert not outer.run("count_images").jobs, "nothing is made twice"
    table = outer.folder / "results/small/cells.csv"
    image = outer.folder / next(row["image"] for row in outer.rows() if row["role"] == "cell")
    image.unlink()
    # A file that is missing below one that is there is made again only if it is asked for: that is Snakemake's rule.
    again = outer.run(table.relative_to(outer.folder).as_posix())
    assert again.returncode == 0, again.output
    assert image.is_file(), "what is damaged is noticed"
    assert table.is_file()
    assert sorted(path.name for path in REPOSITORY.iterdir()) == before


def test_cells_that_fail_make_the_other_workflow_fail(outer):
    run = outer.run("count_images", fail="raise-states:Qwen3VLModel:1")
    assert run.returncode == 1, run.output
    assert "cells are not done" in run.output
    assert not (outer.folder / "counted.txt").exists()
