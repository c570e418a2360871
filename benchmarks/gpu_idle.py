"""The part of benchmarks/gpu.py that is about how long the device has nothing to do during a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch


@dataclass
class Timeline:
    """When a run's batches were on the device, in seconds since the run began.

    Attributes:
        batches: (start, end) of each, in order.
        wall: When the run was over, its last image written.
    """

    batches: list[tuple[float, float]] = field(default_factory=list)
    wall: float = 0.0

    @property
    def before(self) -> float:
        """Seconds until the first batch began."""
        return self.batches[0][0]

    @property
    def between(self) -> float:
        """Seconds between batches, over all of them."""
        pairs = zip(self.batches, self.batches[1:], strict=False)
        return sum(max(0.0, start - end) for (_, end), (start, _) in pairs)

    @property
    def after(self) -> float:
        """Seconds from the end of the last batch to that of the run."""
        return max(0.0, self.wall - self.batches[-1][1])

    @property
    def idle(self) -> float:
        """Share of the run in which no batch was on the device."""
        return (self.before + self.between + self.after) / self.wall


@contextmanager
def watch(generator: Any, device: str) -> Iterator[Timeline]:
    """Notes when each batch that is launched meanwhile is on the device.

    On a GPU by events, whose times are those at which the device came to them: a batch that is launched while another
    one still runs begins when that one ends. A batch is busy from its first kernel to its last copy; pauses between
    its kernels are no part of this, the profiler's table shows them.

    Args:
        generator: A `graftwork.models.generator.Generator`.
        device: "cpu" or "cuda".
    """
    mark = _mark_on_gpu if device == "cuda" else _mark_on_cpu
    launch, timeline, marks = generator.launch, Timeline(), []

    def timed(*arguments: Any, **values: Any) -> Any:
        start = mark()
        launched = launch(*arguments, **values)
        marks.append((start, mark()))
        return launched

    if device == "cuda":
        torch.cuda.synchronize()
    begun, began = time.perf_counter(), mark()
    with patch.object(generator, "launch", timed):
        yield timeline
    timeline.wall = time.perf_counter() - begun
    if device == "cuda":
        torch.cuda.synchronize()
    timeline.batches = [(_seconds(began, start), _seconds(began, end)) for start, end in marks]


def _mark_on_cpu() -> float:
    return time.perf_counter()


def _mark_on_gpu() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(began: Any, mark: Any) -> float:
    """Returns the time from one mark to another."""
    return mark - began if isinstance(mark, float) else began.elapsed_time(mark) / 1000


def busy_seconds(profile: Any) -> float:
    """Returns how long kernels and copies ran on the GPU during a profile; 0 where there was none."""
    cuda = torch.autograd.DeviceType.CUDA
    return (
        sum(
            event.self_device_time_total
            for event in profile.key_averages()
            if event.device_type == cuda and not event.is_user_annotation
        )
        / 1e6
    )
