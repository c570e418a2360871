"""The experiments that ship: each can be built, and one of them has every transform in it."""

from pathlib import Path

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.project import Project
from graftwork.design.schema import DEFAULT_TRANSFORMS
from graftwork.transforms.registry import STAGES, transforms

EXPERIMENTS = sorted(path.stem for path in (REPOSITORY / "config/experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The shipped configuration, with facts kept elsewhere."""
    root = tmp_path_factory.mktemp("shipped")
    for name in ("config", "resources"):
        (root / name).symlink_to(REPOSITORY / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield Project(yaml.safe_load(Path("config/config.yaml").read_text()), root)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_can_be_built(project, name):
    design = project.design(name)
    assert design.title
    assert design.question
    assert any(cell.role == "cell" for cell in design.cells)


def test_every_transform_occurs_in_an_experiment(project):
    cells = [cell.parameters for cell in project.design("transforms").cells if cell.role == "cell"]
    for stage in STAGES:
        assert {cell[stage] for cell in cells} | {DEFAULT_TRANSFORMS[stage]} == set(transforms(stage)), stage
