"""Charts: equal data give equal bytes, nothing but pixels is in the file, and nothing is drawn over anything else."""

import functools
import io
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.text import Text
from PIL import Image

from graftwork.core.charts import Axis, Chart, HeatMap, Level, Panel, Series, dot_plot
from graftwork.reports import charts, fonts
from graftwork.reports.charts import chart_png, draw_chart
from graftwork.reports.typography import undrawable
from tests.unit.reports.conftest import MADE, write_font

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


def with_name(name: str) -> Chart:
    panel = Panel(
        Axis("setting", "category", names=(name,)), Axis("y"), [Series("s", [(0.0, 1.0)], style="points")]
    )
    return Chart("Fonts", [], [panel])


def texts_of(figure) -> dict[str, list[str]]:
    """Text -> files of the fonts that it is drawn with; the first is for all characters that it has."""
    properties = {text.get_text(): text.get_fontproperties() for text in figure.findobj(Text)}
    return {
        text: [
            Path(findfont(FontProperties(family=family, weight=found.get_weight()))).name
            for family in found.get_family()
        ]
        for text, found in properties.items()
    }


def test_fonts_of_the_machine_draw_what_the_bundled_one_lacks(one_font, drawn, recwarn):
    name = f"a {MADE} b"
    assert (chart_png(with_name(name)) == chart_png(with_name("a \ufffd b"))) is False
    fonts_of = texts_of(drawn[0])
    assert fonts_of[name] == ["DejaVuSans.ttf", "made.ttf"]
    assert fonts_of["Fonts"] == ["DejaVuSans-Bold.ttf", "made.ttf"]
    assert not any("stands for" in text for text in fonts_of)
    assert [str(one.message) for one in recwarn] == []


def test_a_map_names_its_categories_and_its_colours_have_room(drawn):
    label = "share of the attributes of the reference that the prompt does not state and that the image has (share)"
    names = Axis("alpha", "category", names=("0.0", "0.1", "0.2"))
    rows = Axis("layer", "category", names=("-2", "-6"))
    draw_chart(Chart("A map", [], [Panel(names, rows, map=HeatMap(np.ones((2, 3)), label))]))
    (figure,) = drawn
    axes, bar = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.0", "0.1", "0.2"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["-2", "-6"]
    shown = bar.yaxis.label.get_window_extent()
    assert bar.yaxis.label.get_text().replace("\n", " ") == label
    assert bar.get_window_extent().height * 1.15 > shown.height


@pytest.mark.parametrize("name", ["\ue000", "\U0001f408\u200d"])
def test_what_no_font_draws_is_marked_and_said(no_fonts, drawn, recwarn, name):
    draw_chart(with_name(name))
    texts = texts_of(drawn[0])
    assert "\ufffd" in texts
    assert any(text.startswith("\ufffd stands for characters that no font") for text in texts)
    assert [str(one.message) for one in recwarn] == []


def test_faces_that_matplotlib_does_not_read_are_not_used(use_fonts, tmp_path, drawn):
    write_font(tmp_path / "made.ttf")
    (tmp_path / "pictures.ttf").write_bytes(b"no outlines")
    use_fonts(
        fonts.SystemFont(tmp_path / "pictures.ttf", 0, (ord(MADE),), (ord(MADE),)),
        fonts.SystemFont(tmp_path / "made.ttf", 1, (ord(MADE),), (ord(MADE),)),
    )
    draw_chart(with_name(MADE))
    assert "\ufffd" in texts_of(drawn[0])


def test_chinese_japanese_and_korean_are_drawn_with_fonts_of_this_machine(drawn, recwarn):
    texts = ("\u7ea2\u8272\u7684\u732b", "\u8d64\u3044\u732b", "\ube68\uac04 \uace0\uc591\uc774")
    if undrawable(texts, is_for_plots=True):
        reason = "this machine has no font with Chinese, Japanese and Korean letters (Debian and Ubuntu: apt-get install fonts-noto-cjk)"
        warnings.warn(pytest.PytestWarning(f"LABELS OF PLOTS WERE NOT TESTED: {reason}"), stacklevel=1)
        pytest.skip(reason)
    for text in texts:
        draw_chart(Chart(text, [text], [Panel(X, SHARE, [LINE, OTHER], title=text)]))
        found = [one for one in drawn[-1].findobj(Text) if one.get_text() == text]
        assert len(found) == 3
        for one in found:
            # A letter of these scripts is about as wide as high; a box for what is missing is narrower.
            letters = 0.85 * len(text.replace(" ", "")) * one.get_fontsize() * charts.DPI / 72
            assert one.get_window_extent().width > letters
        assert len(texts_of(drawn[-1])[text]) >= 2
    assert [str(one.message) for one in recwarn] == []


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


def test_labels_of_one_series_lie_on_no_label_and_no_marker_of_another(drawn):
    near = [(0.006 + 0.004 * n, -0.004 * n) for n in range(4)]
    series = [
        Series(name, [(x, y + shift) for x, y in near] + [(0.3, -0.3 - shift)], labels=list("12345"))
        for name, shift in (("one", 0.0), ("two", 0.002), ("three", 0.001))
    ]
    axis = Axis("difference")
    draw_chart(Chart("crowded", [], [Panel(axis, axis, series)] * 2))
    (figure,) = drawn
    for axes in figure.axes:
        assert len(axes.texts) == 15
        boxes = [Text.get_window_extent(text, figure.canvas.get_renderer()) for text in axes.texts]
        panel = axes.get_window_extent()
        for index, box in enumerate(boxes):
            assert all(overlap(box, other) < 3 for other in boxes[:index])
            # Nor on the title, nor on ticks.
            assert all(panel.contains(*corner) for corner in (box.min, box.max))
            for one in series:
                assert not any(box.contains(*axes.transData.transform(point)) for point in one.points)


def test_labels_of_a_dot_plot_stand_in_the_row_of_their_point(drawn):
    kinds = Axis("kind", "category", names=("a", "b", "c"))
    counts = Series("n", [(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)], style="points", labels=["0", "3", "0"])
    draw_chart(Chart("t", [], [dot_plot(Panel(kinds, Axis("n", limits=(0.0, 4.0)), [counts]))]))
    (figure,) = drawn
    (axes,) = figure.axes
    for text, (row, _) in zip(axes.texts, counts.points, strict=True):
        box = Text.get_window_extent(text, figure.canvas.get_renderer())
        assert box.y0 < axes.transData.transform((0.0, row))[1] < box.y1


def test_levels_of_one_colour_have_lines_of_their_own_on_all_panels(drawn):
    alone, words = Level("the text alone", [(0.0, 0.4)]), Level("words", [(0.0, 0.6)])
    panels = [Panel(X, SHARE, [LINE], [CHANCE, alone, words]), Panel(X, SHARE, [LINE], [words])]
    draw_chart(Chart("t", [], panels))
    (figure,) = drawn
    # Pattern of strokes by height.
    first, second = (
        {
            line.get_ydata()[0]: line._unscaled_dash_pattern
            for line in axes.lines
            if len(line.get_ydata()) == 2
        }
        for axes in figure.axes
    )
    assert len(set(first.values())) == 3
    assert second == {0.6: first[0.6]}
    (legend,) = figure.legends
    in_legend = dict(zip((text.get_text() for text in legend.get_texts()), legend.get_lines(), strict=True))
    assert in_legend["words"]._unscaled_dash_pattern == first[0.6]
    assert in_legend["the text alone"]._unscaled_dash_pattern == first[0.4]


def test_series_have_one_look_on_all_panels(drawn):
    draw_chart(Chart("t", [], [Panel(X, SHARE, [LINE, OTHER]), Panel(X, SHARE, [OTHER])]))
    (figure,) = drawn
    first, second = (axes.lines[-1] for axes in figure.axes)
    assert (first.get_color(), first.get_marker()) == (second.get_color(), second.get_marker())
    assert first.get_color() == charts.PALETTE[1]


def test_intervals_are_moved_apart_only_where_they_would_hide_each_other(drawn):
    kinds = Axis("kind", "category", names=("a", "b"))
    beside = [
        Series(name, [(x, 1.0)], [(0.5, 1.5)], "points") for name, x in (("map", 0.0), ("control", 1.0))
    ]
    same = [replace(series, points=[(0.0, 1.0)]) for series in beside]
    draw_chart(Chart("t", [], [dot_plot(Panel(kinds, X, own)) for own in (beside, same)]))
    (figure,) = drawn
    heights = [[line.get_ydata()[0] for line in axes.lines] for axes in figure.axes]
    assert heights[0] == [0.0, 1.0]
    assert heights[1][0] != heights[1][1]


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
