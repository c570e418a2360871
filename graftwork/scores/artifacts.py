"""The score `artifacts`: traces of the generator itself, such as its grid of tokens, and how far pixels moved.

Reported for models with tokens of 16 pixels: bright points on a grid in the Fourier plane. `comb` measures them: the base-10
logarithm of the power at all multiples of a frequency of 1/p, each minus the median of its 7 x 7 neighbours, averaged. At
a period of 15, which no generator has, it is a control: what an image's content alone gives. `axis_comb` takes the
multiples on the two axes alone. Before the transform, the border cross is removed: the periodic component of L. Moisan,
Periodic plus smooth image decomposition, JMIV 39 (2011).

Colourfulness is that of D. Hasler and S. Suesstrunk, Measuring colourfulness in natural images, SPIE 5007 (2003). Sharpness is
the variance of the Laplacian. The histogram distance is half of the absolute difference of two histograms over 8 x 8 x 8
cells of CIELAB (D65), 0 to 1.
"""

from collections.abc import Sequence

import numpy as np

from graftwork.core.tables import Row
from graftwork.scores.registry import Column, ImageBeside, Score, register

# Pixels of a token, and a period that is none of a generator's.
TOKEN, CONTROL = 16, 15
# Pixels of the border that is compared with the inside.
_BORDER = 16
_NEIGHBOURS = 3
_LEVELS = 255.0
_DIGITS = 6
_LAB_CELLS = 8


def measure_artifacts(seen: ImageBeside) -> Row:
    """Returns the columns of one image.

    Args:
        seen: the image, its references and its baseline.
    """
    grey = luminance(seen.pixels)
    spectrum = log_spectrum(grey)
    found = {
        "comb": comb(spectrum, TOKEN),
        "comb_control": comb(spectrum, CONTROL),
        "axis_comb": axis_comb(spectrum, TOKEN),
        "border_energy": border_energy(grey),
        "clipped": float(np.mean((seen.pixels == 0) | (seen.pixels == 255))),
        "colourfulness": colourfulness(seen.pixels),
        "sharpness": sharpness(grey),
    }
    if seen.references:
        beside = [lab_histogram(one) for one in seen.references]
        found["histogram_distance"] = histogram_distance(seen.pixels, beside)
        if seen.baseline is not None:
            found["histogram_distance_text_alone"] = histogram_distance(seen.baseline, beside)
    if seen.baseline is not None and seen.baseline.shape == seen.pixels.shape:
        moved = seen.pixels.astype(np.float64) - seen.baseline
        found["moved"] = float(np.sqrt(np.mean(moved**2)))
    # An image without two tokens on a side has no multiples to look at.
    return {name: None if value is None else round(value, _DIGITS) for name, value in found.items()}


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Returns the luma of Rec. 601 in grey levels: float64 (height, width), of uint8 (height, width, 3)."""
    return pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def log_spectrum(grey: np.ndarray) -> np.ndarray:
    """Returns the base-10 logarithm of the power of the periodic component, (height, width), frequency 0 first.

    Args:
        grey: float64 (height, width).
    """
    height, width = grey.shape
    border = np.zeros_like(grey)
    border[0] += grey[-1] - grey[0]
    border[-1] -= grey[-1] - grey[0]
    border[:, 0] += grey[:, -1] - grey[:, 0]
    border[:, -1] -= grey[:, -1] - grey[:, 0]
    rows, columns = (
        np.cos(2 * np.pi * np.arange(height) / height),
        np.cos(2 * np.pi * np.arange(width) / width),
    )
    below = 2 * rows[:, None] + 2 * columns[None] - 4
    below[0, 0] = 1.0
    smooth = np.fft.fft2(border) / below
    smooth[0, 0] = 0.0
    return np.log10(np.abs(np.fft.fft2(grey) - smooth) ** 2 + 1.0)


def _points(size: int, period: int) -> np.ndarray:
    """Returns the nearest frequencies to the multiples of size / period up to the highest, 0 left out."""
    return np.array(
        [round(size * k / period) for k in range(1, period // 2 + 1) if size * k / period <= size / 2],
        dtype=np.intp,
    )


def _above_neighbours(spectrum: np.ndarray, places: np.ndarray) -> float:
    """Returns by how much places (n, 2) lie above the median of their neighbours, on average."""
    height, width = spectrum.shape
    steps = np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
    around = np.array([(a, b) for a in steps for b in steps if a or b])
    at = places[:, None] + around[None]
    neighbours = spectrum[at[..., 0] % height, at[..., 1] % width]
    return float(np.mean(spectrum[places[:, 0], places[:, 1]] - np.median(neighbours, axis=1)))


def comb(spectrum: np.ndarray, period: int) -> float | None:
    """Returns the comb at a period in pixels, without the two axes; None for an image of less than two periods."""
    height, width = spectrum.shape
    if min(height, width) < 2 * period:
        return None
    rows, columns = _points(height, period), _points(width, period)
    # The plane is symmetric about its origin: half of it is enough, both signs of one side.
    places = [(row, sign * column % width) for row in rows for column in columns for sign in (1, -1)]
    return _above_neighbours(spectrum, np.array(places))


def axis_comb(spectrum: np.ndarray, period: int) -> float | None:
    """Returns the comb on the two axes, where lines across the image lie; None as `comb`."""
    height, width = spectrum.shape
    if min(height, width) < 2 * period:
        return None
    places = [(row, 0) for row in _points(height, period)] + [
        (0, column) for column in _points(width, period)
    ]
    return _above_neighbours(spectrum, np.array(places))


def border_energy(grey: np.ndarray) -> float | None:
    """Returns the mean squared gradient of the outer 16 pixels over that of the inside; None where there is no inside."""
    if min(grey.shape) < 3 * _BORDER:
        return None
    across, down = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    energy = across**2 + down**2
    inside = np.zeros(energy.shape, dtype=bool)
    inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    within = float(energy[inside].mean())
    return float(energy[~inside].mean()) / within if within else None


def colourfulness(pixels: np.ndarray) -> float:
    """Returns Hasler's colourfulness in grey levels: 0 without colours."""
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    one, other = red - green, 0.5 * (red + green) - blue
    return float(np.hypot(one.std(), other.std()) + 0.3 * np.hypot(one.mean(), other.mean()))


def sharpness(grey: np.ndarray) -> float:
    """Returns the variance of the Laplacian over the inner pixels, in squared grey levels."""
    inner = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(inner.var())


def histogram_distance(pixels: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Returns the mean distance of an image's colours to histograms of others, 0 to 1."""
    own = lab_histogram(pixels)
    return min(1.0, float(np.mean([0.5 * np.abs(own - other).sum() for other in others])))


def lab_histogram(pixels: np.ndarray) -> np.ndarray:
    """Returns the shares of pixels in 8 x 8 x 8 cells of CIELAB, float64 (512,)."""
    values = pixels.reshape(-1, 3).astype(np.float64) / _LEVELS
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    # White is a little above 100 by rounding.
    ranges = [(0, 100), (-100, 100), (-110, 100)]
    lab = np.clip(lab, *np.array(ranges, dtype=np.float64).T)
    counts, _ = np.histogramdd(lab, bins=_LAB_CELLS, range=ranges)
    return counts.ravel() / len(values)


_DECADES = "decades of power"
register(
    Score(
        name="artifacts",
        meaning=(
            "Traces of the generator in the pixels: its grid of tokens in the spectrum with a control period, the border, "
            "clipping, colourfulness, sharpness; colours compared with the reference, pixels with the baseline. A reference "
            "that is a mosaic has a comb by itself: look at the difference to the baseline, and at the control."
        ),
        needs="Nothing. Without a reference or a baseline, what is compared with it is empty.",
        columns=(
            Column("comb", f"comb at a period of {TOKEN} pixels", _DECADES, better="lower"),
            Column("comb_control", f"comb at a period of {CONTROL} pixels", _DECADES, is_detail=True),
            Column(
                "axis_comb", f"comb at {TOKEN} pixels on the axes", _DECADES, better="lower", is_detail=True
            ),
            Column("border_energy", "gradients of the border over those inside", bounds=(0, None)),
            Column("clipped", "share of clipped values", "share", bounds=(0, 1), better="lower"),
            Column("colourfulness", "colourfulness", "grey levels", bounds=(0, None)),
            Column("sharpness", "variance of the Laplacian", "grey levels^2", bounds=(0, None)),
            Column(
                "histogram_distance",
                "distance of colours to the reference",
                bounds=(0, 1),
                better="lower",
                against="reference",
                text_alone="histogram_distance_text_alone",
            ),
            Column(
                "histogram_distance_text_alone",
                "distance of colours of the text alone to the reference",
                bounds=(0, 1),
                against="reference",
                is_detail=True,
            ),
            Column("moved", "difference to the baseline", "grey levels", bounds=(0, 255), against="baseline"),
        ),
        measure_beside=measure_artifacts,
    )
)
