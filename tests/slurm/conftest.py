"""The cluster, once for all tests. Where it cannot be started, the tests are skipped, and the summary says so."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, why_not
from tests.workflow.conftest import built, finished, shared, small_models

__all__ = ["built", "cluster", "finished", "shared", "small_models"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        warnings.warn(pytest.PytestWarning(f"NOTHING WAS TESTED ON SLURM: {reason}"), stacklevel=2)
        pytest.skip(reason)
    # Not in pytest's folder: names of sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="graftwork-slurm-", dir="/tmp"))
    try:
        with Cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder)
