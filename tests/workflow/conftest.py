import shutil
from pathlib import Path

import pytest

from tests.workflow.harness import Workspace


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from workflow_scripts.lib.models.small_family import build_small_family

    folder = tmp_path_factory.mktemp("models") / "small"
    build_small_family(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_models: Path) -> Path:
    """A workspace whose experiment is built; tests work on copies of it."""
    workspace = Workspace(tmp_path_factory.mktemp("finished") / "w", small_models)
    run = workspace.run()
    assert run.returncode == 0, run.output
    return workspace.folder


@pytest.fixture
def built(finished: Path, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, times kept."""
    shutil.copytree(finished, tmp_path / "w", symlinks=True)
    workspace = Workspace.__new__(Workspace)
    workspace.folder = tmp_path / "w"
    import yaml

    workspace.config = yaml.safe_load((workspace.folder / "config/config.yaml").read_text())
    workspace.experiment = yaml.safe_load((workspace.folder / "config/experiments/small.yaml").read_text())
    return workspace


@pytest.fixture
def fresh(tmp_path: Path, small_models: Path) -> Workspace:
    """A workspace in which nothing was built."""
    return Workspace(tmp_path / "fresh", small_models)
