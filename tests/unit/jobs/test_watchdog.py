"""A job that hangs ends, and says why and where."""

import logging
import subprocess
import sys
import time

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.jobs.watchdog import Watchdog

HANGS = """
import logging, sys, time
from graftwork.jobs.watchdog import Watchdog
log = logging.getLogger("job")
log.addHandler(logging.FileHandler(sys.argv[1]))
def wait_for_the_driver():
    time.sleep(60)
with Watchdog(0.4, "images", log) as watchdog:
    for _ in range(3):
        time.sleep(0.2)
        watchdog.beat()
    print("three images", flush=True)
    wait_for_the_driver()
"""


def test_a_job_that_hangs_ends_with_the_stack_in_its_log(tmp_path):
    log = tmp_path / "job.log"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(log)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "three images\n"
    assert done.stderr.startswith(
        "no images were finished for 0.4 s, the limit that stall_limit sets in config/"
    )
    assert "wait_for_the_driver" in log.read_text()
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("seconds", [None, 0.3])
def test_a_job_that_goes_on_or_is_over_is_left_alone(seconds):
    with Watchdog(seconds, "images", logging.getLogger("test")) as watchdog:
        for _ in range(5):
            time.sleep(0.1)
            watchdog.beat()
    time.sleep(0.5)
