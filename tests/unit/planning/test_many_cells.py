"""What is computed once for cells that are alike is what each cell by itself gives."""

from pathlib import Path

import pytest
import yaml

from graftwork.core.cells import OncePerSetting, SharedParameters
from graftwork.core.identity import canonical_json
from graftwork.design.parameters import cell_id
from graftwork.design.project import Project
from graftwork.planning.no_ops import settings_of
from graftwork.planning.plan import MergedDesigns, count_missing, resolve_images
from graftwork.store.layout import Store

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = {
    "base": {
        "prompts": ["a red circle", {"name": "named", "text": "ein \u201eroter\u201c Kreis"}],
        "encoder": "vl",
    },
    "axes": {
        "reference": ["scene_purple_cross", ["scene_purple_cross", "scene_black_triangle"]],
        "seed": [1, 2],
        "alpha": [0.0, 0.5],
    },
    "settings": {
        "plain": {},
        "combined": {"combination": "multi_reference"},
        "normal": {"normalization": "per_dim", "statistics": {"corpus": "miniature"}},
        "seeded": {"num_inference_steps": 4, "guidance_scale": 1.0},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    (root / "config/experiments").mkdir(parents=True)
    for name in ("models.yaml", "corpora", "prompts"):
        (root / "config" / name).symlink_to(ROOT / "config" / name)
    (root / "resources").symlink_to(ROOT / "resources")
    experiment = {
        **EXPERIMENT,
        "axes": {**EXPERIMENT["axes"], "reference": EXPERIMENT["axes"]["reference"][:1]},
    }
    (root / "config/experiments/many.yaml").write_text(yaml.safe_dump(experiment, allow_unicode=True))
    return Project({"experiments": ["many"], "family": "miniature"}, root)


@pytest.fixture(scope="module")
def design(project):
    return project.design("many")


def test_cells_share_parameters_and_have_the_names_that_their_parameters_give(design):
    cells = [cell for cell in design.cells if cell.role == "cell"]
    assert len(cells) == 2 * 2 * 2 * 4
    shared = [cell for cell in cells if isinstance(cell.parameters, SharedParameters)]
    assert len(shared) == len(cells) * 3 // 4, "the first of each setting is resolved, the others follow it"
    assert {cell.cell for cell in design.cells} == {cell_id(dict(cell.parameters)) for cell in design.cells}
    assert {cell.shown["prompt_name"] for cell in cells} == {None, "named"}
    assert all(cell.shown["seed"] == cell.parameters["seed"] for cell in cells)


def test_shared_cells_are_what_each_is_when_it_is_resolved_alone(project, design, monkeypatch):
    from graftwork.design.sweep import Expander

    monkeypatch.setattr(
        Expander,
        "_resolved_once",
        lambda self: lambda place, values, design, file: self._resolve(values, "cell", design, file),
    )
    alone = project._design("many")
    assert [(one.cell, one.role, dict(one.parameters), dict(one.shown)) for one in alone.cells] == [
        (one.cell, one.role, dict(one.parameters), dict(one.shown)) for one in design.cells
    ]
    assert alone.digest == design.digest


def test_keys_of_recipes_are_those_of_each_cell_alone(project, design):
    merged = MergedDesigns.of([design])
    once = merged.keys(project.settings.hardware, Store(project.root))
    for cell in merged.cells.values():
        alone = merged.keys(project.settings.hardware, Store(project.root))
        assert once.recipe_key(cell) == alone.recipe(dict(cell)).key


def test_images_are_counted_as_by_their_own_keys(project, design, tmp_path):
    hardware, store = project.settings.hardware, Store(tmp_path)
    resolved = resolve_images([design], hardware, store)
    missing = count_missing([design], hardware, resolved, store)
    merged = MergedDesigns.of([design])
    keys = merged.keys(hardware, store)
    parts = {
        keys.image(cell, resolved[name].recipe).key: keys.image(cell, "").work
        for name, cell in merged.cells.items()
    }
    assert (missing.unknown, missing.work) == (len(parts), sum(parts.values()))
    assert missing.recipes == len({entry.recipe for entry in resolved.values()})


def test_settings_are_told_apart_by_value(design):
    settings, _ = settings_of(design)
    assert len(settings) == 2 * 4
    assert {len(setting.cells) for setting in settings} == {4}


def test_equal_values_that_are_other_objects_are_only_made_again():
    made = []
    once = OncePerSetting(lambda parameters: made.append(parameters) or len(made))
    first = {"prompt": "a", "seed": 1, "size": [1, 2]}
    assert once.get(first) == once.get(SharedParameters(first, {"seed": 2})) == 1
    assert once.get({**first, "prompt": "b"}) == 1, "the same objects, in another mapping"
    assert once.get({**first, "size": [1, 2]}) == 2
    assert once.get({**first, "size": [1, 3]}) == 3


@pytest.mark.parametrize(
    "value",
    [
        {"b": [1, 1.0, True, None, "1"], "a": {"z": (), "\u00e4": -0.0}},
        [0, False, 0.0, "", '"\\\n\u2028', 1e300, 2**70],
        {},
        "text",
    ],
)
def test_json_that_is_put_together_is_that_of_the_library(value):
    import json

    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace(
        "-0.0", "0.0"
    )
    assert canonical_json(value) == expected
    for wrong in (float("nan"), [float("inf")], {1: 2}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            canonical_json(wrong)
