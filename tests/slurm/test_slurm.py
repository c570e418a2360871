"""The workflow on a cluster, with the profile that ships: nothing is lost, nothing is made twice, the result is the local one."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.workflow.harness import Workspace
from tests.workflow.inspection import unlock

pytestmark = pytest.mark.slow

IMAGES = "images/*/*.png"
TABLE = "results/small/cells.csv"
# Generous: every job starts four Python processes, on a machine that may do other things.
TIMEOUT = 900.0


class OnCluster:
    """A workspace whose images are missing, and that is run on a cluster."""

    def __init__(self, workspace: Workspace, cluster: Cluster):
        self.workspace, self.cluster = workspace, cluster
        self.images = workspace.stored(IMAGES)
        self.table = (workspace.folder / TABLE).read_bytes()
        self.log = workspace.folder / "cluster.log"
        self.hold = workspace.folder / "hold"
        self._submitted: list[subprocess.Popen[str]] = []
        # A shard for each image, and as many side by side as the cluster has GPUs.
        workspace.config["hardware"]["gpus"] = 4
        workspace.config["sharding"] = {"min_images_per_shard": 1}
        workspace.save()
        self.drop_images()

    def drop_images(self) -> None:
        for path in (self.workspace.folder / "results/store").glob(IMAGES):
            path.unlink()
        self.log.unlink(missing_ok=True)

    def submit(self, fail: str = "") -> subprocess.Popen[str]:
        """Starts Snakemake with the profile for Slurm; where `hold` exists, shards wait before their first step."""
        process = self.workspace.start(
            "--workflow-profile",
            "slurm",
            "--slurm-init-seconds-before-status-checks",
            "2",
            TABLE,
            cores=None,
            PROBE_LOG=str(self.log),
            PROBE_HOLD=str(self.hold),
            PROBE_FAIL=fail,
            **self.cluster.environment,
        )
        self._submitted.append(process)
        return process

    def events(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines()) if self.log.exists() else Counter()

    def allocations(self) -> list[tuple[str, str, str]]:
        """Returns (job, node, GPU) of the shards that began to sample."""
        found = [line.split(" ")[1].split(",", 2) for line in self.events() if line.startswith("allocated ")]
        return sorted(tuple(words) for words in found)

    def made(self) -> Counter[str]:
        """Returns image -> how often it was written."""
        return Counter(
            {
                Path(line).name: count
                for line, count in self.events().items()
                if line.startswith("replace results/store/images/")
            }
        )

    def wait_for(self, is_there: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
        until = time.monotonic() + TIMEOUT
        while not is_there():
            if process is not None and process.poll() is not None:
                pytest.fail(f"the run ended early:\n{process.communicate()[0]}")
            assert time.monotonic() < until, (self.cluster.jobs(), self.events())
            time.sleep(0.3)

    def leave(self) -> None:
        """Leaves a cluster on which nothing runs and every node is up, whatever became of the test."""
        for process in self._submitted:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        self.hold.unlink(missing_ok=True)
        self.cluster.call("scancel", "--user=root")
        for node, state in self.cluster.states().items():
            if state == "down":
                self.cluster.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_for(lambda: set(self.cluster.states().values()) == {"idle"})

    def shards(self) -> list[dict[str, str]]:
        """Returns the jobs of generation that run."""
        jobs = self.cluster.jobs()
        return [job for job in jobs if "generate_images" in job["comment"] and job["state"] == "RUNNING"]


@pytest.fixture
def on_cluster(built: Workspace, cluster: Cluster) -> Iterator[OnCluster]:
    one = OnCluster(built, cluster)
    yield one
    one.leave()


def test_four_gpus_a_cancelled_job_and_a_node_that_goes_down(on_cluster: OnCluster, cluster: Cluster) -> None:
    on_cluster.hold.touch()
    process = on_cluster.submit()
    # One plan, four shards, each on a GPU of its own, which the job is told.
    on_cluster.wait_for(lambda: len(on_cluster.allocations()) == 4, process)
    first = on_cluster.allocations()
    assert sorted((node, gpu) for _, node, gpu in first) == [(n, g) for n in ("n1", "n2") for g in "01"]
    loads = {
        line: n for line, n in on_cluster.events().items() if line.startswith("load ZImageTransformer2D")
    }
    assert sum(loads.values()) == 4
    assert on_cluster.made() == {}

    cancelled = next(job for job, node, _ in first if node == "n1")
    cluster.call("scancel", cancelled)
    cluster.call("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    on_cluster.wait_for(lambda: cluster.states()["n2"] == "down", process)
    on_cluster.wait_for(lambda: not any(job["node"] == "n2" for job in on_cluster.shards()), process)
    cluster.call("scontrol", "update", "NodeName=n2", "State=RESUME")
    on_cluster.hold.unlink()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert on_cluster.workspace.stored(IMAGES) == on_cluster.images
    assert (on_cluster.workspace.folder / TABLE).read_bytes() == on_cluster.table
    # Those that were cancelled began again; nothing was written twice.
    assert len(on_cluster.allocations()) == 4 + 3
    assert on_cluster.made() == dict.fromkeys(on_cluster.images, 1)


def test_a_killed_submitter_and_a_cell_that_fails(on_cluster: OnCluster) -> None:
    row = next(row for row in on_cluster.workspace.rows() if row["alpha"] == "0.5")
    on_cluster.hold.touch()
    process = on_cluster.submit()
    on_cluster.wait_for(lambda: len(on_cluster.allocations()) == 4, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # Its jobs go on, and store what they make.
    on_cluster.hold.unlink()
    on_cluster.wait_for(lambda: on_cluster.made() == dict.fromkeys(on_cluster.images, 1))
    on_cluster.wait_for(lambda: not on_cluster.shards())
    assert on_cluster.workspace.stored(IMAGES) == on_cluster.images

    # Resumed: nothing is made again but what is gone, and that fails once.
    lost = on_cluster.workspace.folder / row["image"]
    lost.unlink()
    unlock(on_cluster.workspace)
    process = on_cluster.submit(fail=f"raise-row:{row['conditioning']}")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, output
    assert "graftwork: 1 of " in output
    assert "ArithmeticError: PROBE_FAIL: this row always fails" in output
    assert on_cluster.made() == dict.fromkeys(on_cluster.images, 1)

    process = on_cluster.submit()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert on_cluster.workspace.stored(IMAGES) == on_cluster.images
    assert (on_cluster.workspace.folder / TABLE).read_bytes() == on_cluster.table
    assert on_cluster.made() == {**dict.fromkeys(on_cluster.images, 1), lost.name: 2}
