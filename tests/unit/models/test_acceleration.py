"""Combinations of settings that cannot work are refused before anything is loaded, naming file and key."""

import pytest
import torch

from graftwork.design.settings import GenerationHardware
from graftwork.models.acceleration import ATTENTION_BACKENDS, NEUTRAL, changed_settings, find_conflict
from graftwork.models.hardware import check_hardware
from tests.unit.models.conftest import HARDWARE

CUDA = {**HARDWARE, "device": "cuda", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ({**HARDWARE, "attention_backend": "sage"}, r"attention_backend: 'sage' is not one of native, "),
        (
            {**HARDWARE, "compile": "max-autotune"},
            r"compile: 'max-autotune' is not one of .*two runs may differ",
        ),
        ({**HARDWARE, "attention_backend": "_native_cudnn"}, "_native_cudnn needs device cuda, not cpu"),
        ({**HARDWARE, "attention_backend": "flash"}, "flash needs device cuda"),
        (
            {**CUDA, "attention_backend": "_native_cudnn", "dtype": "float32"},
            "_native_cudnn needs dtype bfloat16, not float32",
        ),
        ({**CUDA, "compile": "reduce-overhead", "offload": "model"}, "offload model moves them"),
    ],
)
def test_conflicts(hardware, message):
    with pytest.raises(ValueError, match=rf"^config/config\.yaml: hardware\.generation\..*{message}"):
        check_hardware(hardware)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention_backend": "_native_math"},
        {"compile": "default", "offload": "model"},
        {"compile": "reduce-overhead", "fuse_blocks": True, "compile_vae": True},
    ],
)
def test_what_goes_together(settings):
    assert find_conflict({**HARDWARE, **settings}) is None
    assert find_conflict({**CUDA, **settings}) is None


def test_a_backend_from_the_environment_is_refused(monkeypatch):
    """It would change bytes without changing a key."""
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "flash")
    assert "DIFFUSERS_ATTN_BACKEND is 'flash'" in find_conflict(HARDWARE)
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "native")
    assert find_conflict(HARDWARE) is None


def test_neutral_settings_are_the_defaults_and_leave_the_cpu_alone():
    defaults = GenerationHardware().model_dump()
    assert {name: defaults[name] for name in NEUTRAL} == NEUTRAL
    assert changed_settings(defaults) == changed_settings({"device": "cpu"}) == {}
    for name in NEUTRAL:
        assert changed_settings({**defaults, name: "another"}) == {name: "another"}


def test_backends_are_names_of_the_library():
    from diffusers.models.attention_dispatch import AttentionBackendName

    assert set(ATTENTION_BACKENDS) <= {backend.value for backend in AttentionBackendName}
    assert not [name for name in ATTENTION_BACKENDS if "hub" in name or "sage" in name]


def test_importing_it_imports_no_torch():
    import subprocess
    import sys

    program = "import sys, graftwork.models.acceleration; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_recent_formats_and_caches_are_no_settings():
    """fp8 and caching between steps change images; neither is built, so neither can be asked for."""
    assert {"fp8", "cache", "step_cache", "quantization"} & set(GenerationHardware.model_fields) == set()
    with pytest.raises(ValueError, match="float8_e4m3fn"):
        check_hardware({**HARDWARE, "dtype": "float8_e4m3fn"})
    assert hasattr(torch, "float8_e4m3fn")
