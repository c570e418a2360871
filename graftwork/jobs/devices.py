"""Which GPU a job uses, where several jobs run on one machine.

Snakemake counts GPUs but does not say which. A job takes the first that no other job holds, by a lock that the kernel
drops when the job ends, however it ends. Jobs of a cluster see the GPUs that they were given, and take theirs
among those.
"""

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graftwork.core.locks import try_exclusive_lock

LOCKS = Path("results/.devices")
# Where one of these is set, the names of GPUs mean something within that allocation only: each job of a cluster may
# call its own GPU 0.
_ALLOCATIONS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_VISIBLE = "CUDA_VISIBLE_DEVICES"

# Device -> descriptor of its lock, which this process holds until it ends.
_held: dict[str, int] = {}


def take_device(
    hardware: Mapping[str, Any],
    log: logging.Logger,
    *,
    locks: Path = LOCKS,
    count: Callable[[], int] | None = None,
    poll_seconds: float = 1.0,
) -> str | None:
    """Takes a GPU for the life of this process and makes it the only one that CUDA will see.

    To be called before anything asks CUDA for a device. A second call keeps the first one's device.

    Args:
        hardware: `device` decides whether a GPU is needed.
        log: Told which device it is, and while there is none to be had.
        locks: Folder of the locks.
        count: Returns how many GPUs there are, where `CUDA_VISIBLE_DEVICES` does not say; None asks torch.
        poll_seconds: Time between attempts while all are taken.

    Returns:
        The device as `CUDA_VISIBLE_DEVICES` names it; None where none is needed, where there is none (what loads the
        model will say so), or where CUDA runs already, so that it is too late to choose.
    """
    if hardware["device"] != "cuda":
        return None
    if _held:
        return next(iter(_held))
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return None
    names = visible_devices(count or _count_devices)
    if names is None:
        return None
    folder = locks / _lock_scope()
    is_waiting = False
    while True:
        for name in names:
            descriptor = try_exclusive_lock(folder / re.sub(r"[^A-Za-z0-9.-]", "_", name))
            if descriptor is not None:
                _held[name] = descriptor
                os.environ[_VISIBLE] = name
                log.info("using GPU %s of %s", name, ", ".join(names))
                return name
        if not is_waiting:
            log.info(
                "waiting for one of the GPUs %s: all are held by other jobs; config/config.yaml: hardware.gpus should "
                "not be above %s here",
                ", ".join(names),
                len(names),
            )
            is_waiting = True
        time.sleep(poll_seconds)


def visible_devices(count: Callable[[], int]) -> list[str] | None:
    """Returns the GPUs to choose from, in the order in which they are tried; None where there is no choice.

    Args:
        count: Returns how many GPUs there are; called if the environment does not say.
    """
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        return [str(index) for index in range(count())] or None
    names = [name.strip() for name in listed.split(",")]
    # CUDA stops reading at the first name that is none, such as the -1 that hides all.
    stop = next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:stop] or None


def _lock_scope() -> str:
    """Returns within what the names of GPUs mean the same: a machine, or one allocation on it."""
    allocation = next((os.environ[name] for name in _ALLOCATIONS if os.environ.get(name)), "local")
    return re.sub(r"[^A-Za-z0-9.-]", "_", f"{socket.gethostname()}-{allocation}")


def _count_devices() -> int:
    import torch

    # Before CUDA runs, this asks the driver without starting it in this process.
    return torch.cuda.device_count()
