"""Sources made of several: weighted sums of references and layers, and differences to a neutral image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graftwork.transforms.combination import (
    LayerMixParameters,
    MultiReferenceParameters,
    StyleDeltaParameters,
)
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import (
    alphas,
    call,
    context,
    kinds_of_states,
    lengths,
    seeds,
    states,
    widths,
)

# "none" is the one source that there is; "multi_reference", "layer_mix" and "style_delta" are below.
COVERED = {"none", "multi_reference", "layer_mix"}
TESTED = {"combination": COVERED, "blend": {"style_delta"}}

KINDS = sorted(kinds_of_states(2, 2))
WEIGHTS = {"multi_reference": "reference_weights", "layer_mix": "layer_weights"}
weight_lists = st.lists(st.floats(0.125, 4, width=32), min_size=1, max_size=4)


def combine_references(sources, weights=None):
    return call(transform("combination", "multi_reference"), sources, reference_weights=weights)


def mix_layers(sources, weights=None):
    return call(transform("combination", "layer_mix"), sources, layer_weights=weights)


def style_delta(text, source, neutral, alpha=1.0, **options):
    entry = transform("blend", "style_delta")
    return call(entry, text, source, alpha, around=context(text, neutral=neutral), **options)


@settings(deadline=None)
@given(lengths, widths, weight_lists)
def test_references_are_added_with_their_weights(tokens, width, weights):
    sources = [states(tokens, width, seed) for seed in range(len(weights))]
    kept = [source.clone() for source in sources]
    result = combine_references(sources, weights)
    expected = sum(weight * source.double() for weight, source in zip(weights, sources, strict=True))
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)
    assert result.dtype == torch.float32
    assert all(torch.equal(source, before) for source, before in zip(sources, kept, strict=True))


@settings(deadline=None)
@given(lengths, widths, weight_lists, st.floats(0.25, 8, width=32))
def test_weights_of_layers_count_relative_to_each_other(tokens, width, weights, factor):
    layers = [states(tokens, width, seed) for seed in range(len(weights))]
    result = mix_layers(layers, weights)
    torch.testing.assert_close(
        result, mix_layers(layers, [factor * w for w in weights]), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        mix_layers([layers[0]] * len(weights), weights), layers[0], rtol=1e-5, atol=1e-5
    )


def test_without_weights_all_count_the_same():
    sources = [states(5, seed=seed) for seed in range(3)]
    mean = torch.stack(sources).mean(dim=0)
    torch.testing.assert_close(combine_references(sources), mean)
    torch.testing.assert_close(mix_layers(sources), mean)
    assert torch.equal(combine_references(sources[:1]), sources[0])


def test_one_source_is_taken_as_it_is():
    source = states(5)
    assert call(transform("combination", "none"), [source]) is source
    with pytest.raises(ValueError, match="unpack"):
        call(transform("combination", "none"), [source, source])


ONE = {"references": 1, "layers": 1, "blend": "linear"}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("none", {}, None),
        ("none", {"references": 2}, ["reference is a set of 2", "combination: multi_reference"]),
        ("none", {"layers": 3}, ["hidden_layer is a set of 3", "combination: layer_mix"]),
        ("multi_reference", {}, None),
        ("multi_reference", {"references": 2}, None),
        ("multi_reference", {"references": 2, "reference_weights": [0.5, 0.5]}, None),
        ("multi_reference", {"reference_weights": [0.5, 0.5]}, ["has 2 numbers", "there are 1 references"]),
        ("multi_reference", {"layers": 2}, ["hidden_layer is a set of 2", "'multi_reference'"]),
        (
            "multi_reference",
            {"references": 2, "blend": "intra"},
            ["'intra'", "before length matching"],
        ),
        ("layer_mix", {"layers": 2}, None),
        ("layer_mix", {"layers": 2, "blend": "intra"}, None),
        ("layer_mix", {"layers": 2, "layer_weights": [1.0]}, ["has 1 numbers", "there are 2 layers"]),
        ("layer_mix", {"references": 2}, ["reference is a set of 2", "'layer_mix'"]),
    ],
)
def test_what_goes_with_a_combination(name, changes, words):
    problem = transform("combination", name).problem_with({"combination": name, **ONE, **changes})
    assert (problem is None) == (words is None), problem
    for word in words or ():
        assert word in problem


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"reference": None}, "needs a reference"),
        ({"neutral_reference": None}, "neutral_reference is null"),
        ({"length_matching": "none"}, "length_matching is 'none'"),
        ({"reference": None, "alpha": 0.0}, None),
    ],
)
def test_what_goes_with_style_delta(changes, word):
    values = {"alpha": 0.5, "reference": "house", "neutral_reference": "grey", "length_matching": "area"}
    problem = transform("blend", "style_delta").problem_with({**values, **changes})
    assert (problem is None) if word is None else (word in problem)


def test_one_of_weight_one_is_itself_bit_for_bit():
    source = states(5)
    assert torch.equal(combine_references([source], [1.0]), source)
    assert torch.equal(mix_layers([source], [3.0]), source)
    assert torch.equal(mix_layers([source, states(5, seed=2)], [1.0, 0.0]), source)


def test_what_cannot_be_added_is_refused():
    with pytest.raises(ValueError, match="2 weights for 1 references"):
        combine_references([states(3)], [1.0, 2.0])
    with pytest.raises(ValueError, match="have 3, 4 tokens"):
        combine_references([states(3), states(4)], [1.0, 2.0])


@pytest.mark.parametrize("model", [MultiReferenceParameters, LayerMixParameters])
@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0], [0.1, 0.2, -0.3], [20.0], ["a"]])
def test_weights_that_are_refused(model, weights):
    name = next(iter(model.model_fields))
    with pytest.raises(ValidationError):
        model(**{name: weights})
    assert getattr(model(**{name: [1.0, -0.5]}), name) == [1.0, -0.5]


@settings(deadline=None)
@given(lengths, lengths, widths, seeds, alphas)
def test_style_delta_adds_the_difference(n, k, width, seed, alpha):
    text, source, neutral = states(n, width, seed), states(k, width, seed + 1), states(k, width, seed + 2)
    result = style_delta(text, source, neutral, alpha)
    rows = min(n, k)
    expected = text.clone().double()
    expected[:rows] += alpha * (source.double() - neutral.double())[:rows]
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(result[rows:], text[rows:])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_a_reference_that_adds_nothing_leaves_the_text(normalize, scale):
    text, source = states(6), states(6, seed=1)
    result = style_delta(text, source, source.clone(), delta_normalize=normalize, delta_scale_to_text=scale)
    assert torch.equal(result, text)


def test_options_of_style_delta():
    text, source, neutral = states(9, scale=40.0), states(9, seed=1), states(9, seed=2)
    plain = (source - neutral).norm(dim=1)
    even = (style_delta(text, source, neutral, delta_normalize=True) - text).norm(dim=1)
    torch.testing.assert_close(even, plain.median().expand(9), rtol=1e-4, atol=0)
    scaled = (style_delta(text, source, neutral, delta_scale_to_text=True) - text).norm(dim=1)
    torch.testing.assert_close(scaled.median(), text.norm(dim=1).median(), rtol=1e-4, atol=0)
    torch.testing.assert_close(scaled / plain, (scaled / plain)[:1].expand(9), rtol=1e-4, atol=0)


def test_with_scale_to_text_the_size_of_the_source_does_not_count():
    text, source, neutral = states(9), states(9, seed=1), states(9, seed=2)
    one, other = (
        style_delta(text, factor * source, factor * neutral, delta_scale_to_text=True)
        for factor in (1.0, 50.0)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(KINDS), widths, st.booleans(), st.booleans())
def test_style_delta_of_any_input_is_finite(of_source, of_neutral, width, normalize, scale):
    source = kinds_of_states(5, width)[of_source]
    neutral = kinds_of_states(5, width, seed=3)[of_neutral]
    rows = min(len(source), len(neutral))
    text = states(4, width)
    options = {"delta_normalize": normalize, "delta_scale_to_text": scale}
    result = style_delta(text, source[:rows], neutral[:rows], **options)
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert torch.equal(result, style_delta(text, source[:rows], neutral[:rows], **options))


def test_a_neutral_of_another_length_is_refused():
    with pytest.raises(ValueError, match="source and its neutral image have 4, 5 tokens"):
        style_delta(states(4), states(4), states(5))


def test_options_are_off_unless_asked_for():
    assert StyleDeltaParameters().model_dump() == {"delta_normalize": False, "delta_scale_to_text": False}
