"""Hidden states of Qwen3-VL equal a plain call with inputs made as its processor makes them."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from graftwork.models.loading import load_encoder
from graftwork.models.tokens import ROLE_CODES
from tests.unit.models.conftest import PROMPT, relative_distance

LAYERS = 6


@pytest.fixture(scope="module")
def plain_model(family):
    return Qwen3VLModel.from_pretrained(family / "qwen3-vl-instruct", dtype=torch.float32)


@pytest.fixture(scope="module")
def plain_call(family, plain_model, vl):
    """(prompt, image) -> hidden_states of the library, with the text written out as the processor would."""

    def call(prompt, image, rotary=True):
        inputs, markup, pads = {}, "", 0
        if image is not None:
            processor = Qwen2VLImageProcessorPil.from_pretrained(family / "qwen3-vl-instruct")
            inputs = dict(processor(images=[image], return_tensors="pt"))
            pads = int(inputs["image_grid_thw"].prod()) // 4
            markup = "<|vision_start|>" + "<|image_pad|>" * pads + "<|vision_end|>"
        text = f"<|im_start|>user\n{markup}{prompt}<|im_end|>\n<|im_start|>assistant\n"
        inputs["input_ids"] = vl.tokenizer(text, return_tensors="pt")["input_ids"]
        types = (inputs["input_ids"] == plain_model.config.image_token_id).int()
        assert int(types.sum()) == pads
        if not rotary:
            inputs["position_ids"] = torch.arange(types.shape[1])[None]
        with torch.no_grad():
            output = plain_model(**inputs, mm_token_type_ids=types, output_hidden_states=True)
        return [state[0] for state in output.hidden_states]

    return call


@pytest.mark.parametrize("with_image", [False, True])
@pytest.mark.parametrize("deepest", range(LAYERS + 1))
def test_every_layer_equals_a_plain_call_bit_for_bit(
    with_image, deepest, vl_entry, hardware, plain_call, picture
):
    image = picture if with_image else None
    encoder = load_encoder("vl", vl_entry, [deepest], hardware)
    states = encoder.encode(PROMPT, image, "picture", range(deepest + 1)).hidden_states
    expected = plain_call(PROMPT, image)
    for layer, state in states.items():
        assert torch.equal(state, expected[layer])
    for layer in set(range(LAYERS + 1)) - {deepest}:
        assert relative_distance(states[deepest], expected[layer]) > 1e-4, f"control: layer {layer}"


def test_controls_of_positions_and_image_differ(vl, plain_call, picture):
    state = vl.encode(PROMPT, picture, None, [5]).hidden_states[5]
    assert torch.equal(state, plain_call(PROMPT, picture)[5])
    assert relative_distance(state, plain_call(PROMPT, picture, rotary=False)[5]) > 1e-4
    assert relative_distance(state, plain_call(PROMPT, picture.rotate(180))[5]) > 1e-4


def test_vision_features_are_computed_once_per_image(vl, plain_call, picture, monkeypatch):
    calls = []
    compute = vl.model.get_image_features
    monkeypatch.setattr(
        vl.model, "get_image_features", lambda *given, **more: calls.append(1) or compute(*given, **more)
    )
    other = picture.rotate(180)
    for prompt, image, key in (
        (PROMPT, picture, "a"),
        ("a robot", picture, "a"),
        (PROMPT, other, "b"),
        (PROMPT, picture, "a"),
    ):
        states = vl.encode(prompt, image, key, range(LAYERS + 1)).hidden_states
        expected = plain_call(prompt, image)
        assert all(torch.equal(states[layer], expected[layer]) for layer in states)
    assert len(calls) == 3
    vl.encode(PROMPT, picture, None, [1])
    vl.encode(PROMPT, picture, None, [1])
    assert len(calls) == 5
    vl.encode(PROMPT, picture, "c", [5])
    stale = vl.encode(PROMPT, other, "c", [5]).hidden_states[5]
    assert not torch.equal(stale, plain_call(PROMPT, other)[5]), "control: a key that lies is believed"


def test_text_after_image_leaves_no_trace_of_the_image(vl, plain_call, picture):
    before = vl.encode(PROMPT, None, None, [5]).hidden_states[5]
    vl.encode(PROMPT, picture, "a", [5])
    assert torch.equal(vl.encode(PROMPT, None, None, [5]).hidden_states[5], before)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (33, 70), (300, 500), (20, 20)])
def test_image_token_count_and_roles(vl, size):
    image = Image.fromarray(np.zeros((*size, 3), dtype=np.uint8))
    grid = vl.image_processor(images=[image], return_tensors="np")["image_grid_thw"]
    encoded = vl.encode(PROMPT, image, None, [1])
    merge = vl.model.config.vision_config.spatial_merge_size
    count = int(grid.prod()) // merge**2
    roles = encoded.roles
    assert (roles == ROLE_CODES["image"]).sum() == count
    if size[0] % 32 == size[1] % 32 == 0:
        assert count == (size[0] // 32) * (size[1] // 32)
    assert np.array_equal(roles == ROLE_CODES["image"], encoded.token_ids == vl.model.config.image_token_id)
    assert (roles == ROLE_CODES["vision_marker"]).sum() == 2
    text_only = vl.encode(PROMPT, None, None, [1])
    assert len(roles) == len(text_only.roles) + count + 2
    assert (roles == ROLE_CODES["prompt"]).sum() == (text_only.roles == ROLE_CODES["prompt"]).sum()


def test_positions_are_those_of_m_rope(vl, picture):
    encoded = vl.encode(PROMPT, picture, None, [1])
    positions, image = encoded.positions, encoded.roles == ROLE_CODES["image"]
    assert positions.shape == (3, len(encoded.token_ids))
    assert positions.dtype == np.int64
    start = int(np.argmax(image))
    assert np.unique(positions[0, image]).tolist() == [start]
    assert np.unique(positions[1, image]).tolist() == [start, start + 1, start + 2]
    assert np.unique(positions[2, image]).tolist() == list(range(start, start + 5))
    assert positions[:, np.flatnonzero(image)[-1] + 1].tolist() == [start + 5] * 3
    text = vl.encode(PROMPT, None, None, [1]).positions
    assert np.array_equal(text, np.tile(np.arange(text.shape[1]), (3, 1)))


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"])
@pytest.mark.parametrize("with_image", [False, True])
def test_prompt_with_image_tokens_is_refused(vl, picture, token, with_image):
    with pytest.raises(ValueError, match="stands for an image"):
        vl.encode(f"a {token} cat", picture if with_image else None, None, [1])


def test_thinking_template_gives_think_tokens(vl_entry, hardware, vl):
    encoder = load_encoder("vl", vl_entry, [1], hardware)
    encoder.tokenizer.chat_template = encoder.tokenizer.chat_template.replace(
        "assistant\\n", "assistant\\n<think>\\n"
    )
    roles = encoder.encode(PROMPT, None, None, [1]).roles
    assert (roles == ROLE_CODES["think"]).nonzero()[0].tolist() == [len(roles) - 2, len(roles) - 1]
    assert np.array_equal(roles[:-2], vl.encode(PROMPT, None, None, [1]).roles)


def test_language_model_is_related_to_the_text_encoder(vl, qwen3):
    child = vl.encode(PROMPT, None, None, [5]).hidden_states[5]
    parent = qwen3.encode(PROMPT, None, None, [5]).hidden_states[5]
    cosine = torch.cosine_similarity(child, parent).mean()
    assert 0.8 < cosine < 0.999
