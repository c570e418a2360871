"""Damaged weight files and configurations of models are found from their headers, with model, file and remedy."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from graftwork.core.errors import DesignError
from graftwork.models.catalog import ModelCatalog
from graftwork.models.config_files import ConfigFile, read_json
from graftwork.models.weights import check_shapes, read_shapes
from tests.small_family import small_entries


@pytest.fixture
def copied(family, tmp_path):
    """A copy of the small family that a test may damage."""
    shutil.copytree(family, tmp_path / "models")
    return tmp_path / "models"


def catalog(folder, tmp_path):
    return ModelCatalog(small_entries(folder), "config/models.yaml", tmp_path / "facts")


def refusal(folder, tmp_path, kind, name):
    with pytest.raises(DesignError) as error:
        catalog(folder, tmp_path).get(kind, name, "x")
    message = str(error.value)
    assert message.startswith(f"config/models.yaml: {kind}s.{name}: ")
    assert "\n" not in message
    return message


def test_whole_models_are_accepted(family, tmp_path):
    models = catalog(family, tmp_path)
    for kind in ("encoder", "generator"):
        for name in models.names(kind):
            assert models.get(kind, name, "x").facts


DAMAGE = {
    "empty": (lambda data: b"", "has 0 bytes and no header"),
    "seven bytes": (lambda data: data[:7], "has 7 bytes and no header"),
    "cut in the header": (lambda data: data[:500], "is truncated or no safetensors file"),
    "cut in the weights": (lambda data: data[:-9], "is truncated: its header describes"),
    "longer": (lambda data: data + b"x" * 9, "is damaged: its header describes"),
    "huge header": (lambda data: struct.pack("<Q", 2**60) + data[8:], "is truncated or no safetensors file"),
    "no JSON": (lambda data: data[:8] + b"[" * 50 + data[58:], "has a header that is not one of safetensors"),
    "another program's": (lambda data: b"PK\x03\x04" + data[4:], "is truncated or no safetensors file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        ("encoder", "qwen3", "z-image/text_encoder/model.safetensors"),
        ("encoder", "qwen3-vl-instruct", "qwen3-vl-instruct/model.safetensors"),
        ("generator", "z-image", "z-image/vae/diffusion_pytorch_model.safetensors"),
    ],
)
def test_damaged_weights(copied, tmp_path, damage, kind, name, file):
    change, words = DAMAGE[damage]
    path = copied / file
    path.write_bytes(change(path.read_bytes()))
    message = refusal(copied, tmp_path, kind, name)
    assert f"{file} {words}" in message
    assert "copy or download it again" in message


@pytest.mark.parametrize(
    ("kind", "name", "file", "keys", "value", "words"),
    [
        ("encoder", "qwen3", "z-image/text_encoder", ["num_hidden_layers"], 99, "lack"),
        ("encoder", "qwen3", "z-image/text_encoder", ["num_hidden_layers"], 2, "no place for the weight"),
        ("encoder", "qwen3", "z-image/text_encoder", ["intermediate_size"], 24, "in the shape [24, "),
        (
            "encoder",
            "qwen3",
            "z-image/text_encoder",
            ["vocab_size"],
            7,
            "embed_tokens.weight in the shape [7, ",
        ),
        (
            "encoder",
            "qwen3-vl-instruct",
            "qwen3-vl-instruct",
            ["text_config", "num_hidden_layers"],
            99,
            "lack",
        ),
        (
            "encoder",
            "qwen3-vl-instruct",
            "qwen3-vl-instruct",
            ["vision_config", "depth"],
            99,
            "visual.blocks.",
        ),
        ("generator", "z-image", "z-image/transformer", ["n_layers"], 99, "lack"),
        ("generator", "z-image", "z-image/transformer", ["n_layers"], 1, "no place for the weight"),
        (
            "generator",
            "z-image",
            "z-image/transformer",
            ["cap_feat_dim"],
            24,
            "cap_embedder.0.weight in the shape [24]",
        ),
        ("generator", "z-image", "z-image/vae", ["latent_channels"], 3, "decoder.conv_in.weight"),
    ],
)
def test_weights_of_another_configuration(copied, tmp_path, kind, name, file, keys, value, words):
    edit(copied / file / "config.json", keys, value)
    message = refusal(copied, tmp_path, kind, name)
    assert f"{file}/config.json" in message
    assert words in message
    assert "take weights and configuration from one checkpoint" in message


def edit(path, keys, value):
    config = json.loads(path.read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "name", "file", "keys", "value", "words"),
    [
        ("encoder", "qwen3", "z-image/text_encoder", ["num_hidden_layers"], "eight", "num_hidden_layers is 'eight'; a whole number"),
        ("encoder", "qwen3", "z-image/text_encoder", ["num_hidden_layers"], True, "num_hidden_layers is True; a whole number"),
        ("encoder", "qwen3", "z-image/text_encoder", ["hidden_size"], None, "hidden_size is missing; a whole number"),
        ("encoder", "qwen3", "z-image/text_encoder", ["rope_parameters"], None, "rope_parameters is missing; a mapping"),
        ("encoder", "qwen3-vl-instruct", "qwen3-vl-instruct", ["text_config"], [1], "text_config is [1]; a mapping"),
        ("encoder", "qwen3-vl-instruct", "qwen3-vl-instruct", ["vision_config", "patch_size"], 1.5, "vision_config.patch_size is 1.5"),
        ("generator", "z-image", "z-image/transformer", ["axes_lens"], [1], "axes_lens is [1]; a list of three"),
        ("generator", "z-image", "z-image/transformer", ["axes_lens"], "x", "axes_lens is 'x'; a list"),
        ("generator", "z-image", "z-image/vae", ["block_out_channels"], {}, "block_out_channels is {}; a list"),
    ],
)  # fmt: skip
def test_configurations_of_wrong_types(copied, tmp_path, kind, name, file, keys, value, words):
    edit(copied / file / "config.json", keys, value)
    assert f"{file}/config.json: {words}" in refusal(copied, tmp_path, kind, name)


@pytest.mark.parametrize("content", ["[1]", "{", "", "null", "\xff", "[" * 100_000])
@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_configurations_that_are_none(copied, tmp_path, file, content):
    path = copied / "qwen3-vl-instruct" / file
    (copied / "qwen3-vl-instruct/chat_template.jinja").unlink()
    path.write_bytes(content.encode("latin-1"))
    assert f"qwen3-vl-instruct/{file}" in refusal(copied, tmp_path, "encoder", "qwen3-vl-instruct")


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "{}", '{"weight_map": {"a": "../b"}}'],
)
def test_an_index_that_is_none(copied, tmp_path, content):
    (copied / "qwen3-vl-instruct/model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(copied, tmp_path, "encoder", "qwen3-vl-instruct")


def test_an_image_processor_of_another_model(copied, tmp_path):
    edit(copied / "qwen3-vl-instruct/preprocessor_config.json", ["patch_size"], 14)
    assert "preprocessor_config.json: patch_size is 14; 16" in refusal(
        copied, tmp_path, "encoder", "qwen3-vl-instruct"
    )


def test_shapes_are_those_of_the_library(family):
    file = family / "z-image/text_encoder/model.safetensors"
    assert read_shapes(file) == {name: tuple(value.shape) for name, value in load_file(file).items()}


def test_a_length_that_is_not_that_of_its_shape(tmp_path):
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(data.replace(b"[2,3]", b"[2,4]"))
    with pytest.raises(
        ValueError, match=r"x\.safetensors has a header that is not one of safetensors \('a has 24 bytes"
    ):
        read_shapes(tmp_path / "x.safetensors")


def test_names_with_and_without_a_prefix(tmp_path):
    expected = {"embed.weight": (2, 3), "layers.0.q": (2,)}
    for prefix in ("", "model.", "model.language_model."):
        found = {prefix + name: shape for name, shape in expected.items()}
        check_shapes({**found, "lm_head.weight": (2, 3)}, expected, tmp_path / "config.json")
        with pytest.raises(ValueError, match="no place for the weight"):
            check_shapes({**found, f"{prefix}layers.1.q": (2,)}, expected, tmp_path / "config.json")


def test_values_are_asked_for_by_type(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"a": 3, "b": {"c": 0}, "d": [1, 2], "e": 1.5, "f": 1e999}')
    config = ConfigFile(file)
    assert (config.whole("a"), config.whole("x", 7), config.number("e"), config.whole_list("d")) == (
        3,
        7,
        1.5,
        [1, 2],
    )
    for read in (
        lambda: config.section("b").whole("c"),
        lambda: config.number("f"),
        lambda: config.whole_list("a"),
    ):
        with pytest.raises(ValueError, match="is needed there"):
            read()
    with pytest.raises(ValueError, match=r"b\.c is 0; a whole number above 0 is needed there"):
        config.section("b").whole("c")
    with pytest.raises(ValueError, match="no readable JSON"):
        read_json(tmp_path / "absent.json")
