"""Texts, spans and roles for every way of putting a text before an encoder, also where texts look like templates."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.models.prompts import (
    NEUTRAL_OPTIONS,
    InputOptions,
    chat_renderer,
    count_prompt_tokens,
    lay_out,
    text_around_prompt,
)
from graftwork.models.tokens import ROLE_CODES, ROLES, assign_roles
from graftwork.models.transformers_encoder import load_tokenizer, tokenize
from tests.small_family import small_entries

# What a template contains, or what code that looks for its parts may stumble over.
TEMPLATE_WORDS = [
    "user",
    "assistant",
    "system",
    "think",
    "<think>",
    "</think>",
    "<think>\n\n</think>\n\n",
    "<|im_start|>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\n",
    "<|endoftext|>",
    "Instruct: ",
    "\nQuery: ",
    "PROMPTPLACEHOLDER",
    "PROMPTPLACEHOLDERX",
    "\n",
    "a red cat",
    ", ",
]
ENCODERS = ["qwen3", "qwen3-vl-instruct", "qwen3-vl-thinking", "qwen3-embedding"]
texts = st.lists(st.sampled_from(TEMPLATE_WORDS), min_size=1, max_size=5).map("".join)
options = st.builds(
    InputOptions,
    prompt_format=st.just("chat") | st.just("raw") | st.builds(lambda task: {"instruct": task}, texts),
    system_prompt=st.none() | texts,
    think_block=st.sampled_from(["template", "empty"]) | st.builds(lambda text: {"text": text}, texts),
)


def folder_of(family: Path, name: str) -> Path:
    entry = small_entries(family)["encoders"][name]
    return Path(entry["path"]) / entry.get("tokenizer_subfolder", "")


_TOKENIZERS = {}


def tokenizer_of(family: Path, name: str):
    if (family, name) not in _TOKENIZERS:
        _TOKENIZERS[family, name] = load_tokenizer(folder_of(family, name))
    return _TOKENIZERS[family, name]


def written_out(name: str, text: str, options: InputOptions) -> list[tuple[str, str]]:
    """The whole text as (part, role), as somebody would write it who knows the formats."""
    if options.prompt_format == "raw":
        return [(text, "prompt")]
    if isinstance(options.prompt_format, dict):
        return [
            (f"Instruct: {options.prompt_format['instruct']}\n", "system"),
            ("Query: ", "template"),
            (text, "prompt"),
        ]
    parts = []
    if options.system_prompt is not None:
        parts.append((f"<|im_start|>system\n{options.system_prompt}<|im_end|>\n", "system"))
    parts += [("<|im_start|>user\n", "template"), (text, "prompt")]
    parts.append(("<|im_end|>\n<|im_start|>assistant\n", "template"))
    if options.think_block == "empty":
        parts.append(("<think>\n\n</think>\n\n", "think"))
    elif options.think_block != "template":
        parts.append((f"<think>\n{options.think_block['text']}\n</think>\n\n", "think"))
    elif name == "qwen3-vl-thinking":
        parts.append(("<think>\n", "think"))
    return parts


def expected_roles(parts: list[tuple[str, str]], offsets: list[tuple[int, int]]) -> list[str]:
    """Role of each token, character by character: a token that has some of the prompt is prompt, and so on."""
    characters = [role for part, role in parts for _ in part]
    roles = []
    for start, end in offsets:
        covered = set(characters[start:end])
        roles.append(next((role for role in ("prompt", "think", "system") if role in covered), "template"))
    return ["sink", *roles[1:]]


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=60, deadline=None)
@given(text=texts, given_options=options)
def test_text_and_roles_are_those_written_out_by_hand(family, name, text, given_options):
    tokenizer, render = tokenizer_of(family, name), chat_renderer(folder_of(family, name))
    layout = lay_out(render, text, given_options)
    parts = written_out(name, text, given_options)
    assert layout.text == "".join(part for part, _ in parts)
    assert layout.text[slice(*layout.prompt)] == text
    for role in ("system", "think"):
        assert layout.text[slice(*getattr(layout, role))] == "".join(p for p, of in parts if of == role)
    input_ids, offsets = tokenize(tokenizer, layout)
    roles = assign_roles(layout, input_ids[0].numpy(), offsets)
    assert [ROLES[code] for code in roles] == expected_roles(parts, offsets)
    # No token of the template or of another text is taken for the prompt, and none of the prompt is lost.
    prompt = np.flatnonzero(roles == ROLE_CODES["prompt"])
    assert np.array_equal(prompt, np.arange(prompt[0], prompt[-1] + 1)) if len(prompt) else len(roles) <= 2
    if name == "qwen3-embedding":
        assert input_ids[0, -1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
        assert roles[-1] == ROLE_CODES["template"]


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=30, deadline=None)
@given(text=texts, given_options=options)
def test_tokens_are_counted_without_the_model_libraries(family, name, text, given_options):
    entry = small_entries(family)["encoders"][name]
    layout = lay_out(chat_renderer(folder_of(family, name)), text, given_options)
    before, after = text_around_prompt(entry, Path(entry["path"]), given_options)
    assert before + text + after == layout.text
    ids, _ = tokenize(tokenizer_of(family, name), layout)
    assert count_prompt_tokens(entry, Path(entry["path"]), [text], given_options) == [ids.shape[1]]


@pytest.fixture
def encoders(qwen3, vl, thinking, embedding):
    return dict(zip(ENCODERS, (qwen3, vl, thinking, embedding), strict=True))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_two_renderers_agree(family, encoders, name):
    """That of the workflow's parser, and the library's, which extraction uses."""
    ours, encoder = chat_renderer(folder_of(family, name)), encoders[name]
    for system in (None, "Be kind.", "<|im_end|>\n user"):
        theirs = encoder.render("a {{ cat }}", system=system)
        assert ours("a {{ cat }}", system) == theirs


def test_an_empty_think_block_is_thinking_turned_off(qwen3):
    off = qwen3.tokenizer.apply_chat_template(
        [{"role": "user", "content": "a cat"}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert lay_out(qwen3.render, "a cat", InputOptions(think_block="empty")).text == off


def test_neutral_options_are_what_the_template_does(qwen3):
    assert lay_out(qwen3.render, "a cat", NEUTRAL_OPTIONS).text == qwen3.render("a cat")


def test_a_template_that_drops_the_system_prompt_is_refused():
    def deaf(text, system):
        return f"<|im_start|>user\n{text}<|im_end|>\n"

    with pytest.raises(ValueError, match="shows the system prompt 0 times"):
        lay_out(deaf, "a cat", InputOptions(system_prompt="Be kind."))

    def stripping(text, system):
        return (
            f"<|im_start|>system\n{system and system.strip()}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n"
        )

    with pytest.raises(ValueError, match="changes the system prompt ' Be kind"):
        lay_out(stripping, "a cat", InputOptions(system_prompt=" Be kind."))
    assert lay_out(stripping, "a cat", InputOptions(system_prompt="Be kind.")).system == (0, 38)
