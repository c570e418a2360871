"""Files of maps and what cells say of them: what they resolve to, and what is refused before anything runs."""

import shutil

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.design.map_corpora import corpus_files
from graftwork.design.parameters import cell_id
from graftwork.design.project import Project
from graftwork.design.settings import Hardware
from graftwork.planning.inputs import maps_of
from graftwork.planning.keys import Keys

SETTINGS = {
    "experiments": [],
    "family": "miniature",
    "defaults": {"num_inference_steps": 2},
    "hardware": {"extraction": {"device": "cpu", "dtype": "float32"}},
}
MAPS = {
    "encoder": "vl",
    "corpus": "small",
    "method": "ridge",
    "methods": {
        "ridge": {"method": "ridge"},
        "pooled": {"method": "layer_pooling", "hidden_layers": [-2, -4]},
    },
    "study": {"held_out": "other"},
}
BASE = {"prompts": ["a small red square"], "encoder": "vl", "mapping": {"map": "own"}}


@pytest.fixture
def root(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    write(tmp_path, "corpora/small", {"prompts": ["a red circle", "a large blue cross at the top"]})
    write(tmp_path, "corpora/other", {"prompts": ["a white square on the left"]})
    write(tmp_path, "maps/own", MAPS)
    return tmp_path


def distinct_words(prompts):
    """Words with a beginning of their own: what is left of them once shared beginnings count once."""
    return len({tuple(words[: end + 1]) for words in map(str.split, prompts) for end in range(len(words))})


def write(root, name, content):
    (root / f"config/{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def project(root):
    return Project(SETTINGS, root)


def maps(root, **changes):
    write(root, "maps/own", {**MAPS, **changes})
    return project(root).maps.read("own")


def design(root, **base):
    write(root, "experiments/own", {"base": {**BASE, **base}, "baseline": False})
    return project(root).design("own")


def test_a_map_is_named_by_what_makes_it_and_not_by_its_file(root):
    first = maps(root)
    assert first.digest != maps(root, title="Another").digest
    assert maps(root, title="Another").named == first.named
    for change in (
        {"hidden_layer": -3},
        {"normalization": "none"},
        {"corpus": "other", "study": None},
        {"options": {"system_prompt": "Be kind."}},
        {"methods": {"ridge": {"method": "ridge", "towards": "zero"}}},
    ):
        assert maps(root, **change).named["ridge"] != first.named["ridge"], change
    assert first.maps[first.named["pooled"]].hidden_layers == (-2, -4)


def test_a_cell_names_the_content_of_its_map_and_none_is_neutral(root):
    (cell,) = design(root).cells
    key = maps(root).named["ridge"]
    assert cell.parameters["mapping"] == {"map": key, "tokens": "all"}
    (plain,) = design(root, mapping="none").cells
    without = {name: value for name, value in plain.parameters.items() if name != "mapping"}
    assert cell_id(without) == plain.cell != cell.cell
    (other,) = design(root, mapping={"map": "own", "allow_shared_prompts": True}).cells
    assert other.cell == cell.cell


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        (
            {"encoder": "embedding"},
            ["fitted on encoder 'miniature-qwen3-vl-instruct'", "miniature-qwen3-embedding"],
        ),
        ({"hidden_layer": -3}, ["fitted on hidden_layer -2", "the cell's is -3"]),
        ({"text_hidden_layer": -4}, ["fitted on text_hidden_layer -2"]),
        ({"system_prompt": "Be kind."}, ["fitted with system_prompt None", "'Be kind.'"]),
        ({"normalization": "global"}, ["without normalization 'global'", "normalization: none"]),
        ({"masking": "zero"}, ["without masking 'zero'", "masking: none"]),
        ({"mapping": {"map": "own", "method": "pooled"}}, ["[-2, -4]", "hidden_layer"]),
        ({"mapping": {"map": "owm"}}, ["'owm'", "did you mean 'own'"]),
        ({"mapping": {"map": "own", "method": "rigde"}}, ["'rigde'", "did you mean 'ridge'"]),
        ({"mapping": {"map": "own", "tokens": "image"}}, ["no reference", "tokens: all"]),
        ({"prompts": ["a red circle"]}, ["corpus 'small'", "'a red circle'", "allow_shared_prompts: true"]),
    ],
)
def test_a_cell_that_does_not_fit_its_map_is_refused(root, base, parts):
    with pytest.raises(DesignError) as refused:
        design(root, **base)
    for part in ["config/experiments/own.yaml", *parts]:
        assert part in str(refused.value)


def test_a_map_over_layers_is_used_on_these_layers(root):
    (cell,) = design(root, hidden_layer=[-2, -4], mapping={"map": "own", "method": "pooled"}).cells
    assert cell.parameters["hidden_layer"] == [-2, -4]


LAYERS = [3, 6, 9]
SEVERAL = {"generator": "miniature-flux2-klein", "encoder": "embedding", "prompt_format": "chat"}


@pytest.fixture
def layered(root):
    """Maps of each layer of a generator that is conditioned on three."""
    for layer in LAYERS:
        own = {
            **MAPS,
            "generator": SEVERAL["generator"],
            "encoder": SEVERAL["encoder"],
            "options": {"prompt_format": "chat"},
            "hidden_layer": layer,
            "text_hidden_layer": layer,
            "text_options": {"think_block": "empty"},
            "normalization": "standardize",
            "study": None,
        }
        write(root, f"maps/layer{layer}", own)
    return root


def test_a_generator_of_several_layers_takes_a_map_for_each(layered):
    named = {layer: f"layer{layer}" for layer in LAYERS}
    own = design(layered, **SEVERAL, mapping={"map": named})
    (cell,) = own.cells
    read = project(layered).maps.read
    digests = {str(layer): read(name).named["ridge"] for layer, name in named.items()}
    assert cell.parameters["mapping"] == {"map": digests, "tokens": "all"}
    assert {own.maps[key].text_hidden_layer for key in digests.values()} == set(LAYERS)

    hardware = Hardware.model_validate(SETTINGS["hardware"])
    keys = Keys(own.models, hardware, own.corpora, maps=own.maps)
    recipe = keys.recipe(cell.parameters)
    used = [layer.stages["mapping"].map for layer in (recipe, *recipe.further_layers)]
    assert used == [keys.map(digest).key for digest in digests.values()]
    assert len(set(used)) == len(LAYERS)
    assert set(maps_of([cell.parameters], keys)) == set(used)


def test_layers_that_stay_the_text_take_no_map(layered):
    (cell,) = design(layered, **SEVERAL, hidden_layer={6: 6}, mapping={"map": {6: "layer6"}}).cells
    assert list(cell.parameters["mapping"]["map"]) == ["6"]


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ({**SEVERAL, "mapping": {"map": "layer3"}}, ["[3, 6, 9]", "map: {3: NAME, 6: NAME, 9: NAME}"]),
        (
            {**SEVERAL, "mapping": {"map": {3: "layer3", 9: "layer9"}}},
            ["layers [3, 9]", "replaces [3, 6, 9]"],
        ),
        (
            {**SEVERAL, "mapping": {"map": {3: "layer3", 6: "layer9", 9: "layer6"}}},
            ["'layer9'", "fitted on hidden_layer 9", "the cell's is 6"],
        ),
        ({"mapping": {"map": {-2: "own"}}}, ["layers [-2]", "conditioned on one layer"]),
        ({**SEVERAL, "mapping": {"map": {"first": "layer3"}}}, ["mapping"]),
    ],
)
def test_maps_that_do_not_fit_the_layers_are_refused(layered, base, parts):
    with pytest.raises(DesignError) as refused:
        design(layered, **base)
    for part in ["config/experiments/own.yaml", *parts]:
        assert part in str(refused.value)


def test_shared_prompts_that_are_allowed_are_noted(root):
    found = design(root, prompts=["a red circle"], mapping={"map": "own", "allow_shared_prompts": True})
    (note,) = found.notes
    assert "corpus 'small'" in note
    assert "'a red circle'" in note


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"methods": {"ridge": {"method": "low_rank", "rank": 129}}},
            ["methods.ridge", "rank 129", "1 to 128"],
        ),
        (
            {"methods": {"ridge": {"method": "low_rank", "rank": 100}}},
            ["needs 101 pairs", "2 prompts", "tokens"],
        ),
        ({"study": {"held_out": "small"}}, ["study.held_out", "'a red circle'", "allow_shared_prompts"]),
        ({"study": {"held_out": "other", "sizes": [3]}}, ["study.sizes", "3 prompts", "2 to 2"]),
        ({"hidden_layer": -40}, ["hidden_layer", "-40", "12 layers"]),
        ({"method": "best"}, ["'best'", "ridge"]),
        ({"corpus": "smal"}, ["'smal'", "did you mean 'small'"]),
        ({"methods": {"ridge": {"method": "rigde"}}}, ["config/maps/own.yaml", "method"]),
    ],
)
def test_maps_that_cannot_be_fitted_are_refused(root, changes, parts):
    with pytest.raises(DesignError) as refused:
        maps(root, **changes)
    for part in ["config/maps/own.yaml", *parts]:
        assert part in str(refused.value)


def test_encoders_without_a_vocabulary_in_common_are_refused(root, monkeypatch):
    import graftwork.design.maps as module

    def other_ids(entry, folder, prompts):
        shift = 1000 if "qwen3-vl" in str(folder) else 0
        return [[number + shift for number in range(5)] for _ in prompts]

    monkeypatch.setattr(module, "prompt_token_ids", other_ids)
    with pytest.raises(
        DesignError, match="no vocabulary in common: of 10 tokens of corpus 'small', 0 are the same"
    ):
        maps(root)


def test_shipped_corpora_are_what_their_grammars_give_and_are_large_enough():
    files = corpus_files(REPOSITORY)
    for name, text in files.items():
        assert (REPOSITORY / name).read_text(encoding="utf-8") == text, (
            "python -m workflow_scripts.write_corpora --fix"
        )
    prompts = {name: yaml.safe_load(text)["prompts"] for name, text in files.items()}
    # A word is one token at least, and a beginning that prompts share is one.
    assert distinct_words(prompts["config/corpora/everyday.yaml"]) > 10_000
    assert len(prompts["config/corpora/everyday.yaml"]) >= 300
    every = [prompt for listed in prompts.values() for prompt in listed]
    assert len(set(every)) == len(every)
