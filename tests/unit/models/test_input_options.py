"""Options of an encoder input: each against the library with an edited config or other inputs, bit for bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM, Qwen3Model, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from graftwork.models.description import describe_model, model_files
from graftwork.models.loading import load_encoder
from graftwork.models.prompts import InputOptions
from graftwork.models.tokens import ROLE_CODES, ROLES
from tests.unit.models.conftest import PROMPT, relative_distance

LAYERS = range(7)
CHAT = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


def plain_text_states(model, tokenizer, text):
    with torch.no_grad():
        output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    return [state[0] for state in output.hidden_states]


def plain_vl_states(folder, tokenizer, image, text, **more):
    """The library with a picture, as its processor would make the inputs."""
    model = Qwen3VLModel.from_pretrained(folder, dtype=torch.float32)
    inputs, markup, pads = dict(more), "", 0
    if image is not None:
        processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        inputs |= dict(processor(images=[image], return_tensors="pt"))
        pads = int(inputs["image_grid_thw"].prod()) // 4
        markup = "<|vision_start|>" + "<|image_pad|>" * pads + "<|vision_end|>"
    inputs["input_ids"] = tokenizer(text.replace("user\n", f"user\n{markup}", 1), return_tensors="pt")[
        "input_ids"
    ]
    types = (inputs["input_ids"] == model.config.image_token_id).int()
    if inputs.pop("sequential", False):
        inputs["position_ids"] = torch.arange(types.shape[1])[None]
    with torch.no_grad():
        output = model(**inputs, mm_token_type_ids=types, output_hidden_states=True)
    return [state[0] for state in output.hidden_states]


def with_theta(source: Path, target: Path, theta: float) -> Path:
    """A copy of a checkpoint whose config has another base of the rotary embedding."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    text = config.get("text_config", config)
    assert text["rope_parameters"]["rope_theta"] != theta
    text["rope_parameters"]["rope_theta"] = theta
    (target / "config.json").write_text(json.dumps(config))
    return target


def assert_equal(encoded, expected):
    assert sorted(encoded.hidden_states) == list(LAYERS)
    for layer, state in encoded.hidden_states.items():
        assert torch.equal(state, expected[layer]), layer


@pytest.mark.parametrize("with_image", [False, True])
def test_neutral_values_change_no_bit(qwen3, vl, picture, with_image):
    spelled = InputOptions("chat", None, "template", None, "checkpoint")
    image = picture if with_image else None
    for encoder in [vl] if with_image else [vl, qwen3]:
        plain = encoder.encode(PROMPT, image, "a", LAYERS)
        # The checkpoint's own base, written out, is what it has.
        own = InputOptions(rope_theta=5e6 if encoder is vl else 1e6)
        for options in (spelled, own):
            given = encoder.encode(PROMPT, image, "a", LAYERS, options)
            assert_equal(given, plain.hidden_states)
            assert np.array_equal(given.roles, plain.roles)
            assert np.array_equal(given.positions, plain.positions)


@pytest.mark.parametrize("theta", [1e6, 1e4, 5.5])
@pytest.mark.parametrize("with_image", [False, True])
def test_another_base_is_that_of_an_edited_config(family, vl, picture, tmp_path, theta, with_image):
    image = picture if with_image else None
    before = vl.encode(PROMPT, image, "a", LAYERS)
    encoded = vl.encode(PROMPT, image, "a", LAYERS, InputOptions(rope_theta=theta))
    edited = with_theta(family / "qwen3-vl-instruct", tmp_path / "edited", theta)
    assert_equal(encoded, plain_vl_states(edited, vl.tokenizer, image, CHAT))
    assert torch.equal(encoded.hidden_states[0], before.hidden_states[0]), "embeddings have no position"
    assert relative_distance(encoded.hidden_states[5], before.hidden_states[5]) > 1e-4
    assert_equal(vl.encode(PROMPT, image, "a", LAYERS), before.hidden_states)


def test_another_base_of_a_text_encoder(family, qwen3, tmp_path):
    encoded = qwen3.encode(PROMPT, None, None, LAYERS, InputOptions(rope_theta=5e6))
    edited = with_theta(family / "z-image" / "text_encoder", tmp_path / "edited", 5e6)
    model = Qwen3Model.from_pretrained(edited, dtype=torch.float32)
    assert_equal(encoded, plain_text_states(model, qwen3.tokenizer, CHAT))


def test_another_base_in_bfloat16_and_truncated(family, vl_entry, hardware, picture, tmp_path):
    half = {**hardware, "dtype": "bfloat16"}
    encoder = load_encoder("vl", vl_entry, [4], half)
    edited = with_theta(family / "qwen3-vl-instruct", tmp_path / "edited", 1e6)
    loaded = load_encoder("vl", {**vl_entry, "path": str(edited)}, [4], half)
    given = encoder.encode(PROMPT, picture, None, [4], InputOptions(rope_theta=1e6)).hidden_states[4]
    assert torch.equal(given, loaded.encode(PROMPT, picture, None, [4]).hidden_states[4])
    assert not torch.equal(given, encoder.encode(PROMPT, picture, None, [4]).hidden_states[4])


def test_the_base_is_put_back_after_a_failure(qwen3):
    own = qwen3.model.rotary_emb
    with pytest.raises(ValueError, match="between 0 and 6"):
        qwen3.encode(PROMPT, None, None, [9], InputOptions(rope_theta=2.0))
    with pytest.raises(TypeError):
        qwen3.encode(PROMPT, None, None, [5], InputOptions(rope_theta="2"))
    assert qwen3.model.rotary_emb is own


def test_sequential_positions_are_those_of_a_plain_call(family, vl, picture):
    options = InputOptions(positions="sequential")
    encoded = vl.encode(PROMPT, picture, "a", LAYERS, options)
    expected = plain_vl_states(family / "qwen3-vl-instruct", vl.tokenizer, picture, CHAT, sequential=True)
    assert_equal(encoded, expected)
    tokens = len(encoded.token_ids)
    assert np.array_equal(encoded.positions, np.tile(np.arange(tokens), (3, 1)))
    usual = vl.encode(PROMPT, picture, "a", LAYERS)
    assert np.array_equal(encoded.token_ids, usual.token_ids)
    image = np.flatnonzero(usual.roles == ROLE_CODES["image"])
    # Up to the first token of the image nothing differs; from its second row on everything does.
    assert torch.equal(encoded.hidden_states[5][: image[0] + 1], usual.hidden_states[5][: image[0] + 1])
    assert relative_distance(encoded.hidden_states[5], usual.hidden_states[5]) > 1e-4
    assert_equal(vl.encode(PROMPT, picture, "a", LAYERS), usual.hidden_states)


def test_sequential_positions_of_text_alone_are_its_own(qwen3, vl):
    for encoder in (qwen3, vl):
        plain = encoder.encode(PROMPT, None, None, LAYERS)
        assert_equal(
            encoder.encode(PROMPT, None, None, LAYERS, InputOptions(positions="sequential")),
            plain.hidden_states,
        )


def test_base_and_positions_together(family, vl, picture, tmp_path):
    edited = with_theta(family / "qwen3-vl-instruct", tmp_path / "edited", 1e6)
    expected = plain_vl_states(edited, vl.tokenizer, picture, CHAT, sequential=True)
    options = InputOptions(rope_theta=1e6, positions="sequential")
    assert_equal(vl.encode(PROMPT, picture, None, LAYERS, options), expected)


def test_every_text_option_reaches_the_model(family, vl, picture):
    options = InputOptions(system_prompt="Be kind.", think_block={"text": "A cat."})
    text = f"<|im_start|>system\nBe kind.<|im_end|>\n{CHAT}<think>\nA cat.\n</think>\n\n"
    encoded = vl.encode(PROMPT, picture, "a", LAYERS, options)
    assert_equal(encoded, plain_vl_states(family / "qwen3-vl-instruct", vl.tokenizer, picture, text))
    order = [ROLES[code] for code in encoded.roles]
    seen = [role for at, role in enumerate(order) if at == 0 or role != order[at - 1]]
    assert seen == [
        *("sink", "system", "template", "vision_marker", "image", "vision_marker"),
        *("prompt", "template", "think"),
    ]


def test_an_image_without_text(family, vl, picture):
    encoded = vl.encode("", picture, "a", LAYERS)
    text = CHAT.replace(PROMPT, "")
    assert_equal(encoded, plain_vl_states(family / "qwen3-vl-instruct", vl.tokenizer, picture, text))
    assert ROLE_CODES["prompt"] not in encoded.roles


@pytest.mark.parametrize(
    "options",
    [
        InputOptions(system_prompt="a <|image_pad|> b"),
        InputOptions(think_block={"text": "a <|vision_end|> b"}),
    ],
)
@pytest.mark.parametrize("with_image", [False, True])
def test_image_tokens_in_any_text_are_refused(vl, picture, options, with_image):
    with pytest.raises(ValueError, match=r"(system prompt|think block) contains .* stands for an image"):
        vl.encode(PROMPT, picture if with_image else None, None, [1], options)


def test_formats_without_a_chat_are_for_text_encoders(vl):
    for prompt_format in ("raw", {"instruct": "describe"}):
        with pytest.raises(ValueError, match="has no place for an image"):
            vl.encode(PROMPT, None, None, [1], InputOptions(prompt_format))


def test_thinking_encoder_opens_a_thought_by_itself(family, thinking, picture):
    encoded = thinking.encode(PROMPT, picture, None, LAYERS)
    expected = plain_vl_states(family / "qwen3-vl-thinking", thinking.tokenizer, picture, f"{CHAT}<think>\n")
    assert_equal(encoded, expected)
    assert (encoded.roles == ROLE_CODES["think"]).nonzero()[0].tolist() == [
        len(encoded.roles) - 2,
        len(encoded.roles) - 1,
    ]
    empty = thinking.encode(PROMPT, picture, None, LAYERS, InputOptions(think_block="empty"))
    text = f"{CHAT}<think>\n\n</think>\n\n"
    assert_equal(empty, plain_vl_states(family / "qwen3-vl-thinking", thinking.tokenizer, picture, text))


# Qwen3-Embedding and other text encoders


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (InputOptions("raw"), PROMPT),
        (InputOptions({"instruct": "describe"}), f"Instruct: describe\nQuery: {PROMPT}"),
        (InputOptions(), CHAT),
    ],
)
def test_embedding_states_equal_a_plain_call(family, embedding, options, text):
    model = Qwen3Model.from_pretrained(family / "qwen3-embedding", dtype=torch.float32)
    encoded = embedding.encode(PROMPT, None, None, LAYERS, options)
    assert_equal(encoded, plain_text_states(model, embedding.tokenizer, text))
    assert embedding.tokenizer.decode(encoded.token_ids) == f"{text}<|endoftext|>"
    roles = [ROLES[code] for code in encoded.roles]
    assert (roles[0], roles[-1]) == ("sink", "template")
    assert "prompt" in roles


def test_an_embedding_checkpoint_with_a_head_is_the_same(family, embedding, entries, hardware, tmp_path):
    """Weights are published under the names of the model alone and under those of a language model."""
    copy = tmp_path / "with-head"
    shutil.copytree(family / "qwen3-embedding", copy)
    model = Qwen3ForCausalLM.from_pretrained(copy, dtype=torch.float32)
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy)
    entry = {**entries["encoders"]["qwen3-embedding"], "path": str(copy)}
    other = load_encoder("other", entry, None, hardware)
    given = other.encode(PROMPT, None, None, LAYERS, InputOptions("raw"))
    assert_equal(given, embedding.encode(PROMPT, None, None, LAYERS, InputOptions("raw")).hidden_states)


def test_a_text_encoder_without_a_chat_template(family, entries, hardware, tmp_path):
    copy = tmp_path / "bare"
    shutil.copytree(family / "qwen3-embedding", copy)
    (copy / "chat_template.jinja").unlink()
    entry = {**entries["encoders"]["qwen3-embedding"], "path": str(copy)}
    assert not describe_model(entry, "encoder", copy).has_chat_template
    assert "chat_template.jinja" not in [path.name for path in model_files(entry, "encoder", copy)]
    encoder = load_encoder("bare", entry, [5], hardware)
    assert encoder.encode(PROMPT, None, None, [5], InputOptions("raw")).hidden_states[5].shape[1] == 64


# The vision tower by itself


def test_vision_tower_output_is_that_of_the_library(family, vl, picture, monkeypatch):
    folder = family / "qwen3-vl-instruct"
    model = Qwen3VLModel.from_pretrained(folder, dtype=torch.float32)
    inputs = Qwen2VLImageProcessorPil.from_pretrained(folder)(images=[picture], return_tensors="pt")
    with torch.no_grad():
        expected = model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    monkeypatch.setattr(vl.model.language_model, "forward", None)
    encoded = vl.encode_image(picture, None)
    assert list(encoded.hidden_states) == [0]
    assert torch.equal(encoded.hidden_states[0], expected)
    tokens = int(inputs["image_grid_thw"].prod()) // 4
    assert encoded.hidden_states[0].shape == (tokens, 64)
    assert encoded.roles.tolist() == [ROLE_CODES["image"]] * tokens
    assert encoded.roles.dtype == np.uint8
    assert set(encoded.token_ids.tolist()) == {model.config.image_token_id}
    assert encoded.positions.shape == (3, tokens)
    assert encoded.positions[1].max() == 2
    assert encoded.positions[2].tolist() == list(range(5)) * 3


def test_vision_tower_output_is_what_the_language_model_gets(vl, picture):
    """Entry 0 of the hidden states is the embeddings, with the picture's in the places of its tokens."""
    encoded = vl.encode(PROMPT, picture, "a", [0])
    alone = vl.encode_image(picture, "a")
    image = torch.from_numpy(encoded.roles == ROLE_CODES["image"])
    assert torch.equal(encoded.hidden_states[0][image], alone.hidden_states[0])


def test_vision_tower_is_run_once_per_image(vl, picture, monkeypatch):
    calls = []
    compute = vl.model.get_image_features
    monkeypatch.setattr(
        vl.model, "get_image_features", lambda *given, **more: calls.append(1) or compute(*given, **more)
    )
    vl.encode(PROMPT, picture, "once", [1])
    vl.encode_image(picture, "once")
    assert len(calls) == 1
