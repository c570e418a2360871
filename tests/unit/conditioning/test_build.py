"""Whole recipes: what is bit for bit the input, what is cast when, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from graftwork.conditioning import build
from graftwork.conditioning.build import (
    Conditioning,
    as_float32,
    conditioning_hash,
    selected_tokens,
)
from graftwork.conditioning.reference import prompt_statistics
from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.sink import FurtherSinks, SinkPlace
from graftwork.store.hidden_states import HiddenStates
from graftwork.store.records import ConditioningReport
from graftwork.transforms.context import NEUTRAL_SOURCE, WHOLE_SOURCE
from graftwork.transforms.normalization import std_without_sink
from graftwork.transforms.registry import STAGES, Transform, transform, transforms
from tests.unit.jobs.recipes import as_recipe
from tests.unit.transforms.samples import DEFAULT_TRANSFORMS, call, defaults

WIDTH = 6
TEXT_ROLES = ["sink", "template", "prompt", "prompt", "prompt", "template", "template"]
SOURCE_ROLES = ["sink", "vision_marker", *["image"] * 9, "vision_marker", "prompt", "prompt", "template"]


def states(roles: list[str], dtype: str = "float32", seed: int = 0, values=None) -> HiddenStates:
    if values is None:
        values = torch.randn(len(roles), WIDTH, generator=torch.Generator().manual_seed(seed)) * 20
    if dtype == "bfloat16":
        stored = values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    else:
        stored = values.numpy()
    codes = np.array([ROLE_CODES[role] for role in roles], dtype=np.uint8)
    counted = np.arange(len(roles))
    # The prompt is the same, as far as it goes.
    ids = 100 + counted
    prompt = codes == ROLE_CODES["prompt"]
    ids[prompt] = np.arange(prompt.sum())
    return HiddenStates(stored, dtype, ids, codes, counted[None])


def needed(entry: Transform) -> dict[str, Any]:
    """Parameters that a transform refuses to be without, as an example of it has them."""
    cell = {**DEFAULT_TRANSFORMS, "alpha": 1.0, **defaults(entry), entry.stage: entry.name}
    if entry.problem_with(cell) is None:
        return {}
    example = next(iter(entry.examples.values()))
    return {name: value for name, value in example.items() if name in entry.parameters.model_fields}


def recipe(dtype: str = "float32", alpha: float = 0.5, **chosen: Any) -> dict:
    names = {stage: chosen.pop(stage, default) for stage, default in DEFAULT_TRANSFORMS.items()}
    stages = {}
    for stage in STAGES:
        parameters = defaults(transform(stage, names[stage])) | needed(transform(stage, names[stage]))
        parameters |= {name: chosen.pop(name) for name in list(chosen) if name in parameters}
        stages[stage] = {"name": names[stage], "parameters": parameters, "code": ""}
    assert not chosen
    takes_neutral = NEUTRAL_SOURCE in transform("blend", names["blend"]).needs
    whole = {"text": ["t", 7], "sources": [["s", 7]], "dtype": dtype, "code": "", "alpha": alpha, **stages}
    return whole | ({"neutral_sources": [["n", 7]]} if takes_neutral else {})


TEXT_ALONE = {"text": ["t", 7], "code": ""}


def build_conditioning(chosen: dict, text: HiddenStates, source: HiddenStates | None) -> Conditioning:
    others = {
        "n": states(SOURCE_ROLES, seed=3),
        "s2": states(SOURCE_ROLES, seed=4),
        "n2": states(SOURCE_ROLES, seed=5),
    }
    return build.build_conditioning(
        as_recipe(chosen), lambda key, layer: {"t": text, "s": source, **others}[key]
    )


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_alpha_zero_is_the_text_bit_for_bit(stored, dtype):
    text = states(TEXT_ROLES, stored)
    built = build_conditioning({**TEXT_ALONE, "dtype": dtype}, text, None)
    exact = as_float32(text).to(getattr(torch, dtype))
    assert torch.equal(built.tensors["prompt_embeds"], exact)
    assert built.tensors["prompt_embeds"].dtype == exact.dtype
    assert built.report == ConditioningReport(conditioning_hash(built.tensors), tokens=7, source_tokens=0)


def test_bfloat16_widens_exactly():
    every_finite = np.arange(2**16, dtype=np.uint16)
    every_finite = every_finite[(every_finite & 0x7F80) != 0x7F80].reshape(-1, 1)
    wide = as_float32(HiddenStates(every_finite, "bfloat16", *[np.zeros(1)] * 3))
    assert wide.dtype == torch.float32
    bits = wide.numpy().view(np.uint32)
    assert (bits == every_finite.astype(np.uint32) << 16).all()


def test_the_cast_comes_last():
    """Computed in float32 from what was stored, then rounded once."""
    text, source = states(TEXT_ROLES, "bfloat16"), states(SOURCE_ROLES, "bfloat16", seed=1)
    for normalization in transforms("normalization"):
        wide = build_conditioning(recipe("float32", 0.3, normalization=normalization), text, source)
        narrow = build_conditioning(recipe("bfloat16", 0.3, normalization=normalization), text, source)
        assert narrow.tensors["prompt_embeds"].dtype == torch.bfloat16
        assert torch.equal(narrow.tensors["prompt_embeds"], wide.tensors["prompt_embeds"].bfloat16())


def test_a_recipe_by_hand():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    built = build_conditioning(
        recipe(alpha=0.25, token_mode="image_no_markers", normalization="global"), text, source
    )
    image = torch.from_numpy(source.values[2:11]).double()
    own_text = torch.from_numpy(text.values).double()
    image = image * (own_text[1:].std() / image.std())
    pooled = torch.nn.functional.adaptive_avg_pool1d(image.T[None], 7)[0].T
    torch.testing.assert_close(
        built.tensors["prompt_embeds"].double(), 0.25 * pooled + 0.75 * own_text, rtol=1e-5, atol=1e-4
    )
    assert built.report == ConditioningReport(
        conditioning_hash(built.tensors), tokens=7, source_tokens=9, source_tokens_used=1.0
    )


@pytest.mark.parametrize("matching", sorted(transforms("length_matching")))
@pytest.mark.parametrize("mode", sorted(transforms("token_mode")))
@pytest.mark.parametrize("normalization", sorted(transforms("normalization")))
def test_every_combination_builds(matching, mode, normalization):
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    chosen = recipe(alpha=1.0, token_mode=mode, normalization=normalization, length_matching=matching)
    built = build_conditioning(chosen, text, source)
    selected = int(
        call(transforms("token_mode")[mode], source.roles, **chosen["token_mode"]["parameters"]).sum()
    )
    assert built.report.source_tokens == selected
    assert (
        built.report.tokens == len(built.tensors["prompt_embeds"]) == (selected if matching == "none" else 7)
    )
    assert 0 < built.report.source_tokens_used <= 1
    assert build_conditioning(chosen, text, source).hash == built.hash


@pytest.mark.parametrize(
    "blend",
    [name for name, entry in transforms("blend").items() if entry.takes_own_length == "at alpha 1"],
)
def test_at_alpha_one_at_its_own_length_the_source_goes_in_bit_for_bit(blend):
    source = states(SOURCE_ROLES, seed=1)
    chosen = recipe(alpha=1.0, length_matching="none", blend=blend)
    built = build_conditioning(chosen, states(TEXT_ROLES), source)
    assert torch.equal(built.tensors["prompt_embeds"], torch.from_numpy(source.values))


@pytest.mark.parametrize("mode", ["image_only", "image_no_markers", "prompt_only"])
def test_an_empty_selection_names_the_mode(mode):
    without = states(["sink", "template", "template"])
    with pytest.raises(ValueError, match=f"token_mode '{mode}' selects none of the 3 tokens"):
        build_conditioning(recipe(token_mode=mode), states(TEXT_ROLES), without)
    with pytest.raises(ValueError, match=mode):
        selected_tokens(as_recipe(recipe(token_mode=mode)).stages["token_mode"], without)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(bad):
    values = torch.zeros(len(TEXT_ROLES), WIDTH)
    values[2, 3] = bad
    with pytest.raises(FloatingPointError, match="1 of 42 values are not finite"):
        build_conditioning({**TEXT_ALONE, "dtype": "float32"}, states(TEXT_ROLES, values=values), None)


def test_a_value_beyond_bfloat16_is_refused_after_the_cast():
    values = torch.full((len(TEXT_ROLES), WIDTH), torch.finfo(torch.float32).max)
    with pytest.raises(FloatingPointError):
        build_conditioning({**TEXT_ALONE, "dtype": "bfloat16"}, states(TEXT_ROLES, values=values), None)


def test_warnings_are_reported():
    flat = states(SOURCE_ROLES, values=torch.full((len(SOURCE_ROLES), WIDTH), 0.1))
    built = build_conditioning(recipe(normalization="global"), states(TEXT_ROLES), flat)
    assert len(built.report.warnings) == 1
    assert "no variation" in built.report.warnings[0]


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_stored_states_are_not_changed():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    before = text.values.copy(), source.values.copy()
    for array in (text.values, source.values):
        array.setflags(write=False)
    for normalization in transforms("normalization"):
        build_conditioning(recipe(alpha=1.0, normalization=normalization), text, source)
    assert (text.values == before[0]).all()
    assert (source.values == before[1]).all()


def test_the_hash_follows_every_bit():
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    seen = {conditioning_hash({"prompt_embeds": tensor})}
    for byte in range(24):
        changed = bytearray(tensor.numpy().tobytes())
        changed[byte] ^= 1
        other = torch.from_numpy(np.frombuffer(bytes(changed), dtype=np.float32).reshape(2, 3).copy())
        seen.add(conditioning_hash({"prompt_embeds": other}))
    assert len(seen) == 25


def test_the_hash_follows_shape_type_and_name():
    zeros = torch.zeros(2, 3)
    variants = [
        {"prompt_embeds": zeros},
        {"prompt_embeds": zeros.reshape(3, 2)},
        {"prompt_embeds": torch.zeros(6)},
        {"prompt_embeds": torch.zeros(2, 3, dtype=torch.int32)},
        {"prompt_embeds": torch.zeros(2, 6, dtype=torch.bfloat16)},
        {"prompt_embeds": -zeros},
        {"negative": zeros},
        {"prompt_embeds": zeros, "negative": zeros},
    ]
    assert len({conditioning_hash(variant) for variant in variants}) == len(variants)


def test_the_hash_does_not_follow_the_layout_in_memory():
    tensor = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    strided = tensor.T.contiguous().T
    assert not strided.is_contiguous()
    assert conditioning_hash({"a": strided, "b": tensor}) == conditioning_hash({"b": tensor, "a": tensor})


def test_golden_hash():
    """Image keys contain it: a hash that changed would make every image anew."""
    tensor = torch.tensor([[0.0, 1.5], [-2.0, 3.25]])
    assert conditioning_hash({"prompt_embeds": tensor}) == "71e2a4ec6797cdb9d7afd0af3ba05483"
    assert conditioning_hash({"prompt_embeds": tensor.bfloat16()}) == "97f154a3324bbb5afa4ff1349f49c439"


@pytest.mark.parametrize("blend", sorted(transforms("blend")))
@pytest.mark.parametrize("masking", ["none", "clamp"])
@pytest.mark.parametrize("normalization", sorted(transforms("normalization")))
def test_every_masking_normalization_and_blend_builds(masking, normalization, blend):
    text, source = states(TEXT_ROLES, "bfloat16"), states(SOURCE_ROLES, "bfloat16", seed=1)
    chosen = recipe(
        "bfloat16",
        1.0 if blend == "concat" else 0.5,
        masking=masking,
        normalization=normalization,
        blend=blend,
    )
    built = build_conditioning(chosen, text, source)
    assert built.tensors["prompt_embeds"].dtype == torch.bfloat16
    assert built.tensors["prompt_embeds"].shape == (14 if blend == "concat" else 7, WIDTH)
    assert build_conditioning(chosen, text, source).hash == built.hash
    if WHOLE_SOURCE in transform("blend", blend).needs:
        assert built.report.source_tokens_used is None
    else:
        assert built.report.source_tokens_used == 1.0


def test_masking_comes_before_normalization_and_is_reported():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    source.values[2:11, 4] *= 1e3
    built = build_conditioning(
        recipe(alpha=1.0, masking="zero", normalization="global", length_matching="none"), text, source
    )
    assert (built.tensors["prompt_embeds"][2:11, 4] == 0.0).all()
    others = np.r_[0:2, 11:15]
    silenced = torch.from_numpy(source.values.copy())
    silenced[2:11, 4] = 0.0
    scaled = silenced * (torch.from_numpy(text.values)[1:].std() / silenced.std())
    torch.testing.assert_close(built.tensors["prompt_embeds"][others], scaled[others])
    (line,) = built.report.masked_dimensions
    assert line.startswith("4 above ")


def test_where_nothing_is_masked_nothing_is_reported():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    for masking in transforms("masking"):
        built = build_conditioning(recipe(masking=masking), text, source)
        assert not built.report.masked_dimensions
        assert built.hash == build_conditioning(recipe(), text, source).hash


def test_a_class_without_selected_tokens_is_reported():
    built = build_conditioning(
        recipe(masking="zero", token_mode="text_only"),
        states(TEXT_ROLES),
        states(SOURCE_ROLES, seed=1),
    )
    assert "none of class image" in built.report.warnings[0]


def test_the_reference_is_the_prompt_s_own_text():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    built = build_conditioning(
        recipe(alpha=1.0, normalization="per_dim", clip_sigma=None, length_matching="none"), text, source
    )
    expected = prompt_statistics(text.values, text.roles, with_covariance=False)
    np.testing.assert_allclose(built.tensors["prompt_embeds"].double().std(dim=0), expected.std, rtol=1e-4)
    np.testing.assert_allclose(built.tensors["prompt_embeds"].double().mean(dim=0), expected.mean, atol=1e-3)


@pytest.mark.parametrize(
    ("matching", "concat_tokens", "tokens", "used"),
    [
        ("none", None, 7 + 15, 1.0),
        ("area", None, 7 + 7, 1.0),
        ("area", 3, 7 + 3, 1.0),
        ("truncate", 3, 7 + 3, 3 / 15),
        ("attention_pool", 3, 7 + 3, 1.0),
        ("pad", 20, 7 + 20, 1.0),
    ],
)
def test_concat_appends_as_many_tokens_as_it_is_told(matching, concat_tokens, tokens, used):
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    built = build_conditioning(
        recipe(alpha=1.0, blend="concat", length_matching=matching, concat_tokens=concat_tokens), text, source
    )
    assert built.report.tokens == tokens
    assert built.report.source_tokens_used == pytest.approx(used)
    assert torch.equal(built.tensors["prompt_embeds"][:7], torch.from_numpy(text.values))


def test_blends_of_the_whole_source_do_not_follow_length_matching():
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    for name, blend in transforms("blend").items():
        if WHOLE_SOURCE in blend.needs:
            built = [
                build_conditioning(recipe(blend=name, length_matching=matching), text, source)
                for matching in ("truncate", "area", "none")
            ]
            assert len({conditioning.hash for conditioning in built}) == 1, name


def test_roles_and_ids_are_those_of_the_selected_tokens():
    """The prompt is the same two tokens in both, at other places."""
    text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    text.token_ids[2:5] = [500, 501, 502]
    source.token_ids[12:14] = [501, 502]
    for mode in ("full", "text_only", "prompt_only"):
        built = build_conditioning(recipe(alpha=1.0, blend="ensemble", token_mode=mode), text, source)
        expected = torch.from_numpy(text.values.copy())
        expected[3:5] = torch.from_numpy(source.values[12:14])
        assert torch.equal(built.tensors["prompt_embeds"], expected)
        assert "1 of 3 tokens" in built.report.warnings[0]


def several(text: HiddenStates, stored: dict[str, HiddenStates], **chosen: Any) -> Conditioning:
    """A recipe with the sources `s`, `s2` ..., and for a difference the neutral ones `n`, `n2` ..."""
    made = recipe(**chosen)
    made["sources"] = [[key, 7] for key in stored if key.startswith("s")]
    made["neutral_sources"] = [[key, 7] for key in stored if key.startswith("n")]
    return build.build_conditioning(as_recipe(made), lambda key, _: {"t": text, **stored}[key])


def test_references_are_matched_to_the_text_before_they_are_added():
    text, one = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
    other = states(SOURCE_ROLES[:2] + ["image"] * 4 + SOURCE_ROLES[11:], seed=2)
    built = several(
        text,
        {"s": one, "s2": other},
        alpha=1.0,
        token_mode="image_no_markers",
        combination="multi_reference",
        reference_weights=[0.75, 0.5],
    )
    pooled = [
        torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(s.values[2 : 2 + n]).T[None], 7)[0].T
        for s, n in ((one, 9), (other, 4))
    ]
    torch.testing.assert_close(built.tensors["prompt_embeds"], 0.75 * pooled[0] + 0.5 * pooled[1])
    assert built.report.source_tokens == 13
    assert built.report.source_tokens_used == 1.0


def test_the_order_of_references_goes_with_their_weights():
    text, one, other = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1), states(SOURCE_ROLES, seed=2)
    chosen = {"alpha": 1.0, "combination": "multi_reference"}
    forth = several(text, {"s": one, "s2": other}, reference_weights=[0.75, 0.25], **chosen)
    back = several(text, {"s": other, "s2": one}, reference_weights=[0.25, 0.75], **chosen)
    wrong = several(text, {"s": other, "s2": one}, reference_weights=[0.75, 0.25], **chosen)
    torch.testing.assert_close(forth.tensors["prompt_embeds"], back.tensors["prompt_embeds"])
    assert not torch.allclose(forth.tensors["prompt_embeds"], wrong.tensors["prompt_embeds"])


@pytest.mark.parametrize("blend", ["linear", "adain_per_dim", "intra", "ensemble"])
def test_layers_are_normalized_one_by_one_and_then_mixed(blend):
    """Layers of one input have the same tokens, so blends of the whole source take them too."""
    text, one, other = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1), states(SOURCE_ROLES, seed=2)
    other.values[:] *= 50.0
    for name in ("token_ids", "roles"):
        assert (getattr(one, name) == getattr(other, name)).all()
    chosen = {"alpha": 1.0, "normalization": "global", "blend": blend}
    built = several(
        text, {"s": one, "s2": other}, combination="layer_mix", layer_weights=[3.0, 1.0], **chosen
    )
    std = float(torch.from_numpy(text.values)[1:].std())
    mixed = sum(
        w * std / torch.from_numpy(s.values).std() * torch.from_numpy(s.values)
        for w, s in ((0.75, one), (0.25, other))
    )
    alone = build_conditioning(
        recipe(alpha=1.0, blend=blend), text, states(SOURCE_ROLES, values=mixed.float())
    )
    torch.testing.assert_close(
        built.tensors["prompt_embeds"], alone.tensors["prompt_embeds"], rtol=1e-4, atol=1e-3
    )


def test_style_delta_compares_with_the_neutral_image_after_the_same_transforms():
    text, source, neutral = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1), states(SOURCE_ROLES, seed=2)
    chosen = {"alpha": 0.5, "token_mode": "text_only", "length_matching": "truncate"}
    built = several(text, {"s": source, "n": neutral}, blend="style_delta", **chosen)
    kept = [0, 12, 13, 14]
    expected = torch.from_numpy(text.values.copy())
    expected[:4] += 0.5 * torch.from_numpy(source.values[kept] - neutral.values[kept])
    torch.testing.assert_close(built.tensors["prompt_embeds"], expected)
    same = several(text, {"s": source, "n": source}, blend="style_delta", **chosen)
    assert torch.equal(same.tensors["prompt_embeds"], torch.from_numpy(text.values))


def test_what_is_masked_says_of_which_source():
    text, one, other = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1), states(SOURCE_ROLES, seed=2)
    other.values[2:11, 4] *= 1e3
    built = several(text, {"s": one, "s2": other}, masking="zero", combination="layer_mix")
    (line,) = built.report.masked_dimensions
    assert line.startswith("4 above ")
    assert line.endswith("(source 2)")


def with_sinks(*positions: int, seed: int = 0) -> HiddenStates:
    """Wide states of a chat with massive activations at these positions."""
    values = torch.randn(len(TEXT_ROLES), 64, generator=torch.Generator().manual_seed(seed))
    values[list(positions), 3] = 5000.0
    return states(TEXT_ROLES, values=values)


@pytest.mark.parametrize(
    ("token_mode", "in_text", "in_source", "said"),
    [
        ("full", (0,), (0,), []),
        (
            "full",
            (0,),
            (0, 3),
            ["the source has 1 attention sink among the tokens that take part, at position 3 (a word"],
        ),
        (
            "full",
            (0, 1),
            (0,),
            ["the text has 1 attention sink among the tokens that take part, at position 1 (template,"],
        ),
        (
            "full",
            (0,),
            (0, 2, 5),
            ["the source has 2 attention sinks among the tokens that take part, at position 2 (a"],
        ),
        ("prompt_only", (0,), (0, 1, 5), []),
    ],
)
def test_further_sinks_that_take_part_are_warned_of(token_mode, in_text, in_source, said):
    text, source = with_sinks(*in_text), with_sinks(*in_source, seed=1)
    built = build_conditioning(recipe(token_mode=token_mode), text, source)
    assert len(built.report.warnings) == len(said)
    for found, expected in zip(built.report.warnings, said, strict=True):
        assert found.startswith(expected)


@pytest.mark.parametrize(
    ("tokens", "end"), [("non_sink", "sinks are left out"), ("all", "sinks count, for tokens are all")]
)
def test_statistics_of_a_corpus_with_further_sinks_are_warned_of(tokens, end):
    text, source = with_sinks(0), with_sinks(0, seed=1)
    of_text = prompt_statistics(text.values, text.roles, with_covariance=False)
    further = FurtherSinks(36, 9, (SinkPlace(1, 7, 6), SinkPlace(1, 8, 3)))
    given = {
        "donor": replace(of_text, further_sinks=further),
        "host": replace(of_text, further_sinks=FurtherSinks(36, 0)),
    }
    chosen = recipe(dimension_fix="rescale")
    chosen["dimension_fix"]["parameters"] |= {
        "fix_corpus": {side: {"key": side, "tokens": tokens} for side in given},
        "fix_tokens": tokens,
    }
    built = build.build_conditioning(
        as_recipe(chosen), lambda key, layer: {"t": text, "s": source}[key], lambda wanted: given[wanted.key]
    )
    expected = (
        f"statistics of a corpus for rescale, donor, where {end}: 9 of 36 inputs have a sink at position 1"
    )
    assert built.report.warnings == (expected,)


def test_classes_without_sinks_leave_out_those_that_are_found():
    """Statistics of the prompt, the standard deviation of the text, and the class that is masked."""
    text = with_sinks(0, 4)
    rest = [1, 2, 3, 5, 6]
    found = prompt_statistics(text.values, text.roles, with_covariance=False)
    assert found.n == len(rest)
    assert found.std[3] < 10.0
    assert std_without_sink(torch.from_numpy(text.values), text.roles) == float(
        torch.from_numpy(text.values[rest]).std()
    )
    chosen = recipe(
        alpha=1.0, length_matching="none", masking="zero", masking_tokens="non_sink", masking_dimensions=[3]
    )
    built = build_conditioning(chosen, with_sinks(0, seed=1), text)
    assert (built.tensors["prompt_embeds"][rest, 3] == 0.0).all()
    assert (built.tensors["prompt_embeds"][[0, 4], 3] == 5000.0).all()
