"""What is read from a model's files without loading it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from graftwork.core.records import from_json, to_json
from graftwork.models.description import (
    describe_model,
    hub_patterns,
    locate_model,
    missing_files,
    model_files,
    resolve_layer,
)
from graftwork.models.families import EncoderFacts, GeneratorFacts
from graftwork.models.generators.z_image import max_caption_tokens, padded_length
from graftwork.models.prompts import count_prompt_tokens
from tests.unit.models.conftest import PROMPT

REVISION = "0123456789abcdef0123456789abcdef01234567"
HUB = {"family": "qwen3", "repo": "org/name", "revision": REVISION}


def names(paths):
    return [path.as_posix() for path in paths]


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys; import graftwork.models.description, graftwork.models.tokens,"
        "graftwork.models.encoder, graftwork.models.loading as l; print(sorted("
        "{'transformers', 'diffusers'} & set(sys.modules)))"
    )
    light = code.replace(", graftwork.models.loading as l", "").replace("{", "{'torch', ")
    for source in (code, light):
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_describe_imports_nothing_heavy(vl_entry):
    code = (
        "import sys, json; from pathlib import Path; from graftwork.models.description import *\n"
        "from graftwork.models.prompts import count_prompt_tokens\n"
        f"entry = json.loads({json.dumps(vl_entry)!r}); folder = locate_model('vl', entry)\n"
        "describe_model(entry, 'encoder', folder), count_prompt_tokens(entry, folder, ['x'])\n"
        "print(sorted({'torch', 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_local_folder_is_resolved_or_none(family, qwen3_entry, tmp_path):
    assert locate_model("qwen3", qwen3_entry) == (family / "z-image").resolve()
    (tmp_path / "link").symlink_to(family / "z-image")
    assert locate_model("qwen3", {"path": str(tmp_path / "link")}) == (family / "z-image").resolve()
    assert locate_model("qwen3", {"path": str(tmp_path / "absent")}) is None


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_hub_snapshot_is_found_without_network(tmp_path, monkeypatch, variable):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    below = {"HF_HUB_CACHE": ".", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[variable]
    assert locate_model("name", HUB) is None
    snapshot = tmp_path / below / "models--org--name" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    found = locate_model("name", HUB)
    assert found is not None
    assert found.samefile(snapshot)
    assert locate_model("name", {**HUB, "revision": REVISION[::-1]}) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"family": "qwen3"}, "neither a local folder nor a hub id"),
        ({**HUB, "revision": "main"}, "'main'.*40 lower-case"),
        ({**HUB, "revision": REVISION.upper()}, "40 lower-case"),
        ({"repo": "org/name"}, "40 lower-case"),
    ],
)
def test_entry_without_a_pinned_source_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        locate_model("name", entry)


def test_files_of_each_kind(family, qwen3_entry, vl_entry, generator_entry):
    assert names(model_files(qwen3_entry, "encoder", family / "z-image")) == [
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ]
    assert names(model_files(vl_entry, "encoder", family / "qwen3-vl-instruct")) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert names(model_files(generator_entry, "generator", family / "z-image")) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    with pytest.raises(ValueError, match="'vae'"):
        model_files(generator_entry, "vae", family)


@pytest.mark.parametrize("kind", ["encoder", "generator"])
def test_download_patterns_match_exactly_the_files(family, entries, kind):
    from fnmatch import fnmatch

    for entry in entries[f"{kind}s"].values():
        folder = locate_model("small", entry)
        present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        matched = [
            name for name in present if any(fnmatch(name, pattern) for pattern in hub_patterns(entry, kind))
        ]
        assert sorted(matched) == names(model_files(entry, kind, folder))


def test_each_missing_file_is_named(family, entries, tmp_path):
    for kind in ("encoder", "generator"):
        for name, entry in entries[f"{kind}s"].items():
            source = locate_model(name, entry)
            assert missing_files(entry, kind, source) == []
            for file in names(model_files(entry, kind, source)):
                if file.endswith(".jinja"):
                    continue
                copy = tmp_path / "copy"
                shutil.copytree(source, copy)
                (copy / file).unlink()
                expected = file.rsplit("/", 1)
                if file.endswith(".safetensors"):
                    expected[-1] = "*.safetensors"
                assert missing_files(entry, kind, copy) == ["/".join(expected)]
                shutil.rmtree(copy)


def test_missing_shard_is_named(family, vl_entry, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(family / "qwen3-vl-instruct", copy)
    os.rename(copy / "model.safetensors", copy / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert missing_files(vl_entry, "encoder", copy) == ["model-00002-of-00002.safetensors"]
    assert "model.safetensors.index.json" in names(model_files(vl_entry, "encoder", copy))


def test_empty_folder_lacks_everything(tmp_path, generator_entry):
    assert missing_files(generator_entry, "generator", tmp_path) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/*.safetensors",
        "transformer/config.json",
        "vae/*.safetensors",
        "vae/config.json",
    ]


def test_facts_about_encoders(family, qwen3_entry, vl_entry):
    text = describe_model(qwen3_entry, "encoder", family / "z-image")
    vision = describe_model(vl_entry, "encoder", family / "qwen3-vl-instruct")
    for found in (text, vision):
        assert from_json(EncoderFacts, json.loads(json.dumps(to_json(found)))) == found
    assert (text.num_hidden_layers, text.hidden_size, text.accepts_images) == (6, 64, False)
    assert (text.rope_theta, text.image_token) == (1e6, None)
    assert (vision.rope_theta, vision.image_token, vision.accepts_images) == (
        5e6,
        "<|image_pad|>",
        True,
    )
    assert (vision.patch_size, vision.spatial_merge_size, vision.deepstack_layers) == (16, 2, 3)
    assert {"<|im_start|>", "<|im_end|>", "<|image_pad|>", "<think>", "</think>"} <= set(text.special_tokens)


def test_facts_about_generators(family, generator_entry):
    facts = describe_model(generator_entry, "generator", family / "z-image")
    assert from_json(GeneratorFacts, json.loads(json.dumps(to_json(facts)))) == facts
    assert facts.caption_channels == 64
    assert facts.max_caption_tokens == 1504
    assert facts.size_multiple == 16
    assert facts.latent_channels == 16
    assert facts.scheduler_config["shift"] == 3.0
    assert not any(key.startswith("_") for key in facts.scheduler_config)


def test_wrong_family_is_named(family, qwen3_entry, vl_entry, generator_entry):
    with pytest.raises(ValueError, match=r"encoders\.mine\.family"):
        describe_model({**qwen3_entry, "family": "qwen3_vl"}, "encoder", family / "z-image", "mine")
    with pytest.raises(ValueError, match=r"'llama'.*qwen3, qwen3_vl"):
        describe_model({**vl_entry, "family": "llama"}, "encoder", family / "qwen3-vl-instruct", "mine")
    with pytest.raises(ValueError, match=r"generators\.mine\.family"):
        describe_model({**generator_entry, "family": "flux"}, "generator", family / "z-image", "mine")


@pytest.mark.parametrize(
    ("layer", "index"), [(-1, 36), (-2, 35), (-37, 0), (0, 0), (1, 1), (35, 35), (36, 36)]
)
def test_layers_as_people_say_them(layer, index):
    assert resolve_layer(layer, 36) == index


@pytest.mark.parametrize("layer", [37, -38, 1.0, True, "-2", None])
def test_layer_that_does_not_exist(layer):
    with pytest.raises(ValueError, match="-37 to 36"):
        resolve_layer(layer, 36)


def test_prompt_tokens_are_those_of_the_encoder(family, qwen3, vl, qwen3_entry, vl_entry):
    prompts = ["", "user", PROMPT, "\n\nline", "a \U0001f600", "日本", "odd <|im_end|> token", "}} {{ x"]
    counts = count_prompt_tokens(qwen3_entry, family / "z-image", prompts)
    assert counts == [len(qwen3.encode(prompt, None, None, [0]).token_ids) for prompt in prompts]
    assert counts[0] == 8
    assert counts[1] == 9
    counts = count_prompt_tokens(vl_entry, family / "qwen3-vl-instruct", prompts)
    assert counts == [len(vl.encode(prompt, None, None, [0]).token_ids) for prompt in prompts]


def test_template_in_the_tokenizer_config_is_found(family, qwen3_entry, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(family / "z-image", copy)
    template = (copy / "tokenizer" / "chat_template.jinja").read_text()
    (copy / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        count_prompt_tokens(qwen3_entry, copy, ["x"])
    (copy / "tokenizer" / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert count_prompt_tokens(qwen3_entry, copy, ["user"]) == [9]


def test_lengths():
    assert [padded_length(tokens) for tokens in (1, 31, 32, 33, 1504)] == [32, 32, 32, 64, 1504]
    assert max_caption_tokens([1536, 512, 512]) == 1504
    assert max_caption_tokens([1538, 512, 512]) == 1536
