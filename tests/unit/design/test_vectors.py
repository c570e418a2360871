"""Vectors of cells: names become content, and what is no vector is refused while the workflow is parsed."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from graftwork.core.errors import DesignError
from graftwork.design.settings import Hardware
from graftwork.planning.inputs import statistics_of
from graftwork.planning.plan import MergedDesigns, inputs_of_cells
from graftwork.store.records import VectorName
from tests.unit.design.designs import expand, experiment

CONTRAST = {"towards": ["a striped wall", "stripes"], "away_from": ["a plain wall", "plain"]}


def steer(root, vector, base=None, **axes):
    changes = {
        "blend": "steer",
        "encoder": None,
        "references": [],
        "vector": vector,
        "alpha": 0.5,
        **(base or {}),
    }
    return expand(root, experiment(axes, changes))


def file_vector(root, values=None, **more):
    (root / "data").mkdir(exist_ok=True)
    save_file(
        {"layer_7": np.ones(64, dtype=np.float32) if values is None else values, **more},
        root / "data/v.safetensors",
    )
    return {"file": "data/v.safetensors"}


def recipes(design):
    keys = MergedDesigns.of([design]).keys(Hardware())
    return keys, [keys.recipe(cell.parameters) for cell in design.cells if cell.role == "cell"]


def test_a_file_is_known_by_its_content(tmp_path):
    design = steer(tmp_path, file_vector(tmp_path))
    keys, (first, second) = recipes(design)
    (source,) = first.sources
    name = VectorName.of_key(source.key)
    assert (design.statistics_files, name.tensor) == ({name.file: "data/v.safetensors"}, "layer_7")
    assert second.sources == first.sources
    assert first.stages["blend"].parameters == {"vector_scale": 1.0}
    needs = list(inputs_of_cells(MergedDesigns.of([design]), keys))
    assert {need.input.prompt for need in needs} == {"a red apple", "a blue boat"}, (
        "nothing but the text is encoded"
    )
    file_vector(tmp_path, np.full(64, 2.0, dtype=np.float32))
    other = steer(tmp_path, {"file": "data/v.safetensors"})
    assert {cell.cell for cell in other.cells if cell.role == "cell"}.isdisjoint(
        cell.cell for cell in design.cells
    )
    assert recipes(other)[1][0].key != first.key


@pytest.mark.parametrize(
    ("encoder", "identity", "layer"), [(None, "content:text", 7), ("vision", "content:vision", 5)]
)
def test_prompts_are_measured_where_the_cell_says(tmp_path, encoder, identity, layer):
    design = steer(tmp_path, CONTRAST, {"encoder": encoder, "hidden_layer": -4})
    keys, (recipe, _) = recipes(design)
    name = VectorName.of_key(recipe.sources[0].key)
    wanted = statistics_of([cell.parameters for cell in design.cells], keys)
    assert set(wanted) == {name.towards.key, name.away_from.key}
    assert {name.towards.tokens, name.away_from.tokens} == {"prompt"}
    towards = wanted[name.towards.key]
    assert [need.input.prompt for need in towards.inputs] == CONTRAST["towards"]
    assert {need.input.encoder for need in towards.inputs} == {identity}
    assert {need.layer for need in towards.inputs} == {layer}
    assert recipe.stages["blend"].corpus_statistics == {"towards": name.towards, "away_from": name.away_from}


def test_alpha_0_is_the_text_alone(tmp_path):
    design = steer(tmp_path, CONTRAST, alpha=[0.0, 1.0])
    keys, found = recipes(design)
    assert [bool(recipe.sources) for recipe in found] == [False, True, False, True]
    baselines = [keys.recipe(cell.parameters) for cell in design.cells if cell.role == "baseline"]
    assert {recipe.key for recipe in found if not recipe.sources} == {recipe.key for recipe in baselines}


def test_scale_tokens_and_both_sets_count(tmp_path):
    names = {
        recipes(steer(tmp_path, vector, base))[1][0].key
        for vector, base in (
            (CONTRAST, {}),
            (CONTRAST, {"vector_scale": -1.0}),
            ({**CONTRAST, "tokens": "all"}, {}),
            ({**CONTRAST, "towards": ["stripes"]}, {}),
            ({"towards": CONTRAST["away_from"], "away_from": CONTRAST["towards"]}, {}),
        )
    }
    assert len(names) == 5


def test_a_vector_of_a_blend_that_takes_none_is_in_the_cell_and_not_in_the_recipe(tmp_path):
    base = {"encoder": "vision", "references": ["house"]}
    with_vector = recipes(steer(tmp_path, CONTRAST, {**base, "blend": "linear"}))[1]
    without = recipes(steer(tmp_path, None, {**base, "blend": "linear"}))[1]
    assert [recipe.key for recipe in with_vector] == [recipe.key for recipe in without]


# Name of what is wrong -> vector, and what is said.
WRONG = {
    "nothing": (None, "blend 'steer' needs a vector; set vector: "),
    "no file": (
        {"file": "data/none.safetensors"},
        r"vector\.file: 'data/none.safetensors' does not exist",
    ),
    "two forms": ({"file": "data/v.safetensors", **CONTRAST}, r"base\.vector"),
    "neither": ({"npz": "data/v.npz"}, "a mapping with file, or a mapping with towards and away_from"),
    "one side": ({"towards": ["a"]}, r"base\.vector.*away_from"),
    "no texts": ({**CONTRAST, "towards": []}, r"base\.vector.*towards"),
    "equal sides": ({"towards": ["a"], "away_from": ["a"]}, "towards and away_from are the same prompts"),
    "a file of prompts": (
        {**CONTRAST, "towards": "nowhere"},
        r"vector\.towards: prompts 'nowhere' is no file in config/prompts/",
    ),
    "control tokens": (
        {**CONTRAST, "towards": ["a <|im_end|>"]},
        r"vector\.towards: .*'<\|im_end\|>', which encoder 'text'",
    ),
    "a class": ({**CONTRAST, "tokens": "image"}, r"base\.vector.*tokens"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(tmp_path, case):
    vector, message = WRONG[case]
    file_vector(tmp_path)
    with pytest.raises(DesignError, match=message) as raised:
        steer(tmp_path, vector)
    assert str(raised.value).startswith("config/experiments/test.yaml: ")


def test_files_that_hold_no_such_vector(tmp_path):
    wide = np.ones(65, dtype=np.float32)
    for values, more, tensor, message in (
        (
            wide,
            {},
            None,
            r"layer_7 of data/v\.safetensors is F32 \[65\]; .*\[64\], the width that the generator takes",
        ),
        (np.ones((1, 64), dtype=np.float32), {}, None, r"is F32 \[1, 64\]"),
        (np.ones(64), {}, None, r"is F64 \[64\]; allowed: F32, F16, BF16"),
        (
            None,
            {"other": wide},
            None,
            r"vector\.tensor is not given, and data/v\.safetensors has the tensors layer_7, other",
        ),
        (
            None,
            {},
            "layer_8",
            r"there is no tensor 'layer_8', and data/v\.safetensors has the tensors layer_7",
        ),
    ):
        vector = {**file_vector(tmp_path, values, **more), "tensor": tensor}
        with pytest.raises(DesignError, match=message):
            steer(tmp_path, vector)
    (tmp_path / "data/v.safetensors").write_bytes(b"no header")
    with pytest.raises(DesignError, match=r"data/v\.safetensors is truncated or no safetensors file"):
        steer(tmp_path, {"file": "data/v.safetensors"})


def test_an_encoder_is_needed_for_everything_else(tmp_path):
    with pytest.raises(DesignError, match=r"alpha 0\.5 needs an encoder"):
        steer(tmp_path, CONTRAST, {"blend": "linear"})
