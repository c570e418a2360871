"""Layers of a cell: what a generator is conditioned on, and what takes their place."""

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.layers import fill_in_layers, replacements
from graftwork.models.catalog import Model
from graftwork.models.families import GeneratorFacts
from graftwork.planning.keys import layer_cells
from tests.unit.design.designs import GENERATOR


def generator(*layers: int) -> Model:
    facts = GeneratorFacts(**{**GENERATOR, "conditioning_layers": layers})
    return Model("painter", "generator", {}, "content:painter", facts)


ONE, THREE = generator(-2), generator(9, 18, 27)


def filled(model: Model, hidden_layer: object, text_hidden_layer: object = None) -> tuple[object, object]:
    values = {"text_hidden_layer": text_hidden_layer, "hidden_layer": hidden_layer}
    done = fill_in_layers(values, model, "e.yaml")
    return done["text_hidden_layer"], done["hidden_layer"]


@pytest.mark.parametrize(
    ("hidden_layer", "text_hidden_layer", "expected"),
    [
        (None, None, (-2, -2)),
        (None, -6, (-6, -2)),
        ("same", -6, (-6, -6)),
        (-4, None, (-2, -4)),
        ([-2, -4], None, (-2, [-2, -4])),
        ({-2: -5}, None, (-2, -5)),
    ],
)
def test_one_layer(hidden_layer, text_hidden_layer, expected):
    """As it was before generators had several: a plain number or list, so that cells keep their names."""
    assert filled(ONE, hidden_layer, text_hidden_layer) == expected


@pytest.mark.parametrize(
    ("hidden_layer", "expected"),
    [
        (None, {"9": 9, "18": 18, "27": 27}),
        ("same", {"9": 9, "18": 18, "27": 27}),
        (-2, {"9": -2, "18": -2, "27": -2}),
        ([-2, -4], {"9": [-2, -4], "18": [-2, -4], "27": [-2, -4]}),
        ({27: 9, 9: 27}, {"9": 27, "27": 9}),
    ],
)
def test_several_layers(hidden_layer, expected):
    layers, replaced_by = filled(THREE, hidden_layer)
    assert layers == [9, 18, 27]
    assert replaced_by == expected
    assert list(replaced_by) == list(expected), "in the order of the generator"
    values = {"text_hidden_layer": layers, "hidden_layer": replaced_by}
    assert replacements(values) == {int(layer): other for layer, other in expected.items()}


def test_a_baseline_has_no_source():
    assert fill_in_layers({"text_hidden_layer": None}, THREE, "e.yaml") == {"text_hidden_layer": [9, 18, 27]}


@pytest.mark.parametrize(
    ("model", "hidden_layer", "text_hidden_layer", "message"),
    [
        (THREE, None, -2, "has 1 layers, but generator 'painter' takes 3; it was trained on 9, 18, 27"),
        (ONE, None, [1, 2], "has 2 layers, but generator 'painter' takes 1"),
        (THREE, {8: 1}, None, "names layer 8, which is none of generator 'painter'; allowed: 9, 18, 27"),
    ],
)
def test_other_layers_are_refused(model, hidden_layer, text_hidden_layer, message):
    with pytest.raises(DesignError, match=message):
        filled(model, hidden_layer, text_hidden_layer)


def test_a_cell_once_for_each_layer():
    statistics = {"corpus": "c", "encoder": "vl", "hidden_layer": None}
    cell = {
        "text_encoder": "text",
        "text_hidden_layer": [9, 18],
        "hidden_layer": {"9": -4},
        "alpha": 0.5,
        "statistics": statistics,
    }
    first, second = layer_cells(cell)
    assert (first["text_hidden_layer"], first["hidden_layer"], first["alpha"]) == (9, -4, 0.5)
    assert first["statistics"] == {**statistics, "hidden_layer": -4}
    assert (second["text_hidden_layer"], second["alpha"]) == (18, 0.0), "nothing takes its place"
    (host, _) = layer_cells({**cell, "statistics": {**statistics, "encoder": "text"}})
    assert host["statistics"]["hidden_layer"] == 9
    plain = {"text_hidden_layer": -2, "hidden_layer": -2}
    assert layer_cells(plain) == [plain]
