"""Analyses: what they resolve to, and what is refused."""

from copy import deepcopy

import pytest
import yaml

from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.core.yaml_files import read_yaml
from graftwork.design.analyses import AnalysisReader
from graftwork.design.corpora import Corpora
from graftwork.models.prompts import InputOptions
from tests.unit.design.designs import Catalog, draw_references, shipped, some_models

FILE = "config/statistics/test.yaml"
PLAIN = {
    "corpus": "world",
    "encoders": [
        {"encoder": "text", "hidden_layers": [-2, -4]},
        {"encoder": "vision", "hidden_layers": [-2], "options": {"system_prompt": "Be kind."}},
    ],
    "comparisons": [
        {
            "a": {"encoder": "vision", "hidden_layer": -2, "tokens": "image"},
            "b": {"encoder": "text", "hidden_layer": -4},
        }
    ],
}


def read(root, analysis, corpus=None):
    draw_references(root)
    files = {
        "corpora/world": corpus or {"prompts": ["a hat"], "references": ["house"]},
        "statistics/test": analysis,
    }
    for name, content in files.items():
        path = root / f"config/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    references = FactCache(root / "facts.json")
    reader = AnalysisReader(root, Catalog(some_models()), Corpora(root, references))
    assert reader.names() == ["test"]
    return reader.read("test")


def edited(change):
    analysis = deepcopy(PLAIN)
    change(analysis)
    return analysis


def test_what_an_analysis_resolves_to(tmp_path):
    design = read(tmp_path, PLAIN)
    text, vision = design.entries
    assert (text.encoder, text.hidden_layers, text.options) == ("content:text", (-2, -4), InputOptions())
    assert vision.options == InputOptions(system_prompt="Be kind.")
    assert "image" in vision.token_classes
    assert "image" not in text.token_classes
    assert [one.name for one in design.comparisons] == ["vision_layer-2_image_vs_text_layer-4_all"]
    assert set(design.models) == {"content:text", "content:vision"}
    assert list(design.references.values()) == ["config/references/house.png"]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(title="Another"),
        lambda a: a["encoders"][0]["hidden_layers"].append(3),
        lambda a: a["encoders"][1].pop("options"),
        lambda a: a.update(comparisons=[]),
        lambda a: a.update(massive_factor=50),
        lambda a: a.update(token_classes=["all"]),
    ],
)
def test_the_digest_follows_every_edit(tmp_path, change):
    assert (
        read(tmp_path, edited(change)).digest != read(tmp_path, PLAIN).digest == read(tmp_path, PLAIN).digest
    )


def test_the_digest_follows_the_corpus(tmp_path):
    assert (
        read(tmp_path, PLAIN, {"prompts": ["a boat"], "references": ["house"]}).digest
        != read(tmp_path, PLAIN).digest
    )


def side(key, **values):
    return lambda a: a["comparisons"][0][key].update(values)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda a: a.update(corpus="word"), ["corpus", "'word'", "did you mean 'world'?"]),
        (lambda a: a.update(corpora="x"), ["corpora is not a known key"]),
        (lambda a: a.update(encoders=[]), ["encoders"]),
        (lambda a: a["encoders"][0].update(encoder="txt"), ["encoders.0.encoder", "'txt'", "'text'"]),
        (lambda a: a["encoders"][0].update(hidden_layers=[9]), ["encoders.0.hidden_layers", "9", "-9 to 8"]),
        (lambda a: a["encoders"][1].update(encoder="text"), ["encoders.1", "'text' occurs more than once"]),
        (
            lambda a: a["encoders"][1].update(options={"prompt_format": "raw"}),
            ["encoders.1.options", "prompt_format 'raw'", "allowed: chat"],
        ),
        (side("a", encoder="visoin"), ["comparisons.0.a.encoder", "'visoin'", "did you mean 'vision'?"]),
        (side("a", hidden_layer=-4), ["comparisons.0.a.hidden_layer", "-4", "allowed: -2"]),
        (side("b", tokens="image"), ["comparisons.0.b.tokens 'image'", "a text encoder"]),
        (side("b", tokens="pictures"), ["comparisons.0.b.tokens", "'pictures'"]),
        (lambda a: a["comparisons"].append(a["comparisons"][0]), ["comparisons.1", "occurs twice"]),
        (
            lambda a: (a["encoders"][1].update(encoder="wide"), side("a", encoder="wide")(a)),
            ["comparisons.0", "widths 64 and 128"],
        ),
    ],
)
def test_refusals(tmp_path, change, parts):
    with pytest.raises(DesignError) as error:
        read(tmp_path, edited(change))
    for part in [FILE, *parts]:
        assert part in str(error.value)


def test_an_encoder_can_occur_twice_under_two_names(tmp_path):
    def change(analysis):
        analysis["encoders"].append({"encoder": "text", "name": "raw text", "hidden_layers": [-2]})
        analysis["encoders"][2]["options"] = {"prompt_format": "raw"}
        side("b", encoder="raw text", hidden_layer=-2)(analysis)

    design = read(tmp_path, edited(change))
    assert [entry.name for entry in design.entries] == ["text", "vision", "raw text"]
    assert design.comparisons[0].name == "vision_layer-2_image_vs_raw_text_layer-2_all"


def test_no_prompt_of_an_experiment_that_ships_is_in_a_corpus_that_ships():
    """A fix is fitted on the one and judged on the other."""
    corpora = [read_yaml(path, path.name) for path in shipped("config/corpora")]
    texts = {text for corpus in corpora for text in corpus["prompts"]}
    assert len(texts) >= 24
    for path in shipped("config/prompts"):
        assert not texts & set(read_yaml(path, path.name).values())
