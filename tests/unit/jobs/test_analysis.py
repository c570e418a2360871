"""An analysis of small random states: which files it writes, and what they say."""

import csv
import io
import logging

import numpy as np
import pytest

from graftwork.core.png import is_complete_png
from graftwork.core.records import from_json
from graftwork.jobs.analysis import analyze
from graftwork.jobs.statistics import measure_statistics
from graftwork.models.prompts import NEUTRAL_OPTIONS
from graftwork.planning.analyses import AnalysisTask
from graftwork.planning.shards import StatisticsShard, StatisticsToMeasure
from graftwork.reports.analysis import plots, registry
from graftwork.statistics.compare import STD_MEASURES, TOKEN_MEASURES
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.records import StatisticsParts
from tests.unit.statistics.samples import role_codes

LOG = logging.getLogger("test")
WIDTH = 8
PROMPTS = ["p0", "p1", "p2"]
KEYS = {("text", -2): "1" * 32, ("text", -4): "2" * 32, ("vision", -2): "3" * 32}
INDEX = {-2: 7, -4: 5}


def states(seed, tokens, scale):
    values = np.random.default_rng(seed).normal(size=(tokens, WIDTH)) * scale
    values[0, 3] = 5000.0
    return values.astype(np.float32)


def entry(name, layers, references):
    return {
        "name": name,
        "token_classes": ["all", "non_sink", "image", "prompt"]
        if references
        else ["all", "non_sink", "prompt"],
        "layers": [
            {"hidden_layer": layer, "index": INDEX[layer], "statistics": KEYS[name, layer]}
            for layer in layers
        ],
        "inputs": [
            {"key": f"{name}{prompt}{reference or ''}", "prompt": prompt, "reference": reference}
            for prompt in PROMPTS
            for reference in references or [None]
        ],
    }


def side(name, layer=-2, tokens="all"):
    return {"entry": name, "hidden_layer": layer, "tokens": tokens}


ANALYSIS = {
    "name": "small",
    "title": "Small",
    "question": "What is left?",
    "corpus": {"name": "c", "prompts": 3, "references": 2},
    "entries": [entry("text", [-2, -4], None), entry("vision", [-2], ["r0", "r1"])],
    "comparisons": [
        {"name": "vision_vs_text", "a": side("vision"), "b": side("text")},
        {"name": "image_vs_prompt", "a": side("vision", tokens="image"), "b": side("text", tokens="prompt")},
    ],
    "massive": {"magnitude": 100.0, "factor": 1000.0},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("analysis") / "store")
    for one in ANALYSIS["entries"]:
        for number, given in enumerate(one["inputs"]):
            extra = int(given["prompt"][1])  # Prompts of unequal lengths.
            names = ["sink", "template", *["prompt"] * (3 + extra)]
            ids = [90, 91, *range(3 + extra)]
            if given["reference"]:
                names[2:2] = ["vision_marker", *["image"] * 4, "vision_marker"]
                ids[2:2] = [80, *[81] * 4, 82]
            sequence = {
                "token_ids": np.array(ids),
                "roles": role_codes(*names),
                "positions": np.arange(len(ids))[None],
            }
            layers = {
                layer["index"]: states(number + layer["index"], len(ids), np.arange(1, WIDTH + 1))
                for layer in one["layers"]
            }
            add_layers(store.hidden_states(given["key"]), layers, "float32", sequence, {})
    items = [
        StatisticsToMeasure(
            layer["statistics"],
            StatisticsParts(tuple(given["key"] for given in one["inputs"]), layer["index"], "code"),
            corpus="c",
            encoder=one["name"],
            options=NEUTRAL_OPTIONS,
        )
        for one in ANALYSIS["entries"]
        for layer in one["layers"]
    ]
    assert not measure_statistics(StatisticsShard(tuple(items)), store, LOG, {}).failures
    return store


@pytest.fixture(scope="module")
def analyzed(store):
    """Folder, files and summary, made once: drawing takes a second."""
    folder = store.root.with_name("out")
    return folder, *analyze(from_json(AnalysisTask, ANALYSIS), store, folder, LOG, {})


def table(folder, name):
    return list(csv.DictReader(io.StringIO((folder / name).read_text())))


def test_every_file_is_listed_and_whole(analyzed):
    folder, files, text = analyzed
    assert files == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert all(is_complete_png(folder / file) for file in files if file.endswith(".png"))
    for name in ("statistics/vision_layer-2_image.csv", "statistics/text_layer-4_non_sink.csv"):
        assert [row["dim"] for row in table(folder, name)] == [str(d) for d in range(WIDTH)]
    assert {"plots/vision_vs_text.png", "plots/vision_vs_text_without_sink.png"} <= set(files)
    assert "plots/image_vs_prompt_without_sink.png" not in files
    for file in files:
        if file.endswith(".png"):
            assert f"]({file})" in text


def test_naive_and_robust_measures_stand_side_by_side(analyzed):
    folder, _, text = analyzed
    rows = {row["name"]: row for row in table(folder, "comparisons/vision_vs_text.csv")}
    suffixes = ["", "_without_top3", "_without_sink", "_without_sink_without_top3"]
    expected = [name + suffix for name in STD_MEASURES for suffix in suffixes]
    expected += [name + suffix for name in TOKEN_MEASURES for suffix in ("", "_without_sink")]
    assert list(rows) == expected
    # Both have one huge sink: alike as they are quoted, and not without it.
    assert float(rows["pearson_std"]["value"]) > 0.99
    assert text.index("Pearson's r = **") < text.index("## vision")
    line = next(line for line in text.split("\n") if line.startswith("| Pearson correlation of the standard"))
    assert len(line.split("|")) == 2 + 1 + len(suffixes)
    image = {row["name"] for row in table(folder, "comparisons/image_vs_prompt.csv")}
    assert not image & set(TOKEN_MEASURES)
    assert "do not have the same tokens row by row" in text


def test_the_sink_is_found_where_it_is(analyzed):
    folder, _, text = analyzed
    rows = table(folder, "massive_activations/vision.csv")
    assert [(r["layer"], r["token"], r["role"], r["dim"], r["value"], r["inputs"]) for r in rows] == [
        ("-2", "0", "sink", "3", "5000.0", "6")
    ]
    lengths = table(folder, "std_against_length/text_layer-2.csv")
    assert [row["tokens"] for row in lengths] == ["5", "6", "7"]
    for row, given in zip(lengths, ANALYSIS["entries"][0]["inputs"], strict=True):
        number = ANALYSIS["entries"][0]["inputs"].index(given)
        values = states(number + 7, int(row["tokens"]), np.arange(1, WIDTH + 1)).astype(np.float64)
        assert float(row["std"]) == pytest.approx(values.std(ddof=1))
        assert float(row["std_without_sink"]) == pytest.approx(values[1:].std(ddof=1))
        assert float(row["expected_std"]) == pytest.approx(values.std(ddof=1), rel=0.02)
    assert "the attention sink, 3 of 18 tokens" in text


def test_what_failed_is_said_and_the_rest_is_made(store, tmp_path):
    failures = {KEYS["vision", -2]: "OSError: full", "textp1": "FloatingPointError: NaN"}
    files, text = analyze(from_json(AnalysisTask, ANALYSIS), store, tmp_path, LOG, failures)
    assert "## What could not be measured" in text
    assert "* vision, layer -2: OSError: full" in text
    assert "prompt 'p1' was left out: FloatingPointError: NaN" in text
    assert "a side was not measured" in text
    assert "statistics/text_layer-2_all.csv" in files
    assert not [file for file in files if file.startswith("comparisons/")]


NEW_PLOT = '''
"""A plot as somebody might add it."""

from graftwork.core.charts import Axis, Chart, Panel, Series
from graftwork.reports.analysis.registry import AnalysisPlot, PairCompared, analysis_plot


@analysis_plot(PairCompared)
def means(pair: PairCompared) -> AnalysisPlot:
    """Draws the means of the first side."""
    points = [(float(place), float(value)) for place, value in enumerate(pair.a.mean)]
    chart = Chart("Means", [pair.title], [Panel(Axis("dimension"), Axis("mean"), [Series("mean", points)])])
    return AnalysisPlot(f"means_{pair.name}", f"Means, {pair.title}", chart)
'''


def test_a_new_plot_is_one_module(store, tmp_path, monkeypatch):
    """It is found in the folder, drawn, listed in the summary, and a part of the digest; nothing else is touched."""
    before = registry.plots_code()
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "means.py").write_text(NEW_PLOT)
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path / "plots")])
    monkeypatch.setattr(registry, "_PLOTS", dict(registry._PLOTS))
    registry._load_all.cache_clear()
    files, text = analyze(
        {**ANALYSIS, "comparisons": ANALYSIS["comparisons"][1:]}, store, tmp_path / "out", LOG, {}
    )
    assert "plots/means_image_vs_prompt.png" in files
    assert is_complete_png(tmp_path / "out" / "plots" / "means_image_vs_prompt.png")
    assert "](plots/means_image_vs_prompt.png)" in text
    assert registry.plots_code() != before
