"""The device has work while a job runs: conditioning is read, and images are encoded and written, behind its back."""

import pytest
import torch

from benchmarks.gpu import STEPS, Options, job_rate
from tests.gpu.conftest import FAST, HARDWARE

IMAGES = 200


@pytest.mark.parametrize("settings", [{}, FAST], ids=["plain", "fast"])
def test_a_job_of_200_images_leaves_the_device_idle_for_less_than_3_percent(
    build, tmp_path, monkeypatch, settings
):
    monkeypatch.chdir(tmp_path)
    options = Options(
        small=False,
        device="cuda",
        dtype="bfloat16",
        sizes=[512],
        batch_shapes=[4],
        tokens=128,
        steps=STEPS,
        cells=IMAGES,
        idle_images=IMAGES,
        variants=[],
        peak_tflops=790.0,
        threads=2,
    )
    hardware = {**HARDWARE, "batch_shape": 4, **settings}
    rate, _, timeline, said = job_rate(options, build(**settings), hardware, 512, IMAGES)
    print(f"{torch.cuda.get_device_name()}, {settings}: {rate:.2f} images/s, {timeline}, {said}")
    assert len(timeline.batches) >= IMAGES / 4
    assert timeline.idle < 0.03
