"""What notebooks use: states and cells by name, states as files for other programs, and the notebook that ships."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

import graftwork
from graftwork.core.errors import DesignError
from graftwork.design.cells import ModelRecord
from graftwork.design.project import Project
from graftwork.models.prompts import NEUTRAL_OPTIONS
from graftwork.models.tokens import ROLES
from graftwork.planning.keys import Keys
from graftwork.reports.states import export_states
from graftwork.store.hidden_states import read_layer
from graftwork.store.layout import Store

ROOT = Path(__file__).resolve().parents[3]
PROMPT = "a large red circle on the left"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A working directory with the shipped configuration and the miniature."""
    root = tmp_path_factory.mktemp("notebook")
    for name in ("config", "resources"):
        (root / name).symlink_to(ROOT / name)
    return root


@pytest.fixture(scope="module")
def states(root):
    return graftwork.load_states(PROMPT, "vl", -2, reference="scene_purple_cross", root=root)


def test_states_have_tokens_roles_and_the_layer_that_was_asked_for(states):
    assert states.values.shape == (len(states.tokens), 128)
    assert states.values.dtype == np.float32
    assert states.layer == 11
    assert len(states.roles) == len(states.tokens) == states.positions.shape[1]
    assert set(states.roles) == {"sink", "template", "image", "vision_marker", "prompt"}
    assert "".join(states.tokens[i] for i, role in enumerate(states.roles) if role == "prompt") == PROMPT


def test_states_are_those_of_the_library(root, states):
    """Held against transformers itself, which knows nothing of the store."""
    from transformers import AutoTokenizer, Qwen3Model

    folder = ROOT / "resources/miniature/family/z-image"
    own = graftwork.load_states(PROMPT, "miniature-qwen3", -2, root=root)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}],
        add_generation_prompt=True,
        enable_thinking=True,
        tokenize=False,
    )
    model = Qwen3Model.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    with torch.no_grad():
        given = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[-2][0]
    np.testing.assert_allclose(own.values, given.numpy(), rtol=1e-4, atol=1e-4)


def test_a_second_call_reads_the_store_and_selects_roles(root, states, monkeypatch):
    from graftwork.models import loading

    def load(*_):
        raise AssertionError("the store has these states")

    monkeypatch.setattr(loading, "load_encoder", load)
    image = graftwork.load_states(PROMPT, "vl", -2, ["image"], reference="scene_purple_cross", root=root)
    chosen = [index for index, role in enumerate(states.roles) if role == "image"]
    np.testing.assert_array_equal(image.values, states.values[chosen])
    assert set(image.roles) == {"image"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PROMPT, "vlm"), "encoder 'vlm' is not known"),
        ((PROMPT, "vl", -14), r"-13 to 12"),
        ((PROMPT, "vl", -2, ["word"]), "role 'word' is not known; allowed: template, sink"),
        ((PROMPT, "vl", -2, ["image"]), "no token has the roles .*the input has sink, template, prompt"),
    ],
)
def test_what_cannot_be_says_what_can(arguments, message, root):
    with pytest.raises(ValueError, match=message):
        graftwork.load_states(*arguments, root=root)


def test_states_in_safetensors_are_those_of_the_store(root, states, tmp_path):
    project = Project({"experiments": ["demo"], "family": "miniature"}, root)
    model = project.encoder("vl", "a test")
    keys = Keys({model.identity: ModelRecord.of(model)}, project.settings.hardware)
    image = project.reference("scene_purple_cross", "a test")
    need = keys.input_of(model.identity, PROMPT, image.sha256, -2, NEUTRAL_OPTIONS)
    absent = keys.input_of(model.identity, "never encoded", None, -2, NEUTRAL_OPTIONS)
    (tmp_path / "old.safetensors").write_bytes(b"")
    index = export_states(
        [need, need, absent],
        {model.identity: ModelRecord.of(model)},
        {image.sha256: image.path},
        (Store(root / "results/store"), tmp_path),
    )
    assert [(row["file"], bool(row["error"])) for row in index] == [
        (f"miniature-qwen3-vl-instruct/{need.key}.safetensors", False),
        ("", True),
    ]
    assert index[0]["encoder"] == "miniature-qwen3-vl-instruct"
    assert index[0]["reference"].endswith("scene_purple_cross.png")
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")]
    assert files == [index[0]["file"]]
    with safe_open(tmp_path / index[0]["file"], "pt") as file:
        assert set(file.keys()) == {"layer_11", "token_ids", "positions", "roles", "in_prompt"}
        np.testing.assert_array_equal(file.get_tensor("layer_11").numpy(), states.values)
        names = file.metadata()["roles"].split()
        assert tuple(names[code] for code in file.get_tensor("roles").tolist()) == states.roles
        assert names == list(ROLES)
        assert file.metadata()["prompt"] == PROMPT
        assert file.metadata()["reference_sha256"] == image.sha256
        assert file.metadata()["num_hidden_layers"] == "12"


def test_exported_states_take_the_place_of_their_encoder(root, states, tmp_path):
    """All that the store has of an input comes back: states, tokens, roles, positions, and the layer that is meant."""
    project = Project({"experiments": ["demo"], "family": "miniature"}, root)
    model = project.encoder("vl", "a test")
    keys = Keys({model.identity: ModelRecord.of(model)}, project.settings.hardware)
    image = project.reference("scene_purple_cross", "a test")
    need = keys.input_of(model.identity, PROMPT, image.sha256, -2, NEUTRAL_OPTIONS)
    store = Store(root / "results/store")
    export_states([need], {model.identity: ModelRecord.of(model)}, {}, (store, tmp_path / "states"))
    other = tmp_path / "other"
    (other / "config").mkdir(parents=True)
    (other / "resources").symlink_to(ROOT / "resources")
    for path in (ROOT / "config").iterdir():
        if path.name != "models.yaml":
            (other / "config" / path.name).symlink_to(path)
    models = yaml.safe_load((ROOT / "config/models.yaml").read_text())
    folder = tmp_path / "states/miniature-qwen3-vl-instruct"
    models["encoders"]["written"] = {"family": "safetensors", "path": str(folder)}
    (other / "config/models.yaml").write_text(yaml.safe_dump(models))
    arguments = {"reference": "scene_purple_cross", "root": other}
    again = graftwork.load_states(PROMPT, "written", -2, **arguments)
    assert again.layer == states.layer
    assert again.values.tobytes() == states.values.tobytes()
    assert (again.roles, again.positions.tolist()) == (states.roles, states.positions.tolist())
    stored = read_layer(store.hidden_states(need.key), need.layer)
    assert again.tokens == tuple(map(str, stored.token_ids)), "there is no tokenizer to ask"
    shutil.copy(ROOT / "resources/miniature/family/qwen3-vl-instruct/tokenizer.json", folder)
    assert graftwork.load_states(PROMPT, "written", -2, **arguments).tokens == states.tokens
    (copy,) = (other / "results/store/hidden_states").glob("*/*.h5")
    np.testing.assert_array_equal(read_layer(copy, need.layer).in_prompt, stored.in_prompt)
    with pytest.raises(RuntimeError, match=r"has no tensor layer_9, .*it has the layers 11"):
        graftwork.load_states(PROMPT, "written", -4, **arguments)


def write_cells(root: Path, rows: list[dict[str, str]], experiment: str = "demo") -> None:
    folder = root / "results" / experiment
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "cells_full.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_cells_are_a_table_with_numbers_where_there_are_numbers(root):
    write_cells(
        root,
        [
            {
                "cell": "0123",
                "prompt": "1",
                "alpha": "0.5",
                "seed": "42",
                "image": "a.png",
                "same_as": "",
                "x": "'=a",
            },
            {"cell": "4567", "prompt": "2", "alpha": "", "seed": "43", "image": "", "same_as": "", "x": "b"},
        ],
    )
    cells = graftwork.load_cells("demo", root)
    assert cells["cell"].tolist() == ["0123", "4567"], "ids are no numbers"
    assert cells["prompt"].tolist() == ["1", "2"], "a text stays a text"
    assert cells["seed"].sum() == 85
    assert cells["alpha"].isna().tolist() == [False, True]
    assert cells["x"].tolist() == ["=a", "b"], "what was escaped for spreadsheets is as it was"
    assert cells["image"].tolist() == [str(root / "a.png"), ""]
    assert cells["same_as"].tolist() == ["", ""]


def test_cells_that_are_not_there(root):
    with pytest.raises(DesignError, match=r"build results/alpha/cells.csv first"):
        graftwork.load_cells("alpha", root)
    with pytest.raises(DesignError, match=r"'alpah' is no file.*did you mean 'alpha'"):
        graftwork.load_cells("alpah", root)


def code_cells(path: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_that_ships_runs(root, monkeypatch):
    """Its cells, one after the other, as a notebook program would run them, in a folder below the root."""
    rows = [
        {"cell": f"{n}", "role": "cell", "alpha": alpha, "visible_change": alpha, "image": ""}
        for n, alpha in enumerate(("0.5", "0.75", "1.0", "1.0"))
    ]
    write_cells(root, [*rows, {**rows[0], "role": "baseline"}], "open_background")
    folder = root / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for source in code_cells(folder / "states_and_cells.ipynb"):
        exec(compile(source, "states_and_cells.ipynb", "exec"), names)
    assert names["alike"] > 0.9999, "tokens before the picture do not see it"
    assert list(names["by_alpha"]) == [0.5, 0.75, 1.0]
    assert max(names["moved"].values()) < 1.0
