"""The benchmark of GPUs: its count of operations, and that it runs, on tiny models."""

import re
import time

import pytest
import torch

from benchmarks import gpu
from benchmarks.flops import image_flops, text_flops, vision_flops
from benchmarks.gpu_idle import Timeline
from graftwork.models.acceleration import NEUTRAL
from lab import real_shapes

TERA = 1e12


@pytest.fixture(scope="module")
def large():
    return image_flops(1024, 1024, 128)


def test_operations_of_an_image(large):
    """Z-Image-Turbo, 8 steps, captions of 128 tokens, counted by torch on the meta device."""
    assert large["forward"] / TERA == pytest.approx(56.6, abs=0.05)
    assert large["decode"] / TERA == pytest.approx(10.5, abs=0.05)
    whole = (8 * large["forward"] + large["decode"]) / TERA
    assert whole == pytest.approx(463, abs=0.5)
    assert 790 / whole == pytest.approx(1.71, abs=0.005)


def test_operations_of_a_smaller_image():
    small = image_flops(512, 512, 128)
    assert 790 / ((8 * small["forward"] + small["decode"]) / TERA) == pytest.approx(7.05, abs=0.005)


def test_operations_of_the_transformer_follow_from_its_shape(large):
    """Two per weight and token, and two products of tokens x tokens per block."""
    shape = real_shapes.Z_IMAGE_TRANSFORMER
    dim, image, text = shape["dim"], 64 * 64, 128
    weights = 4 * dim * dim + 3 * dim * int(dim / 3 * 8)

    def blocks(number, tokens):
        return number * (2 * weights * tokens + 4 * tokens * tokens * dim)

    refiners = shape["n_refiner_layers"]
    formula = blocks(shape["n_layers"], image + text) + blocks(refiners, image) + blocks(refiners, text)
    assert large["forward"] == pytest.approx(formula, rel=0.001)


def test_operations_of_the_encoders():
    assert text_flops(128) / 128 / 1e9 == pytest.approx(7.3, abs=0.1)
    # 24 blocks of 12.6 million weights and 4,096 patches, and their attention.
    assert vision_flops(4096) / TERA == pytest.approx(2 * 24 * 12.58e6 * 4096 / TERA + 1.65, abs=0.01)


def test_idle_time_is_what_no_batch_covers():
    timeline = Timeline([(1.0, 3.0), (3.5, 5.0), (5.0, 8.0)], wall=10.0)
    assert (timeline.before, timeline.between, timeline.after) == (1.0, 0.5, 2.0)
    assert timeline.idle == pytest.approx(0.35)
    # Batches that overlap, as where one is launched while another runs, leave nothing between them.
    assert Timeline([(0.0, 4.0), (3.0, 10.0)], wall=10.0).idle == 0.0


def test_a_batch_is_watched_from_its_launch_to_its_end():
    class Slow:
        def launch(self, seconds):
            time.sleep(seconds)
            return "launched"

    generator = Slow()
    with gpu.watch(generator, "cpu") as timeline:
        time.sleep(0.02)
        assert [generator.launch(0.05), generator.launch(0.01)] == ["launched"] * 2
        time.sleep(0.03)
    assert [end - start >= least for (start, end), least in zip(timeline.batches, (0.05, 0.01), strict=True)]
    assert timeline.before >= 0.02
    assert timeline.after >= 0.03
    covered = sum(end - start for start, end in timeline.batches)
    assert timeline.idle == pytest.approx(1 - covered / timeline.wall)
    assert "launch" not in vars(generator), "it is watched no longer"


def test_every_setting_has_a_variant():
    changed = {name for settings in gpu.VARIANTS.values() for name in settings}
    assert changed == {*NEUTRAL, "offload"}


def rows_of(output: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in output.split("\n")
        if line[:1] == "|"
    ]


def test_the_whole_benchmark_runs_on_tiny_models(capsys):
    threads = torch.get_num_threads()
    try:
        gpu.main(["--small", "--variants", "eager", "cudnn", "fused", "--batch-shapes", "2"])
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert "nothing about any real model" in output
    assert re.search(r"Loading \S+ GB of transformer and VAE took \S+ s", output)
    images = [row for row in rows_of(output) if row[0] == "64" and len(row) == 9]
    assert [row[1:3] for row in images] == [
        ["1", "plain diffusers loop"],
        ["2", "eager"],
        ["2", "cudnn"],
        ["2", "fused"],
    ]
    assert "needs device cuda" in images[2][3]
    for row in (images[0], images[1], images[3]):
        rate, tflops, ratio = float(row[3]), float(row[4]), float(row[6])
        assert rate > 0
        assert ratio == pytest.approx(rate / float(images[0][3]), rel=0.02)
        tiny = image_flops(64, 64, 20, small=True)
        assert tflops == pytest.approx(rate * (2 * tiny["forward"] + tiny["decode"]) / TERA, rel=0.02)
    for row in (images[1], images[3]):
        assert 0 < float(row[7].rstrip(" %")) < 100
    (run,) = [row for row in rows_of(output) if row[0] == "64" and row[3] == "6"]
    assert run[1:3] == ["2", "fused"]
    whole, before, between, after = (float(cell) for cell in run[5:9])
    assert float(run[9].rstrip(" %")) == pytest.approx(100 * (before + between + after) / whole, rel=0.05)
    assert "64 pixels: the generator waited" in output
    assert "transformer" in output
    assert "Self CPU" in output
    inputs = [row for row in rows_of(output) if row[0] in ("text", "image and text")]
    assert [row[2] for row in inputs] == ["plain calls", "workflow's job"] * 2


def test_without_a_gpu_it_says_what_it_needs():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(RuntimeError, match=r"requirements/cuda\.txt"):
        gpu.main([])
