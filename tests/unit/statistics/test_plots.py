"""Figures: equal data give equal bytes, and nothing but pixels is in the file."""

import functools
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftwork.reports.analysis import plots
from graftwork.reports.analysis.plots import (
    Series,
    plot_magnitude_map,
    plot_std_against_length,
    plot_std_scatter,
)
from graftwork.statistics.dimensions import worst_dimensions
from tests.unit.statistics.samples import gaussian

matplotlib = pytest.importorskip("matplotlib", reason="figures need Matplotlib, which is not installed")

STD_A = np.exp(gaussian(1, 60, 0)[0].astype(np.float64))
STD_B = np.exp(gaussian(1, 60, 1)[0].astype(np.float64))


def scatter(title: str = "std of $A$ and $B$") -> bytes:
    return plot_std_scatter(STD_A, STD_B, worst_dimensions(STD_A, STD_B, 8), ("A", "B_1"), title)


def map_() -> bytes:
    return plot_magnitude_map(range(-3, 5), np.abs(gaussian(8, 30)), "magnitude")


def lengths(title: str = "std against length") -> bytes:
    series = [
        Series("measured, with the sink", [12, 30, 80], [80.0, 55.0, 30.0]),
        Series("expected", [10, 100], [90.0, 28.0], is_line=True),
    ]
    return plot_std_against_length(series, title, {"a quoted value": 61.0})


FIGURES = [scatter, map_, lengths]


@functools.cache
def once(draw) -> bytes:
    return draw()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def chunks(data: bytes) -> set[bytes]:
    found, position = set(), 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.add(data[position + 4 : position + 8])
        position += 12 + length
    return found


@pytest.mark.parametrize("draw", FIGURES)
def test_equal_data_give_equal_bytes(draw):
    assert draw() == once(draw)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_file_holds_nothing_but_the_picture(draw):
    assert chunks(once(draw)) <= {b"IHDR", b"IDAT", b"IEND", b"pHYs"}


@pytest.mark.parametrize("draw", FIGURES)
def test_a_picture_has_something_on_it(draw):
    found = pixels(once(draw))
    assert min(found.shape[:2]) >= 400
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 50
    assert (found[0] == 255).all()


@pytest.mark.parametrize("draw", FIGURES)
def test_settings_of_the_user_do_not_matter(draw):
    expected = once(draw)
    mine = {
        "font.size": 20,
        "axes.facecolor": "black",
        "savefig.dpi": 30,
        "text.usetex": True,
        "lines.color": "r",
    }
    with matplotlib.rc_context(mine):
        assert draw() == expected
        assert matplotlib.rcParams["font.size"] == 20


def test_a_dollar_sign_is_no_formula():
    assert lengths("$\\nosuchcommand$") != once(lengths)


def test_other_data_give_another_picture():
    assert pixels(scatter("another")).tobytes() != pixels(once(scatter)).tobytes()


def test_the_bundled_font_is_the_one_used(monkeypatch):
    expected = once(scatter)
    monkeypatch.setattr(plots, "FONT", plots.FONT.with_name("DejaVuSans-Bold.ttf"))
    assert scatter() != expected
    assert plots.FONT.is_file()


def test_every_worst_dimension_is_labelled_apart(monkeypatch):
    from matplotlib.text import Text

    drawn = []
    original = plots._png

    def remember(figure):
        data = original(figure)
        for text in figure.axes[0].texts:
            # Without the line from the label to its point.
            drawn.append((text.get_text(), Text.get_window_extent(text, figure.canvas.get_renderer())))
        return data

    monkeypatch.setattr(plots, "_png", remember)
    std_a, std_b = STD_A.copy(), STD_B.copy()
    std_a[:6], std_b[:6] = np.linspace(0.010, 0.011, 6), 50.0
    worst = worst_dimensions(std_a, std_b, 8)
    plot_std_scatter(std_a, std_b, worst, ("A", "B"), "crowded")
    assert [text for text, _ in drawn] == [str(one.dim) for one in worst]
    for index, (_, box) in enumerate(drawn):
        for _, other in drawn[:index]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) < 3, (drawn[index], other)


def test_dimensions_that_are_zero_are_left_out_and_said_so(monkeypatch):
    labels = []
    original = plots._png
    monkeypatch.setattr(
        plots, "_png", lambda figure: labels.append(figure.axes[0].get_xlabel()) or original(figure)
    )
    std_a, std_b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0])
    plot_std_scatter(std_a, std_b, worst_dimensions(std_a, std_b, 3), ("A", "B"), "zeros")
    assert labels == ["std in B (2 dimensions with 0 not shown)"]


def test_a_map_of_zeros_and_one_of_one_value_can_be_drawn():
    assert plot_magnitude_map([0], np.zeros((1, 1)), "zeros")
    assert plot_magnitude_map([0, 1], np.ones((2, 3)), "ones")
    assert plot_magnitude_map(range(60), np.ones((60, 3)), "many layers")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot_std_scatter(np.ones(2), np.ones(3), [], ("A", "B"), ""), r"\(2,\) and \(3,\)"),
        (lambda: plot_std_scatter(np.zeros(2), np.ones(2), [], ("A", "B"), ""), "nothing to plot"),
        (
            lambda: plot_magnitude_map([0, 1], np.ones((1, 2)), ""),
            r"2 layers for a map of the shape \(1, 2\)",
        ),
        (lambda: plot_magnitude_map([0], np.full((1, 2), np.nan), ""), "finite values"),
        (lambda: plot_magnitude_map([0], -np.ones((1, 2)), ""), "0 or above"),
        (lambda: plot_std_against_length([], ""), "no sequences"),
        (lambda: plot_std_against_length([Series("a", [1, 2], [3.0])], ""), "'a' has 2 lengths for 1 values"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_importing_the_module_imports_no_matplotlib():
    program = (
        "import sys, graftwork.reports.analysis.plots as plots, graftwork.reports.analysis.tables\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules and 'scipy' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_no_global_state_of_matplotlib_is_touched():
    """Figures of pyplot stay open until somebody closes them."""
    before = dict(matplotlib.rcParams)
    scatter()
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
