import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.workflow.harness import Workspace


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def small_models(shared: Path) -> Path:
    from tests.small_family import build_small_family

    with FileLock(shared / "small.lock"):
        build_small_family(shared / "small")  # Leaves a complete family alone.
    return shared / "small"


@pytest.fixture(scope="session")
def finished(shared: Path, small_models: Path) -> Path:
    """A workspace whose experiment is built, once for all test processes; tests work on copies of it."""
    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not folder.exists():
            workspace = Workspace(shared / "building", small_models)
            run = workspace.run()
            assert run.returncode == 0, run.output
            workspace.folder.rename(folder)
    return folder


@pytest.fixture
def built(finished: Path, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, times kept."""
    shutil.copytree(finished, tmp_path / "w", symlinks=True)
    return Workspace.at(tmp_path / "w")


@pytest.fixture
def fresh(tmp_path: Path, small_models: Path) -> Workspace:
    """A workspace in which nothing was built."""
    return Workspace(tmp_path / "fresh", small_models)
