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
    return Workspace.at(tmp_path / "w")


@pytest.fixture
def fresh(tmp_path: Path, small_models: Path) -> Workspace:
    """A workspace in which nothing was built."""
    return Workspace(tmp_path / "fresh", small_models)
