"""Blends that put sequences together: after each other, within one extraction, token by token."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.transforms.composition import pair_tokens
from graftwork.transforms.registry import transform
from tests.unit.transforms.samples import alphas, call, context, kinds_of_states, lengths, roles, states

COVERED = {"concat", "intra", "ensemble"}
TESTED = {"blend": COVERED}
KINDS = sorted(kinds_of_states(2, 2))


def concat(text, source, **parameters):
    return call(transform("blend", "concat"), text, source, 1.0, **parameters)


def intra(text, source, source_roles, alpha=1.0, image_share=0.5):
    around = context(source_roles=source_roles)
    return call(transform("blend", "intra"), text, source, alpha, around=around, image_share=image_share)


def ensemble(text, source, ids, source_ids, alpha=0.5, text_roles=None, source_roles=None):
    around = context(
        text_token_ids=np.array(ids),
        text_roles=roles(text_roles or ["prompt"] * len(ids)),
        source_token_ids=np.array(source_ids),
        source_roles=roles(source_roles or ["prompt"] * len(source_ids)),
    )
    return call(transform("blend", "ensemble"), text, source, alpha, around=around)


@settings(deadline=None)
@given(lengths, lengths, st.sampled_from(KINDS))
def test_concat_is_one_after_the_other_bit_for_bit(n, k, kind):
    text, source = states(n), kinds_of_states(k, 6)[kind]
    result = concat(text, source)
    assert torch.equal(result[:n], text)
    assert torch.equal(result[n:], source)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"alpha": 0.0}, None),
        ({"concat_tokens": 8, "length_matching": "area"}, None),
        ({"length_matching": "none"}, None),
        ({"alpha": 0.5}, ["no alpha", "0.5", "allowed: 1"]),
        (
            {"concat_tokens": 8, "length_matching": "none"},
            ["concat_tokens 8", "length_matching truncate, linear, area"],
        ),
        ({"concat_tokens": 96, "most_tokens": 96}, ["concat_tokens 96", "takes 96 tokens"]),
        ({"concat_tokens": 95, "most_tokens": 96}, None),
    ],
)
def test_combinations_with_concat(changes, words):
    problem = transform("blend", "concat").problem_with(
        {"alpha": 1.0, "length_matching": "area", "concat_tokens": None, **changes}
    )
    assert (problem is None) == (words is None)
    for word in words or ():
        assert word in problem


SOURCE_ROLES = ["sink", "template", "vision_marker", *["image"] * 9, "vision_marker", "prompt", "template"]


def test_intra_pools_the_image_and_lets_each_text_token_meet_its_like():
    text, source, source_roles = states(4), states(15, seed=1), roles(SOURCE_ROLES)
    written = source[[0, 1, 13, 14]]
    pictured = torch.nn.functional.adaptive_avg_pool1d(source[3:12].T[None], 4)[0].T
    assert torch.equal(intra(text, source, source_roles, image_share=0.0), written)
    torch.testing.assert_close(intra(text, source, source_roles, image_share=1.0), pictured)
    torch.testing.assert_close(
        intra(text, source, source_roles, alpha=0.5, image_share=0.25),
        0.5 * (0.25 * pictured + 0.75 * written) + 0.5 * text,
    )


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from(KINDS), alphas, st.floats(0, 1, width=32))
def test_intra_of_another_length_and_of_any_input(n, kind, alpha, share):
    source_roles = (SOURCE_ROLES * 2)[:24]
    source = kinds_of_states(24, 5)[kind]
    if len(source) != 24:
        source = source[:1].repeat(24, 1) if len(source) < 24 else source[:24]
    kept = source.clone()
    result = intra(states(n, 5), source, roles(source_roles), alpha, share)
    assert result.shape == (n, 5)
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert torch.equal(result, intra(states(n, 5), source, roles(source_roles), alpha, share))
    assert torch.equal(source, kept)


@pytest.mark.parametrize("names", [["image"] * 4, ["prompt"] * 4, ["vision_marker", "image", "image"]])
def test_intra_needs_both_kinds_of_tokens(names):
    with pytest.raises(ValueError, match="'intra' needs image and text tokens; the source has"):
        intra(states(4), states(len(names)), roles(names))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"token_mode": "image_only"}, "'image_only'"),
        ({"reference": None}, "no reference"),
        ({"reference": None, "alpha": 0.0}, None),
    ],
)
def test_combinations_with_intra(changes, word):
    problem = transform("blend", "intra").problem_with(
        {"alpha": 1.0, "token_mode": "full", "reference": "house", **changes}
    )
    assert (problem is None) if word is None else (word in problem)


def test_ensemble_mixes_tokens_that_are_the_same():
    text, source = states(5), states(6, seed=1)
    text_roles = ["sink", "template", "prompt", "prompt", "template"]
    source_roles = ["sink", "prompt", "template", "prompt", "prompt", "template"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ensemble(
            text, source, [1, 2, 30, 31, 2], [1, 29, 2, 30, 31, 2], 0.25, text_roles, source_roles
        )
    expected = text.clone()
    expected[2] = 0.25 * source[3] + 0.75 * text[2]
    expected[3] = 0.25 * source[4] + 0.75 * text[3]
    torch.testing.assert_close(result, expected)
    assert torch.equal(result[[0, 1, 4]], text[[0, 1, 4]])


def test_ensemble_says_which_tokens_have_no_partner():
    text, source = states(3), states(3, seed=1)
    with pytest.warns(UserWarning, match="1 of 3 tokens of the prompt are not in the source"):
        result = ensemble(text, source, [7, 8, 9], [7, 5, 9], alpha=1.0)
    assert torch.equal(result[[0, 2]], source[[0, 2]])
    assert torch.equal(result[1], text[1])


def test_the_first_word_of_a_raw_prompt_is_paired_though_its_role_is_sink():
    """A chat against a text as it is, whose first word is at position 0."""
    text, source = states(5), states(4, seed=1)
    around = context(
        text_token_ids=np.array([1, 2, 30, 31, 2]),
        text_roles=roles(["sink", "template", "prompt", "prompt", "template"]),
        source_token_ids=np.array([30, 31, 32, 9]),
        source_roles=roles(["sink", "prompt", "prompt", "template"]),
        source_in_prompt=np.array([True, True, True, False]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = call(transform("blend", "ensemble"), text, source, 1.0, around=around)
    assert torch.equal(result[[2, 3]], source[[0, 1]])
    assert torch.equal(result[[0, 1, 4]], text[[0, 1, 4]])


def test_ensemble_without_a_common_token_is_refused():
    with pytest.raises(ValueError, match="none of the 2 tokens of the prompt"):
        ensemble(states(2), states(3), [1, 2], [3, 4, 5])


@given(st.lists(st.integers(0, 4), max_size=12), st.lists(st.integers(0, 4), max_size=12))
def test_pairs_are_equal_tokens_in_order(one, other):
    own, partner = pair_tokens(
        np.array(one, dtype=np.int64),
        np.ones(len(one), dtype=bool),
        np.array(other, dtype=np.int64),
        np.ones(len(other), dtype=bool),
    )
    assert [one[i] for i in own] == [other[j] for j in partner]
    assert list(own) == sorted(set(own.tolist()))
    assert list(partner) == sorted(set(partner.tolist()))
    if one == other:
        assert list(own) == list(partner) == list(range(len(one)))


def test_equal_sequences_at_alpha_one_give_the_source_in_the_prompt():
    text, source = states(4), states(4, seed=1)
    assert torch.equal(ensemble(text, source, [5, 5, 5, 6], [5, 5, 5, 6], alpha=1.0), source)


def test_what_these_blends_need_beside_the_source():
    assert set(transform("blend", "intra").needs) == {
        "whole_source",
        "text_tokens",
        "image_tokens",
    }
    assert set(transform("blend", "ensemble").needs) == {"whole_source", "text_tokens"}
    assert transform("blend", "concat").needs == ()
