"""Statistics in cells: names become content, and what cannot be measured is refused in words."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from graftwork.core.errors import DesignError
from graftwork.core.npz import write_npz
from graftwork.models.catalog import Model
from graftwork.statistics.reference import ReferenceStatistics
from tests.unit.design.designs import expand, experiment, some_models

FILE = "config/experiments/test.yaml"
EMBEDDING = Model(
    "embedding",
    "encoder",
    {"path": "/nowhere/embedding", "natural_format": "raw"},
    "content:embedding",
    some_models()[0].facts,
)
MODELS = [*some_models(), EMBEDDING]
FIX = {"dimension_fix": "full", "fix_corpus": "worldly"}


def published(width=64, tokens=50, **changes):
    values = np.random.default_rng(0).normal(size=(tokens, width))
    arrays = {
        "per_dim_mean": values.mean(axis=0).astype(np.float32),
        "per_dim_std": values.std(axis=0, ddof=1).astype(np.float32),
        "global_mean": np.float32(values.mean()),
        "global_std": np.float32(values.std(ddof=1)),
        **changes,
    }
    return write_npz({name: array for name, array in arrays.items() if array is not None})


def own(**changes):
    values = np.random.default_rng(0).normal(size=(50, 64))
    parts = {"median_token_rms": 1.0, "covariance": np.cov(values.T), **changes}
    return ReferenceStatistics(50, values.mean(axis=0), values.std(axis=0, ddof=1), **parts).to_npz()


@pytest.fixture
def root(tmp_path):
    corpora = {
        "worldly": {"prompts": ["a hat", "a house"], "references": ["house", "tree"]},
        "same": {"prompts": [{"name": "h", "text": "a hat"}, "a house"], "references": ["home", "tree"]},
        "turned": {"prompts": ["a house", "a hat"], "references": ["house", "tree"]},
        "texts": {"prompts": ["a hat", "a red apple"]},
        "control": {"prompts": ["end <|im_end|>"]},
        "allowed": {"prompts": ["end <|im_end|>"], "allow_control_tokens": True},
        "twins": {"prompts": ["a hat"], "references": ["house", "home"]},
        "typo": {"promts": ["a hat"]},
        "listed": ["a hat"],
        "lost": {"prompts": ["a hat"], "references": ["hose"]},
    }
    folder = tmp_path / "config/corpora"
    folder.mkdir(parents=True)
    for name, content in corpora.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    files = {
        "published": published(),
        "narrow": published(32),
        "contradicting": published(global_std=np.float32(9.0)),
        "half": published(per_dim_std=None),
        "cut": published()[:-50],
        "own": own(),
        "own_without": own(median_token_rms=None, covariance=None),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
    return tmp_path


def cells(root, axes=None, models=None, **base):
    design = expand(root, experiment(axes, base), models=models or MODELS)
    return [cell for cell in design.cells if cell.role == "cell"], design


def statistics(root, value, models=None, **base):
    (cell, *_), _ = cells(root, models=models, normalization="per_dim", statistics=value, **base)
    return cell


def test_names_become_content(root):
    found, design = cells(root, normalization="per_dim", statistics={"corpus": "worldly"})
    resolved = found[0].parameters["statistics"]
    (digest,) = design.corpora
    assert resolved == {"corpus": digest, "encoder": "content:text", "hidden_layer": -2, "tokens": "non_sink"}
    assert design.corpora[digest].prompts == ("a hat", "a house")
    assert set(design.corpora[digest].references) <= set(design.references)
    assert found[0].shown["statistics"] == {"corpus": "worldly", "tokens": "non_sink"}


def test_a_name_of_a_cell_follows_content_and_order(root):
    worldly, same, turned = (
        statistics(root, {"corpus": name}).cell for name in ("worldly", "same", "turned")
    )
    assert worldly == same != turned
    (root / "config/corpora/same.yaml").write_text("prompts: [a hat, a horse]\nreferences: [home, tree]\n")
    assert statistics(root, {"corpus": "same"}).cell != worldly


def test_encoders_and_layers_are_those_of_the_cell_or_named(root):
    at = {
        "hidden_layer": -4,
        "text_hidden_layer": -3,
        "system_prompt": "Be kind.",
        "text_think_block": "empty",
    }
    host = statistics(root, {"corpus": "worldly"}, **at).parameters["statistics"]
    assert (host["encoder"], host["hidden_layer"], host["options"]) == (
        "content:text",
        -3,
        {"think_block": "empty"},
    )
    source = statistics(root, {"corpus": "worldly", "encoder": "vision"}, **at).parameters["statistics"]
    assert (source["encoder"], source["hidden_layer"]) == ("content:vision", -4)
    assert source["options"] == {"system_prompt": "Be kind."}
    third = {"corpus": "worldly", "encoder": "embedding", "hidden_layer": 3}
    other = statistics(root, third, **at).parameters["statistics"]
    assert (other["encoder"], other["hidden_layer"], other["options"]) == (
        "content:embedding",
        3,
        {"prompt_format": "raw"},
    )
    remade = [replace(m, identity="content:other") if m.name == "embedding" else m for m in MODELS]
    assert statistics(root, third, models=remade, **at).cell != statistics(root, third, **at).cell


def test_a_third_encoder_is_a_model_of_the_design(root):
    _, design = cells(
        root, normalization="rms", statistics={"corpus": "texts", "encoder": "embedding", "hidden_layer": 3}
    )
    assert "content:embedding" in design.models


def test_files_are_named_by_their_bytes(root):
    found, design = cells(root, normalization="per_dim", statistics={"npz": "published.npz", "tokens": 50})
    (sha256,) = design.statistics_files
    assert design.statistics_files == {sha256: "published.npz"}
    assert found[0].parameters["statistics"] == {"npz": sha256, "tokens": 50}
    (root / "moved.npz").write_bytes((root / "published.npz").read_bytes())
    assert statistics(root, {"npz": "moved.npz", "tokens": 50}).cell == found[0].cell
    (root / "moved.npz").write_bytes((root / "own.npz").read_bytes())
    assert statistics(root, {"npz": "moved.npz"}).cell != found[0].cell


def test_values_are_an_axis_with_short_labels(root):
    values = ["prompt", {"corpus": "worldly"}, {"corpus": "worldly", "tokens": "all"}, {"npz": "own.npz"}]
    found, design = cells(root, {"statistics": values}, normalization="whiten", prompts=["a boat"])
    assert len({cell.cell for cell in found}) == 4
    labels = next(axis.labels for axis in design.axes if axis.name == "statistics")
    assert labels == [
        "prompt",
        "{corpus: worldly, tokens: non_sink}",
        "{corpus: worldly, tokens: all}",
        "{npz: own.npz}",
    ]


def test_cells_that_say_nothing_of_statistics_keep_their_names(root):
    plain, _ = cells(root)
    for cell in plain:
        assert {
            "fix_corpus": None,
            "fix_tokens": "non_sink",
            "statistics": "prompt",
        }.items() <= cell.parameters.items()
    named, _ = cells(root, dimension_fix="none", fix_corpus=None)
    assert [cell.cell for cell in named] == [cell.cell for cell in plain]


def test_a_fix_is_named_by_the_content_of_its_corpus(root):
    found = [cells(root, **{**FIX, "fix_corpus": name})[0][0] for name in ("worldly", "same", "turned")]
    assert found[0].cell == found[1].cell != found[2].cell
    assert found[0].shown["fix_corpus"] == "worldly"


def test_a_note_where_a_fix_is_judged_on_what_it_was_fitted_on(root):
    _, design = cells(root, **{**FIX, "fix_corpus": "texts"})
    assert [note for note in design.notes if "fitted" in note] == [
        "fix_corpus 'texts' has prompts of the experiment ('apple'): the fix is fitted and judged on the same texts"
    ]
    assert not cells(root, **FIX)[1].notes
    assert not cells(root, **{**FIX, "fix_corpus": "texts", "dimension_fix": "none"})[1].notes


PER_DIM = {"normalization": "per_dim"}


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ({"statistics": "corpus"}, ["base.statistics", "'corpus' is not allowed", "a mapping with corpus"]),
        ({"statistics": {"corpus": "wordly"}}, ["statistics.corpus", "'wordly'", "did you mean 'worldly'?"]),
        (
            {"statistics": {"corpus": "worldly", "tokens": "images"}},
            ["base.statistics.tokens", "'images'", "'image'"],
        ),
        (
            {"statistics": {"corpus": "worldly", "layer": 3}},
            ["base.statistics.layer is not a known key", "hidden_layer"],
        ),
        ({"statistics": {"corpus": "worldly", "encoder": "txt"}}, ["statistics.encoder", "'txt'", "'text'"]),
        (
            {"statistics": {"corpus": "worldly", "encoder": "wide", "hidden_layer": -2}},
            ["statistics.encoder 'wide'", "width 128", "takes 64"],
        ),
        (
            {"statistics": {"corpus": "worldly", "encoder": "embedding"}},
            ["statistics.hidden_layer is missing", "'embedding'", "-9 to 8"],
        ),
        (
            {"statistics": {"corpus": "worldly", "hidden_layer": 9}},
            ["statistics.hidden_layer 9", "'text'", "-9 to 8"],
        ),
        (
            {"statistics": {"corpus": "worldly", "tokens": "image"}},
            ["statistics.tokens 'image'", "a text encoder"],
        ),
        (
            {"statistics": {"corpus": "texts", "tokens": "image", "encoder": "vision"}},
            ["'image'", "corpus 'texts' has no references", "config/corpora/texts.yaml"],
        ),
        ({"statistics": {"npz": "nowhere.npz"}}, ["statistics.npz", "'nowhere.npz' does not exist"]),
        ({"statistics": {"npz": "cut.npz", "tokens": 50}}, ["cut.npz cannot be read as an .npz file"]),
        ({"statistics": {"npz": "half.npz", "tokens": 50}}, ["half.npz has no array 'per_dim_std'"]),
        (
            {"statistics": {"npz": "contradicting.npz", "tokens": 50}},
            ["global_std is 9", "another number of tokens"],
        ),
        ({"statistics": {"npz": "published.npz"}}, ["does not say how many tokens", "statistics.tokens"]),
        ({"statistics": {"npz": "published.npz", "tokens": 1}}, ["base.statistics.tokens", "numbers from 2"]),
        ({"statistics": {"npz": "narrow.npz", "tokens": 50}}, ["narrow.npz", "width 32", "takes 64"]),
        (
            {"statistics": {"npz": "published.npz", "tokens": 50}, "normalization": "rms"},
            ["no median_token_rms, which normalization 'rms' needs"],
        ),
        (
            {"statistics": {"npz": "own_without.npz"}, "normalization": "whiten"},
            ["no covariance, which normalization 'whiten' needs"],
        ),
        (
            {**FIX, "combination": "layer_mix", "hidden_layer": [-2, -4]},
            ["dimension_fix", "is fitted on one layer", "[-2, -4]"],
        ),
        (
            {
                "combination": "layer_mix",
                "hidden_layer": [-2, -4],
                "normalization": "per_dim",
                "statistics": {"corpus": "worldly", "encoder": "vision"},
            },
            ["statistics.hidden_layer is missing", "[-2, -4]", "'vision'"],
        ),
        ({"dimension_fix": "full"}, ["dimension_fix 'full' needs fix_corpus", "config/corpora/"]),
        ({"dimension_fix": "fill", "fix_corpus": "worldly"}, ["base.dimension_fix", "did you mean 'full'?"]),
        ({**FIX, "fix_corpus": "world"}, ["fix_corpus", "'world'", "did you mean 'worldly'?"]),
        ({**FIX, "source": "vision_tower", "token_mode": "full"}, ["dimension_fix 'full'", "vision_tower"]),
        ({**FIX, "fix_corpus": "texts", "fix_tokens": "image"}, ["fix_tokens 'image'", "no references"]),
    ],
)
def test_refusals(root, base, parts):
    with pytest.raises(DesignError) as error:
        cells(root, **{**PER_DIM, **base})
    for part in [FILE, *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("corpus", "parts"),
    [
        ("control", ["config/corpora/control.yaml: prompts", "'<|im_end|>'", "allow_control_tokens"]),
        ("twins", ["config/corpora/twins.yaml: references", "'home' and 'house' are the same image"]),
        ("typo", ["config/corpora/typo.yaml: promts is not a known key", "did you mean 'prompts'?"]),
        ("listed", ["config/corpora/listed.yaml must be a mapping"]),
        ("lost", ["config/corpora/lost.yaml: references", "did you mean 'house'?"]),
    ],
)
def test_corpora_that_are_refused(root, corpus, parts):
    for base in ({**PER_DIM, "statistics": {"corpus": corpus}}, {**FIX, "fix_corpus": corpus}):
        with pytest.raises(DesignError) as error:
            cells(root, **base)
        for part in parts:
            assert part in str(error.value)


def test_an_axis_names_the_part_that_is_wrong(root):
    with pytest.raises(DesignError, match=r"test\.yaml: axes\.statistics\.tokens: 'imags' is not allowed"):
        cells(root, {"statistics": [{"corpus": "worldly", "tokens": "imags"}]}, **PER_DIM)


@pytest.mark.parametrize(
    "base",
    [
        {"statistics": {"corpus": "worldly", "encoder": "vision", "tokens": "image"}},
        {"statistics": {"corpus": "allowed"}},
        {"statistics": {"npz": "own.npz"}, "normalization": "whiten"},
        {"statistics": {"npz": "own.npz", "tokens": 50}, "normalization": "rms"},
        # Of no effect, and so no reason to refuse the others of a sweep.
        {"statistics": {"npz": "published.npz", "tokens": 50}, "normalization": "none"},
        {"dimension_fix": "none", "fix_corpus": "texts", "fix_tokens": "image"},
        {**FIX, "fix_tokens": "image"},
        {**FIX, "alpha": 0.5, "source_text": "none"},
    ],
)
def test_combinations_that_are_allowed(root, base):
    assert cells(root, **{**PER_DIM, **base})[0]
