"""Hidden states of the text encoder equal those of the libraries; every check has a control that fails it."""

import pytest
import torch
from transformers import Qwen3Model

from graftwork.models.loading import load_encoder
from tests.unit.models.conftest import PROMPT, relative_distance

TOLERANCE = 1e-6
LAYERS = 6


@pytest.fixture(scope="module")
def plain_states(family, qwen3):
    model = Qwen3Model.from_pretrained(family / "z-image" / "text_encoder", dtype=torch.float32)
    text = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    with torch.no_grad():
        return model(**qwen3.tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states


def test_states_equal_those_of_the_pipeline(pipeline, qwen3):
    theirs = pipeline.encode_prompt([PROMPT], device="cpu", do_classifier_free_guidance=False)[0][0]
    states = qwen3.encode(PROMPT, None, None, range(LAYERS + 1)).hidden_states
    assert relative_distance(states[LAYERS - 1], theirs) < TOLERANCE
    assert relative_distance(states[LAYERS - 2], theirs) > 100 * TOLERANCE, "control: layer off by one"
    assert relative_distance(states[LAYERS], theirs) > 100 * TOLERANCE, "control: with the final norm"
    shifted = states[LAYERS - 1].roll(1, dims=0)
    assert relative_distance(shifted, theirs) > 100 * TOLERANCE, "control: tokens off by one"


@pytest.mark.parametrize("layer", range(LAYERS + 1))
@pytest.mark.parametrize("truncated", [False, True])
def test_every_layer_equals_a_plain_call_bit_for_bit(
    layer, truncated, qwen3, qwen3_entry, hardware, plain_states
):
    encoder = load_encoder("qwen3", qwen3_entry, [layer], hardware) if truncated else qwen3
    state = encoder.encode(PROMPT, None, None, [layer]).hidden_states[layer]
    assert torch.equal(state, plain_states[layer][0])
    for other in set(range(LAYERS + 1)) - {layer}:
        distance = relative_distance(state, plain_states[other][0])
        assert distance > 100 * TOLERANCE, f"control: layer {other}"


def test_truncated_encoder_holds_only_the_layers_it_needs(qwen3_entry, hardware):
    encoder = load_encoder("qwen3", qwen3_entry, [1, 3], hardware)
    assert len(encoder.model.layers) == 3
    assert isinstance(encoder.model.norm, torch.nn.Identity)
    with pytest.raises(ValueError, match="between 0 and 3"):
        encoder.encode(PROMPT, None, None, [4])


def test_layers_asked_for_together_equal_those_asked_for_alone(qwen3):
    together = qwen3.encode(PROMPT, None, None, [5, 0, 6]).hidden_states
    assert sorted(together) == [0, 5, 6]
    for layer, state in together.items():
        assert torch.equal(state, qwen3.encode(PROMPT, None, None, [layer]).hidden_states[layer])


def test_prompts_and_layers_differ_visibly(qwen3):
    one = qwen3.encode("a red apple", None, None, [5]).hidden_states[5]
    other = qwen3.encode("a red robot", None, None, [5]).hidden_states[5]
    assert one.shape == other.shape
    assert relative_distance(other, one) > 0.1


def test_image_is_refused(qwen3, picture):
    with pytest.raises(ValueError, match="qwen3_vl"):
        qwen3.encode(PROMPT, picture, "key", [5])


def test_values_that_are_not_finite_are_an_error(qwen3_entry, hardware):
    encoder = load_encoder("qwen3", qwen3_entry, [2], hardware)
    encoder.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    encoder.encode(PROMPT, None, None, [1])
    with pytest.raises(FloatingPointError, match=r"layer 2 has \d+ of \d+ non-finite"):
        encoder.encode(PROMPT, None, None, [1, 2])


def test_bfloat16_states_keep_their_dtype(qwen3_entry, hardware, plain_states):
    encoder = load_encoder("qwen3", qwen3_entry, [5], {**hardware, "dtype": "bfloat16"})
    state = encoder.encode(PROMPT, None, None, [5]).hidden_states[5]
    assert state.dtype == torch.bfloat16
    assert relative_distance(state, plain_states[5][0]) < 0.1


def test_incomplete_checkpoint_is_refused(family, tmp_path, qwen3_entry, hardware):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "z-image"
    shutil.copytree(family / "z-image", folder)
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights"):
        load_encoder("qwen3", {**qwen3_entry, "path": str(folder)}, None, hardware)
