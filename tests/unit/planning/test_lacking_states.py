"""What is said before a run of states that a folder in the place of an encoder lacks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graftwork.core.errors import DesignError
from graftwork.design.cells import ModelRecord
from graftwork.models.families import EncoderFacts
from graftwork.planning.inputs import require_states
from graftwork.planning.keys import NeededInput
from graftwork.store.records import EncoderInput

FACTS = EncoderFacts(
    family="safetensors",
    num_hidden_layers=3,
    hidden_size=4,
    accepts_images=False,
    rope_theta=None,
    special_tokens=[],
    has_chat_template=True,
)


def need(prompt: str, layer: int = 3) -> NeededInput:
    made = EncoderInput(
        dtype="float32", device="cpu", cpu_threads=1, encoder="w", prompt=prompt, reference=None, code=""
    )
    return NeededInput(prompt, layer, made)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "written"
    folder.mkdir()
    for number in range(5):
        states = {"layer_3": torch.ones(2, 4)}
        save_file(states, folder / f"{number}.safetensors", {"prompt": f"prompt {number}"})
    return {"w": ModelRecord("encoder", "mine", {"family": "safetensors", "path": str(folder)}, FACTS)}


@pytest.mark.parametrize("lacking", [need("prompt 9"), need("prompt 2", 2)])
def test_an_input_that_the_folder_lacks_is_named(models, lacking):
    with pytest.raises(DesignError, match=r"models\.yaml: encoders\.mine: .* has no (file of|tensor)"):
        require_states(models, lambda: [need("prompt 1"), lacking], "models.yaml")


def test_the_folder_is_listed_once_whatever_is_needed(models, monkeypatch):
    lists, listed = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, *given: lists.append(self) or listed(self, *given))
    require_states(models, lambda: [need("prompt 0")], "models.yaml")
    once = len(lists)
    require_states(models, lambda: [need(f"prompt {number}") for number in range(5)], "models.yaml")
    assert len(lists) == once + 1, "to see that no file has changed since"
    require_states(models, lambda: [], "models.yaml")
