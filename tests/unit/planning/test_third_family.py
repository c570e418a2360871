"""A generator of a new kind is one module: from its registration to the conditioning that it is given."""

import numpy as np
import pytest
import torch

from graftwork.conditioning.build import BuiltLayer, build_conditioning
from graftwork.design.settings import Hardware
from graftwork.models import families
from graftwork.models.catalog import Model
from graftwork.models.families import GeneratorFacts, GeneratorFamily
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.keys import Keys
from graftwork.planning.shards import ImageItem
from graftwork.store.hidden_states import HiddenStates
from tests.unit.design.designs import ENCODER, GENERATOR, expand, experiment
from tests.unit.design.designs import some_models as plain_models

# Two layers side by side, visible pads, and a first token that the generator is not given.
MODULE = """
from dataclasses import replace

from graftwork.models.generators.z_image import FAMILY as OTHER

FAMILY = replace(
    OTHER,
    name="pair",
    transformer_class="Pair",
    captions=replace(
        OTHER.captions, layout="channels", padding="visible", dropped_prefix=1, think_block="empty",
        padded_length=lambda tokens: tokens, first_layer=None,
    ),
)
"""
LENGTH = 12


@pytest.fixture
def pair(tmp_path, monkeypatch):
    package = tmp_path / "generators_with_a_pair"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "pair.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    found = families._registered(package.name, GeneratorFamily)
    monkeypatch.setattr(families, "generator_families", lambda: found)
    return found["pair"]


def models() -> list[Model]:
    own = {**GENERATOR, "family": "pair", "conditioning_layers": (3, 5), "caption_padding": LENGTH}
    entry = {"family": "pair", "path": "/nowhere/images", "text_encoder": "text"}
    return [
        *plain_models()[:-1],
        Model("images", "generator", entry, "content:images", GeneratorFacts(**own)),
    ]


def states(key: str, layer: int, tokens: int, pads: int = 0) -> HiddenStates:
    """Random states of an input; each layer and each input has its own."""
    generator = np.random.default_rng([layer, *key.encode()])
    roles = np.full(tokens + pads, ROLE_CODES["prompt"], dtype=np.uint8)
    roles[0] = ROLE_CODES["sink"]
    roles[tokens:] = ROLE_CODES["pad"]
    return HiddenStates(
        generator.normal(size=(tokens + pads, ENCODER["hidden_size"])).astype(np.float32),
        "float32",
        np.arange(tokens + pads),
        roles,
        np.arange(tokens + pads)[None],
    )


def test_from_registration_to_conditioning(pair, tmp_path):
    changes = {"hidden_layer": {5: -2}, "length_matching": "none", "alpha": 1.0}
    design = expand(tmp_path, experiment({}, changes), models=models())
    cell = next(cell for cell in design.cells if cell.role == "cell")
    assert cell.parameters["text_hidden_layer"] == [3, 5]
    assert cell.parameters["hidden_layer"] == {"5": -2}
    assert cell.parameters["text_think_block"] == "empty"

    keys = Keys(design.models, Hardware())
    recipe = keys.recipe(cell.parameters)
    assert (recipe.layout, recipe.dropped_prefix, recipe.text.layer) == ("channels", 1, 3)
    assert [layer.text.layer for layer in recipe.layers] == [3, 5]
    assert [len(layer.sources) for layer in recipe.layers] == [0, 1]
    text = keys.text_states({**cell.parameters, "text_hidden_layer": 3})
    assert text.input.padded_to == LENGTH

    tokens, own = 7, 6
    read = {recipe.text.key: (tokens, LENGTH - tokens), recipe.layers[1].sources[0].key: (own, 0)}
    built = build_conditioning(recipe, lambda key, layer: states(key, layer, *read[key]))
    embeds = built.tensors["prompt_embeds"].float()
    assert embeds.shape == (LENGTH - 1, 2 * ENCODER["hidden_size"])
    first, second = embeds.split(ENCODER["hidden_size"], dim=1)
    native = torch.from_numpy(states(recipe.text.key, 3, tokens, LENGTH - tokens).values)
    assert torch.equal(first, native[1:]), "the text, with its pads"
    source = recipe.layers[1].sources[0]
    assert torch.equal(second[:own], torch.from_numpy(states(source.key, source.layer, own).values))
    pads = torch.from_numpy(states(recipe.text.key, 5, tokens, LENGTH - tokens).values[tokens:])
    assert torch.equal(second[own:], pads), "its own pads, at their positions"

    parts = keys.image(cell.parameters, built.hash)
    item = ImageItem(parts.key, parts, built.report.tokens)
    assert item.batch_group(pair.captions.padded_length)[0] == LENGTH - 1


@pytest.mark.parametrize(("own", "expected"), [(4, [0, 0, 0, 1, 2, 3, 4]), (6, [0, 1, 2, 3, 4]), (9, [3, 4])])
def test_pads_keep_the_length_of_the_caption(own, expected):
    pads = torch.arange(5.0)[:, None]
    layer = BuiltLayer(3, torch.full((6, 1), -1.0), {}, pads, None, ())
    padded = layer.padded(torch.full((own, 1), -2.0))
    assert padded[own:, 0].tolist() == expected
    assert len(padded) == 11
