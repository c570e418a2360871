"""Presets of hardware: chosen by name or by the cards of the machine, and replaced key by key."""

import shutil
from pathlib import Path

import pytest

from graftwork.core.errors import DesignError
from graftwork.design import hardware
from graftwork.design.hardware import CHOSEN, choose_hardware, keep_choice
from graftwork.design.settings import Hardware
from graftwork.models.acceleration import changed_settings, find_conflict
from graftwork.models.cards import Card, driver_problem, find_cards, read_cards

ROOT = Path(__file__).resolve().parents[3]
FILE = "config/config.yaml"
H100 = Card("NVIDIA H100 80GB HBM3", 81559 * 2**20, "580.159")
SMI = {
    "cuda_80gb": "NVIDIA H100 80GB HBM3, 81559, 580.159",
    "cuda_24gb": "NVIDIA GeForce RTX 4090, 24564, 580.65",
    "cuda_16gb": "NVIDIA GeForce RTX 4080, 16376, 580.65",
    "cpu": "NVIDIA GeForce RTX 2060, 6144, 580.65",
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv(CHOSEN, raising=False)
    monkeypatch.setattr(hardware, "cuda_of_torch", lambda: "13.0")


def with_cards(monkeypatch, *lines: str) -> None:
    monkeypatch.setattr(hardware, "find_cards", lambda: read_cards("\n".join(lines)))


def choose(**given):
    return choose_hardware(given, ROOT, FILE)


@pytest.mark.parametrize("preset", sorted(path.stem for path in ROOT.glob("config/hardware/*.yaml")))
def test_every_preset_can_be_used(preset):
    settings = Hardware.model_validate(choose(preset=preset).settings)
    generation = settings.generation.model_dump()
    assert find_conflict(generation) is None
    assert generation["device"] == settings.extraction.device == ("cpu" if preset == "cpu" else "cuda")
    assert generation["dtype"] == ("float32" if preset == "cpu" else "bfloat16")
    assert "preset" not in settings.model_dump(), "jobs and plans get the settings alone"


def test_the_measured_settings_are_those_of_the_large_card():
    generation = choose(preset="cuda_80gb").settings["generation"]
    fast = {
        "attention_backend": "_native_cudnn",
        "compile": "default",
        "compile_vae": True,
        "fuse_blocks": True,
    }
    assert changed_settings(generation) == fast


def test_the_shipped_settings_are_the_defaults_key_by_key():
    assert Hardware.model_validate(choose(preset="cpu").settings) == Hardware()


@pytest.mark.parametrize("preset", SMI)
def test_auto_takes_the_largest_preset_that_fits_and_says_so(preset, monkeypatch):
    with_cards(monkeypatch, SMI[preset])
    chosen = choose(preset="auto")
    assert chosen.preset == preset
    name = SMI[preset].split(",")[0]
    assert chosen.lines[0].startswith(f"graftwork: hardware {preset} (config/hardware/{preset}.yaml)")
    assert f"1 x {name}" in chosen.note
    assert "torch for CUDA 13.0" in chosen.note


def test_the_smallest_card_decides_and_all_are_counted(monkeypatch):
    with_cards(monkeypatch, SMI["cuda_80gb"], SMI["cuda_24gb"])
    chosen = choose(preset="auto")
    assert (chosen.preset, chosen.settings["gpus"]) == ("cuda_24gb", 2)
    assert choose(preset="auto", gpus=1).settings["gpus"] == 1


def test_torch_without_cuda_uses_no_card_and_says_why(monkeypatch):
    with_cards(monkeypatch, SMI["cuda_80gb"])
    monkeypatch.setattr(hardware, "cuda_of_torch", lambda: None)
    chosen = choose(preset="auto")
    assert (chosen.preset, chosen.settings["gpus"]) == ("cpu", 1)
    assert "make setup LOCK=cuda" in chosen.note


def test_given_keys_replace_those_of_the_preset_one_by_one():
    chosen = choose(preset="cuda_80gb", gpus=2, generation={"batch_shape": 8, "compile": False})
    generation = chosen.settings["generation"]
    assert (generation["batch_shape"], generation["compile"], generation["fuse_blocks"]) == (8, False, True)
    assert chosen.settings["extraction"] == {"device": "cuda", "dtype": "bfloat16"}
    assert chosen.settings["gpus"] == 2


def test_without_a_preset_nothing_is_changed():
    given = {"generation": {"batch_shape": 2}}
    assert choose_hardware(given, ROOT, FILE).settings is given


def test_jobs_keep_to_the_choice_of_the_process_that_started_them(monkeypatch):
    with_cards(monkeypatch, SMI["cuda_24gb"], SMI["cuda_24gb"])
    chosen = choose(preset="auto")
    monkeypatch.setenv(CHOSEN, "")  # Restored at the end of the test.
    keep_choice(chosen)
    with_cards(monkeypatch)
    again = choose(preset="auto")
    assert again.settings == chosen.settings
    assert again.lines == [], "only the first process says it"


def test_own_files_come_first_and_mistakes_name_file_and_key(tmp_path):
    folder = tmp_path / "config/hardware"
    shutil.copytree(ROOT / "config/hardware", folder)
    (folder / "mine.yaml").write_text("generation: {device: cuda, dtype: bfloat16, batch_shape: 3}\n")
    mine = choose_hardware({"preset": "mine"}, tmp_path, FILE)
    assert mine.settings["generation"]["batch_shape"] == 3
    with pytest.raises(
        DesignError, match=r"config/config.yaml: hardware.preset: .*'cuda_40gb'.*cuda_24gb.*auto"
    ):
        choose_hardware({"preset": "cuda_40gb"}, tmp_path, FILE)
    (folder / "mine.yaml").write_text("generation: {batchshape: 3}\n")
    with pytest.raises(DesignError, match=r"config/hardware/mine.yaml: .*batchshape.*'batch_shape'"):
        choose_hardware({"preset": "mine"}, tmp_path, FILE)


def test_cards_are_read_from_the_driver_program(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{SMI['cuda_80gb']}'\necho 'NVIDIA GB10, [N/A], 580.95'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert find_cards() == [H100]
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert find_cards() == []


def test_a_driver_older_than_the_build_of_torch_is_named():
    assert driver_problem(H100, "13.0") is None
    assert driver_problem(H100, "12.8") is None
    old = Card("NVIDIA A10", 24 * 2**30, "550.54.15")
    assert driver_problem(old, "12.8") is None
    assert "550.54.15 of NVIDIA A10 is older than 580" in driver_problem(old, "13.0")
