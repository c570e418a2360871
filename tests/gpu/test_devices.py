"""A job sees the one GPU that it took."""

import os
import subprocess
import sys

from graftwork.core.code_digest import REPOSITORY

PROGRAM = """
import logging, sys
from pathlib import Path
from graftwork.jobs.devices import take_device
taken = take_device({"device": "cuda"}, logging.getLogger(), locks=Path(sys.argv[1]))
import torch
print(taken, torch.cuda.device_count(), torch.ones(1, device="cuda").item())
"""


def test_cuda_sees_the_device_that_was_taken(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    taken, count, one = run.stdout.split()
    assert taken != "None"
    assert (count, one) == ("1", "1.0")
