"""Roles of tokens for ordinary and for odd prompts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.models.description import locate_model
from graftwork.models.prompts import InputOptions, PromptLayout, count_prompt_tokens, lay_out_prompt
from graftwork.models.tokens import ROLE_CODES, ROLES, assign_roles
from graftwork.models.transformers_encoder import load_tokenizer, tokenize

BEFORE, AFTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
ODD_PROMPTS = [
    "user",
    "assistant",
    "\nleading",
    "trailing\n\n",
    " ",
    "\n",
    "é ü 日本",
    "a \U0001f600 b",
    "\t x",
    "e\u0301",
]


def chat(prompt: str) -> str:
    return BEFORE + prompt + AFTER


def prompt_indices(roles):
    return np.flatnonzero(roles == ROLE_CODES["prompt"])


def test_codes_never_change():
    assert ROLES == ("template", "sink", "vision_marker", "image", "prompt", "think", "system", "pad")
    assert [ROLE_CODES[role] for role in ROLES] == list(range(8))


@pytest.mark.parametrize("prompt", ODD_PROMPTS)
def test_odd_prompts(qwen3, prompt):
    encoded = qwen3.encode(prompt, None, None, [0])
    tokenizer = qwen3.tokenizer
    indices = prompt_indices(encoded.roles)
    assert encoded.roles.dtype == np.uint8
    assert encoded.roles[0] == ROLE_CODES["sink"]
    assert set(encoded.roles.tolist()) == {ROLE_CODES[role] for role in ("sink", "prompt", "template")}
    assert np.array_equal(indices, np.arange(indices[0], indices[-1] + 1))
    covered = tokenizer.decode(encoded.token_ids[indices])
    assert tokenizer.decode(tokenizer(prompt)["input_ids"]) in covered
    assert covered.strip("\n") in prompt or prompt == "e\u0301"


def test_prompt_that_the_template_contains_is_found_where_it_is(qwen3):
    encoded = qwen3.encode("user", None, None, [0])
    assert prompt_indices(encoded.roles).tolist() == [3]
    assert (encoded.token_ids == encoded.token_ids[3]).sum() == 2


def test_leading_newline_merged_with_the_template_is_prompt(qwen3):
    ids = qwen3.tokenizer(chat("\nx"))["input_ids"]
    plain, merged = qwen3.encode("x", None, None, [0]), qwen3.encode("\n\nx", None, None, [0])
    assert prompt_indices(plain.roles)[0] == 3
    first = prompt_indices(merged.roles)[0]
    assert qwen3.tokenizer.decode(merged.token_ids[first]).startswith("\n")
    assert len(ids) == len(qwen3.encode("\nx", None, None, [0]).token_ids)


def test_merge_across_the_boundary_counts_as_prompt():
    layout = PromptLayout("user\n\nhi.", prompt=(5, 8), system=(0, 0), think=(9, 9))
    roles = assign_roles(layout, [9, 1, 2, 3, 4], [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)])
    assert [ROLES[code] for code in roles] == ["sink", "template", "prompt", "prompt", "template"]


def test_tokens_of_the_prompt_are_those_in_its_role(qwen3):
    encoded = qwen3.encode("a small red circle", None, None, [0])
    assert np.array_equal(encoded.in_prompt, encoded.roles == ROLE_CODES["prompt"])
    assert encoded.in_prompt.any()


def test_the_first_word_of_a_raw_prompt_is_of_the_prompt_though_its_role_is_sink(qwen3):
    encoded = qwen3.encode("a small red circle", None, None, [0], InputOptions(prompt_format="raw"))
    assert ROLES[encoded.roles[0]] == "sink"
    assert encoded.in_prompt[0]
    assert np.array_equal(encoded.in_prompt[1:], encoded.roles[1:] == ROLE_CODES["prompt"])


def test_empty_prompt_has_no_prompt_tokens(qwen3):
    encoded = qwen3.encode("", None, None, [0])
    assert len(encoded.roles) == 8
    assert len(prompt_indices(encoded.roles)) == 0


def test_system_and_think_parts():
    def render(prompt):
        return f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<think>\n"

    layout = lay_out_prompt(render, "hi")
    assert layout.text[slice(*layout.prompt)] == "hi"
    assert layout.text[slice(*layout.system)] == "<|im_start|>system\nBe kind.<|im_end|>\n"
    assert layout.text[slice(*layout.think)] == "<think>\n"
    spans = [layout.system, (layout.system[1], layout.prompt[0]), layout.prompt, layout.think]
    roles = assign_roles(layout, [9, 1, 2, 3, 4], [(0, 1), *spans])
    assert [ROLES[code] for code in roles] == ["sink", "system", "template", "prompt", "think"]


def test_thinking_named_in_the_prompt_is_prompt():
    layout = lay_out_prompt(chat, "what is <think>?")
    assert layout.think[0] == layout.think[1]


@pytest.mark.parametrize("render", [lambda text: chat(text.strip()), lambda text: chat(text + text)])
def test_template_that_changes_the_prompt_is_an_error(render):
    with pytest.raises(ValueError, match="the chat template"):
        lay_out_prompt(render, " hi")


@settings(max_examples=150, deadline=None)
@given(prompt=st.text(min_size=1, max_size=40).filter(lambda text: "<" not in text))
def test_prompt_tokens_are_one_run_that_covers_the_prompt(family, prompt):
    tokenizer = _tokenizer(family)
    layout = lay_out_prompt(chat, prompt)
    input_ids, offsets = tokenize(tokenizer, layout)
    roles = assign_roles(layout, input_ids[0].numpy(), offsets)
    indices = prompt_indices(roles)
    assert np.array_equal(indices, np.arange(indices[0], indices[-1] + 1))
    assert offsets[indices[0]][0] <= layout.prompt[0] < offsets[indices[0]][1]
    assert offsets[indices[-1]][0] < layout.prompt[1] <= offsets[indices[-1]][1]
    # Nothing after the prompt merges with it: the turn's end is a control token.
    assert (roles[indices[-1] + 1 :] == ROLE_CODES["template"]).sum() == 5
    entry = {"family": "qwen3", "path": str(family / "z-image"), "tokenizer_subfolder": "tokenizer"}
    assert count_prompt_tokens(entry, locate_model("small", entry), [prompt]) == [len(roles)]


_TOKENIZERS = {}


def _tokenizer(family):
    if family not in _TOKENIZERS:
        _TOKENIZERS[family] = load_tokenizer(family / "z-image" / "tokenizer")
    return _TOKENIZERS[family]
