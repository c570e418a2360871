"""The experiments that ship: each can be built, and one of them has every transform in it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.examples import whole_setting
from graftwork.design.project import Project
from graftwork.transforms.registry import STAGES, transforms
from tests.unit.design.designs import shipped


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The shipped configuration, with facts kept elsewhere."""
    root = tmp_path_factory.mktemp("shipped")
    for name in ("config", "resources"):
        (root / name).symlink_to(REPOSITORY / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield Project(yaml.safe_load(Path("config/config.yaml").read_text()), root)


@pytest.mark.parametrize("name", [path.stem for path in shipped("config/experiments")])
def test_an_experiment_can_be_built(project, name):
    design = project.design(name)
    assert design.title
    assert design.question
    assert any(cell.role == "cell" for cell in design.cells)


def test_an_experiment_of_a_users_own_is_none_of_ours(tmp_path):
    """A file that git does not track may lack a question, or be half written."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "config/experiments").mkdir(parents=True)
    for name in ("ours", "mine"):
        (tmp_path / f"config/experiments/{name}.yaml").write_text("title: ")
    subprocess.run(["git", "-C", tmp_path, "add", "config/experiments/ours.yaml"], check=True)
    assert [path.stem for path in shipped("config/experiments", tmp_path)] == ["ours"]


def test_every_transform_occurs_in_an_experiment(project):
    cells = [cell.parameters for cell in project.design("transforms").cells if cell.role == "cell"]
    for stage in STAGES.values():
        # A choice with parameters of its own needs files that the experiment does without: tests of maps have it.
        named = (
            {cell[stage.name] for cell in cells} if stage.name != "mapping" else set(transforms("mapping"))
        )
        assert named | {stage.default} == set(transforms(stage.name)), stage


def test_every_example_of_a_transform_is_a_setting(project):
    (axis,) = (axis for axis in project.design("transforms").axes if axis.name == "setting")
    settings = {value["name"]: set(value["parameters"]) for value in axis.values}
    for stage in STAGES:
        for entry in transforms(stage).values():
            for name, example in entry.examples.items():
                assert settings[name] == set(whole_setting(entry, example))
