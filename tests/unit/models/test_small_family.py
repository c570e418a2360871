"""The small family builds whole, once, and always the same."""

import hashlib
import json

import pytest

from graftwork.models.description import describe_model, missing_files
from tests.small_family import MARKER, build_small_family, small_entries


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes(family, tmp_path):
    build_small_family(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(family)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_other_seed_other_weights_and_complete_family_left_alone(tmp_path):
    folder = tmp_path / "small"
    build_small_family(folder, seed=1, num_hidden_layers=4)
    first = digests(folder)
    time = (folder / MARKER).stat().st_mtime_ns
    build_small_family(folder, seed=1, num_hidden_layers=4)
    assert (folder / MARKER).stat().st_mtime_ns == time
    build_small_family(folder, seed=2, num_hidden_layers=4)
    weights = "z-image/transformer/diffusion_pytorch_model.safetensors"
    assert digests(folder)[weights] != first[weights]
    (folder / weights).unlink()
    build_small_family(folder, seed=1, num_hidden_layers=4)
    assert digests(folder) == first
    entry = small_entries(folder)["encoders"]["qwen3"]
    assert describe_model(entry, "encoder", folder / "z-image").num_hidden_layers == 4


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        build_small_family(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_parts_fit_each_other(family, entries):
    generator = describe_model(entries["generators"]["z-image"], "generator", family / "z-image")
    for entry in entries["encoders"].values():
        from pathlib import Path

        assert describe_model(entry, "encoder", Path(entry["path"])).hidden_size == generator.caption_channels
        assert missing_files(entry, "encoder", Path(entry["path"])) == []
    index = json.loads((family / "z-image" / "model_index.json").read_text())
    assert index["_class_name"] == "ZImagePipeline"
    assert index["text_encoder"] == [
        "transformers",
        "Qwen3Model",
    ]
    config = json.loads((family / "z-image" / "text_encoder" / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]


def test_templates_render_as_published(qwen3, vl):
    messages = [{"role": "user", "content": "hi"}]
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    for thinking, tail in ((True, ""), (False, "<think>\n\n</think>\n\n")):
        rendered = qwen3.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert rendered == text + tail
    assert vl.render("hi") == text
    pads = "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
    assert vl.render("hi", image_tokens=2) == text.replace("hi", pads + "hi")
