"""The score `artifacts`: planted patterns are found, and content is not taken for them."""

import numpy as np
import pytest

from graftwork.scores.artifacts import (
    colourfulness,
    comb,
    lab_histogram,
    log_spectrum,
    luminance,
    measure_artifacts,
    sharpness,
)
from graftwork.scores.registry import ImageBeside

SIZE = 512


def content(seed, size=SIZE):
    """A grey image whose power falls with the square of the frequency, as that of photographs does; uint8 (size, size, 3)."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = 1.0
    grey = np.fft.ifft2(np.fft.fft2(random.normal(size=(size, size))) / frequency).real
    grey = 128 + 40 * (grey - grey.mean()) / grey.std()
    return np.repeat(np.clip(grey, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def tiles(levels, size=SIZE, period=16):
    """A pattern that repeats every 16 pixels in both directions, of so many grey levels."""
    tile = np.random.default_rng(7).normal(size=(period, period))
    return levels * np.tile(tile, (-(-size // period),) * 2)[:size, :size, None]


def combs(pixels):
    spectrum = log_spectrum(luminance(pixels))
    return comb(spectrum, 16), comb(spectrum, 15)


def planted(seed, levels, period=16):
    return np.clip(content(seed) + tiles(levels, period=period), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("levels", "lowest", "highest"), [(0.0, -0.15, 0.1), (0.5, 0.1, 0.4), (2.0, 0.8, 1.3)]
)
def test_a_pattern_of_tiles_shows_and_the_control_stays(levels, lowest, highest):
    found = np.array([combs(planted(seed, levels)) for seed in range(4)])
    assert lowest < found[:, 0].mean() < highest
    assert abs(found[:, 1].mean()) < 0.15


def test_another_period_is_not_taken_for_it():
    own, control = combs(planted(0, 2.0, period=15))
    assert abs(own) < 0.2
    assert control > 0.5


def test_a_gradient_across_the_border_is_no_pattern():
    """Without the periodic component, a ramp has power along the whole cross."""
    grey = luminance(content(1)) + np.linspace(0, 500, SIZE)[None]
    with_border = np.log10(np.abs(np.fft.fft2(grey)) ** 2 + 1.0)
    assert abs(comb(log_spectrum(grey), 16)) < 0.15
    axis = slice(1, SIZE // 2)
    assert (log_spectrum(grey)[0, axis] - log_spectrum(luminance(content(1)))[0, axis]).mean() < 0.1
    assert (with_border[0, axis] - log_spectrum(luminance(content(1)))[0, axis]).mean() > 1.0


def test_small_images_have_no_comb():
    found = measure_artifacts(ImageBeside(np.zeros((20, 20, 3), dtype=np.uint8)))
    assert (found["comb"], found["comb_control"], found["axis_comb"], found["border_energy"]) == (None,) * 4
    assert found["clipped"] == 1.0


def test_what_is_compared():
    black, white = (np.full((64, 64, 3), level, dtype=np.uint8) for level in (0, 255))
    grey = np.full((32, 48, 3), 128, dtype=np.uint8)
    alone = measure_artifacts(ImageBeside(black))
    assert not {"histogram_distance", "moved"} & alone.keys()
    beside = measure_artifacts(ImageBeside(black, (white, black), white))
    assert (beside["histogram_distance"], beside["moved"]) == (0.5, 255.0)
    # A baseline of another size cannot be compared pixel by pixel.
    assert "moved" not in measure_artifacts(ImageBeside(black, (), grey))
    assert lab_histogram(grey).sum() == pytest.approx(1.0)


def test_numbers_that_are_known():
    """Hasler's measure by hand: two halves, red and green."""
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, :, 0] = pixels[1, :, 1] = 200
    # red - green is +200 and -200, half their sum minus blue 100 everywhere.
    assert colourfulness(pixels) == pytest.approx(200.0 + 0.3 * 100.0)
    assert colourfulness(np.full((4, 4, 3), 77, dtype=np.uint8)) == 0.0
    board = np.indices((10, 10)).sum(axis=0) % 2 * 100.0
    # Inside a board of 0 and 100 the Laplacian is +400 and -400.
    assert sharpness(board) == pytest.approx(400.0**2)
    assert sharpness(np.add.outer(np.arange(9.0), np.arange(9.0))) == 0.0
