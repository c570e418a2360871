"""Hardware settings and entries that cannot work are refused with what to change."""

import pytest
import torch

from graftwork.models.hardware import check_hardware, configure_torch
from graftwork.models.loading import ensure_model, load_encoder, load_generator
from graftwork.models.transformers_encoder import take_states
from tests.unit.models.conftest import HARDWARE

REVISION = "0" * 40


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_that_are_not_finite_are_refused(bad, dtype):
    states = [torch.ones(1, 5, 4, dtype=dtype) for _ in range(3)]
    states[2][0, 1, 2:] = bad
    assert set(take_states(states, [0, 1])) == {0, 1}, "a layer that nobody asked for does not count"
    with pytest.raises(FloatingPointError, match="layer 2 has 2 of 20 non-finite values, in 1 of 5 tokens"):
        take_states(states, [0, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "'tpu' is not one of cpu, cuda.*hardware.extraction.device"),
        ({"dtype": "float16"}, "65504.*bfloat16 or float32"),
        ({"dtype": "int8"}, "'int8' is not one of float32, bfloat16"),
        ({"offload": "disk"}, "'disk' is not one of none, model"),
        ({"cpu_threads": 0}, "cpu_threads 0"),
        ({"cpu_threads": "2"}, "cpu_threads '2'"),
    ],
)
def test_hardware_that_cannot_be(change, message, generator_entry):
    with pytest.raises(ValueError, match=message):
        check_hardware({**HARDWARE, **change})
    with pytest.raises(ValueError, match=message):
        load_generator("z-image", generator_entry, {**HARDWARE, **change})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_says_what_to_install():
    with pytest.raises(RuntimeError, match=r"requirements/cuda\.txt"):
        configure_torch({**HARDWARE, "device": "cuda"})


def test_threads_are_set_here():
    before = torch.get_num_threads()
    try:
        configure_torch({**HARDWARE, "cpu_threads": 2})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_family_unknown_or_folder_absent(tmp_path, qwen3_entry, generator_entry):
    with pytest.raises(ValueError, match=r"encoders\.mine\.family"):
        load_encoder("mine", {**qwen3_entry, "family": "t5"}, [1], HARDWARE)
    with pytest.raises(ValueError, match=r"generators\.mine\.family"):
        load_generator("mine", {**generator_entry, "family": "flux"}, HARDWARE)
    with pytest.raises(ValueError, match=r"does not exist; set config/models.yaml: encoders.mine.path"):
        load_encoder("mine", {**qwen3_entry, "path": str(tmp_path / "absent")}, [1], HARDWARE)
    with pytest.raises(ValueError, match=r"lacks model_index.json.*generators.mine.path"):
        load_generator("mine", {**generator_entry, "path": str(tmp_path)}, HARDWARE)


def test_layers_outside_the_encoder_are_refused(qwen3_entry, vl_entry):
    for entry in (qwen3_entry, vl_entry):
        for layers in ([7], [-1], []):
            with pytest.raises(ValueError, match="between 0 and 6"):
                load_encoder("mine", entry, layers, HARDWARE)


def test_hub_model_is_downloaded_at_its_revision(family, tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(repo, **options):
        asked.update(repo=repo, **options)
        return str(family / "qwen3-vl-instruct")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    entry = {"family": "qwen3_vl", "repo": "org/name", "revision": REVISION}
    assert ensure_model("mine", entry, "encoder") == family / "qwen3-vl-instruct"
    assert (asked["repo"], asked["revision"]) == ("org/name", REVISION)
    assert "*.safetensors" in asked["allow_patterns"]


def test_download_that_fails_says_how_to_get_the_model(tmp_path, monkeypatch):
    import huggingface_hub

    def download(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    entry = {"family": "z_image", "repo": "org/name", "revision": REVISION}
    with pytest.raises(RuntimeError, match=r"no network.*generators.mine.path to a local copy"):
        ensure_model("mine", entry, "generator")
