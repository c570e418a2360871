"""What the generator sees of a conditioning, and what its sketch tells without the tensors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImageTransformer2DModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from graftwork.conditioning.sketches import (
    NUMBERS,
    TOLERANCE,
    KnownSketches,
    decode_sketch,
    encode_sketch,
    signs,
)
from graftwork.conditioning.visibility import CaptionNorm, NoCaptionNorm
from graftwork.models import families
from graftwork.store.records import Sketch

MINIATURE = Path(__file__).parents[3] / "resources" / "miniature" / "family" / "z-image"
TOKENS, DIM = 40, 96
GOLDEN_SIGNS = [
    [1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0],
    [-1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0],
]


def are_alike(one: "Sketch | None", other: "Sketch | None") -> bool:
    """Returns whether two sketches are the same up to rounding; never where one is missing or has another shape."""
    if one is None or other is None:
        return False
    known = KnownSketches()
    known.first_like("", one, "one")
    return known.first_like("", other, "other") == "one"


def states(seed: int = 0, tokens: int = TOKENS) -> torch.Tensor:
    """Hidden states as they are: dimensions of very different spread, a sink token a thousand times as long."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(DIM, generator=generator).mul(1.5).exp() * 5
    values = torch.randn(tokens, DIM, generator=generator) * spread + spread
    values[0] *= 1000.0
    return values


@pytest.fixture(scope="module")
def norm() -> CaptionNorm:
    weight = torch.randn(DIM, generator=torch.Generator().manual_seed(7)).mul(0.5).exp()
    weight[3] = 0.0  # A dimension that the generator does not look at.
    return CaptionNorm(weight, 1e-5)


def report(norm: CaptionNorm, changed: torch.Tensor, text: torch.Tensor) -> tuple[float | None, bool]:
    """Returns the visible change, and whether the two have equal sketches."""
    alike = are_alike(norm.sketch([changed]), norm.sketch([text]))
    return norm.relative_change([changed], text), alike


@pytest.mark.parametrize("family", ["z_image"])
def test_it_is_the_norm_of_the_model(family):
    transformer = ZImageTransformer2DModel.from_pretrained(MINIATURE / "transformer")
    norm = CaptionNorm.read(MINIATURE, family)
    values = torch.randn(11, 128, generator=torch.Generator().manual_seed(0)) * 9
    with torch.no_grad():
        torch.testing.assert_close(norm(values), transformer.cap_embedder[0](values))
    assert norm.eps == transformer.config.norm_eps


def test_weights_in_several_files_are_found_by_their_index(tmp_path):
    name = "cap_embedder.0.weight"
    tensors = load_file(MINIATURE / "transformer" / "diffusion_pytorch_model.safetensors")
    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"norm_eps": 1e-3}))
    save_file({"other": torch.zeros(1)}, folder / "m-00001-of-00002.safetensors")
    save_file({name: tensors[name].bfloat16()}, folder / "m-00002-of-00002.safetensors")
    index = {"weight_map": {"other": "m-00001-of-00002.safetensors", name: "m-00002-of-00002.safetensors"}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(index))
    norm = CaptionNorm.read(tmp_path, "z_image")
    assert torch.equal(norm.weight, tensors[name].bfloat16().float())
    assert norm.eps == 1e-3
    (folder / "m-00002-of-00002.safetensors").unlink()
    (folder / "m.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"no file in .*transformer has 'cap_embedder\.0\.weight'"):
        CaptionNorm.read(tmp_path, "z_image")


def test_a_generator_without_a_norm_sees_the_scale(monkeypatch):
    registered = families.generator_family("z_image")
    plain = replace(registered, captions=replace(registered.captions, first_layer=None))
    monkeypatch.setattr(families, "generator_families", lambda: {"z_image": plain})
    norm = CaptionNorm.read(MINIATURE, "z_image")
    text = torch.randn(11, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(norm(text), text)
    assert report(norm, text, text) == (0.0, True)
    change, same = report(norm, 1.5 * text, text)
    assert change == pytest.approx(0.5)
    assert not same


def linear_family(folder: Path, weight: torch.Tensor, monkeypatch) -> CaptionNorm:
    """The first layer of a generator that is linear, read from its folder."""
    registered = families.generator_family("z_image")
    layer = families.CaptionLinearWeight("transformer", "embed.weight")
    plain = replace(registered, captions=replace(registered.captions, first_layer=layer))
    monkeypatch.setattr(families, "generator_families", lambda: {"z_image": plain})
    (folder / "transformer").mkdir()
    save_file({"embed.weight": weight.bfloat16()}, folder / "transformer" / "m.safetensors")
    return CaptionNorm.read(folder, "z_image")


def test_a_linear_layer_sees_the_scale_and_not_what_it_maps_to_nothing(tmp_path, monkeypatch):
    weight = torch.randn(12, DIM, generator=torch.Generator().manual_seed(3)).bfloat16().float()
    linear = linear_family(tmp_path, weight, monkeypatch)
    text = states()
    torch.testing.assert_close(linear(text), text @ weight.T)
    assert report(linear, text, text) == (0.0, True)
    change, same = report(linear, 1.5 * text, text)
    assert change == pytest.approx(0.5)
    assert not same
    # Directions that come out as nothing: all but 12 of 96.
    noise = torch.randn(text.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    wide = weight.double()
    hidden = noise - noise @ wide.T @ torch.linalg.inv(wide @ wide.T) @ wide
    change, same = report(linear, text + hidden.float(), text)
    assert (change, same) == (0.0, True)
    change, same = report(linear, text + 100 * noise.float(), text)
    assert change > 1e-4
    assert not same
    one = text.clone()
    one[5] += 1.0
    expected = float((linear(one) - linear(text)).norm() / linear(text).norm())
    assert report(linear, one, text)[0] == pytest.approx(expected, rel=1e-4)


def test_an_order_that_is_not_visible_is_no_change():
    plain = NoCaptionNorm()
    text = states()
    assert report(plain, text.flip(0), text)[1] is False
    plain.order_is_visible = False
    assert report(plain, text.flip(0), text) == (0.0, True)
    other = text.clone()
    other[4, 2] += 0.1 * text[0].norm()
    assert report(plain, other.flip(0), text)[1] is False


def test_layers_of_a_token_are_seen_together():
    """(tokens, layers, dim) is what (tokens, layers * dim) is; an exchange of two layers is a change."""
    plain, text = NoCaptionNorm(), states().unflatten(1, (3, DIM // 3))
    assert report(plain, 2 * text, text)[0] == pytest.approx(1.0)
    assert report(plain, text.flip(1), text)[1] is False
    assert are_alike(plain.sketch([text]), plain.sketch([text.flatten(1)]))


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-20, 20)), min_size=1, max_size=40), st.booleans())
def test_searching_gives_what_comparing_with_all_gives(items, is_long):
    """Several directions, each a few tolerances to and fro: the first within the tolerance of the longer."""
    directions = np.random.default_rng(0).normal(size=(6, NUMBERS)) * (1e4 if is_long else 1e-3)
    sketches = [
        encode_sketch({"a": 1}, directions[which] * (1 + TOLERANCE * amount)) for which, amount in items
    ]
    known, kept = KnownSketches(), []
    for name, sketch in enumerate(sketches):
        values = decode_sketch(sketch)
        near = [
            other
            for other in kept
            if np.linalg.norm(decode_sketch(sketches[other]) - values)
            <= TOLERANCE * max(np.linalg.norm(values), np.linalg.norm(decode_sketch(sketches[other])))
        ]
        assert known.first_like("", sketch, name) == (near[0] if near else name)
        kept += [] if near else [name]


@given(st.floats(0.2, 1e4), st.integers(0, 10))
def test_a_scale_is_not_seen(scale, seed):
    norm = CaptionNorm(torch.linspace(0.1, 3.0, DIM), 1e-5)
    text = states(seed)
    assert report(norm, text * scale, text) == (0.0, True)
    per_token = torch.rand(TOKENS, 1, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert report(norm, text * scale * per_token, text) == (0.0, True)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_stays_far_below_the_tolerance(norm, seed):
    """Of float32, through a scale there and back, which is more than any recipe rounds."""
    text = states(seed)
    scaled = text * 0.123 / 0.77 * torch.rand(TOKENS, 1, generator=torch.Generator().manual_seed(seed)).exp()
    sketches = [decode_sketch(norm.sketch([values])).astype(float) for values in (text, scaled)]
    distance = np.linalg.norm(sketches[0] - sketches[1]) / np.linalg.norm(sketches[0])
    assert 0 < distance < TOLERANCE / 5


@given(st.integers(0, 200), st.sampled_from([1e-3, 1e-4, 1e-1]))
def test_a_change_of_direction_is_seen(seed, amount):
    norm = CaptionNorm(torch.ones(DIM), 1e-5)
    text = states(0)
    step = torch.randn(text.shape, generator=torch.Generator().manual_seed(seed))
    step *= amount * text.norm(dim=1, keepdim=True) / step.norm(dim=1, keepdim=True)
    change, alike = report(norm, text + step, text)
    assert change == pytest.approx(amount, rel=0.3)
    assert not alike


def test_what_bfloat16_rounds_away_is_seen(norm):
    text = states()
    change, alike = report(norm, text.bfloat16().float(), text)
    assert 1e-4 < change < 5e-3
    assert not alike


def test_a_change_of_one_value_is_seen(norm):
    text = states()
    for token, dimension in ((1, 0), (5, 17), (39, 95)):
        changed = text.clone()
        changed[token, dimension] += 0.1 * text[token].norm()
        assert report(norm, changed, text)[1] is False
    changed = text.clone()
    changed[5, 3] += text[5].norm()
    change, alike = report(norm, changed, text)
    assert 0.01 < change < 0.1, "a dimension of weight 0 is seen through the length of its token"
    assert not alike


def test_exchanged_tokens_are_not_equal(norm):
    text = states()
    changed = text.clone()
    changed[[4, 9]] = text[[9, 4]]
    assert report(norm, changed, text)[1] is False
    assert report(norm, text.flip(0), text)[1] is False


def test_zero_tokens(norm):
    text = states()
    text[7] = 0.0
    assert report(norm, text * 3.0, text) == (0.0, True)
    changed = text.clone()
    changed[8] = 0.0
    change, alike = report(norm, changed, text)
    assert change > 0.01
    assert not alike
    nothing = torch.zeros_like(text)
    assert report(norm, nothing, nothing) == (0.0, True)
    change, alike = report(norm, text, nothing)
    assert change is None, "relative to nothing"
    assert not alike


def test_dead_dimensions(norm):
    text = states()
    text[:, 10:60] = 0.0
    assert report(norm, text * 0.3, text) == (0.0, True)
    changed = text.clone()
    changed[:, 20] += 0.01 * text.norm(dim=1)
    assert report(norm, changed, text)[1] is False


def test_a_scale_below_the_epsilon_is_seen():
    """Where tokens are so short that the epsilon counts, a scale is a change, in the generator as here."""
    norm, text = CaptionNorm(torch.ones(DIM), 1e-5), torch.full((TOKENS, DIM), 1e-3)
    change, alike = report(norm, text * 2.0, text)
    assert change > 0.5
    assert not alike


def test_other_numbers_of_tokens_are_neither_compared_nor_equal(norm):
    text = states()
    assert report(norm, states(tokens=TOKENS + 1), text) == (None, False)
    assert norm.relative_change([text, text], text) == 0.0
    assert not are_alike(norm.sketch([text, text]), norm.sketch([text]))


def test_the_change_of_several_tensors_is_that_of_all():
    norm, text, other = CaptionNorm(torch.ones(DIM), 1e-5), states(), states(1)
    alone = norm.relative_change([other], text)
    both = norm.relative_change([other, text], text)
    assert both == pytest.approx(alone / 2**0.5, rel=1e-5)


def test_the_length_of_a_sketch_is_about_that_of_what_it_sketches(norm):
    ratios = []
    for seed in range(50):
        seen = norm(states(seed))
        sketched = decode_sketch(norm.sketch([states(seed)]))
        ratios.append(np.linalg.norm(sketched) / float(seen.norm()))
    assert np.mean(np.square(ratios)) == pytest.approx(1.0, abs=0.25)
    assert min(ratios) > 0.3


def test_signs_are_those_that_stored_sketches_were_made_with():
    """Golden: with others, rows of the table could not be compared with those made before."""
    assert signs(0, 2, stream=0)[:, :8].tolist() == GOLDEN_SIGNS
    assert np.array_equal(signs(3, 4, stream=1), signs(0, 7, stream=1)[3:])
    many = signs(0, 4000, stream=1)
    assert many.shape == (4000, NUMBERS)
    assert set(np.unique(many)) == {-1.0, 1.0}
    assert np.abs(many.mean(axis=0)).max() < 0.06
    assert np.abs(np.corrcoef(many.T) - np.eye(NUMBERS)).max() < 0.08


def test_the_first_alike_is_found_and_what_is_apart_stays_apart(norm):
    text, other = states(), states(1)
    sketches = [norm.sketch([values]) for values in (text, other, text * 2, other * 3)]
    known = KnownSketches()
    found = [known.first_like("", sketch, name) for sketch, name in zip(sketches, "abcd", strict=True)]
    assert found == ["a", "b", "a", "b"]
    assert known.first_like("another size", sketches[0], "e") == "e"
    assert known.first_like("", None, "f") == "f"
    assert known.first_like("", None, "g") == "g"
    assert not are_alike(None, None)


def test_a_negative_prompt_is_in_the_sketch(norm):
    text = states()
    guided = [norm.sketch([text], states(seed)) for seed in (1, 2)]
    assert not are_alike(guided[0], guided[1])
    assert not are_alike(guided[0], norm.sketch([text]))
    assert are_alike(guided[0], norm.sketch([text * 3], states(1) * 2))
