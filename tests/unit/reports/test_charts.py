"""Charts: equal data give equal bytes, nothing but pixels is in the file, and nothing is drawn over anything else."""

import functools
import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from graftwork.core.charts import Axis, Chart, HeatMap, Level, Panel, Series, dot_plot
from graftwork.reports import charts
from graftwork.reports.charts import chart_png, draw_chart

X, SHARE = Axis("alpha", ticks=(0.0, 0.5, 1.0)), Axis("share of attributes", "percent", (0.0, 1.0))
LINE = Series("follows", [(0.0, 0.9), (0.5, 0.5), (1.0, 0.1)], [(0.8, 1.0), (0.4, 0.6), (0.0, 0.2)])
OTHER = Series("another", [(0.0, 0.1), (0.5, 0.2), (1.0, 0.3)], [(0.0, 0.2), (0.1, 0.3), (0.2, 0.4)])
CHANCE = Level("chance", [(0.0, 0.25)])
NAMES = ("a", "b", "a long name of a setting")


def lines(title: str = "Do $images$ follow?") -> Chart:
    panel = Panel(X, SHARE, [LINE, OTHER], [CHANCE], title="one", note=["n = 5"])
    return Chart(title, ["An experiment"], [panel] * 4, footer=["How it was made."])


def names() -> Chart:
    points = Series(
        "mean", [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)], [(0.5, 1.5), (1.5, 2.5), (2.5, 3.5)], "points"
    )
    panel = Panel(
        Axis("setting", "category", names=NAMES), Axis("brightness (grey levels)"), [points], [CHANCE]
    )
    return Chart("Names", [], [panel, dot_plot(panel)], columns=1)


def scatter() -> Chart:
    values = np.exp(np.random.default_rng(0).normal(size=(60, 2)))
    cloud = Series("a dimension", values.tolist(), style="points")
    worst = Series("differs most", values[:8].tolist(), style="points", labels=[str(n) for n in range(8)])
    log = Axis("std", "log", (0.01, 20.0))
    return Chart("Scatter", ["A"], [Panel(log, log, [cloud, worst], is_square=True, height=1.6)])


def colours() -> Chart:
    magnitudes = HeatMap(np.abs(np.random.default_rng(0).normal(size=(8, 30))), "magnitude", "log")
    layers = Axis("layer", "category", names=tuple(map(str, range(8))))
    return Chart("A map", [], [Panel(Axis("token"), layers, map=magnitudes)])


CHARTS = [lines, names, scatter, colours]


@functools.cache
def once(make) -> bytes:
    return chart_png(make())


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def chunks(data: bytes) -> set[bytes]:
    found, position = set(), 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.add(data[position + 4 : position + 8])
        position += 12 + length
    return found


@pytest.mark.parametrize("make", CHARTS)
def test_equal_data_give_equal_bytes(make):
    assert chart_png(make()) == once(make)


@pytest.mark.parametrize("make", CHARTS)
def test_a_file_holds_nothing_but_the_picture(make):
    assert chunks(once(make)) <= {b"IHDR", b"IDAT", b"IEND", b"pHYs"}


@pytest.mark.parametrize("make", CHARTS)
def test_a_picture_has_something_on_it_and_a_margin(make):
    found = pixels(once(make))
    assert min(found.shape[:2]) >= 400
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 50
    for edge in (found[:8], found[-8:], found[:, :8], found[:, -8:]):
        assert (edge == 255).all()


@pytest.mark.parametrize("make", CHARTS)
def test_settings_of_the_user_do_not_matter(make):
    mine = {
        "font.size": 20,
        "font.family": "serif",
        "axes.facecolor": "black",
        "savefig.dpi": 30,
        "figure.dpi": 20,
        "lines.linewidth": 9,
        "text.usetex": True,
    }
    with matplotlib.rc_context(mine):
        assert chart_png(make()) == once(make)
        assert matplotlib.rcParams["font.size"] == 20


def test_no_global_state_of_matplotlib_is_touched():
    """Figures of pyplot stay open until somebody closes them."""
    before = dict(matplotlib.rcParams)
    chart_png(lines())
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_dollar_sign_is_no_formula():
    assert chart_png(lines("$\\nosuchcommand$")) != once(lines)


def test_the_bundled_font_is_the_one_used(monkeypatch, tmp_path):
    expected = once(scatter)
    bold = charts.FONT_FOLDER / "DejaVuSans-Bold.ttf"
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        (tmp_path / name).symlink_to(bold)
    monkeypatch.setattr(charts, "FONT_FOLDER", tmp_path)
    assert chart_png(scatter()) != expected


@pytest.fixture
def drawn(monkeypatch):
    """The figure of the chart that is drawn last."""
    figures = []
    original = charts._compose
    monkeypatch.setattr(charts, "_compose", lambda chart: figures.append(original(chart)) or figures[-1])
    return figures


def overlap(one, other) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return min(wide, high)


@pytest.mark.parametrize("make", CHARTS)
def test_no_text_lies_on_another(drawn, make):
    draw_chart(make())
    (figure,) = drawn
    texts = [text for text in figure.texts if text.get_text()]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        # Labels of points are looked at below: their boxes have the lines to the points.
        labels = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        seen = []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            seen += [tick for place, tick in ticks if low <= place <= high and tick.get_rotation() == 0]
        texts += [text for text in labels + seen if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for index, (text, box) in enumerate(boxes):
        for other, other_box in boxes[:index]:
            assert overlap(box, other_box) < 3, (text, other)


def test_the_legend_covers_no_panel(drawn):
    draw_chart(lines())
    (figure,) = drawn
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["follows", "another", "chance"]
    for axes in figure.axes:
        assert overlap(legend.get_window_extent(), axes.get_window_extent()) < 0


def test_labels_of_points_lie_apart(drawn):
    from matplotlib.text import Text

    points = [(50.0, y) for y in np.linspace(0.010, 0.011, 6)] + [(1.0, 1.0)]
    log = Axis("std", "log", (0.005, 80.0))
    crowded = Series("worst", points, style="points", labels=[str(100 + number) for number in range(7)])
    draw_chart(Chart("crowded", [], [Panel(log, log, [crowded], is_square=True, height=1.6)]))
    (figure,) = drawn
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == list(crowded.labels)
    # Without the line from the label to its point.
    boxes = [Text.get_window_extent(text, figure.canvas.get_renderer()) for text in texts]
    for index, box in enumerate(boxes):
        assert all(overlap(box, other) < 3 for other in boxes[:index])


def test_series_have_one_look_on_all_panels(drawn):
    draw_chart(Chart("t", [], [Panel(X, SHARE, [LINE, OTHER]), Panel(X, SHARE, [OTHER])]))
    (figure,) = drawn
    first, second = (axes.lines[-1] for axes in figure.axes)
    assert (first.get_color(), first.get_marker()) == (second.get_color(), second.get_marker())
    assert first.get_color() == charts.PALETTE[1]


def test_remarks_are_written_where_nothing_is(drawn):
    full = Panel(X, SHARE, [LINE], remark="half of the cells failed")
    empty = Panel(X, SHARE, remark="no cells with an image")
    draw_chart(Chart("t", [], [full, empty]))
    (figure,) = drawn
    assert [axes.texts[-1].get_text() for axes in figure.axes] == [
        "half of the cells failed",
        "no cells with an image",
    ]
    assert figure.axes[1].texts[-1].get_position() == (0.5, 0.5)


def test_units_and_directions_are_on_the_axes(drawn):
    draw_chart(names())
    (figure,) = drawn
    assert figure.axes[0].get_ylabel() == figure.axes[1].get_xlabel() == "brightness (grey levels)"
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == list(NAMES)


def test_long_titles_stay_in_the_picture():
    words = "a long title that goes on and on " * 8
    panel = Panel(X, SHARE, [LINE])
    short = draw_chart(Chart("title", ["x"], [panel]))
    long = draw_chart(Chart(words, [words], [panel], footer=[words]))
    assert long.shape[0] > short.shape[0]
    assert (long[:, -8:] == 255).all()


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (
            Panel(X, SHARE, [Series("a", [(0.0, 1.0)], [(0.0, 1.0), (0.0, 1.0)])]),
            "'a' has 1 points and 2 intervals",
        ),
        (Panel(Axis("x", "log"), SHARE, [Series("a", [(0.0, 1.0)])]), "'a' has values that are not above 0"),
        (Panel(X, X, map=HeatMap(np.full((1, 2), np.nan), "m")), "finite values"),
        (Panel(X, X, map=HeatMap(np.ones(3), "m")), r"\(3,\)"),
    ],
)
def test_what_cannot_be_drawn(panel, message):
    with pytest.raises(ValueError, match=message):
        draw_chart(Chart("t", [], [panel]))


def test_importing_the_modules_imports_no_matplotlib():
    program = (
        "import sys, graftwork.reports.charts, graftwork.reports.code as code, graftwork.reports.analysis.tables\n"
        "code.analysis_code()\n"
        "for name in ('torch', 'matplotlib', 'scipy', 'jinja2', 'pandas'): assert name not in sys.modules, name"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
