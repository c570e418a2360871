"""An analysis of small random states: which files it writes, and what they say."""

import csv
import io
import logging
from pathlib import Path

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
from tests.unit.statistics.samples import role_codes, with_sinks_at

LOG = logging.getLogger("test")
REPOSITORY = Path(__file__).resolve().parents[3]
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
    return folder, *analyze(from_json(AnalysisTask, ANALYSIS), store, folder, LOG, {})[:2]


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
    assert "attention sinks, 3 of 18 tokens" in text


def test_sinks_beyond_position_0_are_counted_and_named(tmp_path):
    """Three inputs, two of which have a second sink, at a token that the tokenizer has a word for."""
    store = Store(tmp_path / "store")
    roles, ids = role_codes("sink", *["prompt"] * 11), np.array([90, 263, *range(10)])
    for key, planted in (("wide0", (0, 1)), ("wide1", (0, 1)), ("wide2", (0,))):
        sequence = {"token_ids": ids, "roles": roles, "positions": np.arange(12)[None]}
        layers = {7: with_sinks_at(*planted, seed=int(key[-1])), 5: with_sinks_at(0, seed=int(key[-1]))}
        add_layers(store.hidden_states(key), layers, "float32", sequence, {})
    keys = {7: "7" * 32, 5: "5" * 32}
    inputs = tuple(f"wide{n}" for n in range(3))
    items = [
        StatisticsToMeasure(key, StatisticsParts(inputs, layer, "code"), corpus="c", encoder="e", options={})
        for layer, key in keys.items()
    ]
    assert not measure_statistics(StatisticsShard(tuple(items)), store, LOG, {}).failures
    wide = {
        "name": "wide",
        "token_classes": ["non_sink"],
        "layers": [
            {"hidden_layer": -2, "index": 7, "statistics": keys[7]},
            {"hidden_layer": -4, "index": 5, "statistics": keys[5]},
        ],
        "inputs": [{"key": key, "prompt": key, "reference": None} for key in inputs],
        "model": {
            "name": "miniature-qwen3-embedding",
            "entry": {
                "family": "qwen3",
                "path": str(REPOSITORY / "resources/miniature/family/qwen3-embedding"),
            },
        },
    }
    task = {**ANALYSIS, "entries": [wide], "comparisons": []}
    _, text, _ = analyze(from_json(AnalysisTask, task), store, tmp_path / "out", LOG, {})
    assert table(tmp_path / "out", "sinks/wide.csv") == [
        {"layer": "-2", "position": "1", "token_id": "263", "token": " the", "inputs": "2", "of_inputs": "3"}
    ]
    assert "In **wide, layer -2**, **2 of 3 inputs have a sink at position 1**" in text
    assert '| wide | -2 | 2 of 3 | 1: " the" (id 263) in 2 | 0 of 3 |' in text
    assert "| wide | -4 | 0 of 3 | none | 0 of 3 |" in text
    lengths = table(tmp_path / "out", "std_against_length/wide_layer-2.csv")
    assert [row["sinks"] for row in lengths] == ["2", "2", "1"]
    for row, planted in zip(lengths, (2, 2, 1), strict=True):
        rest = with_sinks_at(0, 1, seed=lengths.index(row))[planted:].astype(np.float64)
        if planted == 2:
            assert float(row["std_without_sink"]) == pytest.approx(rest.std(ddof=1))
        assert float(row["std_without_sink"]) < 10.0


def test_without_further_sinks_the_summary_says_so(analyzed):
    folder, _, text = analyzed
    assert table(folder, "sinks/text.csv") == []
    assert "No input has a sink beyond position 0." in text


def test_what_failed_is_said_and_the_rest_is_made(store, tmp_path):
    failures = {KEYS["vision", -2]: "OSError: full", "textp1": "FloatingPointError: NaN"}
    files, text, card = analyze(from_json(AnalysisTask, ANALYSIS), store, tmp_path, LOG, failures)
    assert (card.name, card.failed > 0) == ("small", True)
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
    task = from_json(AnalysisTask, {**ANALYSIS, "comparisons": ANALYSIS["comparisons"][1:]})
    files, text, _ = analyze(task, store, tmp_path / "out", LOG, {})
    assert "plots/means_image_vs_prompt.png" in files
    assert is_complete_png(tmp_path / "out" / "plots" / "means_image_vs_prompt.png")
    assert "](plots/means_image_vs_prompt.png)" in text
    assert registry.plots_code() != before
