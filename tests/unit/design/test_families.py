"""Roles in place of names, what a file changes for a family, and that every preset expands for published checkpoints."""

from pathlib import Path

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.core.records import to_json
from graftwork.core.yaml_files import read_yaml
from graftwork.design.families import check_families, experiment_of_family
from graftwork.design.settings import Family, Limits, Models
from graftwork.design.sweep import Expander
from graftwork.models.catalog import Model
from graftwork.models.families import EncoderFacts, GeneratorFacts, ScorerFacts
from tests.unit.design.designs import Catalog, expand, experiment, shipped

FILE = "config/experiments/test.yaml"
FAMILIES = {
    "here": Family(encoders={"vl": "vision"}, defaults={"generator": "images"}),
    "there": Family(encoders={"vl": "other-vision"}),
}


def of_family(raw, chosen):
    return experiment_of_family(raw, chosen, FAMILIES, FILE)


def test_a_role_is_the_model_it_stands_for(tmp_path):
    by_name = expand(tmp_path, experiment({"encoder": ["vision", "other-vision"]}))
    by_role = expand(tmp_path, of_family(experiment({"encoder": ["vl", "other-vision"]}), "here"))
    assert to_json(by_role) == to_json(by_name)


def test_a_role_stands_for_another_model_in_another_family():
    raw = experiment(
        base={"encoder": "vl", "statistics": {"corpus": "c", "encoder": "vl"}},
        settings={"a": {"encoder": "vl"}},
    )
    found = of_family(raw, "there")
    assert found["base"]["encoder"] == "other-vision"
    assert found["base"]["statistics"] == {"corpus": "c", "encoder": "other-vision"}
    assert found["settings"] == {"a": {"encoder": "other-vision"}}


def test_changes_take_the_place_of_single_values():
    raw = {
        "title": "T",
        "base": {"prompts": ["a"], "alpha": 0.5},
        "axes": {"hidden_layer": [-2], "seed": [1, 2]},
        "settings": {"one": {"alpha": 0.1, "blend": "slerp"}, "two": {}},
        "scores": ["scene_attributes"],
        "families": {
            "there": {
                "base": {"prompts": ["b"]},
                "axes": {"hidden_layer": [-4], "seed": None},
                "settings": {"one": {"alpha": 0.2}, "two": None, "three": {}},
                "scores": [],
            }
        },
    }
    assert of_family(raw, "there") == {
        "title": "T",
        "base": {"prompts": ["b"], "alpha": 0.5},
        "axes": {"hidden_layer": [-4]},
        "settings": {"one": {"alpha": 0.2, "blend": "slerp"}, "three": {}},
        "scores": [],
    }
    plain = {key: value for key, value in raw.items() if key != "families"}
    assert of_family(raw, "here") == of_family(raw, None) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nowhere": {}}, "families: family 'nowhere' is not known; allowed: here, there"),
        ({"there": {"titel": "x"}}, "families.there"),
        ({"there": {"axes": {"seed": 3}}}, "families.there"),
    ],
)
def test_mistakes_in_changes_are_refused_whatever_the_family(changes, message):
    for chosen in ("here", None):
        with pytest.raises(DesignError, match=message):
            of_family(experiment(families=changes), chosen)


def test_families_are_checked():
    raw = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text(encoding="utf-8"))
    check_families(Models.model_validate(raw), "published", "models.yaml", "config.yaml")
    with pytest.raises(DesignError, match="family 'real' is not known; allowed: miniature, published"):
        check_families(Models.model_validate(raw), "real", "models.yaml", "config.yaml")
    raw["families"]["published"]["encoders"]["vl"] = "qwen3-vl"
    with pytest.raises(DesignError, match=r"published.encoders.vl: encoder 'qwen3-vl' is not known"):
        check_families(Models.model_validate(raw), None, "models.yaml", "config.yaml")
    raw["families"]["published"]["encoders"] = {"qwen3-4b": "qwen3-4b"}
    with pytest.raises(DesignError, match="'qwen3-4b' is an encoder itself"):
        check_families(Models.model_validate(raw), None, "models.yaml", "config.yaml")


def published_models() -> list[Model]:
    """The published models of config/models.yaml, with facts as their files give them."""
    entries = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text(encoding="utf-8"))
    scorers = entries["scorers"].items()
    models = [
        Model(
            name,
            "scorer",
            {**entry, "repo": "nobody/nothing"},
            f"hub:{name}",
            ScorerFacts(entry["family"], 768, 64),
        )
        for name, entry in scorers
        if "repo" in entry
    ]
    for kind in ("encoder", "generator"):
        for name, entry in entries[f"{kind}s"].items():
            if "repo" in entry:
                family = entry["family"]
                facts = (
                    EncoderFacts(family, 36, 2560, family == "qwen3_vl", 1e6, ["<|im_end|>"], True)
                    if kind == "encoder"
                    else GeneratorFacts(family, (-2,), 2560, 0, 1504, 16, 16, {}, 8192, 8192, 1000, True)
                )
                # Not in the hub cache: nothing here opens a file of a model.
                models.append(Model(name, kind, {**entry, "repo": "nobody/nothing"}, f"hub:{name}", facts))
    return models


ASKING_SCORES = ("adherence", "reference")
PRESETS = [path.stem for path in shipped("config/experiments")]


@pytest.mark.parametrize(
    "name", sorted(set(PRESETS) - {"demo", "transforms", "mapped_embedding", "mapped_vl"})
)
def test_a_preset_expands_for_published_checkpoints(tmp_path, monkeypatch, name):
    for folder in ("config", "resources"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    monkeypatch.chdir(tmp_path)
    families = Models.model_validate(read_yaml(Path("config/models.yaml"), "models")).families
    file = f"config/experiments/{name}.yaml"
    raw = experiment_of_family(read_yaml(tmp_path / file, file), "published", families, file)
    facts = FactCache(tmp_path / "facts.json")
    defaults = families["published"].defaults
    design = Expander(tmp_path, Catalog(published_models()), facts, Limits(), defaults).expand(
        name, raw, file
    )
    # Those of studies ask published scorers; the others measure what needs no model and no scene.
    assert set(design.scores) <= (
        set(ASKING_SCORES) if name in ("baselines", "generalize") else {"artifacts"}
    )
    for cell in design.cells:
        used = {cell.shown["generator"], cell.shown.get("encoder")}
        assert not any(model and model.startswith("miniature") for model in used)
        assert (cell.parameters["height"], cell.parameters["width"]) == (1024, 1024)
        assert "scene" not in str(cell.shown.get("reference"))
