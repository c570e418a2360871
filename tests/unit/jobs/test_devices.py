"""Jobs on one machine never share a GPU. The GPUs are invented, the processes and their locks are not."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.jobs import devices
from graftwork.jobs.devices import take_device, visible_devices

LOG = logging.getLogger("test")
CUDA = {"device": "cuda"}
# Takes a device, says which, and holds it until its standard input is closed.
JOB = """
import logging, os, sys
from pathlib import Path
from graftwork.jobs.devices import take_device
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
taken = take_device(
    {"device": "cuda"}, logging.getLogger(), locks=Path(sys.argv[1]), count=lambda: int(sys.argv[2]), poll_seconds=0.05
)
print(taken, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(devices, "_held", {})
    for name in ("CUDA_VISIBLE_DEVICES", *devices._ALLOCATIONS):
        monkeypatch.delenv(name, raising=False)
    yield
    for descriptor in devices._held.values():
        os.close(descriptor)


class Jobs:
    def __init__(self, locks: Path):
        self.locks = locks
        self.running: list[subprocess.Popen] = []

    def start(self, count: int = 0, **environment: str) -> subprocess.Popen:
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, str(self.locks), str(count)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(job)
        return job


@pytest.fixture
def jobs(tmp_path):
    started = Jobs(tmp_path / "locks")
    yield started
    for job in started.running:
        job.kill()
        job.wait()
        for pipe in (job.stdin, job.stdout, job.stderr):
            pipe.close()


def taken_by(job: subprocess.Popen) -> str:
    device, visible = job.stdout.readline().split()
    assert device == visible, "CUDA sees the device that was taken, and no other"
    return device


def test_every_job_has_a_device_of_its_own(jobs):
    running = [jobs.start(count=4) for _ in range(4)]
    assert sorted(taken_by(job) for job in running) == ["0", "1", "2", "3"]


def test_a_job_waits_until_a_device_is_free(jobs):
    first, second = (jobs.start(count=2) for _ in range(2))
    held = {taken_by(job): job for job in (first, second)}
    waiting = jobs.start(count=2)
    assert waiting.stderr.readline().startswith("waiting for one of the GPUs 0, 1")
    held["1"].stdin.close()
    assert taken_by(waiting) == "1"


def test_a_killed_job_leaves_its_device(jobs):
    first = jobs.start(count=1)
    assert taken_by(first) == "0"
    waiting = jobs.start(count=1)
    waiting.stderr.readline()
    first.send_signal(signal.SIGKILL)
    assert taken_by(waiting) == "0"


def test_devices_given_by_the_environment(jobs):
    uuid = "GPU-5a1b/x"
    running = [jobs.start(count=8, CUDA_VISIBLE_DEVICES=f"3, {uuid}") for _ in range(2)]
    assert sorted(taken_by(job) for job in running) == ["3", uuid]


def test_jobs_of_a_cluster_do_not_wait_for_each_other(jobs):
    """Each calls the GPU it was given 0; within one allocation the names mean the same to all."""
    alone = [jobs.start(SLURM_JOB_ID=number, CUDA_VISIBLE_DEVICES="0") for number in ("11", "12")]
    assert [taken_by(job) for job in alone] == ["0", "0"]
    together = [jobs.start(SLURM_JOB_ID="13", CUDA_VISIBLE_DEVICES="0,1") for _ in range(2)]
    assert sorted(taken_by(job) for job in together) == ["0", "1"]


def test_many_jobs_over_few_devices(jobs):
    """Eight jobs, two devices: at no time do two hold the same."""
    waiting, done, holders = {jobs.start(count=2): None for _ in range(8)}, 0, {}
    for job in waiting:
        os.set_blocking(job.stdout.fileno(), False)
    end = time.monotonic() + 60
    while done < 8 and time.monotonic() < end:
        for job in list(waiting):
            if line := job.stdout.readline():
                device = line.split()[0]
                assert device not in holders
                holders[device] = job
                del waiting[job]
        for device, job in list(holders.items()):
            del holders[device]  # Before it can be given to another.
            job.stdin.close()
            job.wait()
            done += 1
        time.sleep(0.02)
    assert done == 8


def test_no_device_is_taken_on_the_cpu(tmp_path):
    assert take_device({"device": "cpu"}, LOG, locks=tmp_path, count=lambda: 4) is None
    assert list(tmp_path.iterdir()) == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_second_call_keeps_the_device(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert take_device(CUDA, LOG, locks=tmp_path) == "4"
    assert take_device(CUDA, LOG, locks=tmp_path / "other") == "4"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


def test_without_a_device_it_is_left_to_the_loader_to_say_so(tmp_path):
    assert take_device(CUDA, LOG, locks=tmp_path, count=lambda: 0) is None


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ["0", "1"]),
        ("", None),
        ("-1", None),
        ("2", ["2"]),
        ("2,3", ["2", "3"]),
        ("2,-1,3", ["2"]),
        ("GPU-a, MIG-b", ["GPU-a", "MIG-b"]),
    ],
)
def test_what_there_is_to_choose_from(monkeypatch, listed, names):
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_devices(lambda: 2) == names


@pytest.mark.parametrize("job", ["extraction", "generation"])
def test_jobs_take_a_device_before_anything_asks_for_one(job, monkeypatch):
    """In the order of the code: the environment is read when CUDA starts, and never again."""
    source = (REPOSITORY / f"graftwork/jobs/{job}.py").read_text()
    assert 0 < source.index("    take_device(") < source.index("        configure_torch(")
